package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

var logBegan = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

// happened is an event so many seconds after the log began.
func happened(after float64, operation, to string) extension.Event {
	return extension.Event{At: awsapi.At(logBegan.Add(time.Duration(after * float64(time.Second)))), Operation: operation, To: to, Cause: "api",
		Phases: []extension.Phase{{Name: "x", Seconds: 0.25}}, Detail: "2048 bytes dirty\x1b"}
}

func merged(t *testing.T, log string, tail bool, events ...extension.Event) []string {
	t.Helper()
	e := &eventful{known: map[string]bool{}, tail: tail, load: func(context.Context) ([]extension.Event, error) { return events, nil }}
	var out strings.Builder
	require.NoError(t, e.merge(t.Context(), strings.NewReader(log), &out, false))
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
}

const appLog = "2026-11-25T12:00:01.000000Z stdout one\nodd\n2026-11-25T12:00:03.000000Z stdout two\n"

func TestEventsStandBetweenTheLinesByTheirTimes(t *testing.T) {
	events := []extension.Event{happened(9, "terminate", "TERMINATED"), happened(2, "suspend", "SUSPENDED"), happened(0, "launch", "RUNNING")}
	require.Equal(t, []string{
		`2026-11-25T12:00:00.000000Z event launch: RUNNING, by api, 250 ms, 2 KiB dirty\x1b`,
		"2026-11-25T12:00:01.000000Z stdout one", "odd",
		`2026-11-25T12:00:02.000000Z event suspend: SUSPENDED, by api, 250 ms, 2 KiB dirty\x1b`,
		"2026-11-25T12:00:03.000000Z stdout two",
		`2026-11-25T12:00:09.000000Z event terminate: TERMINATED, by api, 250 ms, 2 KiB dirty\x1b`,
	}, merged(t, appLog, false, events...))
	require.NotContains(t, strings.Join(merged(t, appLog, true, events...), "\n"), "launch", "of the end of a log only what happened since")
}

func TestAnEventWithoutAStateIsToldWithoutOne(t *testing.T) {
	refused := extension.Event{Operation: "egress", Cause: "policy", Detail: "refused 10.0.0.1:22: private"}
	require.Equal(t, "egress: by policy, refused 10.0.0.1:22: private", eventWords(refused))
}

func TestEventsAreFollowedToTheEndOfTheLog(t *testing.T) {
	log, app := io.Pipe()
	events := []extension.Event{happened(0, "launch", "RUNNING")}
	loads := make(chan struct{}, 10)
	e := &eventful{known: map[string]bool{}, load: func(context.Context) ([]extension.Event, error) {
		loads <- struct{}{}
		if len(loads) > 1 {
			events = append([]extension.Event{happened(5, "terminate", "TERMINATED")}, events[len(events)-1:]...)
		}
		return events, nil
	}}
	go func() {
		_, _ = io.WriteString(app, appLog)
		_ = app.Close()
	}()
	var out strings.Builder
	require.NoError(t, e.merge(t.Context(), log, &out, true))
	require.Equal(t, 1, strings.Count(out.String(), "launch"), "once, however often it is looked for")
	require.Contains(t, out.String(), "terminate: TERMINATED")
}
