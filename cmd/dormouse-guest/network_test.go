package main

import (
	"encoding/hex"
	"net"
	"net/netip"
	"testing"
)

// The bytes are what `ip address add`, `ip route add default` and `ip neigh replace` of iproute2 send
// for the same (little endian), but for the sequence number.
func TestNetlinkRequestsAreWellFormed(t *testing.T) {
	ip, gateway := netip.MustParseAddr("10.0.2.15"), netip.MustParseAddr("10.0.2.2")
	mac, _ := net.ParseMAC("52:55:0a:00:02:02")
	for name, test := range map[string]struct {
		got  []byte
		want string
	}{
		"link up": {linkUp(2), "20000000" + "1000" + "0500" + "01000000" + "00000000" +
			"0000" + "0000" + "02000000" + "01000000" + "01000000"},
		"address": {addAddress(2, ip, 24), "20000000" + "1400" + "0506" + "01000000" + "00000000" +
			"02180000" + "02000000" + "0800" + "0200" + "0a00020f"},
		"route": {addDefaultRoute(2, gateway), "2c000000" + "1800" + "0506" + "01000000" + "00000000" +
			"02000000" + "fe030001" + "00000000" + "0800" + "0500" + "0a000202" + "0800" + "0400" + "02000000"},
		"neighbour": {addNeighbour(2, gateway, mac), "30000000" + "1c00" + "0505" + "01000000" + "00000000" +
			"02000000" + "02000000" + "8000" + "0000" + "0800" + "0100" + "0a000202" + "0a00" + "0200" + "52550a000202" + "0000"},
	} {
		if got := hex.EncodeToString(test.got); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}
