package store

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// addTestVersion gives an image its next version, built and runnable, with a client token.
func addTestVersion(t *testing.T, s *Store, i Image) ImageVersion {
	t.Helper()
	ctx := context.Background()
	_, v, b := testImage(i.Name)
	b.ID += "-next"
	token := &ClientToken{AccountID: i.AccountID, Region: i.Region, Operation: "UpdateMicrovmImage", Token: "tok", Parameters: []byte("h"), ResultID: i.ID}
	v, b, err := s.AddVersion(ctx, []string{ImageCreated}, v, b, token, Event{Subject: i.ID, Operation: "update", RequestID: "r", At: testTime})
	require.NoError(t, err)
	b.State, b.EndedAt = BuildSuccessful, testTime
	require.NoError(t, s.ChangeImage(ctx, ImageChange{
		ImageID: i.ID, To: ImageUpdated, Version: v.Version, VersionState: VersionSuccessful, VersionStatus: StatusActive, Build: &b,
	}))
	return v
}

func TestAVersionIsDeletedInTwoSteps(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	idle := []string{ImageCreated, ImageUpdated}
	e := Event{Subject: i.ID, Operation: "delete version 2.0", Cause: "api", RequestID: "r", At: testTime}
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, i.ID, "1.0", idle, e), ErrLastVersion)
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, i.ID, "2.0", idle, e), ErrNotFound)
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, "none", "1.0", idle, e), ErrNotFound)

	v := addTestVersion(t, s, i)
	require.Equal(t, "2.0", v.Version)
	m := testVM(i, 1)
	m.ImageVersion = "2.0"
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, i.ID, "2.0", idle, e), ErrInUse)
	terminate(t, s, m, testTime)
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, i.ID, "2.0", []string{ImageCreated}, e), ErrConflict)
	before, _, err := s.Events(ctx, i.ID, Page{Limit: 50})
	require.NoError(t, err)

	require.NoError(t, s.BeginDeleteVersion(ctx, i.ID, "2.0", idle, e))
	require.ErrorIs(t, s.BeginDeleteVersion(ctx, i.ID, "1.0", idle, e), ErrConflict, "one at a time")
	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, []string{ImageUpdating, "1.0"}, []string{got.State, got.LatestActiveVersion})
	deleting, err := s.DeletingVersions(ctx, i.ID)
	require.NoError(t, err)
	require.Len(t, deleting, 1)
	late := testVM(i, 2)
	late.ImageVersion = "2.0"
	require.ErrorIs(t, s.InsertMicroVM(ctx, late, nil, Event{Subject: late.ID}), ErrConflict, "it may not run any more")
	late.ImageVersion = "1.0"
	require.NoError(t, s.InsertMicroVM(ctx, late, nil, Event{Subject: late.ID}), "the others may")
	require.ErrorIs(t, s.DeleteVersion(ctx, i.ID, "1.0", e), ErrNotFound, "it is not DELETING")

	require.NoError(t, s.DeleteVersion(ctx, i.ID, "2.0", e))
	got, err = s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, ImageUpdated, got.State)
	_, err = s.Version(ctx, i.ID, "2.0")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.ClientToken(ctx, ClientToken{AccountID: i.AccountID, Region: i.Region, Operation: "UpdateMicrovmImage", Token: "tok"})
	require.ErrorIs(t, err, ErrNotFound, "the token goes with what it made")

	after, _, err := s.Events(ctx, i.ID, Page{Limit: 50})
	require.NoError(t, err)
	var told []string
	for _, e := range after[:len(after)-len(before)] {
		require.Equal(t, "r", e.RequestID)
		told = append(told, e.Operation+": "+e.From+" → "+e.To)
	}
	require.Equal(t, []string{
		"version 2.0: DELETING → DELETED", "delete version 2.0: UPDATING → UPDATED",
		"version 2.0: SUCCESSFUL → DELETING", "delete version 2.0: UPDATED → UPDATING",
	}, told)
}

func TestAnUpdateThatIsSentAgainIsNoConflictWithItself(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	_, v, b := testImage("app")
	b.ID = "next"
	token := &ClientToken{AccountID: i.AccountID, Region: i.Region, Operation: "UpdateMicrovmImage", Token: "tok", Parameters: []byte("h"), ResultID: i.ID}
	idle := []string{ImageCreated}
	_, _, err := s.AddVersion(ctx, idle, v, b, token, Event{Subject: i.ID, Operation: "update", At: testTime})
	require.NoError(t, err)
	_, _, err = s.AddVersion(ctx, idle, v, b, token, Event{Subject: i.ID})
	require.ErrorIs(t, err, ErrTokenUsed)
	token.Token = "other"
	_, _, err = s.AddVersion(ctx, idle, v, b, token, Event{Subject: i.ID})
	require.ErrorIs(t, err, ErrConflict)
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageCreated}))
	b.ID = "third"
	v, _, err = s.AddVersion(ctx, idle, v, b, nil, Event{Subject: i.ID})
	require.NoError(t, err)
	require.Equal(t, "3.0", v.Version, "what was refused took no number")

	events, _, err := s.Events(ctx, i.ID, Page{Limit: 50})
	require.NoError(t, err)
	first := events[len(events)-4:]
	require.Equal(t, []string{"version 2.0", "", VersionPending}, []string{first[0].Operation, first[0].From, first[0].To})
	require.Equal(t, []string{"update", ImageCreated, ImageUpdating, "version 2.0"}, []string{first[1].Operation, first[1].From, first[1].To, first[1].Detail})
}

func TestTheStatusOfAVersionIsSetWithAnEventIfItChanges(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	at := testTime.Add(time.Hour)
	told := func() (changes []string) {
		events, _, err := s.Events(ctx, i.ID, Page{Limit: 50})
		require.NoError(t, err)
		for _, e := range events[:len(events)-2] { // but for those of its creation
			changes = append(changes, e.Operation+" "+e.From+" "+e.To)
		}
		return changes
	}
	for range 2 {
		v, err := s.SetVersionStatus(ctx, i.ID, "1.0", StatusInactive, Event{Subject: i.ID, At: at})
		require.NoError(t, err)
		require.Equal(t, StatusInactive, v.Status)
		stored, err := s.Version(ctx, i.ID, "1.0")
		require.NoError(t, err)
		require.Equal(t, stored, v)
		require.Equal(t, at, v.UpdatedAt)
		require.Equal(t, []string{"version 1.0 ACTIVE INACTIVE"}, told())
	}
	_, err := s.SetVersionStatus(ctx, i.ID, "2.0", StatusActive, Event{Subject: i.ID})
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageUpdating}))
	_, err = s.SetVersionStatus(ctx, i.ID, "1.0", StatusActive, Event{Subject: i.ID})
	require.ErrorIs(t, err, ErrConflict)
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageUpdated, Version: "1.0", VersionState: VersionDeleteFailed}))
	_, err = s.SetVersionStatus(ctx, i.ID, "1.0", StatusActive, Event{Subject: i.ID})
	require.ErrorIs(t, err, ErrConflict)
	require.Len(t, told(), 1)
}

func TestADeletionTellsTheStateItFound(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageUpdateFailed}))
	require.NoError(t, s.BeginDeleteImage(ctx, i.ID, SettledImageStates, Event{Subject: i.ID, From: "read before"}))
	events, _, err := s.Events(ctx, i.ID, Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, []string{ImageUpdateFailed, ImageDeleting}, []string{events[0].From, events[0].To})
}
