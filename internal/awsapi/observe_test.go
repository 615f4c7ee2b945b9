package awsapi_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func TestCallsAreObservedWhateverComesOfThem(t *testing.T) {
	server := failing(awsapi.NotFound("m"))
	var seen []awsapi.Call
	server.handler.(*awsapi.Handler).Observe(func(c awsapi.Call) { seen = append(seen, c) })
	a := server.call(t, "GET", vmPath, "")
	server.call(t, "GET", "/nothing", "")
	require.Len(t, seen, 2)
	require.Equal(t, a.Header.Get("x-amzn-requestid"), seen[0].RequestID)
	require.Equal(t, []any{"GetMicrovm", testAccount, 404, awsapi.ResourceNotFoundException}, []any{seen[0].Operation, seen[0].AccountID, seen[0].Status, seen[0].Code})
	require.False(t, seen[0].Ended.Before(seen[0].Began))
	require.Equal(t, "unknown", seen[1].Operation)
}
