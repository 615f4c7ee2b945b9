package e2e

import (
	"archive/zip"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

func TestABuildGoesThroughTheDocumentedStates(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)

	require.Equal(t, "CREATING", image.created.State)
	require.Equal(t, "1.0", image.created.ImageVersion)
	require.Equal(t, "1.0", image.created.BaseImageVersion)
	require.Equal(t, []string{managedConnector("INTERNET_EGRESS")}, image.created.EgressNetworkConnectors)
	require.Equal(t, "arn:aws:lambda:"+region+":"+account+":microvm-image:"+image.created.Name, image.arn)
	require.Empty(t, image.created.LatestActiveImageVersion)

	require.Equal(t, "SUCCESSFUL", image.states[len(image.states)-1])
	require.Contains(t, image.states, "IN_PROGRESS")
	require.Subset(t, []string{"PENDING", "IN_PROGRESS", "SUCCESSFUL"}, image.states)

	require.Equal(t, "1.0", image.ended.LatestActiveImageVersion)
	require.Empty(t, image.ended.LatestFailedImageVersion)
	require.True(t, image.ended.UpdatedAt.After(image.ended.CreatedAt))

	var version versionView
	h.api.Call(t, "GetMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "1.0"}, &version)
	require.Equal(t, "SUCCESSFUL", version.State)
	require.Equal(t, "ACTIVE", version.Status)
	require.Empty(t, version.StateReason)

	build := h.buildOf(t, image.arn)
	require.Equal(t, "ARM_64", build.Architecture)
	require.Equal(t, "GRAVITON", build.Chipset)
	require.NotEmpty(t, build.ChipsetGeneration)
	require.Empty(t, build.StateReason)
	require.NotNil(t, build.SnapshotBuild)
	require.Positive(t, build.SnapshotBuild.CodeInstallSizeInBytes)
	require.Positive(t, build.SnapshotBuild.MemorySnapshotSizeInBytes)
	require.Positive(t, build.SnapshotBuild.DiskSnapshotSizeInBytes)
	require.Contains(t, h.buildLog(t, image.arn), "COPY app.py")
}

func managedConnector(name string) string {
	return "arn:aws:lambda:" + region + ":aws:network-connector:aws-network-connector:" + name
}

// One Dockerfile with a syntax line, stages, heredocs, build arguments, a cache mount, COPY --from
// and COPY --chmod; testdata/workbench.
func TestADockerfileMayUseWhatBuildKitOffers(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)

	var built map[string]string
	v.read("/built", &built)
	require.Equal(t, map[string]string{
		"from-cache": "good morning\n", "from-stage": "a stage upon a stage\n", "from-heredoc": "first line\nsecond line\n",
	}, built)

	var environment map[string]string
	v.read("/environment", &environment)
	for name, value := range map[string]string{
		"FROM_DOCKERFILE": "yes", "FROM_API": "yes", "AWS_REGION": region,
		"AWS_LAMBDA_MICROVM_IMAGE_ARN": image.arn, "AWS_LAMBDA_MICROVM_IMAGE_NAME": image.created.Name,
		"AWS_LAMBDA_MICROVM_IMAGE_VERSION": "1.0",
	} {
		require.Equal(t, value, environment[name], name)
	}
	require.NotContains(t, environment, "AWS_SECRET_ACCESS_KEY")
	require.Equal(t, map[string]string{"purpose": "e2e"}, image.ended.Tags)
}

// Builds that must fail, and a good one whose image is deleted: nothing of them may stay.
func TestNothingStaysOfFailedBuildsAndDeletedImages(t *testing.T) {
	t.Parallel()
	h := ownHost(t)
	bad := badBuilds(t, h)
	failed := make(chan string, len(bad)) // ARNs
	t.Run("builds", func(t *testing.T) {
		for name, c := range bad {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				if c.inVM {
					takeRoom(t, buildRoom)
				}
				arn := h.create(t, c.uri, c.with)
				failed <- arn
				h.requireBuildFailure(t, arn, c.reason, c.log)
			})
		}
	})
	require.Len(t, failed, len(bad))
	require.Empty(t, files(t, h.Dir, "builds"))
	require.Empty(t, files(t, h.Dir, "run"))
	vmms, err := h.VMMs()
	require.NoError(t, err)
	require.Empty(t, vmms)

	images := []string{h.usedImage(t)}
	for range bad {
		images = append(images, <-failed)
	}
	for _, arn := range images {
		var out imageView
		h.api.Call(t, "DeleteMicrovmImage", object{"imageIdentifier": arn}, &out)
		require.Equal(t, "DELETING", out.State)
	}
	for _, arn := range images {
		h.awaitDeleted(t, arn)
	}
	for _, folder := range []string{"images", "builds", "microvms", "run", "logs/builds"} {
		require.Empty(t, files(t, h.Dir, folder), folder)
	}
}

// usedImage makes an image and runs a VM from it, during which it must not be deletable.
func (h *host) usedImage(t *testing.T) (arn string) {
	t.Helper()
	image := h.build(t, workbench(t), object{"hooks": allHooks})
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	refusal := h.api.Refused(t, "DeleteMicrovmImage", object{"imageIdentifier": image.arn})
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, "Cannot delete microvm image with running microvms.", refusal.Message)
	v.call("TerminateMicrovm")
	v.await("TERMINATED")
	return image.arn
}

func (h *host) awaitDeleted(t *testing.T, arn string) {
	t.Helper()
	eventually(t, stateLimit, "end of "+arn, func() (bool, any) {
		err := h.api.Try("GetMicrovmImage", object{"imageIdentifier": arn}, nil)
		var refusal *sdk.Error
		return errors.As(err, &refusal) && refusal.Name == "ResourceNotFoundException", err
	})
}

// files lists what is in a folder of the data folder, which need not exist.
func files(t *testing.T, dir, folder string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, folder))
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// workbench is testdata/workbench with a Dockerfile that takes no time.
func workbench(t *testing.T) []byte {
	t.Helper()
	app, err := os.ReadFile(filepath.Join(workbenchFolder, "app.py"))
	require.NoError(t, err)
	return zipFiles(t, map[string]string{
		"Dockerfile": "FROM python:3-slim\nCOPY app.py /\nCMD [\"python3\", \"/app.py\"]\n", "app.py": string(app),
	})
}

// badBuild is a build that must fail.
type badBuild struct {
	uri    string
	with   object
	reason string // how the stateReason of the build begins
	log    string // something its log holds
	inVM   bool   // it comes as far as a VM
}

func badBuilds(t *testing.T, h *host) map[string]badBuild {
	t.Helper()
	app := h.upload(t, workbench(t))
	unready := func(readiness string, seconds int) object {
		return object{
			"hooks":                object{"port": 9000, "microvmImageHooks": object{"ready": "ENABLED", "readyTimeoutInSeconds": seconds}},
			"environmentVariables": object{"READINESS": readiness},
		}
	}
	return map[string]badBuild{
		"missing bucket": {uri: "s3://no-such-bucket/code.zip", reason: "S3_NO_SUCH_BUCKET: ", log: "s3://no-such-bucket/code.zip"},
		"missing key":    {uri: "s3://" + bucket + "/no-such-key", reason: "S3_NO_SUCH_KEY: ", log: "no-such-key"},
		"not a zip":      {uri: h.upload(t, []byte("PK, but not really")), reason: "ARCHIVE_INVALID: ", log: "ARCHIVE_INVALID"},
		"no Dockerfile": {
			uri: h.uploadFiles(t, map[string]string{"README": ""}), reason: "ARCHIVE_DOCKERFILE_NOT_FOUND: ", log: "no Dockerfile",
		},
		"Dockerfile in a folder": {
			uri: h.uploadFiles(t, map[string]string{"app/Dockerfile": "FROM debian:12\n"}), reason: "ARCHIVE_DOCKERFILE_NOT_FOUND: ", log: "app/Dockerfile",
		},
		"path out of the archive": {
			uri: h.uploadFiles(t, map[string]string{"Dockerfile": "FROM debian:12\n", "../../evil": ""}), reason: "ARCHIVE_INVALID: ", log: "../../evil",
		},
		"link out of the archive": {uri: h.upload(t, zipWithLink(t, "/etc")), reason: "ARCHIVE_INVALID: ", log: "link"},
		"failing RUN": {
			uri:    h.uploadFiles(t, map[string]string{"Dockerfile": "FROM debian:12\nRUN echo so far so good && exit 42\n"}),
			reason: "The container image build failed.", log: "so far so good", inVM: true,
		},
		"unknown base image": {
			uri:    h.uploadFiles(t, map[string]string{"Dockerfile": "FROM no-such-base:1\nCMD [\"true\"]\n"}),
			reason: "The container image build failed.", log: "no-such-base:1", inVM: true,
		},
		"app ends before it is ready": {
			uri: app, with: unready("exit", 120), reason: "The application exited with code 3 before it was ready", log: "giving up", inVM: true,
		},
		"ready hook answers 500": {
			uri: app, with: unready("500", 120),
			reason: "Ready hook check failed: the application returned a server error (HTTP 5xx) response", log: "(HTTP 5xx)", inVM: true,
		},
		"never ready": {uri: app, with: unready("503", 5), reason: "Ready hook invocation timed out after PT5S", log: "PT5S", inVM: true},
	}
}

func (h *host) uploadFiles(t *testing.T, files map[string]string) (uri string) {
	t.Helper()
	return h.upload(t, zipFiles(t, files))
}

// zipWithLink makes a code artifact with a symbolic link and something to put behind it.
func zipWithLink(t *testing.T, target string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	_, err := w.Create("Dockerfile")
	require.NoError(t, err)
	header := &zip.FileHeader{Name: "link"}
	header.SetMode(fs.ModeSymlink | 0o777)
	link, err := w.CreateHeader(header)
	require.NoError(t, err)
	_, err = link.Write([]byte(target))
	require.NoError(t, err)
	_, err = w.Create("link/evil")
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// create begins to build an image.
func (h *host) create(t *testing.T, uri string, with object) (arn string) {
	t.Helper()
	var created imageView
	h.api.Call(t, "CreateMicrovmImage", imageRequest(uri, with), &created)
	require.Equal(t, "CREATING", created.State)
	return created.ImageArn
}

// requireBuildFailure waits for the end of a build and checks how it failed (spec/behaviour.md 3 and 4.2).
func (h *host) requireBuildFailure(t *testing.T, arn, reason, log string) {
	t.Helper()
	end, _ := h.awaitBuild(t, arn)
	build := h.buildOf(t, arn)
	text := h.buildLog(t, arn)
	require.Equal(t, "CREATE_FAILED", end.State, text)
	require.Equal(t, "1.0", end.LatestFailedImageVersion)
	require.Empty(t, end.LatestActiveImageVersion)
	require.Equal(t, "FAILED", build.BuildState)
	require.True(t, strings.HasPrefix(build.StateReason, reason), build.StateReason)
	require.Contains(t, text, log)
	require.NoDirExists(t, filepath.Join(h.Dir, "builds", build.BuildID))

	var version versionView
	h.api.Call(t, "GetMicrovmImageVersion", object{"imageIdentifier": arn, "imageVersion": "1.0"}, &version)
	require.Equal(t, "FAILED", version.State)
	require.Equal(t, "INACTIVE", version.Status)
	require.Empty(t, version.StateReason, "the reason is on the build")

	refusal := h.api.Refused(t, "RunMicrovm", object{"imageIdentifier": arn})
	require.Equal(t, "ResourceNotFoundException", refusal.Name)
	require.Equal(t, "No active version found for MicroVM image "+arn, refusal.Message)
}
