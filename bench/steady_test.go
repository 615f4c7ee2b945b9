package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

func TestWhatTheGuestForgotIsNamed(t *testing.T) {
	memory, disk := payload.Sum(payload.NewMemory().Bytes()), payload.Sum(payload.NewDisk().Bytes())
	for _, test := range []struct {
		found payload.Remembered
		want  []string
	}{
		{payload.Remembered{Nonce: "n", Memory: memory, Disk: disk}, nil},
		{payload.Remembered{Nonce: "m", Memory: memory, Disk: disk}, []string{"which guest it is"}},
		{payload.Remembered{Nonce: "n", Round: 1, Memory: memory, Disk: disk}, []string{"the round"}},
		{payload.Remembered{Nonce: "n", Memory: memory + 1, Disk: disk}, []string{"memory"}},
		{payload.Remembered{Nonce: "n", Memory: memory, Disk: disk - 1}, []string{"disk"}},
		{payload.Remembered{Nonce: "n"}, []string{"memory", "disk"}},
	} {
		m := newMemento(nil)
		m.nonce = "n"
		m.compare(test.found)
		require.Equal(t, test.want, m.forgotten)
	}
	m := newMemento(nil)
	m.compare(payload.Remembered{Nonce: "first", Memory: memory, Disk: disk})
	require.Empty(t, m.forgotten, "the first answer tells the nonce")
	require.Equal(t, "first", m.nonce)
}

func TestFailuresOfTrafficTellRoundStatusAndReason(t *testing.T) {
	flow := new(traffic)
	flow.round.Store(7)
	flow.record("GET /bytes", 3*time.Second, nil)
	flow.record("POST /message", time.Second, fmt.Errorf("ask: %w", refusal{502, "MICROVM_INTERRUPTED", "the microVM was suspended"}))
	flow.record("GET /bytes", time.Second, errors.New("unexpected EOF"))
	require.Equal(t, 3, flow.requests)
	require.Equal(t, 3*time.Second, flow.slowest)
	require.Equal(t, []failure{
		{Round: 7, Request: "POST /message", Status: 502, Code: "MICROVM_INTERRUPTED", Error: "ask: 502 MICROVM_INTERRUPTED the microVM was suspended"},
		{Round: 7, Request: "GET /bytes", Error: "unexpected EOF"},
	}, flow.failures)
}
