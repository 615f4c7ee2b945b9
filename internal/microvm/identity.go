package microvm

import (
	"maps"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Identity is who the code in a guest is.
type Identity struct {
	Name      string // microVM id, or BuildName
	AccountID string
	Region    string
	ImageARN  string
	Role      string // ARN of the execution role, in builds of the build role; "" none
}

// BuildName is the name of the guests of a build.
func BuildName(buildID string) string { return "build-" + buildID }

// IdentityOf is who the code in a microVM is.
func IdentityOf(rec store.MicroVM) Identity {
	return Identity{Name: rec.ID, AccountID: rec.AccountID, Region: rec.Region, ImageARN: rec.ImageARN, Role: rec.ExecutionRoleARN}
}

// metadataAddr is where guests find the metadata service, as on EC2 (spec/behaviour.md 11).
var metadataAddr = netip.MustParseAddrPort("169.254.169.254:80")

// Bounds of the metadata service of one guest, which needs a handful of connections. How long an
// answer may take is longer than a role's credentials may.
const (
	metadataConnections = 32
	metadataHead        = 16 << 10 // bytes of a request's head; net/http adds 4 KiB
	metadataReading     = 10 * time.Second
	metadataAnswering   = 6 * time.Minute
	metadataIdle        = time.Minute
)

// metadata is the metadata service of a guest, nil if there is none. It is made when the guest first
// asks: a launch does nothing for it.
func (m *Manager) metadata(who Identity) netstack.Handler {
	if m.cfg.Metadata == nil {
		return nil
	}
	made := sync.OnceValue(func() http.Handler { return m.cfg.Metadata(who) })
	return serveHTTP(metadataConnections, func() *http.Server {
		return &http.Server{
			Handler: made(), MaxHeaderBytes: metadataHead, ReadTimeout: metadataReading,
			WriteTimeout: metadataAnswering, IdleTimeout: metadataIdle,
		}
	})
}

// identified adds a metadata service to a guest's network. It is there whatever the policy says.
func identified(network netstack.Config, service netstack.Handler) netstack.Config {
	if service == nil {
		return network
	}
	services := map[netip.AddrPort]netstack.Handler{metadataAddr: service}
	maps.Copy(services, network.Services)
	network.Services = services
	return network
}
