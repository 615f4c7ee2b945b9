package endpoint

import "net/http"

// Flow control of HTTP/2: how much may be on its way before it is read, in bytes. The original's 64 KiB make
// an upload over 93 ms crawl at 0.6 MB/s (spec/behaviour.md 7.5); a stream's megabyte carries 11 MB/s
// there, more than a VM of 4 GiB may use.
const (
	clientStreamWindow = 1 << 20
	clientConnWindow   = 3 << 20 // net/http takes less than 4 MiB
	guestStreamWindow  = 1 << 20
)

// clientHTTP2 is for connections with clients.
func clientHTTP2() *http.HTTP2Config {
	return &http.HTTP2Config{
		MaxConcurrentStreams:      maxStreams,
		MaxReceiveBufferPerStream: clientStreamWindow, MaxReceiveBufferPerConnection: clientConnWindow,
	}
}

// guestWindows is for connections with apps. It bounds what a response can put into the daemon's memory
// while its client does not read. The connection's window stays practically without bound (1 GiB), because a few
// such clients must not hold up all others, who share it.
func guestWindows() *http.HTTP2Config {
	return &http.HTTP2Config{MaxReceiveBufferPerStream: guestStreamWindow}
}
