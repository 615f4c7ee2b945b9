package endpoint

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

var errTest = errors.New("on purpose")

func TestBodyIsSentAgainFromItsBeginning(t *testing.T) {
	source := io.MultiReader(strings.NewReader("hello "), strings.NewReader("world"), failingReader{errTest})
	b := newRequestBody(source, nil, clockwork.NewFakeClock(), func() {})
	b.keep(1<<10, turnPause)
	first := b.sending()
	part := make([]byte, 3)
	_, err := io.ReadFull(first, part)
	require.NoError(t, err)
	second, err := first.again()
	require.NoError(t, err)
	first.end(&errTest)
	_, err = first.Read(part)
	require.ErrorIs(t, err, errTest)
	all, err := io.ReadAll(second)
	require.ErrorIs(t, err, errTest)
	require.ErrorIs(t, err, errRequestBody)
	require.Equal(t, "hello world", string(all))
}

func TestBodyIsNotSentAgainWhenItsBeginningIsGone(t *testing.T) {
	b := newRequestBody(strings.NewReader(strings.Repeat("x", 100)), nil, clockwork.NewFakeClock(), func() {})
	b.keep(10, 0)
	s := b.sending()
	all, err := io.ReadAll(s)
	require.NoError(t, err)
	require.Len(t, all, 100)
	_, err = s.again()
	require.ErrorIs(t, err, errBodyConsumed)
}

func TestBodyWaitsOnceBeforeItsBeginningIsGivenUp(t *testing.T) {
	clock := clockwork.NewFakeClock()
	b := newRequestBody(strings.NewReader(strings.Repeat("x", 100)), nil, clock, func() {})
	b.keep(10, turnPause)
	s := b.sending()
	done := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, s); done <- err }()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1))
	require.Empty(t, done)
	clock.Advance(turnPause)
	require.NoError(t, <-done)
	require.False(t, b.rewind())
}

// TestBodyThatGoesAgainIsNotReadByTheSendingBefore: http.Transport may go on with a sending that has failed.
func TestBodyThatGoesAgainIsNotReadByTheSendingBefore(t *testing.T) {
	clock := clockwork.NewFakeClock()
	b := newRequestBody(strings.NewReader(strings.Repeat("x", 100)), nil, clock, func() {})
	b.keep(10, turnPause)
	first := b.sending()
	done := make(chan error, 1)
	go func() { _, err := io.Copy(io.Discard, first); done <- err }()
	require.NoError(t, clock.BlockUntilContext(t.Context(), 1), "what may be kept is read")
	require.True(t, b.rewind())
	clock.Advance(turnPause)
	require.ErrorIs(t, <-done, errSendingOver)
	second := b.sending()
	go first.settle()
	go func() { _ = clock.BlockUntilContext(t.Context(), 1); clock.Advance(turnPause) }()
	all, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Len(t, all, 100)
}

func TestEachSendingHasATrailerOfItsOwn(t *testing.T) {
	reader, writer := io.Pipe()
	fromClient := http.Header{"Sum": nil}
	b := newRequestBody(reader, fromClient, clockwork.NewFakeClock(), func() {})
	b.keep(1<<10, 0)
	first := b.sending()
	read := make(chan error, 1)
	go func() { _, err := io.ReadAll(first); read <- err }()
	_, err := writer.Write([]byte("body"))
	require.NoError(t, err)
	require.True(t, b.rewind())
	second := b.sending()
	fromClient["Sum"] = []string{"1"} // as the server does at the end
	require.NoError(t, writer.Close())
	all, err := io.ReadAll(second)
	require.NoError(t, err)
	require.Equal(t, "body", string(all))
	require.ErrorIs(t, <-read, errSendingOver)
	require.Equal(t, http.Header{"Sum": nil}, first.trailer, "its request may still be looked at")
	require.Equal(t, http.Header{"Sum": {"1"}}, second.trailer)
}

func TestReadOfABodyIsNotStoppedAfterItsHandlerHasReturned(t *testing.T) {
	reader, writer := io.Pipe()
	b := newRequestBody(reader, nil, clockwork.NewFakeClock(), func() { panic("the response writer is the next request's") })
	s := b.sending()
	read := make(chan error, 1)
	go func() { _, err := s.Read(make([]byte, 1)); read <- err }()
	require.Eventually(t, func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.direct }, wait, time.Millisecond)
	b.retire()
	s.end(&errTest)
	require.NoError(t, writer.CloseWithError(errClientLeft), "as the server does then")
	require.ErrorIs(t, <-read, errTest)
}

// TestAppsThatAnswerUploadsEarlyAndClose is for the race detector: the end of the connection to the app and that
// of the handler come at the same time.
func TestAppsThatAnswerUploadsEarlyAndClose(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_, _ = get(t, client, w.request(t, http.MethodGet, "/")) // known from here on
		acceptEach(t, w.vm, DefaultPort, func(conn net.Conn) {
			defer conn.Close()
			_, _ = conn.Read(make([]byte, 4096))
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, conn)
		})
		w.vm.cutConns()
		for range 20 {
			reader, writer := io.Pipe()
			r := w.request(t, http.MethodPost, "/")
			r.Body = reader
			res, body := get(t, client, r)
			require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
			require.Equal(t, "no", body)
			_ = writer.Close()
		}
	})
}

func TestAppThatDiesUnderAStalledUploadIsReportedAtOnce(t *testing.T) {
	overBoth(t, func(t *testing.T, w *world, client *http.Client) {
		w.vm.listen(t, DefaultPort, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		_, _ = get(t, client, w.request(t, http.MethodGet, "/")) // known from here on
		acceptEach(t, w.vm, DefaultPort, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 4096))
			conn.Close()
		})
		w.vm.cutConns()
		reader, writer := io.Pipe()
		defer writer.Close()
		r := w.request(t, http.MethodPost, "/")
		r.Body = reader
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		res, err := client.Do(r.WithContext(ctx))
		require.NoError(t, err)
		require.Equal(t, appResponseFailed.code, res.Header.Get(errorHeader))
	})
}

// TestFailedWriteWaitsForWhatTheAppHasSaidAndNoLonger: closing a TLS connection writes, too, so a wait for
// its end would be one for itself.
func TestFailedWriteWaitsForWhatTheAppHasSaidAndNoLonger(t *testing.T) {
	near, far := net.Pipe()
	conn := newMeteredConn(deafConn{near}, &fakeLease{vm: newFakeVM("x")}, clockwork.NewFakeClock())
	conn.patient.Store(true)
	wrote := make(chan error, 1)
	go func() { _, err := conn.Write([]byte("more of the request")); wrote <- err }()
	go func() { _, _ = far.Write([]byte("HTTP/1.1 413 ")); far.Close() }()
	said := make([]byte, 64)
	n, err := conn.Read(said)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 413 ", string(said[:n]))
	require.Empty(t, wrote, "the response may go on")
	_, err = conn.Read(said)
	require.ErrorIs(t, err, io.EOF)
	require.ErrorIs(t, <-wrote, errTest)
	_, err = conn.Write([]byte("an alert"))
	require.ErrorIs(t, err, errTest)
}

// deafConn is a connection to an app that no longer reads.
type deafConn struct{ net.Conn }

func (deafConn) Write([]byte) (int, error) { return 0, errTest }
