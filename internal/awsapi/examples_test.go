package awsapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
)

// example is one request of spec/wire-examples.md with the response that follows it. The request
// of a variant shares the response before it.
type example struct {
	operation            string
	method, target, body string
	status               int
	response             string
}

var (
	requestBlock  = regexp.MustCompile("(?s)```http\n(\\S+) (\\S+) HTTP/1.1\n(.*?)```")
	responseBlock = regexp.MustCompile("(?s)Response (\\d+):\n\n(?:```json\n(.*?)```)?")
)

func readExamples(t testing.TB) []example {
	t.Helper()
	text, err := os.ReadFile("../../spec/wire-examples.md")
	require.NoError(t, err)
	_, chapter, found := strings.Cut(string(text), "\n## 2. ")
	require.True(t, found)
	chapter, _, _ = strings.Cut(chapter, "\n## 3. ")

	var list []example
	for _, section := range strings.Split(chapter, "\n### ")[1:] {
		operation, _, _ := strings.Cut(section, "\n")
		response := responseBlock.FindStringSubmatch(section)
		require.NotNil(t, response, operation)
		status, err := strconv.Atoi(response[1])
		require.NoError(t, err)
		for _, request := range requestBlock.FindAllStringSubmatch(section, -1) {
			_, body, _ := strings.Cut(request[3], "\n\n")
			list = append(list, example{operation, request[1], request[2], body, status, response[2]})
		}
	}
	return list
}

// exampleBackend is a client of a server that gives the documented answers and tells what it was
// asked. So one replay goes through every decoder and encoder we have, client and server side.
func exampleBackend(t *testing.T, x example, received chan<- example) awsapi.Backend {
	t.Helper()
	canned := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- example{method: r.Method, target: r.RequestURI, body: string(body)}
		w.WriteHeader(x.status)
		_, _ = io.WriteString(w, x.response)
	}))
	t.Cleanup(canned.Close)
	return client.New(canned.URL, "us-east-1", testKey, testSecret)
}

func TestEveryDocumentedRequestIsUnderstoodAndAnsweredInTheFormOfTheModel(t *testing.T) {
	model := readModel(t)
	examples := readExamples(t)
	require.Len(t, examples, 26, "24 operations, two of them twice")
	seen := map[string]bool{}
	for i, x := range examples {
		t.Run(fmt.Sprintf("%d %s", i, x.operation), func(t *testing.T) {
			received := make(chan example, 1)
			server := newServer(exampleBackend(t, x, received))
			got := server.call(t, x.method, x.target, x.body)

			if strings.Contains(x.target, "nameFilter=my%20img") {
				// Shows how the SDK encodes a space; the model's pattern does not allow one.
				requireError(t, got, 400, awsapi.ValidationException, "1 validation error detected: Value 'my img' at 'nameFilter' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+")
				x.target = strings.Replace(x.target, "my%20img", "my-img", 1)
				got = server.call(t, x.method, x.target, x.body)
			}
			require.Equal(t, x.status, got.status, got.body)
			require.Len(t, got.header.Get("x-amzn-requestid"), 36)
			require.Empty(t, server.log.String())
			requireSameRequest(t, x, <-received)
			if x.status == http.StatusNoContent {
				require.Empty(t, got.body)
				require.Empty(t, got.header.Get("content-type"))
				return
			}
			require.Equal(t, "application/json", got.header.Get("content-type"))
			var documented map[string]any
			require.NoError(t, json.Unmarshal([]byte(x.response), &documented))
			require.Equal(t, model.members(model.Operations[x.operation].Output, documented), any(got.json(t)))
			require.Equal(t, strings.Count(x.response, "1790000000.123"), strings.Count(got.body, "1790000000.123"))
		})
		seen[x.operation] = true
	}
	for name, op := range awsapi.Operations {
		require.Equal(t, op.Service == "lambda-microvms", seen[name], name)
	}
}

// requireSameRequest checks that nothing of a request got lost or changed on its way to the backend.
func requireSameRequest(t *testing.T, want, got example) {
	t.Helper()
	require.Equal(t, want.method, got.method)
	wantPath, wantQuery := cutTarget(t, want.target)
	gotPath, gotQuery := cutTarget(t, got.target)
	require.Equal(t, wantPath, gotPath)
	require.Equal(t, wantQuery, gotQuery)
	if want.body == "" {
		require.Empty(t, got.body)
		return
	}
	var wantBody, gotBody any
	require.NoError(t, json.Unmarshal([]byte(want.body), &wantBody))
	require.NoError(t, json.Unmarshal([]byte(got.body), &gotBody))
	require.Equal(t, wantBody, withoutNulls(gotBody))
}

// cutTarget returns the raw path and the query with repeated values sorted, as the signer sorts them.
func cutTarget(t *testing.T, target string) (string, url.Values) {
	t.Helper()
	path, rawQuery, _ := strings.Cut(target, "?")
	query, err := url.ParseQuery(rawQuery)
	require.NoError(t, err)
	for _, values := range query {
		slices.Sort(values)
	}
	return path, query
}

func withoutNulls(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name, member := range v {
			if v[name] = withoutNulls(member); member == nil {
				delete(v, name)
			}
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return v
}

// serviceModel is spec/model.json as the tests read it, independently of the generator.
type serviceModel struct {
	Operations map[string]struct {
		Input, Output map[string]modelShape
	}
	Shapes map[string]modelShape
}

type modelShape struct {
	Kind, Type, Shape string
	Required          bool
	Members           map[string]modelShape
	Items             *modelShape
}

func readModel(t testing.TB) serviceModel {
	t.Helper()
	text, err := os.ReadFile("../../spec/model.json")
	require.NoError(t, err)
	var m serviceModel
	require.NoError(t, json.Unmarshal(text, &m))
	return m
}

// members is the object a server must send: all members of the model and no others, null where
// the documented answer has none.
func (m serviceModel) members(members map[string]modelShape, documented map[string]any) any {
	object := map[string]any{}
	for name, s := range members {
		object[name] = m.value(s, documented[name])
	}
	return object
}

func (m serviceModel) value(s modelShape, documented any) any {
	switch v := documented.(type) {
	case map[string]any:
		named := m.Shapes[s.Shape]
		if named.Kind == "structure" {
			return m.members(named.Members, v)
		}
		if named.Kind == "union" {
			for name, member := range v { // the one that is set, alone
				return map[string]any{name: m.value(named.Members[name], member)}
			}
		}
	case []any:
		items := make([]any, len(v))
		for i := range v {
			items[i] = m.value(*s.Items, v[i])
		}
		return items
	}
	return documented
}
