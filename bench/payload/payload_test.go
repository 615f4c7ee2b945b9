package payload

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFillIsTheSameForASeedAndDiffersBetweenSeeds(t *testing.T) {
	a, b, c := make([]byte, 1001), make([]byte, 1001), make([]byte, 1001)
	Fill(a, 1)
	Fill(b, 1)
	Fill(c, 2)
	require.Equal(t, a, b)
	require.NotEqual(t, a, c)
	require.NotEqual(t, a[:8], a[8:16], "no place looks like another")
	short := make([]byte, 13)
	Fill(short, 1)
	require.Equal(t, a[:13], short)
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	for _, m := range []Message{{}, {Stream: 7, Number: 1 << 40}, {Stream: 7, Number: 3, Reply: true}} {
		for _, size := range []int{0, 1, 1000} {
			encoded := m.Encode(size)
			require.Len(t, encoded, HeaderSize+size)
			decoded, err := Decode(encoded)
			require.NoError(t, err)
			require.Equal(t, m, decoded)
		}
	}
}

func TestEveryFlippedBitIsNoticed(t *testing.T) {
	encoded := Message{Stream: 5, Number: 9}.Encode(40)
	for bit := range 8 * len(encoded) {
		damaged := bytes.Clone(encoded)
		damaged[bit/8] ^= 1 << (bit % 8)
		_, err := Decode(damaged)
		require.ErrorIs(t, err, ErrDamaged, "bit %d", bit)
	}
	for size := range HeaderSize {
		_, err := Decode(encoded[:size])
		require.ErrorIs(t, err, ErrDamaged)
	}
	_, err := Decode(encoded[:len(encoded)-1])
	require.ErrorIs(t, err, ErrDamaged)
}

func TestAReplyHasOtherBytes(t *testing.T) {
	m := Message{Stream: 5, Number: 9}
	r := m
	r.Reply = true
	require.NotEqual(t, m.Encode(64)[HeaderSize:], r.Encode(64)[HeaderSize:])
}

func TestTheLedgerAccountsForEveryNumber(t *testing.T) {
	for _, test := range []struct {
		name    string
		numbers []uint64
		sent    uint64
		want    Ledger
		missing uint64
	}{
		{"nothing was sent", nil, 0, Ledger{}, 0},
		{"nothing came", nil, 3, Ledger{}, 3},
		{"all in order", []uint64{0, 1, 2}, 3, Ledger{Next: 3, Received: 3}, 0},
		{"the last is lost", []uint64{0, 1}, 3, Ledger{Next: 2, Received: 2}, 1},
		{"the first is lost", []uint64{1, 2}, 3, Ledger{Next: 3, Received: 2, Skipped: 1}, 1},
		{"two in the middle are lost", []uint64{0, 3}, 4, Ledger{Next: 4, Received: 2, Skipped: 2}, 2},
		{"one comes twice", []uint64{0, 1, 1, 2}, 3, Ledger{Next: 3, Received: 4, Repeated: 1}, 0},
		{"one comes late", []uint64{0, 2, 1}, 3, Ledger{Next: 3, Received: 3, Skipped: 1, Repeated: 1}, 1},
		{"one that was never sent", []uint64{0, 1, 2}, 2, Ledger{Next: 3, Received: 3}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var l Ledger
			for _, n := range test.numbers {
				l.Take(n)
			}
			require.Equal(t, test.want, l)
			require.Equal(t, test.missing, l.Missing(test.sent))
		})
	}
}

func TestARecordDependsOnAllItsRounds(t *testing.T) {
	mine, other := NewRecord(1, 1<<10, 4), NewRecord(1, 1<<10, 4)
	require.Equal(t, mine.Bytes(), other.Bytes())
	require.NotEqual(t, mine.Bytes(), NewRecord(2, 1<<10, 4).Bytes(), "kinds differ")
	for round := uint64(1); round <= 9; round++ {
		before := bytes.Clone(mine.Bytes())
		offset, changed := mine.Advance(round)
		require.Equal(t, int(round%4)<<8, offset)
		require.Len(t, changed, 256)
		require.NotEqual(t, before[offset:offset+256], changed)
		copy(before[offset:], changed)
		require.Equal(t, before, mine.Bytes(), "nothing else changes")
		require.NotEqual(t, Sum(mine.Bytes()), Sum(other.Bytes()), "a round that was left out shows")
		other.Advance(round)
		require.Equal(t, Sum(mine.Bytes()), Sum(other.Bytes()))
	}
}
