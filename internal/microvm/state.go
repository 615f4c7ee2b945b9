package microvm

import "github.com/dormouse-dev/dormouse/internal/store"

// transitions are all legal state changes (spec/behaviour.md 2). Nothing else writes a state.
// Beyond the specification are: SUSPENDING → RUNNING, when a checkpoint could not be written and
// the VM goes on; and the direct ways to TERMINATED, when the VMM is gone and nothing is left to
// do in TERMINATING.
var transitions = map[string][]string{
	store.VMPending:     {store.VMRunning, store.VMTerminating, store.VMTerminated},
	store.VMRunning:     {store.VMSuspending, store.VMTerminating, store.VMTerminated},
	store.VMSuspending:  {store.VMSuspended, store.VMRunning, store.VMTerminating, store.VMTerminated},
	store.VMSuspended:   {store.VMRunning, store.VMTerminating, store.VMTerminated},
	store.VMTerminating: {store.VMTerminated},
	store.VMTerminated:  {},
}

// legal tells whether a microVM may go from one state to another.
func legal(from, to string) bool {
	for _, state := range transitions[from] {
		if state == to {
			return true
		}
	}
	return false
}

// whileBusy answers a suspend or resume that the actor is too busy to look at, from the state
// alone: nil if what it is doing, or has done, comes to the same.
func whileBusy(order kind, state string) error {
	switch state {
	case store.VMTerminated:
		return ErrTerminated
	case store.VMSuspending:
		if order == suspend {
			return nil
		}
	case store.VMSuspended: // it is being woken
		if order == resume {
			return nil
		}
	case store.VMPending, store.VMRunning:
		if order == resume {
			return nil
		}
	}
	return ErrConflict
}

// Causes of state changes, as events record them.
const (
	causeAPI      = "api"
	causeIdle     = "idle"
	causeTraffic  = "traffic"
	causePolicy   = "policy" // of its egress connectors
	causeLifetime = "lifetime"
	causeExpired  = "suspended-too-long"
	causeExit     = "app-exit"
	causeHook     = "hook"
	causeFailure  = "failure"
	causeShutdown = "shutdown"
	causeRestart  = "restart"
)

// Texts of stateReason. The first group is the live service's (spec/behaviour.md 2.1).
const (
	reasonSuccess  = "Success."
	reasonLifetime = "MicroVM exceeded maximum lifetime."
	reasonExit     = "Container Stopped with Exit Code: %d"

	reasonExpired     = "MicroVM was suspended for longer than its idle policy allows."
	reasonVMMDied     = "The virtual machine monitor of the MicroVM ended unexpectedly."
	reasonLaunch      = "The MicroVM could not be started from its image snapshot."
	reasonInterrupted = "The MicroVM was being launched when the service restarted."
	reasonLost        = "The MicroVM's saved state is missing or damaged."
	reasonNotResumed  = "The MicroVM could not be resumed. It stays suspended."
	reasonResumeLost  = "The MicroVM failed while it was being resumed and its state could not be kept."
	reasonImage       = "The image snapshot of the MicroVM is missing or does not fit this installation."
	reasonNotAdopted  = "The MicroVM did not answer after the service restarted."

	// reasonStopped marks a SUSPENDED microVM that nobody wanted suspended: the daemon had to end.
	reasonStopped = "The MicroVM was suspended because the service stopped. A request or ResumeMicrovm wakes it."
)
