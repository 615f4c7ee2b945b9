package endpoint

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rawRequest sends bytes as they are and returns all that comes back until the endpoint closes.
func (w *world) rawRequest(t *testing.T, text string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", w.general, &tls.Config{RootCAs: w.roots, ServerName: testHost})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(wait)))
	_, err = io.WriteString(conn, text)
	require.NoError(t, err)
	answers, err := io.ReadAll(conn)
	require.NoError(t, err, "the endpoint must close: what follows on the connection is not to be trusted")
	return string(answers)
}

// recorder is an app that records the requests it sees.
type recorder struct {
	mu   sync.Mutex // guards seen
	seen []string
}

func (rec *recorder) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.seen = append(rec.seen, r.Method+" "+r.URL.Path)
}

func (rec *recorder) requests() []string { rec.mu.Lock(); defer rec.mu.Unlock(); return rec.seen }

// TestAmbiguousRequestsAreRefusedAndNothingBehindThemIsARequest: each is followed by a request that would be served,
// token and all, if the endpoint went on reading.
func TestAmbiguousRequestsAreRefusedAndNothingBehindThemIsARequest(t *testing.T) {
	const chunks = "5\r\nhello\r\n0\r\n\r\n"
	for _, c := range []struct{ name, fields, body, status string }{
		{"two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n", "hello!", "400"},
		{"two lengths in one", "Content-Length: 5, 6\r\n", "hello!", "400"},
		{"the same length twice in one", "Content-Length: 5, 5\r\n", "hello", "400"},
		{"signed length", "Content-Length: +5\r\n", "hello", "400"},
		{"negative length", "Content-Length: -5\r\n", "hello", "400"},
		{"length in hexadecimal", "Content-Length: 0x5\r\n", "hello", "400"},
		{"length with an underscore", "Content-Length: 1_0\r\n", "hello", "400"},
		{"length beyond 64 bits", "Content-Length: 18446744073709551621\r\n", "hello", "400"},
		{"empty length", "Content-Length: \r\n", "", "400"},
		{"blank before the colon of a length", "Content-Length : 5\r\n", "hello", "400"},
		{"tab before the colon of a coding", "Transfer-Encoding\t: chunked\r\n", chunks, "400"},
		{"blank before a field", "X: y\r\n Content-Length: 5\r\n", "hello", ""},
		{"unknown coding", "Transfer-Encoding: xchunked\r\n", chunks, "501"},
		{"quoted coding", "Transfer-Encoding: \"chunked\"\r\n", chunks, "501"},
		{"coding with a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", chunks, "400"},
		{"coding that is not the last", "Transfer-Encoding: chunked, identity\r\n", chunks, "501"},
		{"coding before chunked", "Transfer-Encoding: gzip, chunked\r\n", chunks, "501"},
		{"two codings in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", chunks, "501"},
		{"chunked twice in two fields", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunks, "501"},
		{"unknown coding and a length", "Content-Length: 5\r\nTransfer-Encoding: x\r\n", "hello", "501"},
		{"bare CR in a value", "X: a\rContent-Length: 5\r\n", "", "400"},
		{"NUL in a value", "X: a\x00b\r\n", "", "400"},
		{"blank in a name", "X Y: b\r\n", "", "400"},
		{"no colon", "Content-Length\r\n", "", "400"},
		{"no name", ": b\r\n", "", "400"},
		{"second host", "Host: other\r\n", "", "400"},
		{"chunk size that is none", "Transfer-Encoding: chunked\r\n", "zz\r\nhello\r\n0\r\n\r\n", "400"},
		{"negative chunk", "Transfer-Encoding: chunked\r\n", "-1\r\nhello\r\n0\r\n\r\n", "400"},
		{"chunk with 0x", "Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n", "400"},
		{"chunk beyond 64 bits", "Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", "400"},
		{"chunk longer than its size", "Transfer-Encoding: chunked\r\n", "4\r\nhello\r\n0\r\n\r\n", "400"},
		{"chunk size ended by LF", "Transfer-Encoding: chunked\r\n", "5\nhello\r\n0\r\n\r\n", "400"},
		{"chunk extension ended by LF", "Transfer-Encoding: chunked\r\n", "5;x\nhello\r\n0\r\n\r\n", "400"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			app := &recorder{}
			w.vm.listen(t, DefaultPort, app)
			auth := "Host: " + testHost + "\r\nX-aws-proxy-auth: " + w.token + "\r\n"
			answers := w.rawRequest(t, "POST /first HTTP/1.1\r\n"+auth+c.fields+"\r\n"+c.body+
				"GET /smuggled HTTP/1.1\r\n"+auth+"Connection: close\r\n\r\n")
			if c.status == "" { // an obsolete continuation of a line, RFC 9112 5.2: it is no field of its own
				require.NotContains(t, app.requests(), "POST /smuggled")
				return
			}
			require.Contains(t, firstLine(answers), " "+c.status+" ")
			require.NotContains(t, app.requests(), "GET /smuggled")
			require.Equal(t, 1, strings.Count(answers, "HTTP/1.1 "), answers)
		})
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\r\n")
	return line
}

// TestRequestLinesThatAreNoneAreRefused is about what precedes the headers.
func TestRequestLinesThatAreNoneAreRefused(t *testing.T) {
	for _, line := range []string{
		"GET /", "GET / HTTP/1.1 x", "GET  / HTTP/1.1", "G\x00T / HTTP/1.1", "GET / HTTP/1.10", "GET / HTTP/2.0",
		"GET /\x7f HTTP/1.1", "GET / http/1.1", "GET /a b HTTP/1.1", "PRI * HTTP/2.0",
	} {
		t.Run(line, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			app := &recorder{}
			w.vm.listen(t, DefaultPort, app)
			answers := w.rawRequest(t, line+"\r\nHost: "+testHost+"\r\nX-aws-proxy-auth: "+w.token+"\r\nConnection: close\r\n\r\n")
			require.Regexp(t, `^HTTP/1\.[01] (400|505) `, answers)
			require.Empty(t, app.requests())
		})
	}
}

// TestWhatIsToleratedReachesTheAppInOneReading: RFC 9112 lets servers take a lone LF for the end of a line, and
// the chunks where there is a length, too. The app is sent what the endpoint has understood, so that there is
// nothing left to understand in another way.
func TestWhatIsToleratedReachesTheAppInOneReading(t *testing.T) {
	for name, fields := range map[string]string{
		"LF ends lines":                "A: b\nTransfer-Encoding: chunked\n\n",
		"length and chunks":            "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
		"chunks and length":            "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
		"chunks in another case":       "TRANSFER-ENCODING: Chunked\r\n\r\n",
		"chunk extensions are dropped": "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			heads := make(chan string, 4)
			rawHeads(t, w.vm, heads)
			body := "5\r\nhello\r\n0\r\n\r\n"
			if strings.HasSuffix(fields, "b\r\n") {
				body = "hello\r\n0\r\n\r\n"
			}
			answers := w.rawRequest(t, fmt.Sprintf("POST /outer HTTP/1.1\r\nHost: %s\r\nX-aws-proxy-auth: %s\r\n%s%s"+
				"GET /smuggled HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", testHost, w.token, fields, body, testHost))
			require.Contains(t, firstLine(answers), " 204 ")
			require.Contains(t, answers, authMissing.body, "what follows is a request of its own, without a token")
			head := <-heads
			require.True(t, strings.HasPrefix(head, "POST /outer HTTP/1.1\r\n"))
			require.Contains(t, head, "\r\nTransfer-Encoding: chunked\r\n")
			require.NotContains(t, head, "Content-Length")
			require.NotContains(t, strings.ReplaceAll(head, "\r\n", ""), "\n")
			require.True(t, strings.HasSuffix(head, "\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), head)
			require.Empty(t, heads)
		})
	}
}

// rawHeads is an app that tells what it is sent, byte for byte.
func rawHeads(t *testing.T, vm *fakeVM, heads chan<- string) {
	listenRaw(t, vm, func(rw io.ReadWriteCloser) {
		defer rw.Close()
		var seen strings.Builder
		r, err := http.ReadRequest(bufio.NewReader(io.TeeReader(rw, &seen)))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		heads <- seen.String()
		_, _ = io.WriteString(rw, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
	})
}

func TestEndlessHeadersAndSlowOnesEnd(t *testing.T) {
	w := newWorld(t)
	answers := w.rawRequest(t, "GET / HTTP/1.1\r\nHost: "+testHost+"\r\nX: "+strings.Repeat("x", maxHeader+8<<10)+"\r\n")
	require.Contains(t, answers, "431 Request Header Fields Too Large")
	require.True(t, w.vm.untouched())
}
