package control

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// otherAccount is that of the image foreign.
const otherAccount = "111111111111"

// dialAs is dial with a key of an account that is made for it.
func dialAs(t *testing.T, r *rig, accountID string) *client.Client {
	t.Helper()
	require.NoError(t, r.store.CreateAccount(r.ctx, store.Account{ID: accountID, Name: accountID, CreatedAt: r.clock.Now()}))
	key := store.NewCredential(accountID, r.clock.Now())
	require.NoError(t, r.store.CreateCredential(r.ctx, key))
	return client.New(serve(t, r), region, key.AccessKeyID, key.Secret)
}

// call drops what an operation answers.
func call[In, Out any](operation func(context.Context, *In) (*Out, error), in *In) error {
	_, err := operation(context.Background(), in)
	return err
}

// TestAnotherAccountReachesNothing sends every operation that names something of the first
// account, signed by a second one (spec/api.md 1.6).
func TestAnotherAccountReachesNothing(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app", func(in *awsapi.CreateMicrovmImageInput) { in.ClientToken = p("tok") })
	r.addVersion(t, i, store.VersionSuccessful)
	builds, _, err := r.store.ListBuilds(r.ctx, i.ID, "1.0", store.Page{Limit: 1})
	require.NoError(t, err)
	id := r.run(t, store.VMRunning)
	connector := r.createConnector(t, "office")
	other := dialAs(t, r, otherAccount)
	ctx := context.Background()

	const denied, missing = awsapi.AccessDeniedException, awsapi.ResourceNotFoundException
	refusals := map[string]struct {
		code awsapi.ErrorCode
		err  error
	}{
		"RunMicrovm":                {denied, call(other.RunMicrovm, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})},
		"UpdateMicrovmImage":        {denied, call(other.UpdateMicrovmImage, updateInput())},
		"GetMicrovmImage":           {denied, call(other.GetMicrovmImage, &awsapi.GetMicrovmImageInput{ImageIdentifier: appARN})},
		"DeleteMicrovmImage":        {denied, call(other.DeleteMicrovmImage, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: appARN})},
		"GetMicrovmImageVersion":    {denied, call(other.GetMicrovmImageVersion, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: "1.0"})},
		"DeleteMicrovmImageVersion": {denied, call(other.DeleteMicrovmImageVersion, &awsapi.DeleteMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: "1.0"})},
		"UpdateMicrovmImageVersion": {denied, call(other.UpdateMicrovmImageVersion, &awsapi.UpdateMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: "1.0", Status: "INACTIVE"})},
		"ListMicrovmImageVersions":  {denied, call(other.ListMicrovmImageVersions, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: appARN})},
		"ListMicrovmImageBuilds":    {denied, call(other.ListMicrovmImageBuilds, &awsapi.ListMicrovmImageBuildsInput{ImageIdentifier: appARN, ImageVersion: "1.0"})},
		"GetMicrovmImageBuild":      {denied, call(other.GetMicrovmImageBuild, &awsapi.GetMicrovmImageBuildInput{ImageIdentifier: appARN, ImageVersion: "1.0", BuildId: builds[0].ID})},
		"TagResource":               {denied, call(other.TagResource, &awsapi.TagResourceInput{Resource: appARN, Tags: map[string]string{"mine": "now"}})},
		"UntagResource":             {denied, call(other.UntagResource, &awsapi.UntagResourceInput{Resource: appARN, TagKeys: []string{"x"}})},
		"ListTags":                  {denied, call(other.ListTags, &awsapi.ListTagsInput{Resource: appARN})},

		"GetNetworkConnector":    {denied, call(other.GetNetworkConnector, &awsapi.GetNetworkConnectorInput{Identifier: connector})},
		"UpdateNetworkConnector": {denied, call(other.UpdateNetworkConnector, &awsapi.UpdateNetworkConnectorInput{Identifier: connector, OperatorRole: p(roleARN + "2")})},
		"DeleteNetworkConnector": {denied, call(other.DeleteNetworkConnector, &awsapi.DeleteNetworkConnectorInput{Identifier: connector})},

		"GetMicrovm":       {missing, call(other.GetMicrovm, &awsapi.GetMicrovmInput{MicrovmIdentifier: id})},
		"SuspendMicrovm":   {missing, call(other.SuspendMicrovm, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: id})},
		"ResumeMicrovm":    {missing, call(other.ResumeMicrovm, &awsapi.ResumeMicrovmInput{MicrovmIdentifier: id})},
		"TerminateMicrovm": {missing, call(other.TerminateMicrovm, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: id})},
		"CreateMicrovmAuthToken": {missing, call(other.CreateMicrovmAuthToken, &awsapi.CreateMicrovmAuthTokenInput{
			MicrovmIdentifier: id, ExpirationInMinutes: 1, AllowedPorts: []awsapi.PortSpecification{{Port: p(int32(1))}},
		})},
		"CreateMicrovmShellAuthToken": {missing, call(other.CreateMicrovmShellAuthToken, &awsapi.CreateMicrovmShellAuthTokenInput{MicrovmIdentifier: id, ExpirationInMinutes: 1})},
	}
	// These name nothing of anybody's; what they make and show is checked below.
	unnamed := []string{
		"CreateMicrovmImage", "ListMicrovmImages", "ListMicrovms", "ListManagedMicrovmImages", "ListManagedMicrovmImageVersions",
		"CreateNetworkConnector", "ListNetworkConnectors",
	}
	for name := range awsapi.Operations {
		if _, tested := refusals[name]; !tested {
			require.Contains(t, unnamed, name, "this operation is not tested with two accounts")
		}
	}
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			requireCode(t, c.err, c.code)
			require.NotContains(t, c.err.Error(), "not found for MicroVMImage", "it does not tell whether there is one")
		})
	}
	require.Empty(t, r.vms.calls)
	still := mustImage(t, r, "app")
	require.Equal(t, []string{store.ImageCreated, "2.0"}, []string{still.State, still.LatestActiveVersion})
	require.Empty(t, still.Tags)

	images, err := other.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{})
	require.NoError(t, err)
	require.Empty(t, images.Items)
	vms, err := other.ListMicrovms(ctx, &awsapi.ListMicrovmsInput{})
	require.NoError(t, err)
	require.Empty(t, vms.Items)
	requireCode(t, call(other.ListMicrovms, &awsapi.ListMicrovmsInput{ImageIdentifier: p(appARN)}), denied)
	connectors, err := other.ListNetworkConnectors(ctx, &awsapi.ListNetworkConnectorsInput{})
	require.NoError(t, err)
	require.Empty(t, connectors.NetworkConnectors)
	unchanged, err := r.getConnector("office")
	require.NoError(t, err)
	require.EqualValues(t, 1, *unchanged.Version)
	for _, own := range []string{"office", unchanged.Id} {
		requireCode(t, call(other.GetNetworkConnector, &awsapi.GetNetworkConnectorInput{Identifier: own}), missing)
		requireCode(t, call(other.UpdateNetworkConnector, &awsapi.UpdateNetworkConnectorInput{Identifier: own}), missing)
		requireCode(t, call(other.DeleteNetworkConnector, &awsapi.DeleteNetworkConnectorInput{Identifier: own}), missing)
	}
}

func TestNamesAndTokensOfAnotherAccountAreItsOwn(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app", func(in *awsapi.CreateMicrovmImageInput) { in.ClientToken = p("tok") })
	r.createImage(t, "app2")
	other := dialAs(t, r, otherAccount)
	ctx := context.Background()

	in := createInput("app")
	in.ClientToken, in.BuildRoleArn = p("tok"), strings.Replace(roleARN, account, otherAccount, 1)
	created, err := other.CreateMicrovmImage(ctx, in)
	require.NoError(t, err)
	require.Equal(t, foreign, created.ImageArn, "neither the name nor the client token is taken")
	images, err := other.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{})
	require.NoError(t, err)
	require.Len(t, images.Items, 1)

	page, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{MaxResults: p(int32(1))})
	require.NoError(t, err)
	require.NotNil(t, page.NextToken)
	_, err = other.ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{NextToken: page.NextToken})
	refused(t, err, awsapi.ValidationException, "Invalid nextToken")

	r.createConnector(t, "office")
	_, err = other.CreateNetworkConnector(ctx, connectorInput("office"))
	require.NoError(t, err, "nor are those of a network connector")

	connector := "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1"
	in = createInput("third")
	in.EgressNetworkConnectors = []string{connector}
	_, err = other.CreateMicrovmImage(ctx, in)
	requireCode(t, err, awsapi.AccessDeniedException)
}
