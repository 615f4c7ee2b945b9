package endpoint

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"
)

// BenchmarkRequest is one small request on a kept-alive connection: straight to the app over plain
// TCP, and through the endpoint over TLS with a token. The difference is what the endpoint adds.
func BenchmarkRequest(b *testing.B) {
	benchmark(b, []byte("ok"))
}

// BenchmarkDownload is 4 MiB per request in the same two ways.
func BenchmarkDownload(b *testing.B) {
	benchmark(b, make([]byte, 4<<20))
}

func benchmark(b *testing.B, payload []byte) {
	w := startWorld(b, clockwork.NewRealClock())
	w.vm.listen(b, DefaultPort, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Length", fmt.Sprint(len(payload)))
		_, _ = rw.Write(payload)
	}))
	direct, err := http.NewRequest(http.MethodGet, "http://"+w.vm.apps[DefaultPort]+"/", nil)
	require.NoError(b, err)
	through := w.request(b, http.MethodGet, "/")

	for _, way := range []struct {
		name    string
		request *http.Request
		client  *http.Client
	}{
		{"direct", direct, &http.Client{Transport: &http.Transport{DisableCompression: true}}},
		{"endpoint/http1", through, &http.Client{Transport: w.transport(b, "http/1.1")}},
		{"endpoint/http2", through, &http.Client{Transport: w.transport(b, "h2")}},
	} {
		b.Run(way.name, func(b *testing.B) {
			b.SetBytes(int64(len(payload)))
			b.ReportAllocs()
			for b.Loop() {
				res, err := way.client.Do(way.request)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.Copy(io.Discard, res.Body)
				if err != nil || n != int64(len(payload)) {
					b.Fatal(n, err)
				}
				res.Body.Close()
			}
		})
	}
}

// BenchmarkVerifyToken is the cost of a token the first time it is seen, and after that.
func BenchmarkVerifyToken(b *testing.B) {
	tokens := openTokens(b, &memoryKeys{}, clockwork.NewFakeClock())
	token := mint(b, tokens, testVM, AllPorts...)
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			tokens.verified.Purge()
			if _, err := tokens.verify(token, testVM); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := tokens.verify(token, testVM); err != nil {
				b.Fatal(err)
			}
		}
	})
}
