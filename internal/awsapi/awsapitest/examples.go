package awsapitest

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Example is one request of spec/wire-examples.md with the response that follows it. The request
// of a variant shares the response before it.
type Example struct {
	Operation            string
	Method, Target, Body string
	Status               int
	Response             string
}

var (
	requestBlock  = regexp.MustCompile("(?s)```http\n(\\S+) (\\S+) HTTP/1.1\n(.*?)```")
	responseBlock = regexp.MustCompile("(?s)Response (\\d+):\n\n(?:```json\n(.*?)```)?")
)

// Examples are the requests and responses of spec/wire-examples.md, chapter 2.
func Examples(t testing.TB) []Example {
	t.Helper()
	_, chapter, found := strings.Cut(string(Spec(t, "wire-examples.md")), "\n## 2. ")
	require.True(t, found)
	chapter, _, _ = strings.Cut(chapter, "\n## 3. ")

	var list []Example
	for _, section := range strings.Split(chapter, "\n### ")[1:] {
		operation, _, _ := strings.Cut(section, "\n")
		response := responseBlock.FindStringSubmatch(section)
		require.NotNil(t, response, operation)
		status, err := strconv.Atoi(response[1])
		require.NoError(t, err)
		for _, request := range requestBlock.FindAllStringSubmatch(section, -1) {
			_, body, _ := strings.Cut(request[3], "\n\n")
			list = append(list, Example{operation, request[1], request[2], body, status, response[2]})
		}
	}
	return list
}

// Spec reads a file of the folder spec.
func Spec(t testing.TB, name string) []byte {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	require.True(t, ok)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../spec", name))
	require.NoError(t, err)
	return text
}
