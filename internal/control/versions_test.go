package control

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// addVersion stores the next version of an image with the outcome of its build.
func (r *rig) addVersion(t *testing.T, i store.Image, state string) string {
	t.Helper()
	v, err := r.store.Version(r.ctx, i.ID, "1.0")
	require.NoError(t, err)
	b := store.Build{ID: "build-" + i.Name + state, ImageID: i.ID, State: store.BuildFailed}
	v, _, err = r.store.AddVersion(r.ctx, store.SettledImageStates, v, b, nil, store.Event{Subject: i.ID})
	require.NoError(t, err)
	r.finish(t, i, v.Version, state)
	return v.Version
}

func TestVersionsAreListedNewestFirst(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	r.addVersion(t, i, store.VersionFailed)
	var got []string
	var token *string
	for {
		out, err := r.ListMicrovmImageVersions(r.ctx, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: appARN, MaxResults: p(int32(1)), NextToken: token})
		require.NoError(t, err)
		for _, v := range out.Items {
			got = append(got, v.ImageVersion+" "+string(v.State)+" "+string(v.Status))
			require.Nil(t, v.StateReason)
		}
		if token = out.NextToken; token == nil {
			break
		}
	}
	require.Equal(t, []string{"2.0 FAILED INACTIVE", "1.0 SUCCESSFUL ACTIVE"}, got)
	_, err := r.ListMicrovmImageVersions(r.ctx, &awsapi.ListMicrovmImageVersionsInput{ImageIdentifier: noImage})
	refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: "+noImage)
}

func TestMissingVersionsAndBuildsAreNotFound(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	other := r.createImage(t, "other")
	builds, _, err := r.store.ListBuilds(r.ctx, other.ID, "1.0", store.Page{Limit: 1})
	require.NoError(t, err)
	for _, c := range []struct{ image, version, text string }{
		{appARN, "2.0", "MicroVMImage not found for MicroVMImage: " + appARN + ", Version: 2.0"},
		{appARN, "1", "MicroVMImage not found for MicroVMImage: " + appARN + ", Version: 1"},
		{noImage, "1.0", "MicroVMImage not found for MicroVMImage: " + noImage + ", Version: 1.0"},
	} {
		_, err := r.GetMicrovmImageVersion(r.ctx, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: c.image, ImageVersion: c.version})
		refused(t, err, awsapi.ResourceNotFoundException, c.text)
		_, err = r.ListMicrovmImageBuilds(r.ctx, &awsapi.ListMicrovmImageBuildsInput{ImageIdentifier: c.image, ImageVersion: c.version})
		refused(t, err, awsapi.ResourceNotFoundException, c.text)
		_, err = r.GetMicrovmImageBuild(r.ctx, &awsapi.GetMicrovmImageBuildInput{ImageIdentifier: c.image, ImageVersion: c.version, BuildId: "b"})
		refused(t, err, awsapi.ResourceNotFoundException, c.text)
		_, err = r.UpdateMicrovmImageVersion(r.ctx, &awsapi.UpdateMicrovmImageVersionInput{ImageIdentifier: c.image, ImageVersion: c.version, Status: "INACTIVE"})
		refused(t, err, awsapi.ResourceNotFoundException, c.text)
	}
	for _, id := range []string{"none", builds[0].ID} {
		_, err := r.GetMicrovmImageBuild(r.ctx, &awsapi.GetMicrovmImageBuildInput{ImageIdentifier: appARN, ImageVersion: "1.0", BuildId: id})
		refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImageBuild not found for MicroVMImage: "+appARN+", Version: 1.0, BuildId: "+id)
	}
}

func TestBuildsShowTheirReasonAndSizes(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	builds, _, err := r.store.ListBuilds(r.ctx, i.ID, "1.0", store.Page{Limit: 1})
	require.NoError(t, err)
	b := builds[0]
	get := func() *awsapi.GetMicrovmImageBuildOutput {
		out, err := r.GetMicrovmImageBuild(r.ctx, &awsapi.GetMicrovmImageBuildInput{ImageIdentifier: appARN, ImageVersion: "1.0", BuildId: b.ID})
		require.NoError(t, err)
		return out
	}
	require.Nil(t, get().SnapshotBuild, "nothing was built yet")

	b.State, b.StateReason, b.CodeBytes = store.BuildFailed, "Ready hook invocation timed out after PT5M", 186400768
	require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{ImageID: i.ID, Build: &b}))
	require.Equal(t, &awsapi.SnapshotBuild{CodeInstallSizeInBytes: p(int64(186400768))}, get().SnapshotBuild)

	b.MemoryBytes, b.DiskBytes = 609087488, 25600000
	require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{ImageID: i.ID, Build: &b}))
	require.Equal(t, &awsapi.GetMicrovmImageBuildOutput{
		ImageArn: appARN, ImageVersion: "1.0", BuildId: b.ID, BuildState: "FAILED",
		Architecture: "ARM_64", Chipset: "GRAVITON", ChipsetGeneration: "4", CreatedAt: awsapi.At(b.CreatedAt),
		StateReason: p("Ready hook invocation timed out after PT5M"),
		SnapshotBuild: &awsapi.SnapshotBuild{
			CodeInstallSizeInBytes: p(int64(186400768)), MemorySnapshotSizeInBytes: p(int64(609087488)), DiskSnapshotSizeInBytes: p(int64(25600000)),
		},
	}, get())

	for generation, want := range map[string]int{"4": 1, "3": 0} {
		out, err := r.ListMicrovmImageBuilds(r.ctx, &awsapi.ListMicrovmImageBuildsInput{ImageIdentifier: appARN, ImageVersion: "1.0", ChipsetGeneration: &generation})
		require.NoError(t, err)
		require.Len(t, out.Items, want)
	}
}

func TestARetiredVersionIsNotRun(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	r.addVersion(t, i, store.VersionSuccessful)
	set := func(version, status string) error {
		out, err := r.UpdateMicrovmImageVersion(r.ctx, &awsapi.UpdateMicrovmImageVersionInput{
			ImageIdentifier: appARN, ImageVersion: version, Status: awsapi.MicrovmImageVersionStatus(status),
		})
		if err == nil {
			require.Equal(t, status, string(out.Status))
			require.Equal(t, version, out.ImageVersion)
		}
		return err
	}
	run := func(version *string) (string, error) {
		out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ImageVersion: version})
		if err != nil {
			return "", err
		}
		return out.ImageVersion, nil
	}
	version, err := run(nil)
	require.NoError(t, err)
	require.Equal(t, "2.0", version)
	require.NoError(t, set("2.0", "INACTIVE"))
	version, err = run(nil)
	require.NoError(t, err)
	require.Equal(t, "1.0", version)
	_, err = run(p("2.0"))
	refused(t, err, awsapi.ResourceNotFoundException, "No active version found for MicroVM image "+appARN+" and version 2.0")
	require.NoError(t, set("1.0", "INACTIVE"))
	_, err = run(nil)
	refused(t, err, awsapi.ResourceNotFoundException, "No active version found for MicroVM image "+appARN)
	for range 2 {
		require.NoError(t, set("2.0", "ACTIVE"))
	}
	_, err = run(p("2.0"))
	require.NoError(t, err)
	events, _, err := r.store.Events(r.ctx, i.ID, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []string{"version 2.0", "INACTIVE", "ACTIVE", "request-1"}, []string{events[0].Operation, events[0].From, events[0].To, events[0].RequestID}, "a change that is none is no event")

	require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{ImageID: i.ID, To: store.ImageUpdating}))
	refused(t, set("2.0", "INACTIVE"), awsapi.ConflictException, "MicroVM Image is already in state: UPDATING")
}

func TestAFailedVersionCannotBeActivated(t *testing.T) {
	r := newRig(t)
	version := r.addVersion(t, r.createImage(t, "app"), store.VersionFailed)
	_, err := r.UpdateMicrovmImageVersion(r.ctx, &awsapi.UpdateMicrovmImageVersionInput{ImageIdentifier: appARN, ImageVersion: version, Status: "ACTIVE"})
	refused(t, err, awsapi.ConflictException, "The version 2.0 of MicroVM image "+appARN+" is in state FAILED, which does not allow this operation.")
}

func TestManagedImagesAreListed(t *testing.T) {
	r := newRig(t)
	images, err := r.ListManagedMicrovmImages(r.ctx, &awsapi.ListManagedMicrovmImagesInput{})
	require.NoError(t, err)
	require.Equal(t, awsapi.List[awsapi.ManagedMicrovmImageSummary]{{ImageArn: baseARN, CreatedAt: managedSince, UpdatedAt: &managedSince}}, images.Items)
	require.Nil(t, images.NextToken)

	var got []string
	var token *string
	for {
		out, err := r.ListManagedMicrovmImageVersions(r.ctx, &awsapi.ListManagedMicrovmImageVersionsInput{
			ImageIdentifier: baseARN, MaxResults: p(int32(1)), NextToken: token,
		})
		require.NoError(t, err)
		for _, v := range out.Items {
			got = append(got, v.ImageVersion)
			require.Equal(t, p(awsapi.ManagedMicrovmImageVersionStatusAvailable), v.Status)
		}
		if token = out.NextToken; token == nil {
			break
		}
	}
	require.Equal(t, []string{"1", "0"}, got)

	_, err = r.ListManagedMicrovmImageVersions(r.ctx, &awsapi.ListManagedMicrovmImageVersionsInput{ImageIdentifier: "al2023-1"})
	refused(t, err, awsapi.ValidationException, "Invalid ARN format: al2023-1")
	_, err = r.ListManagedMicrovmImageVersions(r.ctx, &awsapi.ListManagedMicrovmImageVersionsInput{ImageIdentifier: baseARN + "x"})
	refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: "+baseARN+"x")
}

func TestTagsAreMergedAndRemoved(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	tags := func() map[string]string {
		out, err := r.ListTags(r.ctx, &awsapi.ListTagsInput{Resource: appARN})
		require.NoError(t, err)
		return out.Tags
	}
	require.Equal(t, map[string]string{}, tags())
	_, err := r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: appARN, Tags: map[string]string{"a": "1", "b": "2"}})
	require.NoError(t, err)
	_, err = r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: appARN, Tags: map[string]string{"b": "3"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "1", "b": "3"}, tags())
	_, err = r.UntagResource(r.ctx, &awsapi.UntagResourceInput{Resource: appARN, TagKeys: []string{"a", "none"}})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"b": "3"}, tags())

	many := make(map[string]string)
	for n := range 50 {
		many["k"+string(rune('0'+n/10))+string(rune('0'+n%10))] = ""
	}
	_, err = r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: appARN, Tags: many})
	refused(t, err, awsapi.InvalidParameterValueException, "A resource can have at most 50 tags.")
	require.Len(t, tags(), 1)

	function := "arn:aws:lambda:us-east-1:000000000000:function:f"
	_, err = r.ListTags(r.ctx, &awsapi.ListTagsInput{Resource: function})
	refused(t, err, awsapi.ResourceNotFoundException, "Resource not found: "+function)
	_, err = r.UntagResource(r.ctx, &awsapi.UntagResourceInput{Resource: noImage})
	refused(t, err, awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: "+noImage)
	_, err = r.TagResource(r.ctx, &awsapi.TagResourceInput{Resource: foreign})
	refused(t, err, awsapi.AccessDeniedException, "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:TagResource on resource: "+foreign)
}
