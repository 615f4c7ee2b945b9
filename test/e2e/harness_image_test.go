package e2e

import (
	"archive/zip"
	"bytes"
	"context"
	"maps"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// What API answers about images tests look at.
type (
	imageView struct {
		ImageArn, Name, State                              string
		ImageVersion                                       string
		LatestActiveImageVersion, LatestFailedImageVersion string
		BaseImageVersion                                   string
		Resources                                          []struct{ MinimumMemoryInMiB int }
		EgressNetworkConnectors                            []string
		CreatedAt, UpdatedAt                               time.Time
		Tags                                               map[string]string
	}
	versionView struct {
		ImageVersion, State, Status, StateReason, BaseImageVersion string
		CreatedAt                                                  time.Time
	}
	buildView struct {
		BuildID, BuildState, StateReason, Architecture, Chipset, ChipsetGeneration string
		SnapshotBuild                                                              *struct {
			CodeInstallSizeInBytes, MemorySnapshotSizeInBytes, DiskSnapshotSizeInBytes int64
		}
	}
)

var baseImage = "arn:aws:lambda:" + region + ":aws:microvm-image:al2023-1"

// allHooks enables every lifecycle hook. The times are for a machine under load.
var allHooks = object{
	"port": 9000,
	"microvmHooks": object{
		"run": "ENABLED", "runTimeoutInSeconds": 60, "resume": "ENABLED", "resumeTimeoutInSeconds": 60,
		"suspend": "ENABLED", "suspendTimeoutInSeconds": 60, "terminate": "ENABLED", "terminateTimeoutInSeconds": 60,
	},
	"microvmImageHooks": object{
		"ready": "ENABLED", "readyTimeoutInSeconds": 180, "validate": "ENABLED", "validateTimeoutInSeconds": 180,
	},
}

// zipFolder makes a code artifact of a folder's content.
func zipFolder(t *testing.T, folder string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	require.NoError(t, w.AddFS(os.DirFS(folder)))
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// zipFiles makes a code artifact of files given by name.
func zipFiles(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for name, content := range files {
		file, err := w.Create(name)
		require.NoError(t, err)
		_, err = file.Write([]byte(content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return archive.Bytes()
}

// upload puts a code artifact into S3 and returns its URI.
func (h *host) upload(t *testing.T, archive []byte) string {
	t.Helper()
	key := uuid.NewString() + ".zip"
	h.s3.Call(t, "PutObject", object{"Bucket": bucket, "Key": key, "Body": sdk.Bytes(archive)}, nil)
	return "s3://" + bucket + "/" + key
}

// imageRequest is a CreateMicrovmImage request with what it must have, and what with adds.
func imageRequest(uri string, with object) object {
	request := object{
		"name": "e2e-" + uuid.NewString()[:8], "baseImageArn": baseImage,
		"buildRoleArn": "arn:aws:iam::" + account + ":role/build",
		"codeArtifact": object{"uri": uri}, "resources": []object{{"minimumMemoryInMiB": 512}},
	}
	maps.Copy(request, with)
	return request
}

// builtImage is an image whose build has succeeded, and what the API told of it on the way.
type builtImage struct {
	arn            string
	created, ended imageView
	states         []string // of the build
}

// build creates an image from an archive and waits for the end of its build, which must succeed.
func (h *host) build(t *testing.T, archive []byte, with object) builtImage {
	t.Helper()
	require.NoError(t, room.Acquire(context.Background(), buildRoom))
	defer room.Release(buildRoom)
	var b builtImage
	h.api.Call(t, "CreateMicrovmImage", imageRequest(h.upload(t, archive), with), &b.created)
	b.arn = b.created.ImageArn
	b.ended, b.states = h.awaitBuild(t, b.arn)
	if b.ended.State != "CREATED" {
		require.FailNow(t, "the build failed", "%s\n%s", h.buildOf(t, b.arn).StateReason, h.buildLog(t, b.arn))
	}
	return b
}

// awaitBuild waits until an image is no longer CREATING, and returns what it is then and in which
// states its build was seen.
func (h *host) awaitBuild(t *testing.T, imageARN string) (end imageView, seen []string) {
	t.Helper()
	eventually(t, buildLimit, "end of the build of "+imageARN, func() (bool, any) {
		end = imageView{}
		h.api.Call(t, "GetMicrovmImage", object{"imageIdentifier": imageARN}, &end)
		if state := h.buildOf(t, imageARN).BuildState; len(seen) == 0 || seen[len(seen)-1] != state {
			seen = append(seen, state)
		}
		return end.State != "CREATING", end.State
	})
	return end, seen
}

// buildOf reads the build of an image's only version.
func (h *host) buildOf(t *testing.T, imageARN string) buildView {
	t.Helper()
	version := object{"imageIdentifier": imageARN, "imageVersion": "1.0"}
	var list struct{ Items []buildView }
	h.api.Call(t, "ListMicrovmImageBuilds", version, &list)
	require.Len(t, list.Items, 1)
	version["buildId"] = list.Items[0].BuildID
	var b buildView
	h.api.Call(t, "GetMicrovmImageBuild", version, &b)
	return b
}

// buildLog is the log of the build of an image's only version, as `dormouse logs` prints it.
func (h *host) buildLog(t *testing.T, imageARN string) string {
	t.Helper()
	text, err := h.Command(context.Background(), "logs", "--build", h.buildOf(t, imageARN).BuildID)
	require.NoError(t, err)
	return string(text)
}

// sharedImage is built when the first test needs it.
type sharedImage struct {
	once sync.Once
	made builtImage
}

func (s *sharedImage) on(t *testing.T, build func() builtImage) builtImage {
	t.Helper()
	s.once.Do(func() { s.made = build() })
	require.NotEmpty(t, s.made.arn, "the image that tests share could not be built; see the first test that needed it")
	return s.made
}

const (
	counterFolder   = "../../examples/counter"
	workbenchFolder = "testdata/workbench"
)

// counterImage is an image of examples/counter with all hooks.
func (h *host) counterImage(t *testing.T) builtImage {
	t.Helper()
	return h.counter.on(t, func() builtImage {
		return h.build(t, zipFolder(t, counterFolder), object{"hooks": allHooks})
	})
}

// workbenchImage is an image of testdata/workbench with all hooks.
func (h *host) workbenchImage(t *testing.T) builtImage {
	t.Helper()
	return h.workbench.on(t, func() builtImage {
		return h.build(t, zipFolder(t, workbenchFolder), object{
			"hooks": allHooks, "environmentVariables": object{"FROM_API": "yes"}, "tags": object{"purpose": "e2e"},
		})
	})
}
