package e2e

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAWakeIsNotAReboot(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})

	nonce := v.makeNonce()
	require.Equal(t, 1, v.count().Counter)
	before := v.count()
	v.ask(http.MethodPost, "/file", "on disk")
	v.ask(http.MethodPost, "/pipe", "in a pipe")

	v.suspend()
	require.Zero(t, v.vmm(), "a suspended microVM has no VMM")
	asleep := 3 * time.Second // more than the wall clock may be off afterwards
	time.Sleep(asleep)

	after := v.count() // this request wakes it
	v.await("RUNNING")
	var clock struct{ Time float64 }
	v.read("/time", &clock)
	require.InDelta(t, float64(time.Now().UnixMilli())/1000, clock.Time, 2, "wall clock after a wake, seconds")

	require.Equal(t, nonce, after.Nonce, "memory")
	require.Equal(t, before.Counter+1, after.Counter, "memory")
	require.GreaterOrEqual(t, after.Ticks, before.Ticks, "memory")
	eventually(t, stateLimit, "the background thread ticks again", func() (bool, any) {
		ticks := v.count().Ticks
		return ticks > after.Ticks, ticks
	})
	require.Equal(t, "on disk\n", v.ask(http.MethodGet, "/file", ""), "file on disk")
	require.Equal(t, "in a pipe", v.ask(http.MethodGet, "/pipe", ""), "open pipe")
}

// A request that comes while its VM is being suspended waits for that and wakes it at once.
func TestARequestDuringASuspendWakesTheMicroVMAgain(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	nonce := v.makeNonce()
	const rounds = 20
	for round := 1; round <= rounds; round++ {
		v.call("SuspendMicrovm")
		got := v.count()
		require.Equal(t, nonce, got.Nonce)
		require.Equal(t, round, got.Counter)
		v.await("RUNNING") // also in the records
	}
	v.requireEvents("resume", rounds)
}

func TestTwoMicroVMsOfOneImageShareNothing(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 2)
	one, other := h.run(t, image.arn, nil), h.run(t, image.arn, nil)
	one.await("RUNNING")
	other.await("RUNNING")

	one.count()
	one.count()
	require.Equal(t, 1, other.count().Counter, "memory")
	one.ask(http.MethodPost, "/file", "private")
	require.Empty(t, other.ask(http.MethodGet, "/file", ""), "disk")
	one.ask(http.MethodPost, "/pipe", "private")
	require.Empty(t, other.ask(http.MethodGet, "/pipe", ""), "pipe")
	require.NotEqual(t, one.makeNonce(), other.makeNonce(), "random numbers of the runtime")

	var a, b struct{ Random, Hostname, MachineID, MicrovmID string }
	one.read("/random", &a)
	other.read("/random", &b)
	require.NotEqual(t, a.Random, b.Random, "random numbers of the kernel")
	one.read("/identity", &a)
	other.read("/identity", &b)
	require.NotEqual(t, a.Hostname, b.Hostname, "host name")
	require.NotEqual(t, a.MachineID, b.MachineID, "machine id")
	require.Len(t, a.MachineID, 32)
	require.Equal(t, one.id, a.MicrovmID)
	require.Equal(t, other.id, b.MicrovmID)
}

func TestSuspendResumeAndTerminateMayBeRepeated(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	nonce := v.makeNonce()

	v.call("ResumeMicrovm") // it runs
	require.Equal(t, "RUNNING", v.get().State)
	v.suspend()
	v.call("SuspendMicrovm") // it sleeps
	require.Equal(t, "SUSPENDED", v.get().State)
	v.call("ResumeMicrovm")
	v.await("RUNNING")
	require.Equal(t, nonce, v.count().Nonce)

	v.call("TerminateMicrovm")
	ended := v.await("TERMINATED")
	require.Equal(t, "Success.", ended.StateReason)
	require.NotNil(t, ended.TerminatedAt)
	require.Zero(t, v.vmm())
	require.NoDirExists(t, h.Dir+"/microvms/"+v.id)
	v.call("TerminateMicrovm") // it has ended
	for _, command := range []string{"SuspendMicrovm", "ResumeMicrovm"} {
		refusal := h.api.Refused(t, command, v.named())
		require.Equal(t, "ValidationException", refusal.Name)
		require.Equal(t, "The MicroVM "+v.id+" has been terminated and its state cannot be changed.", refusal.Message)
	}
}

func TestASuspendedMicroVMCanBeTerminatedWithoutAWake(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, nil)
	v.suspend()
	v.call("TerminateMicrovm")
	require.Equal(t, "Success.", v.await("TERMINATED").StateReason)
	require.NoDirExists(t, h.Dir+"/microvms/"+v.id)
	require.Empty(t, v.events("resume"))
}

func TestAnIdleMicroVMIsSuspendedAndWokenByARequestWithAGoodToken(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	const idle = 60 * time.Second // the shortest that is allowed
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": object{
		"maxIdleDurationSeconds": int(idle.Seconds()), "suspendedDurationSeconds": 3600, "autoResumeEnabled": true,
	}})
	nonce := v.makeNonce()
	v.count()
	lastRequest := time.Now()
	var minted struct{ AuthToken map[string]string }
	h.api.Call(t, "CreateMicrovmAuthToken", object{
		"microvmIdentifier": v.id, "expirationInMinutes": 1, "allowedPorts": []object{{"allPorts": object{}}},
	}, &minted)
	short := minted.AuthToken["X-aws-proxy-auth"]
	require.Equal(t, http.StatusOK, v.send(http.MethodGet, "/time", "", "X-aws-proxy-auth", short).StatusCode)

	v.await("SUSPENDED") // control-plane calls do not count as traffic
	require.GreaterOrEqual(t, time.Since(lastRequest), idle-time.Second)
	suspends := v.events("suspend")
	require.Equal(t, "idle", suspends[len(suspends)-1].Cause)

	time.Sleep(time.Until(lastRequest.Add(61 * time.Second))) // until the short token has expired
	refused := v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", short)
	require.Equal(t, http.StatusForbidden, refused.StatusCode, "expired token")
	require.Equal(t, "Token authentication failed", refused.body)
	require.Equal(t, "SUSPENDED", v.get().State, "an expired token wakes nobody")

	require.Equal(t, nonce, v.count().Nonce)
	require.Equal(t, "traffic", v.requireEvents("resume", 1)[0].Cause)
}

func TestAMicroVMEndsWithItsLifetime(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.run(t, image.arn, object{"maximumDurationInSeconds": 8})
	ended := v.await("TERMINATED")
	require.Equal(t, "MicroVM exceeded maximum lifetime.", ended.StateReason)
	require.WithinDuration(t, ended.StartedAt.Add(8*time.Second), *ended.TerminatedAt, 10*time.Second)
	require.GreaterOrEqual(t, ended.TerminatedAt.Sub(ended.StartedAt), 8*time.Second)
	require.Equal(t, http.StatusBadGateway, v.send(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token).StatusCode)
}

func TestAMicroVMEndsWhenItWasSuspendedForTooLong(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": object{
		"maxIdleDurationSeconds": 60, "suspendedDurationSeconds": 2, "autoResumeEnabled": true,
	}})
	v.suspend()
	v.await("TERMINATED")
	require.NoDirExists(t, h.Dir+"/microvms/"+v.id)
}

func TestEveryLaunchSuspendAndResumeTellsItsPhases(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	began := time.Now()
	v := h.runUntilRunning(t, image.arn, nil)
	v.suspend()
	v.call("ResumeMicrovm")
	v.await("RUNNING")
	took := time.Since(began)

	for operation, phases := range map[string][]string{
		"launch":  {"queue", "disk", "vmm", "load", "agent", "hook"},
		"suspend": {"record", "hook", "pause", "checkpoint"},
		"resume":  {"queue", "vmm", "load", "agent", "hook"},
	} {
		events := v.events(operation)
		last := events[len(events)-1]
		var names []string
		var total time.Duration
		for _, phase := range last.Phases {
			names = append(names, phase.Name)
			total += time.Duration(phase.Seconds * float64(time.Second))
		}
		require.Subset(t, names, phases, operation)
		require.Positive(t, total, operation)
		require.Less(t, total, took, operation)
		require.NotEmpty(t, last.RequestID, operation)
	}
}
