package microvm

import (
	"net/http"
	"net/netip"
	"time"

	"github.com/dormouse-dev/dormouse/internal/netstack"
)

// mirrorConnections is more than BuildKit opens at once.
const mirrorConnections = 256

// network is a guest network with the registry mirror in it.
func (b *Builders) network() netstack.Config {
	network := b.m.cfg.Network
	if b.cfg.Mirror != nil {
		network.Services = map[netip.AddrPort]netstack.Handler{mirrorAddr: serveHTTP(mirrorConnections, func() *http.Server {
			return &http.Server{Handler: b.cfg.Mirror, ReadHeaderTimeout: 10 * time.Second}
		})}
	}
	return network
}
