package main

import (
	"errors"
	"io"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// forward joins the host's connection with one to the app.
func forward(host *net.TCPConn, port uint16) {
	app, err := dialLoopback(port)
	if err != nil {
		refuse(host, err)
		return
	}
	defer app.Close()
	if _, err := host.Write([]byte{byte(guest.ForwardOK)}); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		join(host, app)
	}()
	join(app, host)
	<-done
}

// join copies one direction and passes its end on. Between two TCP connections io.Copy is splice(2):
// the bytes stay in the kernel.
func join(to, from *net.TCPConn) {
	if _, err := io.Copy(to, from); err != nil {
		// One side is broken: end the other direction too, it may wait for ever.
		to.Close()
		from.Close()
		return
	}
	to.CloseWrite()
}

func dialLoopback(port uint16) (*net.TCPConn, error) {
	conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback4, port)))
	if err == nil || !errors.Is(err, unix.ECONNREFUSED) {
		return conn, err
	}
	return net.DialTCP("tcp6", nil, net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback6, port)))
}

// refuse tells why there is no connection. What the host sent already is read and thrown away:
// closing over unread bytes would reset the connection and with it the answer.
func refuse(host *net.TCPConn, err error) {
	status := guest.ForwardFailed
	if errors.Is(err, unix.ECONNREFUSED) {
		status = guest.ForwardRefused
	}
	if _, err := host.Write([]byte{byte(status)}); err != nil {
		return
	}
	host.CloseWrite()
	drain(host)
}
