package conformance

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

func sdkError(name string, status int, message string) *sdk.Error {
	return &sdk.Error{Name: name, Status: status, Message: message}
}

func TestCompareFollowsPaths(t *testing.T) {
	output := plain(object{
		"items": list{object{"imageArn": "a", "sizes": object{"bytes": 7}}}, "at": time.Now().Format(time.RFC3339Nano),
		"authToken": object{"X-aws-proxy-auth": "t"}, "empty": list{}, "none": nil,
	})
	same := members{
		"items.0.imageArn": "a", "items.0.sizes.bytes": 7, "items.0.sizes": object{"bytes": 7}, "items": count(1), "at": aTime,
		"authToken.X-aws-proxy-auth": like("[a-z]"), "empty": absent, "none": absent, "items.1": absent, "items.0.other.deep": absent,
	}
	for path, expected := range same {
		require.NoError(t, compare(output, members{path: expected}), path)
	}
	different := members{
		"items.0.imageArn": "b", "items.0.sizes.bytes": "7", "items": count(2), "at": absent, "authToken.X-aws-proxy-auth": like("[a-z]{2}"),
		"items.0.sizes": object{}, "none": aTime, "empty": atLeast(1), "items.0": oneOf("a"), "items.0.name": positive,
	}
	for path, expected := range different {
		require.Error(t, compare(output, members{path: expected}), path)
	}
}

func TestATimeIsARecentOne(t *testing.T) {
	for value, ok := range map[any]bool{
		time.Now().UTC().Format(time.RFC3339Nano): true, time.Now().Add(-2 * time.Hour).Format(time.RFC3339): false,
		"yesterday": false, 1790000000.123: false, nil: false,
	} {
		require.Equal(t, ok, aTime(value) == nil, value)
	}
	require.NoError(t, someTime("2026-06-22T00:00:00Z"))
	require.Error(t, someTime(1790000000.0))
}
