package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// killAfter are the moments, counted from the beginning of an operation, at which the daemon is
// killed in the middle of it: spread over what launches, suspends and wakes take here.
var killAfter = []time.Duration{0, 10 * time.Millisecond, 50 * time.Millisecond, 150 * time.Millisecond, 400 * time.Millisecond}

// One daemon after the other on one data folder; each is stopped or killed at a bad moment, and the
// next one has to tell the truth about what it finds.
func TestNothingIsLostWhenTheDaemonEndsAtABadMoment(t *testing.T) {
	t.Parallel()
	h := ownHost(t)
	image := h.counterImage(t).arn
	takeRoom(t, 2)

	t.Run("SIGTERM suspends what runs, and a later start can wake it", func(t *testing.T) {
		running := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic})
		explicit := h.runUntilRunning(t, image, nil)
		nonce, other := running.makeNonce(), explicit.makeNonce()
		require.NoError(t, h.Stop()) // exits with 0 and leaves no VMM
		require.NoError(t, h.Start())
		require.Equal(t, "SUSPENDED", running.get().State)
		require.Equal(t, "SUSPENDED", explicit.get().State)
		h.requireNoOrphans(t)
		require.Equal(t, nonce, running.count().Nonce)
		explicit.call("ResumeMicrovm")
		explicit.await("RUNNING")
		require.Equal(t, other, explicit.count().Nonce)
	})

	t.Run("another address mode finds everything under other names", func(t *testing.T) { changesMode(t, h, image) })

	t.Run("kill -9 leaves what runs and what sleeps as it is", func(t *testing.T) {
		running := h.runUntilRunning(t, image, nil)
		asleep := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic})
		nonce, other := running.makeNonce(), asleep.makeNonce()
		count := running.count()
		asleep.suspend()
		vmm := running.vmm()
		require.NotZero(t, vmm)
		h.crash(t)
		require.Equal(t, vmm, running.vmm(), "adopted, not restarted")
		require.Equal(t, "RUNNING", running.get().State)
		require.Equal(t, "SUSPENDED", asleep.get().State)
		after := running.count()
		require.Equal(t, nonce, after.Nonce)
		require.Equal(t, count.Counter+1, after.Counter)
		require.Equal(t, other, asleep.count().Nonce)
		running.suspend() // it is as good as any other
		running.call("ResumeMicrovm")
		running.await("RUNNING")
		require.Equal(t, nonce, running.count().Nonce)
	})

	for _, delay := range killAfter {
		t.Run("kill -9 during a suspend, "+delay.String()+" in", func(t *testing.T) {
			v := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic})
			nonce := v.makeNonce()
			v.call("SuspendMicrovm") // it is SUSPENDING when this returns
			time.Sleep(delay)
			h.crash(t)
			v.settle()
			require.Equal(t, nonce, v.count().Nonce)
			v.suspend()
			require.Equal(t, nonce, v.count().Nonce)
		})
		t.Run("kill -9 during a wake, "+delay.String()+" in", func(t *testing.T) {
			v := h.runUntilRunning(t, image, object{"idlePolicy": wakesOnTraffic})
			nonce := v.makeNonce()
			v.suspend()
			v.call("ResumeMicrovm")
			time.Sleep(delay)
			h.crash(t)
			v.settle()
			require.Equal(t, nonce, v.count().Nonce)
			v.suspend()
			require.Equal(t, nonce, v.count().Nonce)
		})
		t.Run("kill -9 during a launch, "+delay.String()+" in", func(t *testing.T) {
			v := h.run(t, image, nil)
			time.Sleep(delay)
			h.crash(t)
			switch now := v.get(); now.State {
			case "TERMINATED":
				require.NotEmpty(t, now.StateReason)
				require.Zero(t, v.vmm())
				require.NoDirExists(t, filepath.Join(h.Dir, "microvms", v.id))
			default:
				require.Equal(t, "RUNNING", now.State)
				require.Equal(t, 1, v.count().Counter)
			}
		})
	}

	t.Run("kill -9 during a terminate", func(t *testing.T) {
		v := h.runUntilRunning(t, image, nil)
		v.call("TerminateMicrovm")
		h.crash(t)
		require.Equal(t, "Success.", v.await("TERMINATED").StateReason)
		require.Zero(t, v.vmm())
		require.NoDirExists(t, filepath.Join(h.Dir, "microvms", v.id))
	})

	t.Run("SIGTERM during a launch and a build", func(t *testing.T) {
		arn := h.create(t, h.upload(t, zipFolder(t, counterFolder)), object{"hooks": allHooks})
		v := h.run(t, image, object{"idlePolicy": wakesOnTraffic})
		require.NoError(t, h.Stop())
		require.NoError(t, h.Start())
		h.requireNoOrphans(t)
		h.requireBuildFailure(t, arn, "INTERNAL_PLATFORM_ERROR: ", "==> The build failed")
		switch now := v.get(); now.State {
		case "TERMINATED":
			require.NotEmpty(t, now.StateReason)
		default:
			require.Equal(t, "SUSPENDED", now.State)
			require.Equal(t, 1, v.count().Counter)
		}
		h.api.Call(t, "DeleteMicrovmImage", object{"imageIdentifier": arn}, nil)
		h.awaitDeleted(t, arn)
	})

	for _, moment := range []string{"Running the Dockerfile", "Booting the image", "Taking the snapshot"} {
		t.Run("kill -9 during a build: "+moment, func(t *testing.T) {
			arn := h.create(t, h.upload(t, zipFolder(t, counterFolder)), object{"hooks": allHooks})
			eventually(t, buildLimit, moment, func() (bool, any) {
				log := h.buildLog(t, arn)
				return strings.Contains(log, "==> "+moment), log
			})
			h.crash(t)
			h.requireBuildFailure(t, arn, "INTERNAL_PLATFORM_ERROR: ", "==> "+moment)
			require.Empty(t, files(t, h.Dir, "builds"))
			require.Len(t, files(t, h.Dir, "images"), 1, "that of the image that is whole")
			h.api.Call(t, "DeleteMicrovmImage", object{"imageIdentifier": arn}, nil)
			h.awaitDeleted(t, arn)
		})
	}

	t.Run("a full disk keeps a microVM from being suspended, not from running", func(t *testing.T) {
		requireFullDiskIsSurvived(t, h, image)
	})

	t.Run("kill -9 during the deletion of an image", func(t *testing.T) {
		h.api.Call(t, "DeleteMicrovmImage", object{"imageIdentifier": image}, nil)
		h.crash(t)
		h.awaitDeleted(t, image)
		require.Empty(t, files(t, h.Dir, "images"))
		require.Empty(t, files(t, h.Dir, "run"))
	})
}

// crash kills the daemon and starts another one, which must leave no VMM that belongs to nobody.
func (h *host) crash(t *testing.T) {
	t.Helper()
	require.NoError(t, h.Kill())
	require.NoError(t, h.Start())
	h.requireNoOrphans(t)
}

// requireNoOrphans checks that each VMM belongs to a microVM that runs, or will in a moment: guests
// are adopted after the API has begun to answer. It must be called before the daemon has prepared
// VMMs for later launches.
func (h *host) requireNoOrphans(t *testing.T) {
	t.Helper()
	vmms, err := h.VMMs()
	require.NoError(t, err)
	for _, vmm := range vmms {
		require.NotEmpty(t, vmm.MicroVM, "VMM %d belongs to no microVM", vmm.PID)
		owner := &microVM{t: t, host: h, id: vmm.MicroVM}
		owner.await("RUNNING")
		require.Equal(t, vmm.PID, owner.vmm())
	}
}

// settle waits until the VM runs or sleeps, which it must after whatever happened to the daemon.
func (v *microVM) settle() {
	v.t.Helper()
	eventually(v.t, stateLimit, v.id+" runs or sleeps", func() (bool, any) {
		now := v.get()
		require.NotEqual(v.t, "TERMINATED", now.State, now.StateReason)
		return now.State == "RUNNING" || now.State == "SUSPENDED", now
	})
}

func TestAMicroVMWhoseVMMDiesIsTerminatedWithTheReason(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	v.count()
	require.NoError(t, syscall.Kill(v.vmm(), syscall.SIGKILL))
	require.Equal(t, "The virtual machine monitor of the MicroVM ended unexpectedly.", v.await("TERMINATED").StateReason)
	requireRefusal(t, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token), http.StatusBadGateway, "MICROVM_CONNECT_FAILED", "")
	require.NoDirExists(t, filepath.Join(h.Dir, "microvms", v.id))
}
