package e2e

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// update asks for the next version of an image. It replaces everything, so with has to say all.
func (h *host) update(t *testing.T, arn, uri string, with object) (updating imageView) {
	t.Helper()
	request := object{"imageIdentifier": arn}
	maps.Copy(request, imageRequest(uri, with))
	delete(request, "name")
	h.api.Call(t, "UpdateMicrovmImage", request, &updating)
	require.Equal(t, "UPDATING", updating.State)
	return updating
}

// awaitImage waits until an image is in a state.
func (h *host) awaitImage(t *testing.T, arn, state string) (now imageView) {
	t.Helper()
	eventually(t, buildLimit, arn+" "+state, func() (bool, any) {
		now = imageView{}
		h.api.Call(t, "GetMicrovmImage", object{"imageIdentifier": arn}, &now)
		return now.State != "CREATING" && now.State != "UPDATING", now
	})
	require.Equal(t, state, now.State)
	return now
}

// versionFolder is where a version's snapshot is. An image's id is in its events only.
func (h *host) versionFolder(t *testing.T, version string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(h.Dir, "images", "*", version))
	require.NoError(t, err)
	require.Len(t, found, 1)
	return found[0]
}

// One image through its life: a second version, a failed third one, and the end of the first.
func TestAnImageIsUpdatedAndItsVersionsRetired(t *testing.T) {
	t.Parallel()
	h := ownHost(t)
	image := h.build(t, workbench(t), object{"hooks": allHooks, "environmentVariables": object{"ONLY_IN": "version one"}})
	takeRoom(t, buildRoom+1)
	old := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})

	app, err := os.ReadFile(filepath.Join(workbenchFolder, "app.py"))
	require.NoError(t, err)
	second := strings.Replace(string(app), "self.answer(dict(os.environ))", `self.answer(dict(os.environ, ANSWER="from version two"))`, 1)
	require.NotEqual(t, string(app), second)
	updating := h.update(t, image.arn, h.uploadFiles(t, map[string]string{
		"Dockerfile": "FROM python:3-slim\nCOPY app.py /\nCMD [\"python3\", \"/app.py\"]\n", "app.py": second,
	}), object{"hooks": allHooks})
	require.Equal(t, []string{"2.0", "1.0"}, []string{updating.ImageVersion, updating.LatestActiveImageVersion})
	request := object{"imageIdentifier": image.arn}
	maps.Copy(request, imageRequest("s3://"+bucket+"/no-such-key", nil))
	refusal := h.api.Refused(t, "UpdateMicrovmImage", request)
	require.Equal(t, "ConflictException", refusal.Name)
	require.Equal(t, "MicroVM Image is already in state: UPDATING", refusal.Message)
	refusal = h.api.Refused(t, "UpdateMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "1.0", "status": "INACTIVE"})
	require.Equal(t, http.StatusConflict, refusal.Status)
	require.Equal(t, "2.0", h.awaitImage(t, image.arn, "UPDATED").LatestActiveImageVersion)

	version := object{"imageIdentifier": image.arn, "imageVersion": "1.0"}
	t.Run("the new version answers, the old VM lives on", func(t *testing.T) {
		v := h.runUntilRunning(t, image.arn, nil)
		require.Equal(t, "2.0", v.get().ImageVersion)
		require.Equal(t, "2.0/from version two/", v.identity())
		require.Equal(t, "1.0//version one", old.in(t).identity())
		old.in(t).suspend()
		require.Equal(t, "1.0//version one", old.in(t).identity(), "woken from its own version")
	})
	t.Run("an INACTIVE version is not run, pinned or not", func(t *testing.T) {
		set := func(status string) {
			h.api.Call(t, "UpdateMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "2.0", "status": status}, nil)
		}
		set("INACTIVE")
		v := h.run(t, image.arn, nil)
		require.Equal(t, "1.0", v.get().ImageVersion)
		refusal := h.api.Refused(t, "RunMicrovm", object{"imageIdentifier": image.arn, "imageVersion": "2.0"})
		require.Equal(t, "No active version found for MicroVM image "+image.arn+" and version 2.0", refusal.Message)
		set("ACTIVE")
	})
	t.Run("a version in use is not deleted", func(t *testing.T) {
		refusal := h.api.Refused(t, "DeleteMicrovmImageVersion", version)
		require.Equal(t, "ValidationException", refusal.Name)
	})
	t.Run("a failed update keeps its number and stops nobody", func(t *testing.T) {
		h.update(t, image.arn, "s3://"+bucket+"/no-such-key", nil)
		now := h.awaitImage(t, image.arn, "UPDATE_FAILED")
		require.Equal(t, []string{"2.0", "3.0"}, []string{now.LatestActiveImageVersion, now.LatestFailedImageVersion})
		var failed versionView
		h.api.Call(t, "GetMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "3.0"}, &failed)
		require.Equal(t, []string{"FAILED", "INACTIVE"}, []string{failed.State, failed.Status})
		require.Equal(t, "2.0", h.run(t, image.arn, nil).get().ImageVersion)
	})
	t.Run("a deleted version leaves nothing", func(t *testing.T) {
		folder := h.versionFolder(t, "1.0")
		processes := func(what string, want int) {
			eventually(t, stateLimit, what, func() (bool, any) {
				vmms, err := h.VMMsUsing(folder)
				require.NoError(t, err)
				return len(vmms) == want, vmms
			})
		}
		old.in(t).suspend()
		processes("a VMM that waits for the next launch or wake of version 1.0", 1)
		old.in(t).call("TerminateMicrovm")
		old.in(t).await("TERMINATED")
		var out struct{ State string }
		h.api.Call(t, "DeleteMicrovmImageVersion", version, &out)
		require.Equal(t, "DELETING", out.State)
		require.Equal(t, "2.0", h.awaitImage(t, image.arn, "UPDATED").LatestActiveImageVersion)
		refusal := h.api.Refused(t, "GetMicrovmImageVersion", version)
		require.Equal(t, "ResourceNotFoundException", refusal.Name)
		require.NoDirExists(t, folder)
		require.DirExists(t, h.versionFolder(t, "2.0"))
		require.Len(t, files(t, h.Dir, "logs/builds"), 2)
		processes("end of the VMMs of version 1.0", 0)
	})
	t.Run("what a killed daemon was in the middle of is finished by the next", func(t *testing.T) {
		h.update(t, image.arn, h.upload(t, workbench(t)), object{"hooks": allHooks})
		h.crash(t)
		now := h.awaitImage(t, image.arn, "UPDATE_FAILED")
		require.Equal(t, []string{"2.0", "4.0"}, []string{now.LatestActiveImageVersion, now.LatestFailedImageVersion})
		require.Empty(t, files(t, h.Dir, "builds"))
		h.api.Call(t, "DeleteMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "3.0"}, nil)
		h.crash(t)
		h.awaitImage(t, image.arn, "UPDATED")
		h.api.Refused(t, "GetMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "3.0"})
		require.Equal(t, "2.0/from version two/", h.runUntilRunning(t, image.arn, nil).identity())
	})
	t.Run("the last version goes with its image", func(t *testing.T) {
		h.api.Call(t, "DeleteMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "4.0"}, nil)
		h.awaitImage(t, image.arn, "UPDATED")
		refusal := h.api.Refused(t, "DeleteMicrovmImageVersion", object{"imageIdentifier": image.arn, "imageVersion": "2.0"})
		require.Equal(t, "ValidationException", refusal.Name)
		require.Equal(t, "This is the last version. Please delete the entire image", refusal.Message)
	})
	var told []string
	for _, e := range h.events(t, image.arn) {
		told = append(told, e.Operation+" → "+e.To)
	}
	for _, change := range []string{"update → UPDATING", "version 2.0 → PENDING", "build 3.0 → UPDATE_FAILED", "version 1.0 → DELETED"} {
		require.Contains(t, told, change)
	}
}

// identity is the version that an app of workbench says it is of, and the two things in which the
// versions of the test above differ.
func (v *microVM) identity() string {
	v.t.Helper()
	var environment map[string]string
	v.read("/environment", &environment)
	return environment["AWS_LAMBDA_MICROVM_IMAGE_VERSION"] + "/" + environment["ANSWER"] + "/" + environment["ONLY_IN"]
}

func TestShellTokensNeedTheirConnectorAndOpenNoPort(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 2)
	minutes := func(v *microVM) object { return object{"microvmIdentifier": v.id, "expirationInMinutes": 5} }
	plain := h.run(t, image.arn, nil)
	refusal := h.api.Refused(t, "CreateMicrovmShellAuthToken", minutes(plain))
	require.Equal(t, "ValidationException", refusal.Name)
	require.Equal(t, "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM.", refusal.Message)

	v := h.runUntilRunning(t, image.arn, object{"ingressNetworkConnectors": []string{managedConnector("HTTP_INGRESS"), managedConnector("SHELL_INGRESS")}})
	var out struct{ AuthToken map[string]string }
	h.api.Call(t, "CreateMicrovmShellAuthToken", minutes(v), &out)
	shell := out.AuthToken["X-aws-proxy-auth"]
	require.Len(t, strings.Split(shell, "."), 5)
	requireRefusal(t, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", shell), http.StatusBadGateway, "SHELL_NEEDS_WEBSOCKET", "")
	requireRefusal(t, plain.send(http.MethodGet, "/", "", "X-aws-proxy-auth", shell), http.StatusForbidden, "AUTH_FAILED", "Token authentication failed")
	require.Equal(t, 1, v.count().Counter, "its own token opens the app, which saw nothing before")
}
