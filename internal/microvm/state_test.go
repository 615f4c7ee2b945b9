package microvm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestStatesChangeOnlyAsTheSpecificationAllows(t *testing.T) {
	states := []string{store.VMPending, store.VMRunning, store.VMSuspending, store.VMSuspended, store.VMTerminating, store.VMTerminated}
	allowed := map[[2]string]bool{
		{store.VMPending, store.VMRunning}:        true, // snapshot restored and /run returned 200
		{store.VMPending, store.VMTerminating}:    true, // /run failed
		{store.VMPending, store.VMTerminated}:     true, // no VMM to end
		{store.VMRunning, store.VMSuspending}:     true,
		{store.VMRunning, store.VMTerminating}:    true,
		{store.VMRunning, store.VMTerminated}:     true, // the VMM died
		{store.VMSuspending, store.VMSuspended}:   true,
		{store.VMSuspending, store.VMRunning}:     true, // the checkpoint could not be written
		{store.VMSuspending, store.VMTerminating}: true, // /suspend failed
		{store.VMSuspending, store.VMTerminated}:  true,
		{store.VMSuspended, store.VMRunning}:      true, // there is no RESUMING
		{store.VMSuspended, store.VMTerminating}:  true,
		{store.VMSuspended, store.VMTerminated}:   true,
		{store.VMTerminating, store.VMTerminated}: true,
	}
	for _, from := range states {
		for _, to := range states {
			require.Equal(t, allowed[[2]string{from, to}], legal(from, to), "%s → %s", from, to)
		}
	}
}

func TestAnOrderThatCannotWaitIsAnsweredFromTheState(t *testing.T) {
	for state, want := range map[string]struct{ suspend, resume error }{
		store.VMPending:     {ErrConflict, nil},
		store.VMRunning:     {ErrConflict, nil},
		store.VMSuspending:  {nil, ErrConflict},
		store.VMSuspended:   {ErrConflict, nil}, // it is being woken
		store.VMTerminating: {ErrConflict, ErrConflict},
		store.VMTerminated:  {ErrTerminated, ErrTerminated},
	} {
		require.Equal(t, want.suspend, whileBusy(suspend, state), "suspend in %s", state)
		require.Equal(t, want.resume, whileBusy(resume, state), "resume in %s", state)
	}
}
