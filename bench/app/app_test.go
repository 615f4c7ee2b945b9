package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/bench/payload"
)

func TestAStepTellsWhatTheStepsBeforeLeft(t *testing.T) {
	path := filepath.Join(t.TempDir(), "record")
	r, err := newRemembering(path)
	require.NoError(t, err)
	memory, disk := payload.NewMemory(), payload.NewDisk()
	for round := uint64(1); round <= 20; round++ {
		found, err := r.step(round)
		require.NoError(t, err)
		require.Equal(t, payload.Remembered{
			Nonce: r.nonce, Round: round - 1, Memory: payload.Sum(memory.Bytes()), Disk: payload.Sum(disk.Bytes()),
		}, found)
		memory.Advance(round)
		disk.Advance(round)
	}

	r.inRAM.Bytes()[12345]++
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	content[777]++
	require.NoError(t, os.WriteFile(path, content, 0o600))
	found, err := r.step(21)
	require.NoError(t, err)
	require.NotEqual(t, payload.Sum(memory.Bytes()), found.Memory, "a byte of memory that changed by itself")
	require.NotEqual(t, payload.Sum(disk.Bytes()), found.Disk, "a byte on disk that changed by itself")
}

func TestMessagesAreAccountedFor(t *testing.T) {
	a := &app{accounts: newAccounts()}
	server := httptest.NewServer(a.routes())
	defer server.Close()
	send := func(message []byte) (status int, answer []byte) {
		response, err := http.Post(server.URL+"/message", "", bytes.NewReader(message))
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err = io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, answer
	}
	for n := range uint64(3) {
		status, answer := send(payload.Message{Stream: 4, Number: n}.Encode(100))
		require.Equal(t, http.StatusOK, status)
		reply, err := payload.Decode(answer)
		require.NoError(t, err)
		require.Equal(t, payload.Message{Stream: 4, Number: n, Reply: true}, reply)
	}
	damaged := payload.Message{Stream: 4, Number: 3}.Encode(100)
	damaged[50]++
	status, _ := send(damaged)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Equal(t, payload.Totals{Streams: 1, Damaged: 1, Ledger: payload.Ledger{Next: 3, Received: 3}}, a.accounts.totals())
}
