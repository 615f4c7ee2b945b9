package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// keptAlive is the VM with a client that keeps its connections.
func (v *microVM) keptAlive() *microVM {
	other := *v
	other.http = &http.Client{Timeout: httpLimit, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: v.host.roots, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 10,
	}}
	return &other
}

func TestHundredsOfRequestsAtASuspendedMicroVMAreAnsweredAfterOneWakeInOrder(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.counterImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	nonce := v.makeNonce()
	const clients, each = 10, 50 // fewer than one HTTP/2 connection may have open
	const requests = clients * each
	var waves []*microVM
	for range clients {
		waves = append(waves, v.overHTTP2())
		waves[len(waves)-1].ask(http.MethodGet, "/time", "") // makes the connection
	}
	v.suspend()

	began := time.Now()
	order := make([]int, requests) // by arrival: as how manieth the app counted it
	failures := make(chan error, requests)
	for i, client := range waves {
		for j := range each {
			go func() { failures <- client.countInto(&order[i*each+j], nonce) }()
		}
		time.Sleep(50 * time.Millisecond) // for the next wave to come behind this one
	}
	for range requests {
		require.NoError(t, <-failures)
	}
	t.Logf("%d requests answered after %v", requests, time.Since(began).Round(time.Millisecond))
	v.requireEvents("resume", 1)
	require.Equal(t, requests+1, v.count().Counter, "each request reached the app once")
	sum := func(part []int) (sum int) {
		for _, n := range part {
			sum += n
		}
		return sum
	}
	// An app of threads has no order, and a busy host little; at random the halves would differ by less than this.
	const half = requests / 2
	require.Greater(t, sum(order[half:])-sum(order[:half]), 30*half, "who came first was served first: %v", order)
}

// countInto is count for other goroutines than the test's.
func (v *microVM) countInto(counter *int, nonce string) error {
	got, err := v.try(http.MethodGet, "/", "", "X-aws-proxy-auth", v.token)
	if err != nil {
		return err
	}
	var c counted
	if err := json.Unmarshal([]byte(got.body), &c); err != nil || got.StatusCode != http.StatusOK || c.Nonce != nonce {
		return fmt.Errorf("%s %s %q: %w", got.Status, got.Header.Get("X-Aws-Proxy-Error"), got.body, err)
	}
	*counter = c.Counter
	return nil
}

// The app has half of a POST when its VM is to be suspended; nobody may send that again.
func TestARequestInFlightEndsBeforeItsMicroVMIsSuspended(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	require.Equal(t, "warm", v.ask(http.MethodPost, "/echo", "warm"))
	v.suspend()
	for _, phase := range v.requireEvents("suspend", 2)[1].Phases {
		require.NotEqual(t, "drain", phase.Name, "there was nothing to wait for")
	}
	v.ask(http.MethodPost, "/echo", "")

	body, rest := io.Pipe()
	ended := make(chan *http.Response, 1)
	go func() {
		defer close(ended)
		ended <- v.open(http.MethodPost, "/mirror", body)
	}()
	write(t, rest, "first half")
	response := <-ended
	require.NotNil(t, response)
	defer response.Body.Close()
	v.call("SuspendMicrovm")
	write(t, rest, ", second half")
	require.NoError(t, rest.Close())
	got, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, "first half, second half", string(got))

	require.Equal(t, "later", v.ask(http.MethodPost, "/echo", "later"), "and wakes it")
	var names []string
	for _, phase := range v.requireEvents("suspend", 4)[3].Phases {
		names = append(names, phase.Name)
	}
	require.Contains(t, names, "drain")
}

// Clients send without pause while their VM is suspended under them again and again: none of their requests
// may fail, although most are POST, which nobody may repeat.
func TestNoRequestIsLostToSuspendsUnderSteadyTraffic(t *testing.T) {
	t.Parallel()
	h := shared.on(t)
	image := h.workbenchImage(t)
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{"idlePolicy": wakesOnTraffic})
	const rounds = 10

	stop, stopped := make(chan struct{}), sync.WaitGroup{}
	var sent atomic.Int64
	clients := []*microVM{v, v.keptAlive(), v.keptAlive(), v.overHTTP2()}
	failures := make(chan error, len(clients))
	for _, client := range clients {
		stopped.Go(func() { failures <- client.echoUntil(stop, &sent) })
	}
	for round := 1; round <= rounds; round++ {
		before := sent.Load()
		v.call("SuspendMicrovm")
		v.requireEvents("resume", round) // by their traffic
		v.await("RUNNING")
		var kept struct {
			Held  bool
			Round int
		}
		decode(t, v.ask(http.MethodPost, "/verify", ""), &kept)
		require.True(t, kept.Held, "memory and disk, round %d", round)
		require.Equal(t, round, kept.Round)
		eventually(t, stateLimit, "traffic", func() (bool, any) { now := sent.Load(); return now >= before+20, now })
	}
	close(stop)
	stopped.Wait()
	for range clients {
		require.NoError(t, <-failures)
	}
	v.requireEvents("resume", rounds)
	t.Logf("%d requests over %d suspends", sent.Load(), rounds)
}

// echoUntil sends random payloads and compares what comes back.
func (v *microVM) echoUntil(stop <-chan struct{}, sent *atomic.Int64) error {
	payload := make([]byte, 20_000)
	for n := 0; ; n++ {
		select {
		case <-stop:
			return nil
		default:
		}
		part := payload[:n*977%len(payload)]
		if _, err := rand.Read(part); err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, "https://"+v.at+"/echo", bytes.NewReader(part))
		if err != nil {
			return err
		}
		request.Header.Set("X-aws-proxy-auth", v.token)
		response, err := v.http.Do(request)
		if err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !bytes.Equal(body, part) {
			return fmt.Errorf("request %d: %s %s, %d of %d bytes as they were sent: %w", n, response.Status,
				response.Header.Get("X-Aws-Proxy-Error"), len(body), len(part), err)
		}
		sent.Add(1)
	}
}
