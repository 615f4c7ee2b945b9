package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The other host, which is a network namespace behind a pair of virtual cards. Guests never reach addresses of
// the host itself, so what they may reach has to be another one.
const (
	nearAddr = "10.77.200.1/30"
	farAddr  = "10.77.200.2"
)

// outsideConfig has a network whose DNS server is the test's, on port %d of the host.
const outsideConfig = `networks:
- name: outside
  subnets: [subnet-outside]
  dns: ["127.0.0.1:%d"]
  allow:
  - hosts: ["good.office.example"]
    cidrs: [` + farAddr + `/32]
    ports: [443]
  - cidrs: [` + farAddr + `/32]
    ports: [8080]
`

// apartVariable says that a test runs in a network namespace of its own.
const apartVariable = "DORMOUSE_E2E_APART"

// apart runs the calling test once more, in a process with a network namespace of its own, where it may make
// cards; anybody may, in a user namespace of his own. It returns true in that process. Nothing is left behind
// by a test that is killed: namespaces end with their processes.
func apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(apartVariable) != "" {
		return true
	}
	shared.on(t) // the SDK is installed with it, which takes a network with an outside
	self, err := os.Executable()
	require.NoError(t, err)
	run := exec.CommandContext(t.Context(), self, "-test.run", "^"+t.Name()+"$", "-test.v", "-test.count=1")
	run.Env = append(os.Environ(), apartVariable+"=1")
	run.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if user := os.Geteuid(); user != 0 {
		run.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		run.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: user, Size: 1}}
		run.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	output, err := run.CombinedOutput()
	require.NoError(t, err, "%s", output)
	require.Contains(t, string(output), "--- PASS: "+t.Name()+" (", "it ran")
	return false
}

// farHost makes the other host.
func farHost(t *testing.T) netns.NsHandle {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	require.NoError(t, err)
	defer here.Close()
	far, err := netns.New() // and this thread is in it
	require.NoError(t, err)
	t.Cleanup(func() { _ = far.Close() }) // its last reference: the cards go too
	require.NoError(t, netns.Set(here))

	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "dormouse-near"}, PeerName: "dormouse-far", PeerNamespace: netlink.NsFd(far)}
	require.NoError(t, netlink.LinkAdd(pair))
	loopback, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(loopback))
	near, err := netlink.LinkByName(pair.Name)
	require.NoError(t, err)
	bringUp(t, &netlink.Handle{}, near, nearAddr)
	inside, err := netlink.NewHandleAt(far)
	require.NoError(t, err)
	defer inside.Close()
	card, err := inside.LinkByName(pair.PeerName)
	require.NoError(t, err)
	bringUp(t, inside, card, farAddr+"/30")
	return far
}

func bringUp(t *testing.T, at *netlink.Handle, card netlink.Link, address string) {
	t.Helper()
	addr, err := netlink.ParseAddr(address)
	require.NoError(t, err)
	require.NoError(t, at.AddrAdd(card, addr))
	require.NoError(t, at.LinkSetUp(card))
}

// listenAt listens on the other host: a socket stays in the namespace it was made in.
func listenAt(t *testing.T, far netns.NsHandle, port int) net.Listener {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	here, err := netns.Get()
	require.NoError(t, err)
	defer here.Close()
	require.NoError(t, netns.Set(far))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("%s:%d", farAddr, port))
	require.NoError(t, netns.Set(here)) // first: nothing else may run over there
	require.NoError(t, err)
	return listener
}

// serveAt serves over TLS on the other host's port 443, and without on 8080.
func serveAt(t *testing.T, far netns.NsHandle, handler http.Handler) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{certificate}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}
	for _, listener := range []net.Listener{tls.NewListener(listenAt(t, far, 443), config), listenAt(t, far, 8080)} {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: httpLimit}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { _ = server.Close() })
	}
}

// fetchLike prints what a request gets that names its server so, at an address that may be another's.
const fetchLike = `
import http.client, ssl, sys
host, at, port, name = sys.argv[1:5]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
class Connection(http.client.HTTPSConnection):
    def connect(self):
        http.client.HTTPConnection.connect(self)
        self.sock = context.wrap_socket(self.sock, server_hostname=name or None)
try:
    made = Connection if port == "443" else http.client.HTTPConnection
    connection = made(at, int(port), timeout=20)
    connection.request("GET", "/", headers={"Host": host})
    print(connection.getresponse().read().decode())
except OSError as e:
    print("refused", type(e).__name__)
`

// follow prints where a redirect leads.
const follow = `
import urllib.request, sys
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=20).read().decode())
except OSError as e:
    print("refused", e)
`

func TestAMicroVMReachesWhatItsNetworkAllowsAndNothingBesides(t *testing.T) {
	t.Parallel()
	if !apart(t) {
		return
	}
	far := farHost(t)
	h := ownHost(t)
	daemonAPI := h.API()
	serveAt(t, far, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/inside" {
			http.Redirect(w, r, daemonAPI+"/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, "reached as "+r.Host)
	}))
	names := newNameServer(t)
	require.NoError(t, os.WriteFile(filepath.Join(h.Dir, "dormouse.yaml"), fmt.Appendf(nil, outsideConfig, names.port), 0o600))
	require.NoError(t, h.Stop())
	require.NoError(t, h.Start())
	image := h.counterImage(t)
	connector := h.connectorInto(t, "subnet-outside")
	takeRoom(t, 1)
	v := h.runUntilRunning(t, image.arn, object{
		"egressNetworkConnectors": []string{connector}, "ingressNetworkConnectors": withShell["ingressNetworkConnectors"], "idlePolicy": wakesOnTraffic,
	})
	const good = "good.office.example"
	python := func(program string, args ...string) string {
		t.Helper()
		text, err := h.Program(t.Context(), "exec", append([]string{v.id, "--", "python3", "-c", program}, args...)...).Output()
		require.NoError(t, err)
		return string(text)
	}
	require.Equal(t, "reached as "+good+"\n", python(fetchLike, good, good, "443", good), "by its name")
	require.Equal(t, "reached as anything\n", python(fetchLike, "anything", farAddr, "8080", ""), "by its address")
	require.Regexp(t, "^refused", python(fetchLike, good, good, "443", "evil.office.example"), "the allowed address under another name")
	require.Regexp(t, "^refused", python(fetchLike, good, good, "443", ""), "without a name")
	require.Regexp(t, "^refused", python(fetchLike, good, farAddr, "8081", ""), "another port")
	require.Regexp(t, "^refused", python(follow, "http://"+farAddr+":8080/inside"), "a redirect to the daemon")

	v.suspend()
	require.Equal(t, "reached as "+good+"\n", python(fetchLike, good, good, "443", good), "after a wake")
	moved := inspected(t, v).Traffic
	require.Positive(t, moved.EgressIn)
	require.Positive(t, moved.EgressOut)
}
