package store

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMicroVMComesBackAsItWasStored(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	full := testVM(i, 1)
	full.Idle = &IdlePolicy{MaxIdle: time.Minute, MaxSuspended: 0, AutoResume: true}
	full.WireLogging, full.ExecutionRoleARN = []byte(`{"disabled":{}}`), "arn:aws:iam::000000000000:role/x"
	full.RunHookPayload, full.HasPayload = "", true
	bare := testVM(i, 2)
	bare.EndpointAddr = ""
	for _, m := range []MicroVM{full, bare} {
		require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
		got, err := s.MicroVM(ctx, m.ID)
		require.NoError(t, err)
		require.Equal(t, m, got)
		got, err = s.MicroVMByEndpoint(ctx, m.EndpointID)
		require.NoError(t, err)
		require.Equal(t, m, got)
	}
	got, err := s.MicroVMByAddr(ctx, full.EndpointAddr)
	require.NoError(t, err)
	require.Equal(t, full, got)
	_, err = s.MicroVMByAddr(ctx, "")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.MicroVM(ctx, "microvm-none")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestTransitionHappensOnlyFromTheExpectedState(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	m := testVM(addImage(t, s, "app"), 1)
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID, Operation: "launch", To: VMPending, At: testTime}))

	m.State = VMRunning
	running := Event{
		Subject: m.ID, Operation: "launch", From: VMPending, To: VMRunning, Cause: "api", RequestID: "r", Detail: "d",
		Phases: []Phase{{Name: "load", Duration: 8 * time.Millisecond}}, At: testTime,
	}
	require.NoError(t, s.TransitionMicroVM(ctx, m, VMPending, running))
	require.ErrorIs(t, s.TransitionMicroVM(ctx, m, VMPending, running), ErrConflict)
	gone := m
	gone.ID = "microvm-none"
	require.ErrorIs(t, s.TransitionMicroVM(ctx, gone, VMPending, running), ErrNotFound)

	m.State, m.SuspendedAt = VMSuspended, testTime.Add(time.Second)
	m.Traffic = Traffic{IngressIn: 1, IngressOut: 2, EgressIn: 3, EgressOut: 4, Denied: 5}
	require.NoError(t, s.TransitionMicroVM(ctx, m, VMRunning, Event{Subject: m.ID, To: VMSuspended}))
	got, err := s.MicroVM(ctx, m.ID)
	require.NoError(t, err)
	require.Equal(t, m, got)

	events, next, err := s.Events(ctx, m.ID, Page{Limit: 10})
	require.NoError(t, err)
	require.Zero(t, next)
	require.Len(t, events, 3, "a refused transition leaves no event")
	running.ID = events[1].ID
	require.Equal(t, running, events[1])
}

func TestOnlyOneOfManyConcurrentTransitionsWins(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	m := testVM(addImage(t, s, "app"), 1)
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
	var won atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			next := m
			next.State = VMTerminating
			err := s.TransitionMicroVM(ctx, next, VMPending, Event{Subject: m.ID})
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, won.Load())
}

func TestAddressIsTakenUntilItsMicroVMIsTerminated(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	first, second := testVM(i, 1), testVM(i, 2)
	second.EndpointAddr = first.EndpointAddr
	require.NoError(t, s.InsertMicroVM(ctx, first, nil, Event{Subject: first.ID}))
	require.ErrorIs(t, s.InsertMicroVM(ctx, second, nil, Event{Subject: second.ID}), ErrExists)
	used, err := s.UsedEndpointAddrs(ctx)
	require.NoError(t, err)
	require.Equal(t, []string{first.EndpointAddr}, used)

	terminate(t, s, first, testTime)
	used, err = s.UsedEndpointAddrs(ctx)
	require.NoError(t, err)
	require.Empty(t, used)
	require.NoError(t, s.InsertMicroVM(ctx, second, nil, Event{Subject: second.ID}))
	got, err := s.MicroVMByAddr(ctx, first.EndpointAddr)
	require.NoError(t, err)
	require.Equal(t, second.ID, got.ID, "the latest holder answers")
}

func terminate(t testing.TB, s *Store, m MicroVM, at time.Time) {
	t.Helper()
	from := m.State
	m.State, m.StateReason, m.TerminatedAt = VMTerminated, "Success.", at
	require.NoError(t, s.TransitionMicroVM(context.Background(), m, from, Event{Subject: m.ID, At: at}))
}

func TestListPagesStayPutWhileMicroVMsAreAdded(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	app, other := addImage(t, s, "app"), addImage(t, s, "other")
	addTestVersion(t, s, app)
	var want []string
	for n := range 25 {
		i := app
		if n%5 == 0 {
			i = other
		}
		m := testVM(i, n)
		if n%5 != 0 && n%2 == 0 {
			m.ImageVersion = "2.0"
		}
		require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
		if n%5 != 0 && n%2 == 0 {
			want = append(want, m.ID)
		}
	}
	slices.Reverse(want)

	var got []string
	var after int64
	for page := 0; ; page++ {
		vms, next, err := s.ListMicroVMs(ctx, app.AccountID, app.Region, VMFilter{ImageARN: "arn:app", ImageVersion: "2.0"}, Page{After: after, Limit: 3})
		require.NoError(t, err)
		for _, m := range vms {
			got = append(got, m.ID)
		}
		late := testVM(app, 100+page)
		late.ImageVersion = "2.0"
		require.NoError(t, s.InsertMicroVM(ctx, late, nil, Event{Subject: late.ID}))
		if after = next; next == 0 {
			break
		}
	}
	require.Equal(t, want, got)

	for _, scope := range [][2]string{{"111111111111", app.Region}, {app.AccountID, "eu-west-1"}} {
		vms, _, err := s.ListMicroVMs(ctx, scope[0], scope[1], VMFilter{}, Page{Limit: 50})
		require.NoError(t, err)
		require.Empty(t, vms, "another account or region sees nothing")
	}
}

func TestLiveMicroVMsAreListed(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	for n := range 4 {
		m := testVM(i, n)
		require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
	}
	terminate(t, s, testVM(i, 1), testTime)
	live, err := s.LiveMicroVMs(ctx)
	require.NoError(t, err)
	require.Len(t, live, 3)
	require.Equal(t, "microvm-0", live[0].ID)
}

func TestPurgeTakesOnlyWhatWasTerminatedLongAgo(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	for n := range 5 {
		m := testVM(i, n)
		token := &ClientToken{AccountID: m.AccountID, Region: m.Region, Operation: "RunMicrovm", Token: m.ID, Parameters: []byte{1}, ResultID: m.ID}
		require.NoError(t, s.InsertMicroVM(ctx, m, token, Event{Subject: m.ID}))
		if n < 4 {
			terminate(t, s, m, testTime.Add(time.Duration(n)*time.Hour))
		}
	}
	cut := testTime.Add(3 * time.Hour)
	for _, want := range [][]string{{"microvm-0", "microvm-1"}, {"microvm-2"}, nil} {
		ids, err := s.PurgeTerminated(ctx, cut, 2)
		require.NoError(t, err)
		slices.Sort(ids)
		require.Equal(t, want, ids)
	}
	for n, there := range []bool{false, false, false, true, true} {
		m := testVM(i, n)
		_, err := s.MicroVM(ctx, m.ID)
		require.Equal(t, there, err == nil)
		events, _, err := s.Events(ctx, m.ID, Page{Limit: 9})
		require.NoError(t, err)
		require.Equal(t, there, len(events) > 0)
		_, err = s.ClientToken(ctx, ClientToken{AccountID: m.AccountID, Region: m.Region, Operation: "RunMicrovm", Token: m.ID})
		require.Equal(t, there, err == nil)
	}
}

func TestOnlyWhatCanBeRunIsRun(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	n := 0
	run := func() error {
		n++
		m := testVM(i, n)
		return s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID})
	}
	for state, want := range map[string]error{
		ImageCreated: nil, ImageUpdated: nil, ImageUpdating: nil, ImageUpdateFailed: nil,
		ImageCreating: ErrConflict, ImageCreateFailed: ErrConflict, ImageDeleting: ErrConflict, ImageDeleteFailed: ErrConflict,
	} {
		require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: state}))
		require.ErrorIs(t, run(), want, state)
	}
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageCreated, Version: "1.0", VersionStatus: StatusInactive}))
	require.ErrorIs(t, run(), ErrConflict, "INACTIVE")
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, Version: "1.0", VersionStatus: StatusActive, VersionState: VersionDeleteFailed}))
	require.ErrorIs(t, run(), ErrConflict, "not SUCCESSFUL")
}
