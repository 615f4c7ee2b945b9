package netstack

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// knownAddrs bounds how many addresses a guest can make the daemon remember; those of more are
	// forgotten, the longest unused first.
	knownAddrs = 512
	// namesPerAddr bounds the names of one address: the newest. Content networks have thousands.
	namesPerAddr = 4
	// nameTTL is how long an address stays open after it was last an answer. It is much longer than
	// answerTTL: programs keep addresses, and what they then send must name the host all the same.
	nameTTL = time.Hour
)

// Names are what a guest was told that addresses are called. It outlives the stacks of a VM, as what
// the guest remembers does. The zero value knows none.
type Names struct {
	mu    sync.Mutex // guards all below
	known map[netip.Addr]*knownAddr
	uses  uint64
}

type knownAddr struct {
	names []knownName // oldest first
	used  uint64
}

type knownName struct {
	name  string
	until time.Time
}

// learn remembers an answer.
func (n *Names) learn(a netip.Addr, name string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = make(map[netip.Addr]*knownAddr)
	}
	at := n.known[a]
	if at == nil {
		if len(n.known) >= knownAddrs {
			n.forgetOne()
		}
		at = new(knownAddr)
		n.known[a] = at
	}
	n.use(at)
	at.names = slices.DeleteFunc(at.names, func(k knownName) bool { return k.name == name || !now.Before(k.until) })
	if len(at.names) == namesPerAddr {
		at.names = slices.Delete(at.names, 0, 1)
	}
	at.names = append(at.names, knownName{strings.Clone(name), now.Add(nameTTL)})
}

// of returns the names of an address that still count, newest first.
func (n *Names) of(a netip.Addr, now time.Time) (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.known[a]
	if at == nil {
		return nil
	}
	n.use(at)
	for _, k := range slices.Backward(at.names) {
		if now.Before(k.until) {
			names = append(names, k.name)
		}
	}
	return names
}

// use and forgetOne are called with mu held.
func (n *Names) use(at *knownAddr) {
	n.uses++
	at.used = n.uses
}

func (n *Names) forgetOne() {
	var oldest netip.Addr
	for a, at := range n.known {
		if !oldest.IsValid() || at.used < n.known[oldest].used {
			oldest = a
		}
	}
	delete(n.known, oldest)
}

// plainName is a name of a question as rules have it: in lower case, without the last dot. Others
// than letters, digits and a few signs are not for rules, whatever they look like when written down.
func plainName(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	odd := strings.ContainsFunc(name, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '.' && r != '_'
	})
	return name, name != "" && !odd
}
