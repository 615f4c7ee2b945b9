package pagetoken

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func newCodec(t testing.TB, fill byte) *Codec {
	t.Helper()
	c, err := New(bytes.Repeat([]byte{fill}, KeySize))
	require.NoError(t, err)
	return c
}

var listing = Listing{Operation: "ListMicrovms", Account: "000000000000", Region: "us-east-1", Filters: map[string]string{"imageVersion": "1.0"}}

func TestATokenGivesItsCursorBackToTheSameListing(t *testing.T) {
	c := newCodec(t, 1)
	for _, cursor := range []string{"", "2026-11-23T14:51:05Z/microvm-1", "ü\x00\xff"} {
		got, err := c.Open(listing, c.Seal(listing, cursor))
		require.NoError(t, err)
		require.Equal(t, cursor, got)
	}
}

func TestATokenDoesNotShowItsCursor(t *testing.T) {
	c := newCodec(t, 1)
	require.NotContains(t, c.Seal(listing, "microvm-secret"), "microvm")
	require.NotEqual(t, c.Seal(listing, "a"), c.Seal(listing, "a"))
}

func TestItemsAddedBetweenTwoPagesShiftNothing(t *testing.T) {
	c := newCodec(t, 1)
	items := []string{"b", "d", "f", "h"}
	page := func(token string) (listed []string, next string) {
		var cursor string
		if token != "" {
			var err error
			cursor, err = c.Open(listing, token)
			require.NoError(t, err)
		}
		for _, item := range items {
			if item > cursor && len(listed) < 2 {
				listed = append(listed, item)
			}
		}
		return listed, c.Seal(listing, listed[len(listed)-1])
	}
	first, next := page("")
	require.Equal(t, []string{"b", "d"}, first)
	items = []string{"a", "b", "c", "e", "f", "h"} // a, c and e are new, d is gone
	second, _ := page(next)
	require.Equal(t, []string{"e", "f"}, second)
}

func TestAnotherListingRefusesAToken(t *testing.T) {
	c := newCodec(t, 1)
	token := c.Seal(listing, "cursor")
	for name, change := range map[string]func(*Listing){
		"operation":      func(l *Listing) { l.Operation = "ListMicrovmImages" },
		"account":        func(l *Listing) { l.Account = "000000000001" },
		"region":         func(l *Listing) { l.Region = "eu-west-1" },
		"filter value":   func(l *Listing) { l.Filters = map[string]string{"imageVersion": "2.0"} },
		"filter name":    func(l *Listing) { l.Filters = map[string]string{"nameFilter": "1.0"} },
		"without filter": func(l *Listing) { l.Filters = nil },
	} {
		other := listing
		change(&other)
		_, err := c.Open(other, token)
		require.ErrorIs(t, err, ErrInvalid, name)
	}
	_, err := newCodec(t, 2).Open(listing, token)
	require.ErrorIs(t, err, ErrInvalid, "another key")
}

func TestEveryChangedByteMakesATokenInvalid(t *testing.T) {
	c := newCodec(t, 1)
	token := []byte(c.Seal(listing, "cursor"))
	for i := range token {
		changed := slices.Clone(token)
		changed[i] = map[bool]byte{true: 'B', false: 'A'}[changed[i] == 'A']
		_, err := c.Open(listing, string(changed))
		require.ErrorIs(t, err, ErrInvalid, "byte %d", i)
	}
}

func TestAKeyOfTheWrongSizeIsRefused(t *testing.T) {
	_, err := New(make([]byte, 16))
	require.ErrorContains(t, err, "16 bytes")
}

func FuzzForgedTokensAreRefused(f *testing.F) {
	f.Add("")
	f.Add("AAAA")
	f.Add(newCodec(f, 2).Seal(listing, "cursor"))
	c := newCodec(f, 1)
	f.Fuzz(func(t *testing.T, token string) {
		if cursor, err := c.Open(listing, token); err == nil {
			t.Errorf("forged token %q gave %q", token, cursor)
		}
	})
}
