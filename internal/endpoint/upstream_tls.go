package endpoint

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/jonboulle/clockwork"
)

const (
	// handshakeTimeout bounds a TLS handshake with an app, and the answer to an HTTP/2 preface. A guest
	// without hardware virtualization takes a second when its code is cold.
	handshakeTimeout = 10 * time.Second
	// probeQuiet is how long an app must keep a connection open on which nothing was said.
	probeQuiet = 50 * time.Millisecond
	// probePatience is how long a TLS server may take to notice that it does not hear TLS.
	probePatience = time.Second
	// sessionsKept bounds the memory of TLS sessions; resuming one saves a slow guest a signature.
	sessionsKept = 1024
)

var (
	errHandshake = errors.New("TLS handshake")
	errSpeaksTLS = errors.New("app answers plaintext with a TLS alert")
	errNotHTTP2  = errors.New("app does not speak HTTP/2")
)

// tlsSessions is shared by all VMs; sessionsOf keeps them apart.
var tlsSessions = tls.NewLRUClientSessionCache(sessionsKept)

func (u *upstream) tlsConfig(to *target) *tls.Config {
	name := to.host
	if host, _, err := net.SplitHostPort(to.host); err == nil {
		name = host
	}
	config := &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // see dialTLS
		ServerName:         name, // sent unless it is an address
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"h2", "http/1.1"},
		ClientSessionCache: sessionsOf(to.vm),
	}
	if to.via == tlsHTTP1 {
		config.NextProtos = config.NextProtos[1:]
	}
	return config
}

// sessionsOf are the sessions with the apps of one VM. Without it the key is the server name, which the
// client of another VM could choose to be the same.
type sessionsOf string

func (vm sessionsOf) Get(key string) (*tls.ClientSessionState, bool) {
	return tlsSessions.Get(string(vm) + " " + key)
}

func (vm sessionsOf) Put(key string, state *tls.ClientSessionState) {
	tlsSessions.Put(string(vm)+" "+key, state)
}

// isNotTLS tells whether a handshake failed because something else than TLS was answered.
func isNotTLS(err error) bool {
	var record tls.RecordHeaderError
	return errors.As(err, &record) && record.Conn != nil
}

// endedHandshake tells whether the app ended the connection in a handshake without saying why, as
// TLS would: it may be something else than a TLS server.
func endedHandshake(err error) bool {
	return errors.Is(err, errHandshake) && (isNotTLS(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET))
}

// greeting is what the first bytes from an app are.
type greeting int

const (
	saidNothing greeting = iota
	saidSomething
	saidAlert    // TLS
	saidSettings // HTTP/2
)

// firstBytes is the header of an HTTP/2 frame (RFC 9113 4.1); that of a TLS record has five.
const firstBytes = 9

// greetingOf reads up to firstBytes, of which there are fewer only if the app said no more.
func greetingOf(first []byte) greeting {
	switch {
	case len(first) == 0:
		return saidNothing
	case isAlert(first):
		return saidAlert
	case len(first) >= firstBytes && first[0] == 0 && first[3] == 4 && first[4] == 0 && bytes.Equal(first[5:9], make([]byte, 4)):
		return saidSettings // less than 64 KiB of them, not an acknowledgement, stream 0
	}
	return saidSomething
}

// isAlert recognises a TLS record of type alert with two bytes, of any version (RFC 8446 5.1 and 6).
func isAlert(first []byte) bool {
	return len(first) >= 5 && first[0] == 21 && first[1] == 3 && first[3] == 0 && first[4] == 2
}

// probeWords begin a plaintext request and fill the header of a TLS record, which has five bytes. OpenSSL and
// Go recognise them as HTTP.
const probeWords = "HEAD "

// probe tells whether a port that closed without an answer does so because it wants TLS. On a connection of its
// own it says nothing first: what closes then is neither. Then it begins a request: a plaintext server
// waits for the rest, a TLS server has seen enough and ends. No plaintext server sees anything but a client that
// leaves early.
func (u *upstream) probe(ctx context.Context, to *target) bool {
	// Those who ask at the same time share the answer, which is not to depend on who of them leaves.
	wantsTLS, _, _ := u.probes.Do(to.pool(), func() (any, error) {
		return u.probeOnce(context.WithoutCancel(ctx), to), nil
	})
	return wantsTLS.(bool)
}

func (u *upstream) probeOnce(ctx context.Context, to *target) bool {
	ctx, cancel := clockwork.WithTimeout(ctx, u.clock, dialTimeout)
	defer cancel()
	conn, err := to.lease.Dial(ctx, to.port) // not metered: it is nobody's traffic
	if err != nil {
		return false
	}
	defer conn.Close()
	answer := make(chan []byte, 1)
	go func() {
		said, _ := io.ReadAll(io.LimitReader(conn, maxTLSWanted)) // how it ends does not matter
		answer <- said
	}()
	select {
	case <-answer:
		return false
	case <-u.clock.After(probeQuiet):
	}
	if _, err := io.WriteString(conn, probeWords); err != nil {
		return false
	}
	select {
	case said := <-answer:
		return len(said) == 0 || isAlert(said) || bytes.Contains(said, tlsWanted[0])
	case <-u.clock.After(probePatience):
		return false
	}
}
