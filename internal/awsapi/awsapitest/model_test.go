package awsapitest

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTheComparisonWithTheModelFindsFaults(t *testing.T) {
	model := ReadModel(t)
	faults := func(operation, answer string) []string { return model.Faults(t, operation, answer) }
	require.Equal(t, []string{
		"items[0].imageArn: is required", "items[0].microvmId: is the number 1", "items[0].new: is not in the model",
		`items[0].startedAt: is the text "2026-11-23T10:00:00Z"`, `items[0].state: is "GONE", not one of [PENDING RUNNING SUSPENDED SUSPENDING TERMINATED TERMINATING]`,
		"nextToken: is left out and should be null",
	}, faults("ListMicrovms", `{"items":[{"microvmId":1,"state":"GONE","imageVersion":"1.0","startedAt":"2026-11-23T10:00:00Z","new":null}]}`))
	require.Equal(t, []string{
		"NetworkConnectors[0].LastModified: is the number 1790000000", "NetworkConnectors[0].State: is null and should be left out",
		"NextMarker: is null and should be left out",
	}, faults("ListNetworkConnectors", `{"NetworkConnectors":[{"Arn":"a","Name":"n","Id":"i","Type":"VPC_EGRESS","State":null,"LastModified":1790000000}],"NextMarker":null}`))
	require.Equal(t, []string{"items: is required"}, faults("ListMicrovms", `{"items":null,"nextToken":null}`))
}
