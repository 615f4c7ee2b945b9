package endpoint

import (
	"net/http"
	"net/http/httputil"
	"strings"
	"time"
)

// rewrite changes as little as a proxy may: the app sees the client's request without the
// platform's headers and subprotocols, and with the request id (spec/behaviour.md 7.2).
func rewrite(pr *httputil.ProxyRequest) {
	ex := exchangeOf(pr.In)
	header := pr.Out.Header
	deletePlatformHeaders(header)
	// ReverseProxy dropped these; the platform neither adds nor removes them.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := pr.In.Header[name]; ok {
			header[name] = values
		}
	}
	if ex.offer.app != "" {
		header[subprotocolHeader] = []string{ex.offer.app}
	} else {
		delete(header, subprotocolHeader)
	}
	header[requestIDHeader] = []string{ex.requestID}
	pr.Out.URL.RawQuery = pr.In.URL.RawQuery // ReverseProxy "cleans" it, but it is the app's business
	pr.Out.Trailer = pr.In.Trailer           // the server fills in this map when the body ends
}

// endConnection tells an HTTP/1 client whose body is not read to its end that this response is the
// last of the connection. net/http does so by itself, but not when response and body may overlap; it
// would close the connection under the client's next request.
func (ex *exchange) endConnection(response http.Header) {
	if ex.duplex && (ex.body == nil || !ex.body.ended.Load()) {
		response["Connection"] = []string{"close"}
	}
}

// modifyResponse passes on the app's response as it is, with the request id.
func modifyResponse(res *http.Response) error {
	ex := exchangeOf(res.Request)
	ex.answered(res.StatusCode, "")
	deletePlatformHeaders(res.Header)
	res.Header[requestIDHeader] = []string{ex.requestID}
	if res.StatusCode == http.StatusSwitchingProtocols {
		if ex.offer.marker && res.Header.Get(subprotocolHeader) == "" {
			res.Header[subprotocolHeader] = []string{marker} // a browser refuses an answer without one it offered
		}
		return nil
	}
	ex.endConnection(res.Header)
	ex.writer.Header()["Content-Type"] = nil // keeps net/http from guessing where the app gave none
	if len(res.Trailer) > 0 && res.Request.ProtoMajor == 1 {
		delete(res.Header, "Content-Length") // HTTP/2 apps may have both; in HTTP/1.1 trailers need chunks
	}
	ex.bodyless = res.ContentLength == 0
	return nil
}

// flushDelay is how long a piece of a response of known length waits for more, so that a small response leaves
// in one piece, which wakes the client once. Others go on as they come (ReverseProxy's flushInterval).
const flushDelay = time.Millisecond

// promptWriter lets ReverseProxy flush a response unless that has no body: a gRPC error is a response that ends
// with its headers, and clients insist on that.
type promptWriter struct {
	http.ResponseWriter
	ex *exchange
}

// FlushError is for http.ResponseController.
func (w promptWriter) FlushError() error {
	if w.ex.bodyless {
		return nil
	}
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (w promptWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func deletePlatformHeaders(header http.Header) {
	for name := range header {
		if strings.HasPrefix(name, headerPrefix) {
			delete(header, name)
		}
	}
}
