package awsapi_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
)

// exampleBackend is a client of a server that gives the documented answers and tells what it was
// asked. So one replay goes through every decoder and encoder we have, client and server side.
func exampleBackend(t *testing.T, x awsapitest.Example, received chan<- awsapitest.Example) awsapi.Backend {
	t.Helper()
	canned := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		received <- awsapitest.Example{Method: r.Method, Target: r.RequestURI, Body: string(body)}
		w.WriteHeader(x.Status)
		_, _ = io.WriteString(w, x.Response)
	}))
	t.Cleanup(canned.Close)
	return client.New(canned.URL, "us-east-1", testKey, testSecret)
}

func TestEveryDocumentedRequestIsUnderstoodAndAnsweredInTheFormOfTheModel(t *testing.T) {
	model := awsapitest.ReadModel(t)
	examples := awsapitest.Examples(t)
	require.Len(t, examples, 26, "24 operations, two of them twice")
	seen := map[string]bool{}
	for i, x := range examples {
		t.Run(fmt.Sprintf("%d %s", i, x.Operation), func(t *testing.T) {
			received := make(chan awsapitest.Example, 1)
			server := newServer(exampleBackend(t, x, received))
			got := server.call(t, x.Method, x.Target, x.Body)

			if strings.Contains(x.Target, "nameFilter=my%20img") {
				// Shows how the SDK encodes a space; the model's pattern does not allow one.
				requireError(t, got, 400, awsapi.ValidationException, "1 validation error detected: Value 'my img' at 'nameFilter' failed to satisfy constraint: Member must satisfy regular expression pattern: [^\\s]+")
				x.Target = strings.Replace(x.Target, "my%20img", "my-img", 1)
				got = server.call(t, x.Method, x.Target, x.Body)
			}
			require.Equal(t, x.Status, got.Status, got.Body)
			require.Len(t, got.Header.Get("x-amzn-requestid"), 36)
			require.Empty(t, server.log.String())
			requireSameRequest(t, x, <-received)
			if x.Status == http.StatusNoContent {
				require.Empty(t, got.Body)
				require.Empty(t, got.Header.Get("content-type"))
				return
			}
			require.Equal(t, "application/json", got.Header.Get("content-type"))
			var documented map[string]any
			require.NoError(t, json.Unmarshal([]byte(x.Response), &documented))
			require.Equal(t, sent(model, model.Operations[x.Operation].Output, documented), any(got.JSON(t)))
			require.Equal(t, strings.Count(x.Response, "1790000000.123"), strings.Count(got.Body, "1790000000.123"))
		})
		seen[x.Operation] = true
	}
	for name, op := range awsapi.Operations {
		require.Equal(t, op.Service == "lambda-microvms", seen[name], name)
	}
}

// requireSameRequest checks that nothing of a request got lost or changed on its way to the backend.
func requireSameRequest(t *testing.T, want, got awsapitest.Example) {
	t.Helper()
	require.Equal(t, want.Method, got.Method)
	wantPath, wantQuery := cutTarget(t, want.Target)
	gotPath, gotQuery := cutTarget(t, got.Target)
	require.Equal(t, wantPath, gotPath)
	require.Equal(t, wantQuery, gotQuery)
	if want.Body == "" {
		require.Empty(t, got.Body)
		return
	}
	var wantBody, gotBody any
	require.NoError(t, json.Unmarshal([]byte(want.Body), &wantBody))
	require.NoError(t, json.Unmarshal([]byte(got.Body), &gotBody))
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

// sent is the object a server must send: all members of the model and no others, null where
// the documented answer has none.
func sent(m awsapitest.Model, members map[string]awsapitest.ModelShape, documented map[string]any) any {
	object := map[string]any{}
	for name, s := range members {
		object[name] = sentValue(m, s, documented[name])
	}
	return object
}

func sentValue(m awsapitest.Model, s awsapitest.ModelShape, documented any) any {
	switch v := documented.(type) {
	case map[string]any:
		named := m.Shapes[s.Shape]
		if named.Kind == "structure" {
			return sent(m, named.Members, v)
		}
		if named.Kind == "union" {
			for name, member := range v { // the one that is set, alone
				return map[string]any{name: sentValue(m, named.Members[name], member)}
			}
		}
	case []any:
		items := make([]any, len(v))
		for i := range v {
			items[i] = sentValue(m, *s.Items, v[i])
		}
		return items
	}
	return documented
}
