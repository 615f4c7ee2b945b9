// Package greeting reads from the first bytes of a connection which host they are meant for: the SNI of a TLS ClientHello or the Host of a plaintext HTTP request.
package greeting

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// maxSize bounds what is read before a connection is judged. A ClientHello with post-quantum keys
// and a session ticket has about 2 KiB, a browser's head of a request with its cookies up to 16.
const maxSize = 32 << 10 // bytes

// What keeps a greeting from telling a name.
var (
	ErrTooLong  = errors.New("the first message does not end within its bound")
	ErrNoName   = errors.New("the first message names no host")
	ErrNotHello = errors.New("the connection begins neither with TLS nor with an allowed plaintext request")
)

// recordHandshake is the first byte of a TLS connection (RFC 8446, 5.1).
const recordHandshake = 0x16

// Read reads the first message of a client from r: the name of the host it wants, in lower case,
// and all bytes that were read, for whoever gets the connection. Plaintext HTTP is understood only
// if plain is set. Nothing is ever written to the client.
func Read(r io.Reader, plain bool) (name string, read []byte, err error) {
	kept := &recorder{r: r}
	var first [1]byte
	if _, err := io.ReadFull(kept, first[:]); err != nil {
		return "", kept.read.Bytes(), err
	}
	again := io.MultiReader(bytes.NewReader(first[:]), kept)
	switch {
	case first[0] == recordHandshake:
		name, err = serverName(again)
	case plain:
		name, err = httpHost(again)
	default:
		err = ErrNotHello
	}
	if err != nil && kept.err != nil { // the reason, whatever the parser made of it
		err = kept.err
	}
	if err == nil {
		name, err = hostName(name)
	}
	return name, kept.read.Bytes(), err
}

// recorder keeps what is read through it, and bounds it.
type recorder struct {
	r    io.Reader
	read bytes.Buffer
	err  error // the first failure
}

func (k *recorder) Read(p []byte) (int, error) {
	room := maxSize - k.read.Len()
	if room <= 0 {
		k.err = ErrTooLong
		return 0, k.err
	}
	n, err := k.r.Read(p[:min(len(p), room)])
	k.read.Write(p[:n])
	if err != nil && k.err == nil {
		k.err = err
	}
	return n, err
}

var errSeen = errors.New("the ClientHello has been read")

// serverName lets crypto/tls read a ClientHello and stops it before it would answer. It refuses what
// servers refuse: doubled extensions, several names, names with a trailing dot.
func serverName(r io.Reader) (name string, err error) {
	seen := false
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name, seen = hello.ServerName, true
		return nil, errSeen
	}}
	err = tls.Server(readOnly{r}, config).HandshakeContext(context.Background())
	if !seen {
		return "", err
	}
	return name, nil
}

// readOnly is a connection whose peer never hears anything.
type readOnly struct{ io.Reader }

var _ net.Conn = readOnly{}

func (readOnly) Write(p []byte) (int, error)      { return len(p), nil }
func (readOnly) Close() error                     { return nil }
func (readOnly) LocalAddr() net.Addr              { return nil }
func (readOnly) RemoteAddr() net.Addr             { return nil }
func (readOnly) SetDeadline(time.Time) error      { return nil }
func (readOnly) SetReadDeadline(time.Time) error  { return nil }
func (readOnly) SetWriteDeadline(time.Time) error { return nil }

// httpHost reads the head of an HTTP/1 request. What servers may read another host from is refused:
// targets that are no paths, as for a proxy, and headers that are Host but for a space.
func httpHost(r io.Reader) (string, error) {
	request, err := http.ReadRequest(bufio.NewReader(r))
	if err != nil {
		return "", ErrNotHello
	}
	if !strings.HasPrefix(request.RequestURI, "/") && request.RequestURI != "*" || request.Method == http.MethodConnect || request.ProtoMajor != 1 {
		return "", ErrNotHello
	}
	for header := range request.Header {
		if strings.EqualFold(strings.TrimSpace(header), "Host") { // net/http has taken the real one out
			return "", ErrNotHello
		}
	}
	host := request.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host, nil
}

// hostName is a name as rules have it. An address is none.
func hostName(name string) (string, error) {
	name = strings.ToLower(name)
	if _, err := netip.ParseAddr(name); name == "" || err == nil || len(name) > maxName || strings.ContainsFunc(name, notOfNames) {
		return "", ErrNoName
	}
	return name, nil
}

// maxName is the longest host name there is (RFC 1035, 2.3.4).
const maxName = 253

func notOfNames(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
}
