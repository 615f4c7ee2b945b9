package control

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// What spec/wire-examples.md is about.
const (
	exampleAccount = "123456789012"
	exampleRole    = "arn:aws:iam::123456789012:role/Build"
	exampleKey     = "AKIDEXAMPLE"
	exampleSecret  = "secret"
	exampleVM      = "microvm-11111111-2222-3333-4444-555555555555"
	exampleBuild   = "b5855cc4-0000-0000-0000-000000000000"
	exampleImage   = "arn:aws:lambda:us-east-1:123456789012:microvm-image:my-image"
)

// unmodelled are the members that recorded answers have and the model has not, with the reason why
// ours do not have them.
var unmodelled = map[string]string{
	"RunMicrovm.terminationReasonCode": "null in every recording: nothing to send",
	"GetMicrovm.terminationReasonCode": "null in every recording: nothing to send",
	"UpdateMicrovmImage.tags":          "null in the recording: an update takes no tags",
}

// door is the API as a client of exampleAccount sees it: handler, service and store are real.
type door struct {
	*rig
	handler http.Handler
	signer  awsapitest.Signer
}

func openDoor(t *testing.T) *door {
	t.Helper()
	r := newRig(t)
	require.NoError(t, r.store.CreateAccount(r.ctx, store.Account{ID: exampleAccount}))
	require.NoError(t, r.store.CreateCredential(r.ctx, store.Credential{AccessKeyID: exampleKey, Secret: exampleSecret, AccountID: exampleAccount}))
	handler := awsapi.NewHandler(r.Service, awsapi.NewAuthenticator(accessKeys{r.store}, r.clock), awsapi.NewLimiter(nil, r.clock), slog.New(slog.DiscardHandler), r.clock)
	return &door{r, handler, awsapitest.Signer{Key: exampleKey, Secret: exampleSecret, Region: region, Service: "lambda", At: r.clock.Now()}}
}

func (d *door) call(t *testing.T, method, target, body string) awsapitest.Answer {
	t.Helper()
	return awsapitest.Do(d.handler, d.signer.Request(t, method, target, body))
}

// addExamples stores what the examples speak of: an image with a version and its build, and a
// microVM of it; and one more of each, so that lists have two pages.
func (d *door) addExamples(t *testing.T) {
	t.Helper()
	ctx, now := context.Background(), d.clock.Now()
	for _, name := range []string{"other-my-img", "my-image"} {
		i := store.Image{ID: name, AccountID: exampleAccount, Region: region, Name: name, State: store.ImageCreated, CreatedAt: now, UpdatedAt: now}
		v := store.ImageVersion{
			ImageID: i.ID, Version: firstVersion, Major: 1, State: store.VersionSuccessful, Status: store.StatusActive, CreatedAt: now, UpdatedAt: now,
			Config: store.ImageConfig{
				BaseImageARN: baseARN, BaseImageVersion: "1.0", BuildRoleARN: roleARN, ArtifactURI: "s3://bkt/app.zip", MinimumMemoryMiB: 2048,
				EgressConnectors: []string{managed("INTERNET_EGRESS")}, Hooks: store.Hooks{Port: 9000, Run: store.Hook{Enabled: true, Timeout: time.Second}},
				WireHooks: []byte(`{"port":9000,"microvmHooks":{"run":"ENABLED"}}`), WireLogging: []byte(`{"disabled":{}}`),
				Environment: map[string]string{"A": "1"},
			},
		}
		b := store.Build{
			ID: exampleBuild, ImageID: i.ID, Version: v.Version, State: store.BuildSuccessful, CreatedAt: now, EndedAt: now,
			CodeBytes: 186400768, MemoryBytes: 609087488, DiskBytes: 25600000,
		}
		if name != "my-image" {
			b.ID = "build-of-" + name
		}
		require.NoError(t, d.store.CreateImage(ctx, i, v, b, nil, store.Event{Subject: i.ID}))
	}
	for n, id := range []string{"microvm-0", exampleVM} {
		vm := store.MicroVM{
			ID: id, AccountID: exampleAccount, Region: region, ImageID: "my-image", ImageARN: exampleImage, ImageVersion: firstVersion,
			State: store.VMRunning, EndpointID: id, EndpointAddr: fmt.Sprintf("127.65.0.%d", n+1), StartedAt: now, MaximumDuration: 8 * time.Hour,
			IngressConnectors: []string{managed("HTTP_INGRESS"), managed("SHELL_INGRESS")}, EgressConnectors: []string{managed("INTERNET_EGRESS")},
			Idle: &store.IdlePolicy{MaxIdle: 15 * time.Minute, MaxSuspended: 30 * time.Minute, AutoResume: true},
		}
		require.NoError(t, d.store.InsertMicroVM(ctx, vm, nil, store.Event{Subject: id}))
	}
}

// addVersion gives the image of the examples a second version.
func (d *door) addVersion(t *testing.T) {
	t.Helper()
	v := store.ImageVersion{ImageID: "my-image", State: store.VersionSuccessful, Status: store.StatusActive, CreatedAt: d.clock.Now()}
	_, _, err := d.store.AddVersion(context.Background(), []string{store.ImageCreated}, v, store.Build{ID: "second", ImageID: "my-image"}, nil, store.Event{})
	require.NoError(t, err)
	require.NoError(t, d.store.ChangeImage(context.Background(), store.ImageChange{ImageID: "my-image", To: store.ImageUpdated}))
}

func TestEveryDocumentedRequestIsCarriedOutAndAnsweredAsTheModelSays(t *testing.T) {
	model := awsapitest.ReadModel(t)
	for n, x := range awsapitest.Examples(t) {
		t.Run(fmt.Sprintf("%d %s", n, x.Operation), func(t *testing.T) {
			t.Parallel() // they mostly wait for the disk
			requireReasons(t, model, x)
			d := openDoor(t)
			if x.Operation != "CreateMicrovmImage" {
				d.addExamples(t)
			}
			if strings.HasPrefix(x.Operation, "DeleteMicrovmImage") { // what must have no microVMs
				d.setVM(t, exampleVM, store.VMTerminated)
				d.setVM(t, "microvm-0", store.VMTerminated)
			}
			if x.Operation == "DeleteMicrovmImageVersion" { // and must not be the only one
				d.addVersion(t)
			}
			// Shows how the SDK encodes a space; the model's pattern does not allow one.
			x.Target = d.withRealToken(t, strings.Replace(x.Target, "my%20img", "my-img", 1))
			got := d.call(t, x.Method, x.Target, x.Body)
			require.Equal(t, x.Status, got.Status, got.Body)
			require.Len(t, got.Header.Get("x-amzn-requestid"), 36)
			if x.Status == http.StatusNoContent {
				require.Empty(t, got.Body)
				require.Empty(t, got.Header.Get("content-type"))
				return
			}
			require.Equal(t, "application/json", got.Header.Get("content-type"))
			require.Empty(t, model.Faults(t, x.Operation, got.Body), got.Body)
		})
	}
}

// pageToken is the nextToken of an example.
var pageToken = regexp.MustCompile(`&nextToken=[^&]*`)

// withRealToken puts a token of this server in the place of an example's: one that leads on from
// the first item.
func (d *door) withRealToken(t *testing.T, target string) string {
	t.Helper()
	if !pageToken.MatchString(target) {
		return target
	}
	first := strings.Replace(pageToken.ReplaceAllString(target, ""), "maxResults=10", "maxResults=1", 1)
	token, ok := d.call(t, "GET", first, "").JSON(t)["nextToken"].(string)
	require.True(t, ok, "there is a second page")
	return pageToken.ReplaceAllString(target, "&nextToken="+strings.ReplaceAll(token, "=", "%3D"))
}

// requireReasons checks that for every member of a recorded answer that the model lacks there is a
// reason why we do not send it.
func requireReasons(t *testing.T, model awsapitest.Model, x awsapitest.Example) {
	t.Helper()
	if x.Response == "" {
		return
	}
	var recorded map[string]any
	require.NoError(t, json.Unmarshal([]byte(x.Response), &recorded))
	for name := range recorded {
		if _, known := model.Operations[x.Operation].Output[name]; !known {
			require.NotEmpty(t, unmodelled[x.Operation+"."+name], "%s of %s", name, x.Operation)
		}
	}
}

func TestTheOperationsOnConnectorsAnswerAsTheModelSays(t *testing.T) {
	const path = "/2026-04-04/network-connectors"
	const configuration = `"Configuration":{"VpcEgressConfiguration":{"SubnetIds":["subnet-1"],"SecurityGroupIds":["sg-1"],"NetworkProtocol":"IPv4","AssociatedComputeResourceTypes":["MicroVm"]}}`
	model, d := awsapitest.ReadModel(t), openDoor(t)
	create := `{"Name":"office","OperatorRole":"` + roleARN + `","ClientToken":"t","Tags":{"a":"b"},` + configuration + `}`
	arn, ok := d.call(t, "POST", path, create).JSON(t)["Arn"].(string)
	require.True(t, ok)
	label := strings.ReplaceAll(arn, ":", "%3A")
	for _, x := range []struct {
		operation, method, target, body string
		status                          int
	}{
		{"CreateNetworkConnector", "POST", path, create, 202},
		{"CreateNetworkConnector", "POST", path, strings.NewReplacer("office", "lab", `"t"`, `"u"`).Replace(create), 202},
		{"GetNetworkConnector", "GET", path + "/" + label, "", 200},
		{"GetNetworkConnector", "GET", path + "/" + arn, "", 200},
		{"ListNetworkConnectors", "GET", path, "", 200},
		{"ListNetworkConnectors", "GET", path + "?MaxItems=1&State=ACTIVE", "", 200},
		{"UpdateNetworkConnector", "PUT", path + "/office", `{"ClientToken":"v"}`, 202},
		{"UpdateNetworkConnector", "PUT", path + "/office", `{` + strings.Replace(configuration, "sg-1", "sg-2", 1) + `}`, 202},
		{"DeleteNetworkConnector", "DELETE", path + "/office", "", 202},
	} {
		got := d.call(t, x.method, x.target, x.body)
		require.Equal(t, x.status, got.Status, got.Body)
		require.Empty(t, model.Faults(t, x.operation, got.Body), "%s: %s", x.operation, got.Body)
	}
	gone := d.call(t, "GET", path+"/office", "")
	require.Equal(t, 404, gone.Status)
	require.Equal(t, "ResourceNotFoundException", gone.ErrorType())
	require.JSONEq(t, `{"Type":"User","Message":"Network connector not found: office"}`, gone.Body)
}
