package store

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEventsPageNewestFirst(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	m, other := testVM(addImage(t, s, "app"), 1), testVM(addImage(t, s, "other"), 2)
	for _, vm := range []MicroVM{m, other} {
		require.NoError(t, s.InsertMicroVM(ctx, vm, nil, Event{Subject: vm.ID, Detail: "0"}))
	}
	for n := range 4 {
		require.NoError(t, s.AddEvent(ctx, Event{Subject: m.ID, Detail: fmt.Sprint(n + 1), At: testTime}))
		require.NoError(t, s.AddEvent(ctx, Event{Subject: other.ID}))
	}
	events, next, err := s.Events(ctx, m.ID, Page{Limit: 3})
	require.NoError(t, err)
	require.Equal(t, []string{"4", "3", "2"}, []string{events[0].Detail, events[1].Detail, events[2].Detail})
	events, next, err = s.Events(ctx, m.ID, Page{Limit: 3, After: next})
	require.NoError(t, err)
	require.Zero(t, next)
	require.Equal(t, []string{"1", "0"}, []string{events[0].Detail, events[1].Detail})
}

func TestTheNewestEventsOfASubjectAreKept(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i, other := addImage(t, s, "app"), addImage(t, s, "other")
	before, _, err := s.Events(ctx, other.ID, Page{Limit: 9})
	require.NoError(t, err)
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, Events: make([]Event, 3)}), "of nothing that is there")
	var many []Event
	for n := range keptEvents + 5 {
		many = append(many, Event{Subject: i.ID, Detail: fmt.Sprint(n)})
	}
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, Events: many}))
	kept, next, err := s.Events(ctx, i.ID, Page{Limit: 2 * keptEvents})
	require.NoError(t, err)
	require.Zero(t, next)
	require.Len(t, kept, keptEvents)
	require.Equal(t, fmt.Sprint(keptEvents+4), kept[0].Detail)
	require.Equal(t, "5", kept[keptEvents-1].Detail)
	after, _, err := s.Events(ctx, other.ID, Page{Limit: 9})
	require.NoError(t, err)
	require.Equal(t, before, after, "those of others stay")
}

func TestEventsOfAnAccountAreFoundWithoutThoseOfOthers(t *testing.T) {
	require.Equal(t, []string{
		"SEARCH e USING INDEX events_by_account (account_id=? AND region=? AND id<?)",
		"SEARCH i USING INDEX sqlite_autoindex_images_1 (id=?) LEFT-JOIN",
	}, planOf(t, openTest(t), accountEventsSQL, DefaultAccountID, "us-east-1", 1, 1), "no scan and no sort")
}
