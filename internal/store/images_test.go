package store

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestImageComesBackAsItWasStored(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i, v, b := testImage("app")
	i.Tags = map[string]string{"team": "x"}
	v.Config = ImageConfig{
		Description: "", HasDescription: true, BaseImageARN: "arn:base", BaseImageVersion: "1.0", MinimumMemoryMiB: 2048,
		Environment: map[string]string{"A": "1"}, EgressConnectors: []string{"out"},
		Hooks: Hooks{Port: 9000, Ready: Hook{Enabled: true, Timeout: time.Minute}}, WireHooks: []byte(`{"port":9000}`),
	}
	require.NoError(t, s.CreateImage(ctx, i, v, b, nil, Event{Subject: i.ID, Operation: "build", At: testTime}))

	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, i, got)
	got, err = s.ImageByName(ctx, i.AccountID, i.Region, i.Name)
	require.NoError(t, err)
	require.Equal(t, i, got)
	gotVersion, err := s.Version(ctx, i.ID, "1.0")
	require.NoError(t, err)
	require.Equal(t, v, gotVersion)
	gotBuild, err := s.Build(ctx, b.ID)
	require.NoError(t, err)
	require.Equal(t, b, gotBuild)

	_, err = s.ImageByName(ctx, i.AccountID, "eu-west-1", i.Name)
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.Version(ctx, i.ID, "2.0")
	require.ErrorIs(t, err, ErrNotFound)
	_, err = s.Build(ctx, "none")
	require.ErrorIs(t, err, ErrNotFound)
}

func TestImageNamesAreUniquePerAccountAndRegion(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	require.NoError(t, s.CreateAccount(ctx, Account{ID: "111111111111"}))
	require.ErrorIs(t, s.CreateAccount(ctx, Account{ID: "111111111111"}), ErrExists)
	require.ErrorIs(t, s.CreateAccount(ctx, Account{ID: "222222222222", Name: "default"}), ErrExists)
	addImage(t, s, "app")
	for n, c := range []struct {
		account, region string
		want            error
	}{{DefaultAccountID, "us-east-1", ErrExists}, {DefaultAccountID, "eu-west-1", nil}, {"111111111111", "us-east-1", nil}} {
		i, v, b := testImage("app")
		i.ID += string(rune('a' + n))
		v.ImageID, b.ImageID, b.ID = i.ID, i.ID, i.ID
		i.AccountID, i.Region = c.account, c.region
		err := s.CreateImage(ctx, i, v, b, nil, Event{Subject: i.ID})
		require.ErrorIs(t, err, c.want)
	}
}

func TestBuildOutcomeIsWrittenInOneStep(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i, v, b := testImage("app")
	require.NoError(t, s.CreateImage(ctx, i, v, b, nil, Event{Subject: i.ID}))
	unfinished, err := s.UnfinishedBuilds(ctx)
	require.NoError(t, err)
	require.Equal(t, []Build{b}, unfinished)

	at := testTime.Add(time.Minute)
	b.State, b.EndedAt, b.CodeBytes, b.MemoryBytes, b.DiskBytes = BuildSuccessful, at, 1, 2, 3
	b.Phases = []Phase{{Name: "container", Duration: time.Second}}
	done := ImageChange{
		ImageID: i.ID, From: []string{ImageCreating}, To: ImageCreated, At: at,
		Version: "1.0", VersionState: VersionSuccessful, VersionStatus: StatusActive, Build: &b,
		Events: []Event{{Subject: i.ID, Operation: "build", To: ImageCreated, At: at}},
	}
	broken, lost := done, b
	lost.ID = "none"
	broken.Build = &lost
	require.ErrorIs(t, s.ChangeImage(ctx, broken), ErrNotFound)
	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, i, got, "a step that fails changes nothing")

	require.NoError(t, s.ChangeImage(ctx, done))
	require.ErrorIs(t, s.ChangeImage(ctx, done), ErrConflict, "the image is not CREATING any more")
	got, err = s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, []string{ImageCreated, "1.0", ""}, []string{got.State, got.LatestActiveVersion, got.LatestFailedVersion})
	require.Equal(t, at, got.UpdatedAt)
	gotBuild, err := s.Build(ctx, b.ID)
	require.NoError(t, err)
	require.Equal(t, b, gotBuild)
	runnable, err := s.NewestRunnableVersion(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, "1.0", runnable.Version)
	left, err := s.UnfinishedImages(ctx)
	require.NoError(t, err)
	require.Empty(t, left)
	require.ErrorIs(t, s.ChangeImage(ctx, ImageChange{ImageID: "none", To: ImageCreated}), ErrNotFound)
}

func TestVersionNumbersGoUpAndAreNotUsedTwice(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	idle := []string{ImageCreated, ImageUpdated, ImageUpdateFailed}
	for n, want := range []string{"2.0", "3.0", "4.0"} {
		_, v, b := testImage("app")
		b.ID = want
		v, b, err := s.AddVersion(ctx, idle, v, b, nil, Event{Subject: i.ID})
		require.NoError(t, err)
		require.Equal(t, want, v.Version)
		require.Equal(t, want, b.Version)
		_, _, err = s.AddVersion(ctx, idle, v, b, nil, Event{Subject: i.ID})
		require.ErrorIs(t, err, ErrConflict, "one update at a time")
		state := VersionFailed
		if n == 1 {
			state = VersionSuccessful
		}
		require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageUpdated, Version: want, VersionState: state, VersionStatus: StatusActive}))
		if n == 1 {
			require.NoError(t, s.BeginDeleteVersion(ctx, i.ID, "2.0", idle, Event{Subject: i.ID}))
			require.NoError(t, s.DeleteVersion(ctx, i.ID, "2.0", Event{Subject: i.ID}))
			require.ErrorIs(t, s.DeleteVersion(ctx, i.ID, "2.0", Event{Subject: i.ID}), ErrNotFound)
			_, err = s.Build(ctx, "2.0")
			require.ErrorIs(t, err, ErrNotFound, "builds go with their version")
		}
	}
	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, "3.0", got.LatestActiveVersion)
	require.Equal(t, "4.0", got.LatestFailedVersion)
	versions, next, err := s.ListVersions(ctx, i.ID, Page{Limit: 2})
	require.NoError(t, err)
	require.Equal(t, []string{"4.0", "3.0"}, []string{versions[0].Version, versions[1].Version})
	versions, next, err = s.ListVersions(ctx, i.ID, Page{Limit: 2, After: next})
	require.NoError(t, err)
	require.Len(t, versions, 1)
	require.Zero(t, next)
}

func TestImageWithLiveMicroVMsCannotBeDeletedAndADeletedOneCannotRun(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	m := testVM(i, 1)
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
	from := []string{ImageCreated}
	require.ErrorIs(t, s.BeginDeleteImage(ctx, i.ID, from, Event{Subject: i.ID, At: testTime}), ErrInUse)
	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Equal(t, ImageCreated, got.State)

	terminate(t, s, m, testTime)
	require.NoError(t, s.BeginDeleteImage(ctx, i.ID, from, Event{Subject: i.ID, At: testTime}))
	require.ErrorIs(t, s.BeginDeleteImage(ctx, i.ID, from, Event{Subject: i.ID, At: testTime}), ErrConflict)
	late := testVM(i, 2)
	require.ErrorIs(t, s.InsertMicroVM(ctx, late, nil, Event{Subject: late.ID}), ErrConflict)
	left, err := s.UnfinishedImages(ctx)
	require.NoError(t, err)
	require.Len(t, left, 1)

	require.NoError(t, s.DeleteImage(ctx, i.ID))
	require.ErrorIs(t, s.DeleteImage(ctx, i.ID), ErrNotFound)
	require.ErrorIs(t, s.BeginDeleteImage(ctx, i.ID, from, Event{Subject: i.ID, At: testTime}), ErrNotFound)
	require.ErrorIs(t, s.InsertMicroVM(ctx, late, nil, Event{Subject: late.ID}), ErrConflict)
	_, err = s.Version(ctx, i.ID, "1.0")
	require.ErrorIs(t, err, ErrNotFound)
	events, _, err := s.Events(ctx, i.ID, Page{Limit: 10})
	require.NoError(t, err)
	require.Empty(t, events)
	_, err = s.MicroVM(ctx, m.ID)
	require.NoError(t, err, "a terminated microVM outlives its image")
	addImage(t, s, "app")
}

func TestListImagesPagesNewestFirst(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	var want, got []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		addImage(t, s, name)
		want = append(want, name)
	}
	slices.Reverse(want)
	var after int64
	for {
		images, next, err := s.ListImages(ctx, DefaultAccountID, "us-east-1", Page{After: after, Limit: 2})
		require.NoError(t, err)
		for _, i := range images {
			got = append(got, i.Name)
		}
		if after = next; next == 0 {
			break
		}
	}
	require.Equal(t, want, got)
}

func TestBuildsOfAVersionAreListed(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	builds, next, err := s.ListBuilds(ctx, i.ID, "1.0", Page{Limit: 50})
	require.NoError(t, err)
	require.Zero(t, next)
	require.Len(t, builds, 1)
	builds, _, err = s.ListBuilds(ctx, i.ID, "2.0", Page{Limit: 50})
	require.NoError(t, err)
	require.Empty(t, builds)
}

func TestConcurrentTagEditsAreAllKept(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	require.Nil(t, i.Tags)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			err := s.EditTags(ctx, TaggedImage, i.ID, func(tags map[string]string) (map[string]string, error) {
				edited := map[string]string{strconv.Itoa(n): "x"}
				maps.Copy(edited, tags)
				return edited, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	refused := errors.New("no")
	refuse := func(map[string]string) (map[string]string, error) { return nil, refused }
	require.ErrorIs(t, s.EditTags(ctx, TaggedImage, i.ID, refuse), refused)
	require.ErrorIs(t, s.EditTags(ctx, TaggedImage, "none", refuse), ErrNotFound)
	got, err := s.Image(ctx, i.ID)
	require.NoError(t, err)
	require.Len(t, got.Tags, 8)
}
