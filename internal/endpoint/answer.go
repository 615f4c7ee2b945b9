package endpoint

import (
	"errors"
	"net/http"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// Headers of the proxy's own. Requests lose every header that starts with headerPrefix on the way to
// the guest, and responses on the way back, so that neither side can speak for the proxy.
const (
	headerPrefix    = "X-Aws-Proxy-"
	authHeader      = headerPrefix + "Auth"
	portHeader      = headerPrefix + "Port"
	forceH2Header   = headerPrefix + "Force-H2"
	errorHeader     = headerPrefix + "Error"
	requestIDHeader = "X-Amzn-Requestid"
)

// retryAfter is how many seconds a client waits who was one too many: the requests of a second come back
// within one, and connections when others are closed.
const retryAfter = "1"

// answer is a response the proxy makes itself: plain text, possibly empty.
type answer struct {
	status int
	code   string // value of x-aws-proxy-error
	body   string
}

// Every answer of the proxy's own. Statuses and bodies are those of spec/behaviour.md 7.3, as are the
// codes APP_CONNECT_FAILED and MICROVM_CONNECT_FAILED; the other codes are Dormouse's.
var (
	badRequest = answer{http.StatusBadRequest, "BAD_REQUEST", "Bad request"}

	authMissing   = answer{http.StatusForbidden, "AUTH_MISSING", "Request missing authentication"}
	authFailed    = answer{http.StatusForbidden, "AUTH_FAILED", "Token authentication failed"}
	portDenied    = answer{http.StatusForbidden, "PORT_DENIED", "Access to port denied"}
	ingressDenied = answer{http.StatusForbidden, "INGRESS_DENIED", "Access to port denied"}

	tooManyRequests    = answer{http.StatusTooManyRequests, "REQUEST_RATE_EXCEEDED", "Too many requests"}        // per second, Config.Limits
	tooManyConnections = answer{http.StatusTooManyRequests, "CONNECTION_LIMIT_EXCEEDED", "Too many connections"} // Config.Limits

	shellNeedsWebSocket = answer{http.StatusBadGateway, "SHELL_NEEDS_WEBSOCKET", ""}
	shellDenied         = answer{http.StatusForbidden, "SHELL_DENIED", "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."}

	appConnectFailed     = answer{http.StatusBadGateway, "APP_CONNECT_FAILED", ""}       // nothing listens on the port, or it does not accept
	appResponseFailed    = answer{http.StatusBadGateway, "APP_RESPONSE_FAILED", ""}      // connected, but no valid HTTP response
	appH2Unsupported     = answer{http.StatusBadGateway, "APP_H2_UNSUPPORTED", ""}       // X-aws-proxy-force-h2: true, and the app speaks only HTTP/1.1
	appTLSFailed         = answer{http.StatusBadGateway, "APP_TLS_FAILED", ""}           // the app wants TLS, but the handshake fails
	microvmConnectFailed = answer{http.StatusBadGateway, "MICROVM_CONNECT_FAILED", ""}   // terminating, terminated or unreachable
	microvmSuspended     = answer{http.StatusBadGateway, "MICROVM_SUSPENDED", ""}        // suspended, and no auto-resume
	microvmInterrupted   = answer{http.StatusBadGateway, "MICROVM_INTERRUPTED", ""}      // suspended under the request
	microvmWakeFailed    = answer{http.StatusBadGateway, "MICROVM_WAKE_FAILED", ""}      // restore or /resume failed
	microvmWaitTimeout   = answer{http.StatusBadGateway, "MICROVM_WAIT_TIMEOUT", ""}     // not serving within Config.ParkTimeout
	microvmBusy          = answer{http.StatusBadGateway, "MICROVM_TOO_MANY_WAITING", ""} // too many parked requests
)

// answerFor chooses the answer to a request that did not reach its guest, or got no response there.
func answerFor(err error) answer {
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, guest.ErrForward):
		return appConnectFailed
	case errors.Is(err, ErrGone):
		return microvmConnectFailed
	case errors.Is(err, ErrSuspended):
		return microvmSuspended
	case errors.Is(err, ErrStale):
		return microvmInterrupted
	case errors.Is(err, ErrWakeFailed):
		return microvmWakeFailed
	case errors.Is(err, ErrBusy):
		return microvmBusy
	case errors.Is(err, errParkedTooLong):
		return microvmWaitTimeout
	case errors.Is(err, errDial):
		return microvmConnectFailed
	case errors.Is(err, errRequestBody):
		return badRequest
	case errors.Is(err, errNotHTTP2):
		return appH2Unsupported
	case errors.Is(err, errHandshake) && !endedHandshake(err):
		return appTLSFailed
	default:
		return appResponseFailed
	}
}
