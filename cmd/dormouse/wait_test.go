package main

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func TestWaitingAsksLessOftenWithTimeAndHeedsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		began := time.Now()
		require.NoError(t, poll(t.Context(), func() (bool, error) {
			asked++
			return time.Since(began) > time.Minute, nil
		}))
		require.Greater(t, asked, 60)
		require.Less(t, asked, 120)

		began, asked = time.Now(), 0
		require.NoError(t, poll(t.Context(), func() (bool, error) {
			if asked++; asked < 4 {
				return false, awsapi.Throttling("Rate exceeded")
			}
			return true, nil
		}))
		require.Equal(t, 3*waitMost, time.Since(began))

		require.EqualError(t, poll(t.Context(), func() (bool, error) { return false, errors.New("broken") }), "broken")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, poll(ctx, func() (bool, error) { return false, nil }), context.DeadlineExceeded)
	})
}

func TestWhatIsPurgedHasEnded(t *testing.T) {
	f := newFake(t)
	f.purges = true
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	require.Equal(t, "0c5b7f6e ended\n", ok(t, "rm", "0c5b"))
}

func TestSeveralAreDealtWithWhateverBecomesOfOne(t *testing.T) {
	f := newFake(t)
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.addVM(secondVM, "web", awsapi.MicrovmStateRunning)
	ids := func(text string) (ids []string) {
		var vms []awsapi.GetMicrovmOutput
		require.NoError(t, json.Unmarshal([]byte(text), &vms), text)
		for _, vm := range vms {
			ids = append(ids, vm.MicrovmId)
		}
		return ids
	}
	r := dormouse(t, "suspend", "-o", "json", "counter", "nope", "web")
	require.Equal(t, exitNotFound, r.status)
	require.Equal(t, "dormouse: no microVM is called \"nope\"\n  see them all: dormouse ps -a, dormouse images\n", r.err)
	require.Equal(t, []string{firstVM, secondVM}, ids(r.out))
	for _, vm := range f.vms {
		require.Equal(t, awsapi.MicrovmStateSuspended, vm.State)
	}
	require.Equal(t, []string{secondVM, firstVM}, ids(ok(t, "resume", "--no-wait", "-o", "json", "web", "counter")))
	require.Empty(t, ok(t, "resume", "--no-wait", "web", "counter"))
	r = dormouse(t, "resume", "-o", "json", "nope")
	require.Equal(t, []any{"[]\n", exitNotFound}, []any{r.out, r.status})

	r = dormouse(t, "rm", "nope", "0c9", "neither", "counter")
	require.Equal(t, []any{"0c9999aa ended\n0c5b7f6e ended\n", exitNotFound}, []any{r.out, r.status})
	require.Contains(t, r.err, "\"nope\"")
	require.Contains(t, r.err, "\"neither\"")
}

func TestAnInterruptSaysWhatGoesOnAndWhatWasLeft(t *testing.T) {
	f := newFake(t)
	f.addVM(firstVM, "counter", awsapi.MicrovmStateRunning)
	f.addVM(secondVM, "web", awsapi.MicrovmStateRunning)
	for _, verb := range []string{"suspend", "rm"} {
		ctx, cancel := context.WithCancel(t.Context())
		f.stuck = cancel
		r := dormouseIn(ctx, verb, "counter", "web", "0c9")
		require.Equal(t, exitInterrupted, r.status)
		require.Contains(t, r.err, "dormouse: 0c5b7f6e goes on to be ")
		require.Contains(t, r.err, "; look: dormouse ps -a\ndormouse: interrupted before web, 0c9\n")
		require.Equal(t, awsapi.MicrovmStateRunning, f.vms[1].State)
	}
}
