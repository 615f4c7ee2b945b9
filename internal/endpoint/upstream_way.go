package endpoint

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// way is how a request goes on to its app.
type way int

const (
	plainHTTP1 way = iota
	plainHTTP2     // with prior knowledge, "h2c"
	tlsByALPN      // HTTP/2 or HTTP/1.1, as the app chooses
	tlsHTTP1       // for upgrades, which HTTP/2 does not have
	ways
)

func (v way) scheme() string {
	if v == tlsByALPN || v == tlsHTTP1 {
		return "https"
	}
	return "http"
}

// Which way a port takes is found out without sending a byte that a plaintext app would not understand:
//
//   - A request goes to an unknown port as plaintext, as most apps want it, so that they pay nothing.
//   - An app that answers with a TLS alert, or says in HTTP that it wants TLS, wants TLS.
//   - Servers on OpenSSL (Python, Node) close without a word. So does a plaintext app that crashes. The
//     difference is when: see probe. It is asked only if the port has never answered in plaintext.
//   - Then the same request goes again, over TLS. Nothing of it was understood, and what was read of its body is kept.
//   - HTTP/2 with prior knowledge is tried where a client forces it or speaks gRPC, and only its preface
//     leaves before the app has shown that it knows HTTP/2 (prefacedConn).
//
// What was found is kept for the port of a VM over suspends, because they keep the listening process; and it is
// forgotten when it turns out to be wrong, because a process may be replaced.
type known struct {
	plain bool // has answered in plaintext
	tls   bool
	h2c   answered
}

type answered int8

const (
	unasked answered = iota
	yes
	no
)

type appPort struct {
	vm   string
	port uint16
}

func (ex *exchange) app() appPort { return appPort{ex.vm.ID(), ex.port} }

// maxPortsKnown bounds the memory of ports; forgetting one costs a request some milliseconds.
const maxPortsKnown = 8192

type portMemory struct{ ports *lru.Cache[appPort, known] }

func newPortMemory() *portMemory {
	ports, err := lru.New[appPort, known](maxPortsKnown)
	if err != nil {
		panic(err) // only for sizes below one
	}
	return &portMemory{ports}
}

func (m *portMemory) get(app appPort) known {
	k, _ := m.ports.Get(app)
	return k
}

// set is called with what get gave, changed. When two requests learn at the same time one of them may
// be learnt again.
func (m *portMemory) set(app appPort, k known) {
	if before, ok := m.ports.Peek(app); !ok || before != k {
		m.ports.Add(app, k)
	}
}

// wishes is what a request asks of its way.
type wishes struct {
	upgrade bool
	forced  bool // X-aws-proxy-force-h2: true
	grpc    bool
}

func wishesOf(r *http.Request) wishes {
	return wishes{
		upgrade: r.Header.Get("Upgrade") != "",
		forced:  exchangeOf(r).forceH2,
		grpc:    isGRPC(r.Header.Get("Content-Type")),
	}
}

// isGRPC leaves out application/grpc-web, which is made for HTTP/1.1.
func isGRPC(contentType string) bool {
	rest, ok := strings.CutPrefix(strings.ToLower(contentType), "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

func (w wishes) choose(k known) way {
	switch {
	case k.tls && w.upgrade:
		return tlsHTTP1
	case k.tls:
		return tlsByALPN
	case w.upgrade:
		return plainHTTP1
	case w.forced, w.grpc && k.h2c != no:
		return plainHTTP2
	}
	return plainHTTP1
}

// keeps says how much of a request's body is kept for the case that it has to be sent again.
func (u *upstream) keeps(ex *exchange, method string, via way) (size int, pause time.Duration) {
	switch k := u.ports.get(ex.app()); {
	case via == plainHTTP1 && !k.plain:
		return keptTurning, turnPause
	case via == plainHTTP2, via == tlsByALPN, idempotent[method]:
		return keptRefusable, 0
	}
	return 0, 0
}

// judge learns from a sending that is over, and says whether the request is to go another way.
func (u *upstream) judge(ctx context.Context, s *sending, w wishes) (next way, turn bool) {
	app := appPort{s.to.vm, s.to.port}
	before := u.ports.get(app)
	now := before
	switch {
	case s.err == nil:
		turn = now.learnFromResponse(s)
	case ctx.Err() != nil || s.unreached():
		return 0, false
	case s.to.via == plainHTTP1:
		turn = u.learnFromSilence(ctx, s, &now)
	case s.to.via == plainHTTP2:
		turn = u.learnFromRefusal(ctx, s, &now, w)
	default:
		turn = now.learnFromHandshake(s)
	}
	u.ports.set(app, now)
	return w.choose(now), turn
}

// unreached tells whether the sending failed for a reason that says nothing about the app.
func (s *sending) unreached() bool {
	for _, reason := range []error{errDial, ErrRefused, ErrStale, ErrGone, guest.ErrForward, errRequestBody, errTooInformational} {
		if errors.Is(s.err, reason) {
			return true
		}
	}
	return false
}

func (k *known) learnFromResponse(s *sending) (turn bool) {
	switch s.to.via {
	case plainHTTP1:
		if wantsTLS(s.res) {
			*k = known{tls: true}
			return true
		}
		k.plain = true
	case plainHTTP2:
		*k = known{plain: true, h2c: yes}
	}
	return false
}

// learnFromSilence is for a plaintext HTTP/1.1 request without a valid response.
func (u *upstream) learnFromSilence(ctx context.Context, s *sending, k *known) (turn bool) {
	if s.conn == nil {
		return false
	}
	switch s.conn.greeting() {
	case saidAlert:
	case saidNothing:
		if k.plain {
			*k = known{} // it may be another app by now: the next request finds out
			return false
		}
		if !u.probe(ctx, s.to) {
			return false
		}
	default:
		return false
	}
	*k = known{tls: true}
	return true
}

// learnFromRefusal is for a request whose HTTP/2 preface was not answered in kind. Unless HTTP/2 is
// forced it goes in HTTP/1.1.
func (u *upstream) learnFromRefusal(ctx context.Context, s *sending, k *known, w wishes) (turn bool) {
	said := saidNothing
	if s.conn != nil {
		said = s.conn.greeting()
	}
	switch said {
	case saidSettings:
		return false
	case saidNothing:
		if !k.plain && u.probe(ctx, s.to) {
			*k = known{tls: true}
			return true
		}
	case saidAlert:
		*k = known{tls: true}
		return true
	}
	k.h2c = no
	s.err = errors.Join(errNotHTTP2, s.err)
	return !w.forced
}

func (k *known) learnFromHandshake(s *sending) (turn bool) {
	if !endedHandshake(s.err) {
		return false
	}
	*k = known{}
	return isNotTLS(s.err)
}

// tlsWanted are the words in which servers say, as plaintext, that they want TLS: those of Go, nginx,
// Apache and Tomcat.
var tlsWanted = [][]byte{
	[]byte("Client sent an HTTP request to an HTTPS server"),
	[]byte("The plain HTTP request was sent to HTTPS port"),
	[]byte("speaking plain HTTP to an SSL-enabled server port"),
	[]byte("This combination of host and port requires TLS"),
}

// maxTLSWanted bounds such an answer in bytes.
const maxTLSWanted = 4 << 10

// wantsTLS tells whether a response to a plaintext request says that it should have been TLS. Servers
// end the connection behind it. The response can still be passed on.
func wantsTLS(res *http.Response) bool {
	if res.StatusCode != http.StatusBadRequest || !res.Close || res.Body == http.NoBody || res.ContentLength > maxTLSWanted {
		return false
	}
	if res.ContentLength < 0 && len(res.Header) > 0 {
		return false // Go's has no headers; nobody else's ends only with the connection
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxTLSWanted))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failingReader{err}
	}
	res.Body = joinedBody{io.MultiReader(bytes.NewReader(text), rest), res.Body}
	return slices.ContainsFunc(tlsWanted, func(words []byte) bool { return bytes.Contains(text, words) })
}

// joinedBody is a body whose beginning was read and put back.
type joinedBody struct {
	io.Reader
	io.Closer
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }
