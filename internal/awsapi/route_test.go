package awsapi

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryOperationIsFoundAtItsPathOnly(t *testing.T) {
	require.Len(t, Operations, 29, "24 of lambda-microvms, 5 of lambda-core")
	for name, op := range Operations {
		filled := strings.NewReplacer("{", "", "}", "").Replace(op.Path) // label values equal their names
		got, labels, _, err := findRoute(op.Method, filled)
		require.NoError(t, err, name)
		require.Equal(t, name, got.Name)
		require.Len(t, labels, strings.Count(op.Path, "{"))
		for label, value := range labels {
			require.Equal(t, label, value)
		}
		for _, other := range []string{filled + "/x", "/x" + filled, filled + "/"} {
			got, _, _, err := findRoute(op.Method, other)
			require.False(t, err == nil && got.Name == name, "%s found at %s", name, other)
		}
	}
}

func TestLabelsAreDecodedAfterRouting(t *testing.T) {
	for _, c := range []struct {
		method, path, operation string
		labels                  map[string]string
	}{
		{"GET", "/2025-09-09/microvms/a%2Fb%20c%3Ad~%C3%A9", "GetMicrovm", map[string]string{"microvmIdentifier": "a/b c:d~é"}},
		{"GET", "/2025-09-09/microvms/a%2Fsuspend", "GetMicrovm", map[string]string{"microvmIdentifier": "a/suspend"}},
		{"GET", "/2025-09-09/microvms/a+b", "GetMicrovm", map[string]string{"microvmIdentifier": "a+b"}},
		{"GET", "/2025-09-09/microvms/%252F", "GetMicrovm", map[string]string{"microvmIdentifier": "%2F"}},
		{"GET", "/2025-09-09/microvms/..", "GetMicrovm", map[string]string{"microvmIdentifier": ".."}},
		{"GET", "/2025-09-09/microvms/", "GetMicrovm", map[string]string{"microvmIdentifier": ""}},
		{"POST", "/2025-09-09/microvms//suspend", "SuspendMicrovm", map[string]string{"microvmIdentifier": ""}},
		{"GET", "/2025-09-09/microvm-images/arn:aws:lambda:r:1:microvm-image:x", "GetMicrovmImage", map[string]string{"imageIdentifier": "arn:aws:lambda:r:1:microvm-image:x"}},
		{"GET", "/2025-09-09/microvm-images/a%2Fversions%2F1/versions/1.0", "GetMicrovmImageVersion", map[string]string{"imageIdentifier": "a/versions/1", "imageVersion": "1.0"}},
		{"PATCH", "/2025-09-09/microvm-images/a/versions/1.0", "UpdateMicrovmImageVersion", map[string]string{"imageIdentifier": "a", "imageVersion": "1.0"}},
		{"GET", "/2025-09-09/microvm-images//versions//builds/", "GetMicrovmImageBuild", map[string]string{"imageIdentifier": "", "imageVersion": "", "buildId": ""}},
		{"DELETE", "/2017-03-31/tags/arn%3Aaws", "UntagResource", map[string]string{"Resource": "arn:aws"}},
	} {
		op, labels, _, err := findRoute(c.method, c.path)
		require.NoError(t, err, c.path)
		require.Equal(t, c.operation, op.Name, c.path)
		require.Equal(t, c.labels, labels, c.path)
	}
}

func TestUnknownPathsAndMethodsAreRefused(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		allowed      []string
	}{
		{"GET", "", 404, nil},
		{"GET", "/", 404, nil},
		{"GET", "*", 404, nil},
		{"GET", "/2025-09-09", 404, nil},
		{"GET", "/2025-09-10/microvms", 404, nil},
		{"GET", "//2025-09-09/microvms", 404, nil},
		{"GET", "/2025-09-09%2Fmicrovms", 404, nil},
		{"GET", "/2025-09-09/microvms/a/b/c", 404, nil},
		{"POST", "/2025-09-09/microvms/a/restart", 404, nil},
		{"PUT", "/2025-09-09/microvms", 405, []string{"GET", "POST"}},
		{"get", "/2025-09-09/microvms", 405, []string{"GET", "POST"}},
		{"GET", "/2025-09-09/microvms/a/suspend", 405, []string{"POST"}},
		{"POST", "/2017-03-31/tags", 404, nil},
	} {
		_, _, allowed, err := findRoute(c.method, c.path)
		var refusal *Error
		require.ErrorAs(t, err, &refusal, c.path)
		require.Equal(t, UnknownOperationException, refusal.Code)
		require.Equal(t, c.status, refusal.Status(), c.path)
		require.ElementsMatch(t, c.allowed, allowed, c.path)
	}
	_, _, _, err := findRoute("GET", "/2025-09-09/microvms/%zz")
	require.ErrorContains(t, err, "malformed")
}

func FuzzTheRouteDependsOnRawSlashesOnly(f *testing.F) {
	f.Add("GET", "/2025-09-09/microvms/a%2Fb")
	f.Add("POST", "/2025-09-09/microvms//suspend")
	f.Add(http.MethodDelete, "/2025-09-09/microvm-images/%/versions/%00")
	f.Fuzz(func(t *testing.T, method, path string) {
		op, labels, allowed, err := findRoute(method, path)
		if err != nil {
			return
		}
		if op.Method != method || allowed != nil || strings.Count(op.Path, "/") != strings.Count(path, "/") {
			t.Errorf("%s %q was taken for %s", method, path, op.Name)
		}
		if len(labels) != strings.Count(op.Path, "{") {
			t.Errorf("%s %q gave labels %v", method, path, labels)
		}
	})
}
