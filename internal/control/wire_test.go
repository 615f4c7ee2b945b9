package control

import (
	"context"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// accessKeys answers signature checks from the store.
type accessKeys struct{ *store.Store }

func (k accessKeys) Secret(ctx context.Context, id string) (secret, accountID string, err error) {
	c, err := k.Credential(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return "", "", sigv4.ErrUnknownKey
	}
	return c.Secret, c.AccountID, err
}

// serve serves a rig over HTTP and returns its URL.
func serve(t *testing.T, r *rig) string {
	t.Helper()
	auth := awsapi.NewAuthenticator(accessKeys{r.store}, clockwork.NewRealClock())
	server := httptest.NewServer(awsapi.NewHandler(r.Service, auth, awsapi.NewLimiter(nil, r.clock), slog.New(slog.DiscardHandler), r.clock))
	t.Cleanup(server.Close)
	return server.URL
}

// dial serves a rig and returns a client of it in a region.
func dial(t *testing.T, r *rig) func(region string) *client.Client {
	t.Helper()
	url := serve(t, r)
	key, err := r.store.EnsureDefaults(r.ctx, r.clock.Now())
	require.NoError(t, err)
	return func(region string) *client.Client { return client.New(url, region, key.AccessKeyID, key.Secret) }
}

func TestSignedRequestsReachTheServiceAndItsRefusalsReachTheClient(t *testing.T) {
	r := newRig(t)
	connect := dial(t, r)
	c := connect(region)
	ctx := context.Background()

	created, err := c.CreateMicrovmImage(ctx, createInput("app"))
	require.NoError(t, err)
	require.Equal(t, appARN, created.ImageArn)
	_, err = c.CreateMicrovmImage(ctx, createInput("app"))
	refused(t, err, awsapi.ValidationException, "A MicroVM image with the name 'app' already exists in this account")
	r.finish(t, mustImage(t, r, "app"), firstVersion, store.VersionSuccessful)

	vm, err := c.RunMicrovm(ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	_, err = c.TerminateMicrovm(ctx, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: vm.MicrovmId})
	require.NoError(t, err)
	_, err = c.TagResource(ctx, &awsapi.TagResourceInput{Resource: appARN, Tags: map[string]string{"team": "x"}})
	require.NoError(t, err)
	got, err := c.GetMicrovmImage(ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"team": "x"}, got.Tags)
	_, err = c.CreateMicrovmShellAuthToken(ctx, &awsapi.CreateMicrovmShellAuthTokenInput{MicrovmIdentifier: vm.MicrovmId, ExpirationInMinutes: 61})
	refused(t, err, awsapi.ValidationException, "ExpirationMinutes 61 exceeded max allowed of 60.")
	_, err = c.UpdateMicrovmImage(ctx, &awsapi.UpdateMicrovmImageInput{
		ImageIdentifier: appARN, BaseImageArn: baseARN, BuildRoleArn: roleARN, CodeArtifact: awsapi.CodeArtifact{Uri: p("s3://bkt/app.zip")},
		Resources: []awsapi.Resources{{MinimumMemoryInMiB: 3}},
	})
	requireCode(t, err, awsapi.ValidationException)

	list, err := connect("eu-west-1").ListMicrovmImages(ctx, &awsapi.ListMicrovmImagesInput{})
	require.NoError(t, err)
	require.Empty(t, list.Items, "the region of the signature decides what is seen")
}

func TestRefusalsMadeWithTheRequestHaveTheServicesTexts(t *testing.T) {
	r := newRig(t)
	c, ctx := dial(t, r)(region), context.Background()
	create := func(change func(*awsapi.CreateMicrovmImageInput)) error {
		in := createInput("app")
		change(in)
		_, err := c.CreateMicrovmImage(ctx, in)
		return err
	}
	for text, err := range map[string]error{
		"The requested memory size of 3000 MiB is not supported by base MicroVM image " + baseARN +
			". Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192].": create(func(in *awsapi.CreateMicrovmImageInput) {
			in.Resources = []awsapi.Resources{{MinimumMemoryInMiB: 3000}}
		}),
		"CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>": create(func(in *awsapi.CreateMicrovmImageInput) {
			in.CodeArtifact.Uri = p("https://bkt/app.zip")
		}),
		"hooks.port is required when a lifecycle hook is ENABLED.": create(func(in *awsapi.CreateMicrovmImageInput) {
			in.Hooks = &awsapi.Hooks{MicrovmHooks: &awsapi.MicrovmHooks{Run: p(awsapi.HookStateEnabled)}}
		}),
	} {
		refused(t, err, awsapi.ValidationException, text)
	}
	_, err := c.CreateMicrovmAuthToken(ctx, &awsapi.CreateMicrovmAuthTokenInput{
		MicrovmIdentifier: "microvm-x", ExpirationInMinutes: 61, AllowedPorts: []awsapi.PortSpecification{{Port: p(int32(1))}},
	})
	refused(t, err, awsapi.ValidationException, "ExpirationMinutes 61 exceeded max allowed of 60.")
	_, err = c.RunMicrovm(ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, RunHookPayload: p(strings.Repeat("x", 4097))})
	refused(t, err, awsapi.ValidationException,
		"1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: Member must have length less than or equal to 4096")
}

func TestTheClientSpeaksToLambdaCoreToo(t *testing.T) {
	r := newRig(t)
	c, ctx := dial(t, r)(region), context.Background()
	in := connectorInput("office")
	in.ClientToken = nil // filled in, as SDKs do
	created, err := c.CreateNetworkConnector(ctx, in)
	require.NoError(t, err)
	got, err := c.GetNetworkConnector(ctx, &awsapi.GetNetworkConnectorInput{Identifier: created.Arn})
	require.NoError(t, err)
	require.Equal(t, r.clock.Now().UTC(), got.LastModified.Time)
	require.Equal(t, &in.Configuration, got.Configuration)
	_, err = c.GetNetworkConnector(ctx, &awsapi.GetNetworkConnectorInput{Identifier: "none"})
	refused(t, err, awsapi.ResourceNotFoundException, "Network connector not found: none")
}
