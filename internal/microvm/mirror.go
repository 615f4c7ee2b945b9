package microvm

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// mirrorConnections is more than BuildKit opens at once.
const mirrorConnections = 256

// network is a guest network with the registry mirror in it that a guest of that policy needs.
func (b *Builders) network(policy netstack.Policy) netstack.Config {
	network, mirror := b.m.cfg.Network, b.cfg.Mirror
	if policy.Sealed() {
		mirror = b.cfg.Local
	}
	if mirror != nil {
		network.Services = map[netip.AddrPort]netstack.Handler{mirrorAddr: serveHTTP(mirrorConnections, func() *http.Server {
			return &http.Server{Handler: mirror, ReadHeaderTimeout: 10 * time.Second}
		})}
	}
	return network
}
