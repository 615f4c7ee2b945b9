package endpoint

import (
	"errors"
	"net/http"
	"strings"
)

// The platform's own WebSocket subprotocols (spec/behaviour.md 7.4): browsers cannot set headers on
// a handshake, so the token and the port travel as names of subprotocols.
const (
	subprotocolHeader = "Sec-Websocket-Protocol"

	marker      = "lambda-microvms"
	tokenPrefix = marker + ".authentication."
	portPrefix  = marker + ".port."
)

var errBadSubprotocol = errors.New("lambda-microvms subprotocols contradict each other")

// offer is what a client offered as subprotocols, the platform's taken apart from the app's.
type offer struct {
	marker bool
	token  string // "" = none
	port   string // as sent, "" = none
	app    string // value for the guest, in the client's order; "" = none
}

// parseOffer reads the values of Sec-WebSocket-Protocol. Everything in the platform's name space is
// kept from the guest. A second token or port is an error, not a choice.
func parseOffer(values []string) (offer, error) {
	var o offer
	var app []string
	for _, value := range values {
		for name := range strings.SplitSeq(value, ",") {
			name = strings.Trim(name, " \t")
			switch {
			case name == "":
			case name == marker:
				o.marker = true
			case strings.HasPrefix(name, tokenPrefix):
				if o.token != "" {
					return offer{}, errBadSubprotocol
				}
				o.token = name[len(tokenPrefix):]
			case strings.HasPrefix(name, portPrefix):
				if o.port != "" {
					return offer{}, errBadSubprotocol
				}
				// An empty port must not read as "no port given".
				if o.port = name[len(portPrefix):]; o.port == "" {
					return offer{}, errBadSubprotocol
				}
			case strings.HasPrefix(name, marker+"."):
			default:
				app = append(app, name)
			}
		}
	}
	o.app = strings.Join(app, ", ")
	return o, nil
}

// isWebSocket tells whether r asks for a WebSocket over HTTP/1.1.
func isWebSocket(r *http.Request) bool {
	return strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}
