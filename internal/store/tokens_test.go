package store

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAClientTokenHasExactlyOneEffect(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	i := addImage(t, s, "app")
	var made atomic.Int32
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			m := testVM(i, n)
			token := &ClientToken{
				AccountID: m.AccountID, Region: m.Region, Operation: "RunMicrovm", Token: "tok",
				Parameters: []byte("hash"), ResultID: m.ID, CreatedAt: testTime,
			}
			err := s.InsertMicroVM(ctx, m, token, Event{Subject: m.ID})
			if err == nil {
				made.Add(1)
			} else if !errors.Is(err, ErrTokenUsed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, made.Load())
	vms, _, err := s.ListMicroVMs(ctx, i.AccountID, i.Region, VMFilter{}, Page{Limit: 50})
	require.NoError(t, err)
	require.Len(t, vms, 1)
	got, err := s.ClientToken(ctx, ClientToken{AccountID: i.AccountID, Region: i.Region, Operation: "RunMicrovm", Token: "tok"})
	require.NoError(t, err)
	require.Equal(t, vms[0].ID, got.ResultID)
	require.Equal(t, []byte("hash"), got.Parameters)

	for _, other := range []ClientToken{
		{AccountID: "111111111111", Region: i.Region, Operation: "RunMicrovm", Token: "tok"},
		{AccountID: i.AccountID, Region: "eu-west-1", Operation: "RunMicrovm", Token: "tok"},
		{AccountID: i.AccountID, Region: i.Region, Operation: "CreateMicrovmImage", Token: "tok"},
	} {
		_, err = s.ClientToken(ctx, other)
		require.ErrorIs(t, err, ErrNotFound)
	}
}

func TestARefusedEffectLeavesItsTokenFree(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	addImage(t, s, "app")
	token := &ClientToken{AccountID: DefaultAccountID, Region: "us-east-1", Operation: "CreateMicrovmImage", Token: "tok", Parameters: []byte("h")}
	i, v, b := testImage("app")
	i.ID, v.ImageID, b.ImageID, b.ID = "again", "again", "again", "again"
	require.ErrorIs(t, s.CreateImage(ctx, i, v, b, token, Event{Subject: i.ID}), ErrExists)
	i.Name, token.ResultID = "app2", i.ID
	require.NoError(t, s.CreateImage(ctx, i, v, b, token, Event{Subject: i.ID}))
	require.ErrorIs(t, s.CreateImage(ctx, i, v, b, token, Event{Subject: i.ID}), ErrTokenUsed)

	token.Operation = "UpdateMicrovmImage"
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageCreated}))
	b.ID = "next"
	_, _, err := s.AddVersion(ctx, []string{ImageCreated}, v, b, token, Event{Subject: i.ID})
	require.NoError(t, err)
	got, err := s.ClientToken(ctx, *token)
	require.NoError(t, err)
	require.Equal(t, "2.0", got.ResultVersion)

	require.NoError(t, s.DeleteImage(ctx, i.ID))
	_, err = s.ClientToken(ctx, *token)
	require.ErrorIs(t, err, ErrNotFound, "tokens go with what they made")
}

func TestKeysSurviveAReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	ctx := context.Background()
	s, err := Open(ctx, path, Quotas{})
	require.NoError(t, err)
	keys, err := s.LoadTokenKeys(ctx)
	require.NoError(t, err)
	require.Empty(t, keys)
	older := TokenKey{ID: "k1", Secret: make([]byte, 32), CreatedAt: testTime}
	newer := TokenKey{ID: "k2", Secret: []byte("0123456789abcdef0123456789abcdef"), CreatedAt: testTime.Add(time.Hour)}
	require.NoError(t, s.SaveTokenKeys(ctx, []TokenKey{older}))
	require.NoError(t, s.SaveTokenKeys(ctx, []TokenKey{older, newer}))
	require.ErrorIs(t, s.SaveTokenKeys(ctx, []TokenKey{newer, newer}), ErrExists)
	page, err := s.PageTokenKey(ctx, testTime)
	require.NoError(t, err)
	require.Len(t, page, 32)
	require.NoError(t, s.Close())

	s = openAt(t, path)
	keys, err = s.LoadTokenKeys(ctx)
	require.NoError(t, err)
	require.Equal(t, []TokenKey{newer, older}, keys)
	again, err := s.PageTokenKey(ctx, testTime)
	require.NoError(t, err)
	require.Equal(t, page, again)
}

func TestAccessKeysAreLookedUp(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	c := NewCredential(DefaultAccountID, testTime)
	require.Regexp(t, `^AKIA[A-Z2-7]{16}$`, c.AccessKeyID)
	require.Len(t, c.Secret, 40)
	_, err := s.Credential(ctx, c.AccessKeyID)
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, s.CreateCredential(ctx, c))
	require.ErrorIs(t, s.CreateCredential(ctx, c), ErrExists)
	for range 2 {
		got, err := s.Credential(ctx, c.AccessKeyID)
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	c = NewCredential("999999999999", testTime)
	require.Error(t, s.CreateCredential(ctx, c), "the account must exist")
}

func TestAnotherProcessAddsAndDeletesAccessKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dormouse.db")
	daemon, cli, ctx := openAt(t, path), openAt(t, path), context.Background()
	require.NoError(t, cli.CreateAccount(ctx, Account{ID: "111111111111", Name: "team", CreatedAt: testTime.Add(time.Hour)}))
	c := NewCredential("111111111111", testTime)
	require.NoError(t, cli.CreateCredential(ctx, c))
	got, err := daemon.Credential(ctx, c.AccessKeyID)
	require.NoError(t, err)
	require.Equal(t, c, got)
	listed, err := daemon.Credentials(ctx, "111111111111")
	require.NoError(t, err)
	require.Equal(t, []Credential{c}, listed)
	listed, err = daemon.Credentials(ctx, "")
	require.NoError(t, err)
	require.Len(t, listed, 2)

	require.NoError(t, cli.DeleteCredential(ctx, c.AccessKeyID))
	_, err = daemon.Credential(ctx, c.AccessKeyID)
	require.ErrorIs(t, err, ErrNotFound, "at once")
	require.ErrorIs(t, cli.DeleteCredential(ctx, c.AccessKeyID), ErrNotFound)

	accounts, err := daemon.Accounts(ctx)
	require.NoError(t, err)
	require.Len(t, accounts, 2)
	require.Equal(t, []string{DefaultAccountID, "111111111111"}, []string{accounts[0].ID, accounts[1].ID})
	for _, name := range []string{"team", "111111111111"} {
		a, err := daemon.Account(ctx, name)
		require.NoError(t, err)
		require.Equal(t, accounts[1], a)
	}
	for _, name := range []string{"", "nobody"} {
		_, err := daemon.Account(ctx, name)
		require.ErrorIs(t, err, ErrNotFound)
	}
}

func TestTheDefaultAccountIsMadeAlsoWhereItsNameIsTaken(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "dormouse.db"), context.Background()
	s, err := Open(ctx, path, Quotas{})
	require.NoError(t, err)
	defer s.Close()
	require.NoError(t, s.CreateAccount(ctx, Account{ID: "111111111111", Name: "default"}))
	key, err := s.EnsureDefaults(ctx, testTime)
	require.NoError(t, err)
	require.Equal(t, DefaultAccountID, key.AccountID)
	made, err := s.Account(ctx, DefaultAccountID)
	require.NoError(t, err)
	require.Equal(t, Account{ID: DefaultAccountID, CreatedAt: testTime}, made)
	require.NoError(t, s.DeleteCredential(ctx, key.AccessKeyID))
	again, err := s.EnsureDefaults(ctx, testTime)
	require.NoError(t, err)
	require.NotEqual(t, key.AccessKeyID, again.AccessKeyID)
}
