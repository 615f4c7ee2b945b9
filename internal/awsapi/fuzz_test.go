package awsapi_test

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
)

// FuzzWhateverIsSignedIsAnsweredWithAnErrorOfTheClient sends what a caller with good keys and bad
// intentions could send to any operation; the backend has none.
func FuzzWhateverIsSignedIsAnsweredWithAnErrorOfTheClient(f *testing.F) {
	names := slices.Sorted(maps.Keys(awsapi.Operations))
	for _, x := range awsapitest.Examples(f) {
		_, query, _ := strings.Cut(x.Target, "?")
		f.Add(uint8(slices.Index(names, x.Operation)), "arn%3Aaws%3Alambda%3Aus-east-1%3A123456789012%3Amicrovm-image%3Amy-image", query, x.Body)
	}
	f.Add(uint8(0), "a%2Fb", "maxResults=%31&nextToken=a==", `{"a":[[[[{}]]]]}`)
	f.Add(uint8(5), "%zz", "&&=&;", "\x00")
	f.Add(uint8(slices.Index(names, "CreateNetworkConnector")), "", "", `{"Name":"n","Configuration":{"VpcEgressConfiguration":{"SubnetIds":[null]}},"Tags":{"":""}}`)
	server := newServer(awsapi.UnimplementedBackend{})
	f.Fuzz(func(t *testing.T, n uint8, label, query, body string) {
		op := awsapi.Operations[names[int(n)%len(names)]]
		segments := strings.Split(op.Path, "/")
		for i, segment := range segments {
			if strings.HasPrefix(segment, "{") {
				segments[i] = label
			}
		}
		a := server.call(t, op.Method, strings.Join(segments, "/")+"?"+query, body)
		if a.Status < 400 || a.Status > 499 || a.ErrorType() == "" || !json.Valid([]byte(a.Body)) {
			t.Errorf("%s answered %d %s %s", op.Name, a.Status, a.ErrorType(), a.Body)
		}
		if log := server.log.String(); strings.Contains(log, "level=ERROR") {
			t.Error(log)
		}
	})
}
