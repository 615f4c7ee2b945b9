package control

import (
	"encoding/json"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func updateInput() *awsapi.UpdateMicrovmImageInput {
	return &awsapi.UpdateMicrovmImageInput{
		ImageIdentifier: appARN, BaseImageArn: baseARN, BuildRoleArn: roleARN, CodeArtifact: awsapi.CodeArtifact{Uri: p("s3://bkt/v2.zip")},
	}
}

func (r *rig) deleteVersion(version string) error {
	_, err := r.DeleteMicrovmImageVersion(r.ctx, &awsapi.DeleteMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: version})
	return err
}

func TestAnUpdateNamesTheNextVersionAndInheritsNothing(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app", func(in *awsapi.CreateMicrovmImageInput) {
		require.NoError(t, json.Unmarshal(readGolden(t, "create_full_request.json"), in))
	})
	out, err := r.UpdateMicrovmImage(r.ctx, updateInput())
	require.NoError(t, err)
	text, err := json.MarshalIndent(out, "", " ")
	require.NoError(t, err)
	golden(t, "update_minimal.json", text)

	v, err := r.store.Version(r.ctx, i.ID, "2.0")
	require.NoError(t, err)
	require.Equal(t, store.VersionPending, v.State)
	require.Equal(t, awsapi.DefaultMemoryMiB, v.Config.MinimumMemoryMiB)
	require.False(t, v.Config.Hooks.Ready.Enabled)
	require.Nil(t, v.Config.Environment)

	_, err = r.UpdateMicrovmImage(r.ctx, updateInput())
	refused(t, err, awsapi.ConflictException, "MicroVM Image is already in state: UPDATING")
	run, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Equal(t, "1.0", run.ImageVersion, "until the next one is built")
	r.finish(t, i, "2.0", store.VersionSuccessful)
	run, err = r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Equal(t, "2.0", run.ImageVersion)
	require.Equal(t, 2048, r.vms.spec.VM.MemoryMiB)
}

func TestUpdateRefusals(t *testing.T) {
	r := newRig(t)
	_, err := r.UpdateMicrovmImage(r.ctx, updateInput())
	refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: "+appARN)
	_, err = r.CreateMicrovmImage(r.ctx, createInput("app"))
	require.NoError(t, err)
	_, err = r.UpdateMicrovmImage(r.ctx, updateInput())
	refused(t, err, awsapi.ConflictException, "MicroVM Image is already in state: CREATING")
	in := updateInput()
	in.EnvironmentVariables = map[string]string{"AWS_REGION": "mars"}
	_, err = r.UpdateMicrovmImage(r.ctx, in)
	requireCode(t, err, awsapi.ValidationException)
	in.ImageIdentifier = "app"
	_, err = r.UpdateMicrovmImage(r.ctx, in)
	refused(t, err, awsapi.ValidationException, "Invalid ARN format: app")
	versions, err := r.ListMicrovmImageVersions(r.ctx, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Len(t, versions.Items, 1)
}

func TestConcurrentUpdatesWithOneTokenMakeOneVersion(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	other := r.createImage(t, "other")
	request := func() *awsapi.UpdateMicrovmImageInput {
		in := updateInput()
		in.ClientToken = p("tok")
		return in
	}
	var wg sync.WaitGroup
	versions := make([]string, 12)
	for n := range versions {
		wg.Go(func() {
			out, err := r.UpdateMicrovmImage(r.ctx, request())
			if err != nil {
				t.Error(err)
				return
			}
			versions[n] = out.ImageVersion
		})
	}
	wg.Wait()
	for _, version := range versions {
		require.Equal(t, "2.0", version)
	}
	r.finish(t, i, "2.0", store.VersionSuccessful)
	again, err := r.UpdateMicrovmImage(r.ctx, request())
	require.NoError(t, err)
	require.Equal(t, "2.0", again.ImageVersion, "also when it is built")
	list, err := r.ListMicrovmImageVersions(r.ctx, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Len(t, list.Items, 2)

	for _, change := range []func(*awsapi.UpdateMicrovmImageInput){
		func(in *awsapi.UpdateMicrovmImageInput) { in.Description = p("x") },
		func(in *awsapi.UpdateMicrovmImageInput) { in.ImageIdentifier = imageARN(other).String() },
	} {
		in := request()
		change(in)
		_, err = r.UpdateMicrovmImage(r.ctx, in)
		refused(t, err, awsapi.ConflictException, "The request uses the same client token as a previous, but non-identical request.")
	}
}

func TestDeleteVersion(t *testing.T) {
	r := newRig(t)
	refused(t, r.deleteVersion("1.0"), awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImage: "+appARN+", Version: 1.0")
	_, err := r.CreateMicrovmImage(r.ctx, createInput("app"))
	require.NoError(t, err)
	refused(t, r.deleteVersion("1.0"), awsapi.ConflictException, "MicroVM Image is already in state: CREATING")
	i := mustImage(t, r, "app")
	r.finish(t, i, "1.0", store.VersionSuccessful)
	refused(t, r.deleteVersion("1.0"), awsapi.ValidationException, "This is the last version. Please delete the entire image")
	old := r.run(t, store.VMRunning)
	r.addVersion(t, i, store.VersionSuccessful)
	refused(t, r.deleteVersion("1.0"), awsapi.ValidationException, "Cannot delete microvm image version with running microvms.")
	r.setVM(t, old, store.VMTerminated)

	out, err := r.DeleteMicrovmImageVersion(r.ctx, &awsapi.DeleteMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: "1.0"})
	require.NoError(t, err)
	require.Equal(t, &awsapi.DeleteMicrovmImageVersionOutput{ImageIdentifier: appARN, ImageVersion: "1.0", State: "DELETING"}, out)
	refused(t, r.deleteVersion("2.0"), awsapi.ConflictException, "MicroVM Image is already in state: UPDATING")
	_, err = r.DeleteMicrovmImage(r.ctx, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: appARN})
	refused(t, err, awsapi.ValidationException, "Cannot delete MicroVM image in its current state: "+appARN)
	_, err = r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ImageVersion: p("1.0")})
	refused(t, err, awsapi.ResourceNotFoundException, "No active version found for MicroVM image "+appARN+" and version 1.0")
	run, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	require.NoError(t, err)
	require.Equal(t, "2.0", run.ImageVersion)
	require.NoError(t, r.store.DeleteVersion(r.ctx, i.ID, "1.0", store.Event{Subject: i.ID}))
	refused(t, r.deleteVersion("1.0"), awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImage: "+appARN+", Version: 1.0")
}

func TestReachedQuotasAreRefusedWithTheServicesError(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	r = r.limited(t, store.Quotas{MemoryMiB: 4096, Images: 1, Versions: 1, Builds: 1, Connectors: 1})
	for range 2 {
		r.run(t, store.VMSuspended)
	}
	_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
	refused(t, err, awsapi.ServiceQuotaExceededException, "The base maximum allocated memory limit has been reached for this account.")
	_, err = r.CreateMicrovmImage(r.ctx, createInput("other"))
	refused(t, err, awsapi.ServiceQuotaExceededException, "The maximum number of MicroVM images (1) has been reached for this account.")
	_, err = r.UpdateMicrovmImage(r.ctx, updateInput())
	refused(t, err, awsapi.ServiceQuotaExceededException, "The maximum number of versions (1) has been reached for this MicroVM image.")
	r.createConnector(t, "office")
	_, err = dial(t, r)(region).CreateNetworkConnector(r.ctx, connectorInput("home"))
	refused(t, err, awsapi.NetworkConnectorLimitExceededException, "The maximum number of network connectors (1) has been reached for this account.")
	r = r.limited(t, store.Quotas{Builds: 1})
	_, err = r.UpdateMicrovmImage(r.ctx, updateInput())
	require.NoError(t, err)
	_, err = r.CreateMicrovmImage(r.ctx, createInput("other"))
	refused(t, err, awsapi.ServiceQuotaExceededException, "The maximum number of concurrent MicroVM image builds (1) has been reached for this account.")
	var refusal *awsapi.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, 402, refusal.Status())
}

func TestTwoRunsAtOnceDoNotBothTakeTheLastMemory(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	r = r.limited(t, store.Quotas{MemoryMiB: 2048 + 1024})
	outcomes := make(chan error, 12)
	var wg sync.WaitGroup
	for range cap(outcomes) {
		wg.Go(func() {
			_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
			outcomes <- err
		})
	}
	wg.Wait()
	close(outcomes)
	var ran int
	for err := range outcomes {
		if err == nil {
			ran++
			continue
		}
		requireCode(t, err, awsapi.ServiceQuotaExceededException)
	}
	require.Equal(t, 1, ran)
}

func TestAShellTokenNeedsTheShellConnectorAlone(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	shell := func(state string, ingress ...string) (string, *awsapi.CreateMicrovmShellAuthTokenOutput, error) {
		var connectors []string
		for _, name := range ingress {
			connectors = append(connectors, managed(name))
		}
		run, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: connectors})
		require.NoError(t, err)
		r.setVM(t, run.MicrovmId, state)
		out, err := r.CreateMicrovmShellAuthToken(r.ctx, &awsapi.CreateMicrovmShellAuthTokenInput{MicrovmIdentifier: run.MicrovmId, ExpirationInMinutes: 5})
		return run.MicrovmId, out, err
	}
	for _, ingress := range [][]string{nil, {"HTTP_INGRESS"}, {"ALL_INGRESS"}, {"NO_INGRESS"}} {
		_, _, err := shell(store.VMRunning, ingress...)
		refused(t, err, awsapi.ValidationException, "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.")
	}
	_, _, err := shell(store.VMRunning, "SHELL_INGRESS", "ALL_INGRESS")
	refused(t, err, awsapi.ValidationException, "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead")
	_, _, err = shell(store.VMRunning, "SHELL_INGRESS", "NO_INGRESS")
	refused(t, err, awsapi.ValidationException, "NO_INGRESS closes the MicroVM to shells too; use HTTP_INGRESS and/or SHELL_INGRESS without it")
	for _, state := range []string{store.VMPending, store.VMRunning, store.VMSuspended} {
		for _, ingress := range [][]string{{"SHELL_INGRESS"}, {"HTTP_INGRESS", "SHELL_INGRESS"}} {
			id, out, err := shell(state, ingress...)
			require.NoError(t, err)
			require.Equal(t, map[string]string{"X-aws-proxy-auth": "s..h.e.l"}, out.AuthToken)
			require.Equal(t, id, r.tokens.vm)
		}
	}
	id, _, err := shell(store.VMTerminated, "SHELL_INGRESS")
	refused(t, err, awsapi.ConflictException, "The MicroVM "+id+" is in state TERMINATED, which does not allow this operation.")
}
