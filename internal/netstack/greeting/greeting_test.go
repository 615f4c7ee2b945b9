package greeting

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// hello is what a TLS client sends first.
func hello(t testing.TB, name string) []byte {
	t.Helper()
	var sent bytes.Buffer
	client := tls.Client(writeOnly{readOnly{strings.NewReader("")}, &sent}, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	require.Error(t, client.HandshakeContext(context.Background()))
	require.NotEmpty(t, sent.Bytes())
	return sent.Bytes()
}

// writeOnly is a connection to a server that says nothing.
type writeOnly struct {
	readOnly
	w io.Writer
}

var _ net.Conn = writeOnly{}

func (c writeOnly) Write(p []byte) (int, error) { return c.w.Write(p) }

func TestTheNameOfAHostIsReadFromTheFirstMessage(t *testing.T) {
	get := func(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n") }
	long := get("GET / HTTP/1.1", "Host: a.example", "Cookie: "+strings.Repeat("x", maxSize))
	twice := hello(t, "a.example")
	twice = append(twice[:len(twice):len(twice)], "early data"...)
	tests := []struct {
		what  string
		sent  []byte
		plain bool
		name  string
		err   error
	}{
		{"TLS", hello(t, "api.example.com"), false, "api.example.com", nil},
		{"TLS in capitals", hello(t, "API.Example.COM"), false, "api.example.com", nil},
		{"TLS where plaintext is allowed too", hello(t, "api.example.com"), true, "api.example.com", nil},
		{"TLS with what follows it", twice, false, "a.example", nil},
		{"TLS without a name", hello(t, ""), false, "", ErrNoName},
		{"TLS with an address, which clients leave out", hello(t, "192.0.2.1"), false, "", ErrNoName},
		{"half of a ClientHello", hello(t, "a.example")[:100], false, "", io.EOF},
		{"nothing", nil, true, "", io.EOF},
		{"HTTP", get("GET / HTTP/1.1", "Host: a.example"), true, "a.example", nil},
		{"HTTP with a port", get("GET / HTTP/1.1", "Host: A.example:80"), true, "a.example", nil},
		{"HTTP with a body", append(get("PUT / HTTP/1.1", "Host: a.example", "Content-Length: 4"), "body"...), true, "a.example", nil},
		{"HTTP where it is not allowed", get("GET / HTTP/1.1", "Host: a.example"), false, "", ErrNotHello},
		{"HTTP without a host", get("GET / HTTP/1.0"), true, "", ErrNoName},
		{"HTTP with an address", get("GET / HTTP/1.1", "Host: 127.0.0.1"), true, "", ErrNoName},
		{"HTTP with an IPv6 address", get("GET / HTTP/1.1", "Host: [::1]:80"), true, "", ErrNoName},
		{"HTTP with a name that is none", get("GET / HTTP/1.1", "Host: a/b"), true, "", ErrNoName},
		{"HTTP with two hosts", get("GET / HTTP/1.1", "Host: a.example", "Host: b.example"), true, "", ErrNotHello},
		{"HTTP to a proxy", get("GET http://b.example/ HTTP/1.1", "Host: a.example"), true, "", ErrNotHello},
		{"HTTP to a proxy without a host", get("GET http:///x HTTP/1.1", "Host: a.example"), true, "", ErrNotHello},
		{"HTTP with a target that is no path", get("GET b.example:443 HTTP/1.1", "Host: a.example"), true, "", ErrNotHello},
		{"HTTP with a path like a host", get("GET //b.example/x HTTP/1.1", "Host: a.example"), true, "a.example", nil},
		{"HTTP about the server itself", get("OPTIONS * HTTP/1.1", "Host: a.example"), true, "a.example", nil},
		{"HTTP with what some servers take for a host", get("GET / HTTP/1.1", "Host : b.example", "Host: a.example"), true, "", ErrNotHello},
		{"a tunnel", get("CONNECT b.example:443 HTTP/1.1", "Host: a.example"), true, "", ErrNotHello},
		{"HTTP/2 without TLS", []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), true, "", ErrNotHello},
		{"a head without end", long, true, "", ErrTooLong},
		{"noise", []byte("\x00\x01\x02\x03"), true, "", io.EOF},
		{"records without a ClientHello", bytes.Repeat([]byte{0x16, 3, 1, 0, 0}, maxSize), false, "", nil},
		{"a ClientHello that promises more than there may be", append([]byte{0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff}, make([]byte, maxSize)...), false, "", nil},
	}
	for _, test := range tests {
		for _, slowly := range []bool{false, true} {
			var r io.Reader = bytes.NewReader(test.sent)
			if slowly {
				r = iotest.OneByteReader(r)
			}
			name, read, err := Read(r, test.plain)
			switch {
			case test.name == "" && test.err == nil:
				require.Error(t, err, test.what)
			default:
				require.ErrorIs(t, err, test.err, test.what)
			}
			require.Equal(t, test.name, name, test.what)
			require.LessOrEqual(t, len(read), maxSize, test.what)
			require.True(t, bytes.HasPrefix(test.sent, read), test.what)
			if err == nil {
				rest, err := io.ReadAll(r)
				require.NoError(t, err)
				require.Equal(t, test.sent, append(bytes.Clone(read), rest...), "nothing is lost: %s", test.what)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(hello(f, "api.example.com"), false)
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"), true)
	f.Add([]byte{0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0}, false)
	f.Fuzz(func(t *testing.T, sent []byte, plain bool) {
		name, read, err := Read(bytes.NewReader(sent), plain)
		require.True(t, bytes.HasPrefix(sent, read))
		require.LessOrEqual(t, len(read), maxSize)
		if err == nil {
			require.NotEmpty(t, name)
			require.Equal(t, strings.ToLower(name), name)
			require.Contains(t, strings.ToLower(string(read)), name, "it was said, not made up")
		}
	})
}
