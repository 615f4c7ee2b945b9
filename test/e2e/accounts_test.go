package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// command runs the command line with --output json and decodes what it prints.
func (h *host) command(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := h.Command(context.Background(), append(args, "--output", "json")...)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(out, into), string(out))
}

// Two accounts of one daemon; the second is made while it runs.
func TestTwoAccountsSeeNothingOfEachOther(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.run(t, image.arn, nil)

	var other struct{ AccountID string }
	h.command(t, &other, "account", "create", "neighbours")
	var key sdk.Credentials
	h.command(t, &key, "credentials", "create", "--account", "neighbours")
	theirs := sdk.Config{Credentials: &key}
	api, s3 := h.api.With(theirs), h.s3.With(theirs)

	var list struct{ Items []object }
	api.Call(t, "ListMicrovmImages", object{}, &list)
	require.Empty(t, list.Items, "the key works at once, and shows nothing of others")
	api.Call(t, "ListMicrovms", object{}, &list)
	require.Empty(t, list.Items)
	for _, command := range []string{"GetMicrovmImage", "RunMicrovm", "DeleteMicrovmImage"} {
		refusal := api.Refused(t, command, object{"imageIdentifier": image.arn})
		require.Equal(t, "AccessDeniedException", refusal.Name, command)
		require.Equal(t, http.StatusForbidden, refusal.Status, command)
	}
	for _, command := range []string{"GetMicrovm", "TerminateMicrovm", "CreateMicrovmShellAuthToken"} {
		refusal := api.Refused(t, command, object{"microvmIdentifier": v.id, "expirationInMinutes": 1})
		require.Equal(t, "ResourceNotFoundException", refusal.Name, command)
		require.Equal(t, "MicroVM not found: "+v.id, refusal.Message, command)
	}

	refusal := s3.Refused(t, "ListObjectsV2", object{"Bucket": bucket})
	require.Equal(t, "AccessDenied", refusal.Name)
	code := h.upload(t, workbench(t))
	var created imageView
	api.Call(t, "CreateMicrovmImage", imageRequest(code, object{"name": image.created.Name, "buildRoleArn": "arn:aws:iam::" + other.AccountID + ":role/build"}), &created)
	require.Equal(t, strings.Replace(image.arn, account, other.AccountID, 1), created.ImageArn, "names are an account's own")
	elsewhere := &host{Daemon: h.Daemon, api: api}
	end, _ := elsewhere.awaitBuild(t, created.ImageArn)
	require.Equal(t, "CREATE_FAILED", end.State)
	require.Equal(t, "S3_ACCESS_DENIED: Access to "+code+" was denied.", elsewhere.buildOf(t, created.ImageArn).StateReason)

	_, err := h.Command(context.Background(), "credentials", "delete", key.AccessKeyID)
	require.NoError(t, err)
	refusal = api.Refused(t, "ListMicrovms", object{})
	require.Equal(t, "UnrecognizedClientException", refusal.Name, "a deleted key is refused at once")
	v.await("RUNNING")
}
