package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// requireFull checks that something was refused for a quota.
func requireFull(t *testing.T, err error, quota Quota, most int) {
	t.Helper()
	var full *QuotaError
	require.ErrorAs(t, err, &full)
	require.Equal(t, QuotaError{Quota: quota, Most: most}, *full)
}

func TestOnlyOneOfManyTakesTheLastMemory(t *testing.T) {
	s, ctx := openLimited(t, filepath.Join(t.TempDir(), "dormouse.db"), Quotas{MemoryMiB: 2048}), context.Background()
	i := addImage(t, s, "app")
	var made atomic.Int32
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			m := testVM(i, n)
			m.MemoryMiB = 1024
			var full *QuotaError
			switch err := s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}); {
			case err == nil:
				made.Add(1)
			case !errors.As(err, &full):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 2, made.Load())
}

func TestMemoryIsCountedUntilAMicroVMHasEnded(t *testing.T) {
	s, ctx := openLimited(t, filepath.Join(t.TempDir(), "dormouse.db"), Quotas{MemoryMiB: 1024}), context.Background()
	i := addImage(t, s, "app")
	m := testVM(i, 0)
	m.MemoryMiB = 1024
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{Subject: m.ID}))
	next := testVM(i, 1)
	next.MemoryMiB = 512
	for _, state := range []string{VMRunning, VMSuspending, VMSuspended, VMTerminating} {
		requireFull(t, s.InsertMicroVM(ctx, next, nil, Event{Subject: next.ID}), QuotaMemory, 1024)
		from := m.State
		m.State = state
		require.NoError(t, s.TransitionMicroVM(ctx, m, from, Event{Subject: m.ID}))
	}
	requireFull(t, s.InsertMicroVM(ctx, next, nil, Event{Subject: next.ID}), QuotaMemory, 1024)
	require.NoError(t, s.CreateAccount(ctx, Account{ID: "111111111111"}))
	other := next
	other.ID, other.EndpointID, other.EndpointAddr, other.AccountID = "microvm-x", "x", "127.9.9.9", "111111111111"
	require.NoError(t, s.InsertMicroVM(ctx, other, nil, Event{Subject: other.ID}), "each account has its own")

	m.State = VMTerminated
	require.NoError(t, s.TransitionMicroVM(ctx, m, VMTerminating, Event{Subject: m.ID}))
	require.NoError(t, s.InsertMicroVM(ctx, next, nil, Event{Subject: next.ID}))
	got, err := s.MicroVM(ctx, next.ID)
	require.NoError(t, err)
	require.Equal(t, next, got)
}

func TestImagesVersionsAndBuildsAreBounded(t *testing.T) {
	s, ctx := openLimited(t, filepath.Join(t.TempDir(), "dormouse.db"), Quotas{Images: 2, Versions: 3, Builds: 2}), context.Background()
	create := func(name, region string) error {
		i, v, b := testImage(name)
		i.Region = region
		return s.CreateImage(ctx, i, v, b, nil, Event{Subject: i.ID})
	}
	require.NoError(t, create("a", "us-east-1"))
	require.NoError(t, create("b", "eu-west-1"))
	requireFull(t, create("c", "ap-south-1"), QuotaImages, 2)
	_, err := s.Image(ctx, "image-c")
	require.ErrorIs(t, err, ErrNotFound, "a refusal leaves nothing")

	_, v, b := testImage("a")
	next := func(n int) error {
		b.ID = fmt.Sprint("build-", n)
		require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: v.ImageID, To: ImageCreated}))
		_, _, err := s.AddVersion(ctx, []string{ImageCreated}, v, b, nil, Event{Subject: v.ImageID})
		return err
	}
	requireFull(t, next(2), QuotaBuilds, 2)
	end := func(id string) {
		b := Build{ID: id, State: BuildSuccessful, EndedAt: testTime}
		require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: v.ImageID, Build: &b}))
	}
	end("build-a")
	require.NoError(t, next(2))
	end("build-2")
	require.NoError(t, next(3))
	end("build-3")
	requireFull(t, next(4), QuotaVersions, 3)
}

func TestConnectorsAreBounded(t *testing.T) {
	s, ctx := openLimited(t, filepath.Join(t.TempDir(), "dormouse.db"), Quotas{Connectors: 1}), context.Background()
	c, elsewhere := testConnector("nc-1", "a"), testConnector("nc-2", "b")
	elsewhere.Region = "eu-west-1"
	require.NoError(t, s.CreateConnector(ctx, c, nil))
	requireFull(t, s.CreateConnector(ctx, elsewhere, nil), QuotaConnectors, 1)
	require.NoError(t, s.CreateAccount(ctx, Account{ID: "111111111111"}))
	other := testConnector("nc-3", "a")
	other.AccountID = "111111111111"
	require.NoError(t, s.CreateConnector(ctx, other, nil), "each account has its own")
	require.NoError(t, s.DeleteConnector(ctx, c))
	require.NoError(t, s.CreateConnector(ctx, elsewhere, nil))
}
