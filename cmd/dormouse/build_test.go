package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// buildable is a folder that can be built.
func buildable(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "web")
	require.NoError(t, os.Mkdir(dir, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o600))
	return dir
}

func builtWell() extension.Build {
	return extension.Build{
		BuildID: buildUUID, ImageVersion: "1.0", State: "SUCCESSFUL", CodeBytes: 100 << 20, MemoryBytes: 2 << 30, DiskBytes: 3 << 20, LogTail: []string{},
		Phases: []extension.Phase{{Name: "fetch", Seconds: 0.02}, {Name: "build", Seconds: 10}, {Name: "snapshot", Seconds: 2.5}},
	}
}

func TestAFolderBecomesAnImage(t *testing.T) {
	f := newFake(t)
	f.logs[buildUUID+"/build"] = "==> Running the Dockerfile\n#1 [1/1] FROM scratch\n==> Warning: nothing listens\n==> The image is ready\n"
	f.build = builtWell()
	r := dormouse(t, "build", buildable(t), "--memory", "1g", "--env", "MODE=x=y", "--hooks", "ready=2m,run", "--description", "mine")
	require.Zero(t, r.status, r.err)
	require.Contains(t, r.out, "web:1.0 is ready")
	require.Contains(t, r.out, "root file system 100 MiB, memory 2 GiB, disk 3 MiB")
	require.Contains(t, r.out, "█")
	require.Contains(t, r.err, "Uploading 1 file, 13 B")
	require.Contains(t, r.err, "Running the Dockerfile\n#1 [1/1] FROM scratch\nWarning: nothing listens\nThe image is ready\n")
	require.True(t, strings.HasSuffix(r.err, "\ndormouse: nothing listens\n"), r.err)
	require.Contains(t, r.err, "run it: dormouse run web")
	in := f.created[0]
	require.Equal(t, []any{"web", "mine", []awsapi.Resources{{MinimumMemoryInMiB: 1024}}, map[string]string{"MODE": "x=y"}},
		[]any{in.Name, *in.Description, in.Resources, in.EnvironmentVariables})
	require.Equal(t, "ready=2m,run", hookWords(in.Hooks))
	require.EqualValues(t, defaultHooksPort, *in.Hooks.Port)
	require.True(t, strings.HasPrefix(*in.CodeArtifact.Uri, "s3://dormouse-code-000000000000/web/"), *in.CodeArtifact.Uri)

	// The name is taken now: the image gets another version. The bucket is there already.
	var built extension.Build
	require.NoError(t, json.Unmarshal([]byte(ok(t, "build", buildable(t), "-t", "web:latest", "-o", "json")), &built))
	require.Equal(t, f.build, built)
	require.Equal(t, fakeImageARN("web"), f.updated[0].ImageIdentifier)

	require.Equal(t, result{"web:2.0\n", "dormouse: nothing listens\n", exitOK}, dormouse(t, "build", buildable(t), "-q"))
	r = dormouse(t, "build", buildable(t), "--detach")
	require.Equal(t, "web:2.0 is being built\n", r.out)
	require.Contains(t, r.err, "follow it: dormouse logs --build -f web")
}

func TestAFailedBuildShowsTheStepThatFailed(t *testing.T) {
	f := newFake(t)
	tail, err := os.ReadFile("testdata/failed-build.log")
	require.NoError(t, err)
	f.logs[buildUUID+"/build"] = "live\n==> The build failed: again\n"
	f.build = extension.Build{State: "FAILED", StateReason: "The container image build failed.", LogTail: strings.Split(strings.TrimSpace(string(tail)), "\n")}
	r := dormouse(t, "build", buildable(t), "-q")
	require.Equal(t, exitFailed, r.status)
	golden(t, "failed-build.txt", r.err)

	f.images = nil
	_, last, found := strings.Cut(r.err, "\n\n")
	require.True(t, found)
	require.True(t, strings.HasSuffix(dormouse(t, "build", buildable(t)).err, "\nlive\n"+last), "what was shown already is not shown again")

	f.images = nil
	f.build.LogTail = []string{"------", " > [internal] load metadata for docker.io/library/fedora:44:", "------", "ERROR: failed to solve: fedora:44: docker.io/library/fedora:44: not found"}
	require.Contains(t, dormouse(t, "build", buildable(t)).err, "\ndormouse: the build of web:1.0 failed: fedora:44: docker.io/library/fedora:44: not found\n")

	f.images = nil
	f.build.LogTail = []string{"==> Waiting for the application to be ready", "going down", "==> The build failed: …"}
	require.Contains(t, dormouse(t, "build", buildable(t), "-q").err, "\n  going down\n\n")

	f.images = nil
	r = dormouse(t, "build", buildable(t), "--output", "json")
	require.Equal(t, exitFailed, r.status)
	require.Contains(t, r.out, `"state": "FAILED"`)
}

func TestAnInterruptLeavesNothingBehindOrSaysWhatGoesOn(t *testing.T) {
	f := newFake(t)
	t.Setenv("TMPDIR", t.TempDir())
	left := func() int {
		entries, err := os.ReadDir(os.Getenv("TMPDIR"))
		require.NoError(t, err)
		return len(entries)
	}
	before, cancelBefore := context.WithCancel(t.Context())
	cancelBefore()
	r := dormouseIn(before, "build", buildable(t))
	require.Equal(t, exitInterrupted, r.status)
	require.Empty(t, f.created)
	require.Zero(t, left())

	// In the middle of the call that begins the build: it is made to its end, and told.
	during, cancelDuring := context.WithCancel(t.Context())
	f.onCreate = cancelDuring
	r = dormouseIn(during, "build", buildable(t))
	require.Equal(t, exitInterrupted, r.status)
	require.Len(t, f.created, 1)
	require.Contains(t, r.err, "the build of web:1.0 goes on in the daemon\n  follow it: dormouse logs --build -f web\n  delete the image, once it has ended: dormouse rm web")
	require.Zero(t, left())
}

func TestALineWithoutEndIsShownInPieces(t *testing.T) {
	var out bytes.Buffer
	b := &building{progress: terminal.New(io.Discard, &out).Progress()}
	require.NoError(t, b.showLog(io.NopCloser(strings.NewReader(strings.Repeat("x", 1<<20)+"\n==> said\nlast"))))
	b.progress.Close()
	for line := range strings.Lines(out.String()) {
		require.LessOrEqual(t, len(line), maxAppLine+1)
	}
	require.Equal(t, strings.Repeat("x", 1<<20)+"saidlast", strings.ReplaceAll(out.String(), "\n", ""))
}

func TestZipsOfEarlierBuildsDoNotPileUp(t *testing.T) {
	f := newFake(t)
	f.build = builtWell()
	f.logs[buildUUID+"/build"] = ""
	dir := buildable(t)
	t.Setenv("TMPDIR", dir) // where the zip is made: it must not be packed itself
	for i := range 5 {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "content"), []byte{byte(i)}, 0o600))
		require.Contains(t, dormouse(t, "build", dir).err, "Uploading 2 files")
		ok(t, "build", dir, "-t", "other", "-q")
	}
	s, err := connection.Find("", false, os.Getenv)
	require.NoError(t, err)
	objects, err := connection.New(s).Objects()
	require.NoError(t, err)
	var keys []string
	require.NoError(t, objects.Prune(t.Context(), "dormouse-code-000000000000", "", 0, func(key string) bool {
		keys = append(keys, key)
		return false
	}))
	require.Len(t, keys, 2*(1+keptZips))
	newest, _ := strings.CutPrefix(*f.updated[len(f.updated)-1].CodeArtifact.Uri, "s3://dormouse-code-000000000000/")
	require.Contains(t, keys, newest)
}

func TestImagesInMotionAreNotBuiltAgain(t *testing.T) {
	f := newFake(t)
	f.addImage("web").State = awsapi.MicrovmImageStateCreating
	require.Contains(t, dormouse(t, "build", buildable(t)).err, "web is being built already\n  follow that build: dormouse logs --build -f web")
	f.images[0].State = awsapi.MicrovmImageStateDeleting
	require.Contains(t, dormouse(t, "build", buildable(t)).err, "web is being deleted")
}

func TestHooksAndVariablesAreRead(t *testing.T) {
	all, err := parseHooks("all", 9000)
	require.NoError(t, err)
	require.Equal(t, "ready,validate,run,resume,suspend,terminate", hookWords(all))
	some, err := parseHooks("validate=90s, suspend=5", 8081)
	require.NoError(t, err)
	require.Equal(t, "validate=1m30s,suspend=5s", hookWords(some))
	none, err := parseHooks("", 9000)
	require.NoError(t, err)
	require.Nil(t, none)
	for _, text := range []string{"reddy", "ready=", "ready=x", ","} {
		_, err := parseHooks(text, 9000)
		require.Error(t, err, text)
	}
	_, err = parseHooks("all", 0)
	require.Error(t, err)

	t.Setenv("FROM_HERE", "value")
	env, err := parseEnv([]string{"A=1", "B=", "FROM_HERE", "NOT_THERE_AT_ALL"})
	require.NoError(t, err)
	require.Equal(t, map[string]string{"A": "1", "B": "", "FROM_HERE": "value"}, env)
	_, err = parseEnv([]string{"=x"})
	require.Error(t, err)
}

func TestNamesOfImages(t *testing.T) {
	for given, want := range map[string]string{"web": "web", "web:latest": "web", "": "folder"} {
		name, err := imageNameFor(given, "/some/folder")
		require.NoError(t, err)
		require.Equal(t, want, name)
	}
	for _, given := range []string{"web:2", "a b", strings.Repeat("x", 65), "org/web"} {
		_, err := imageNameFor(given, ".")
		require.Error(t, err, given)
	}
}
