package mirror

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/distribution/reference"
	"github.com/jonboulle/clockwork"
)

const (
	probeTimeout = 2 * time.Second
	// probeEvery is how long an answer is believed: a build takes a minute, and a laptop that
	// comes back online should not need a restart of the daemon.
	probeEvery = 3 * time.Minute
)

// Upstream is the registry that image names without a host mean. It is asked now and then
// whether it can be reached.
type Upstream struct {
	url    string // of its API's root; "" never answers
	client *http.Client
	clock  clockwork.Clock

	// mu guards the answer, and makes callers wait for a probe under way.
	mu        sync.Mutex
	asked     time.Time
	reachable bool
}

// Offline is an upstream that is never reachable, without asking: the mirror always serves.
func Offline() *Upstream { return &Upstream{} }

// DefaultUpstream is the registry that the reference library, and so BuildKit, takes for the
// host of a name that has none.
func DefaultUpstream(clock clockwork.Clock) (*Upstream, error) {
	named, err := reference.ParseNormalizedNamed("any")
	if err != nil {
		return nil, fmt.Errorf("default registry: %w", err)
	}
	host, err := docker.DefaultHost(reference.Domain(named))
	if err != nil {
		return nil, fmt.Errorf("default registry: %w", err)
	}
	return NewUpstream("https://"+host+"/v2/", clock), nil
}

// NewUpstream is a registry by the URL of its API's root.
func NewUpstream(url string, clock clockwork.Clock) *Upstream {
	return &Upstream{
		url:   url,
		clock: clock,
		client: &http.Client{
			// No proxy: builders connect directly, so what only the host's proxy reaches does
			// not count.
			Transport:     &http.Transport{Proxy: nil, DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// Reachable tells whether the registry answered when it was last asked, and asks when that was
// a while ago. It takes two seconds at most.
func (u *Upstream) Reachable(ctx context.Context) bool {
	if u.url == "" {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.asked.IsZero() || u.clock.Since(u.asked) >= probeEvery {
		reachable := u.probe(ctx)
		if ctx.Err() != nil {
			return reachable // a caller that gave up has learnt nothing
		}
		u.reachable, u.asked = reachable, u.clock.Now()
	}
	return u.reachable
}

func (u *Upstream) probe(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.url, nil)
	if err != nil {
		return false
	}
	response, err := u.client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	// 401 is how a registry asks for its token; other answers come from something in between.
	return response.StatusCode == http.StatusOK || response.StatusCode == http.StatusUnauthorized
}
