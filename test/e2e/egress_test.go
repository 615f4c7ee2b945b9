package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	api "github.com/dormouse-dev/dormouse/internal/awsapi/client"
	"github.com/dormouse-dev/dormouse/internal/extension"
)

// officeConfig has a network whose DNS server is the test's, on port %d of the host.
const officeConfig = `networks:
- name: office
  subnets: [subnet-e2e]
  dns: ["127.0.0.1:%d"]
  allow:
  - hosts: ["*.office.example"]
  - cidrs: [10.77.0.0/16]
    ports: [443]
`

const noEgress = "arn:aws:lambda:" + region + ":aws:network-connector:aws-network-connector:NO_EGRESS"

// nameServer answers for every name below office.example with an address that is none of the
// guest's business, and remembers what it was asked.
type nameServer struct {
	port int

	mu    sync.Mutex // guards asked
	asked []string
}

var insideAddrs = map[string]string{
	"loopback.office.example.": "127.0.0.1", "metadata.office.example.": "169.254.169.254", "zero.office.example.": "0.0.0.0",
	"gateway.office.example.": "10.0.2.2", "private.office.example.": "192.168.1.1", "private-two.office.example.": "10.77.0.1", "good.office.example.": "10.77.200.2",
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	n := &nameServer{port: socket.LocalAddr().(*net.UDPAddr).Port}
	server := &dns.Server{PacketConn: socket, Handler: n}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = socket.Close() })
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	reply := new(dns.Msg).SetReply(query)
	q := query.Question[0]
	n.mu.Lock()
	n.asked = append(n.asked, q.Name)
	n.mu.Unlock()
	if q.Qtype == dns.TypeA {
		addr, known := insideAddrs[strings.ToLower(q.Name)]
		if !known {
			addr = "203.0.113.5"
		}
		if record, err := dns.NewRR(q.Name + " 60 IN A " + addr); err == nil {
			reply.Answer = append(reply.Answer, record)
		}
	}
	_ = w.WriteMsg(reply)
}

func (n *nameServer) names() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

// probeArtifact is the workbench's app, built by a Dockerfile that looks a name up.
func probeArtifact(t *testing.T) []byte {
	t.Helper()
	app, err := os.ReadFile(filepath.Join(workbenchFolder, "app.py"))
	require.NoError(t, err)
	return zipFiles(t, map[string]string{"app.py": string(app), "Dockerfile": `FROM python:3-slim
RUN python3 -c "import socket; socket.getaddrinfo('deb.debian.org', 80)" || true
COPY app.py /srv/
WORKDIR /srv
CMD ["python3", "app.py"]
`})
}

func TestWhatAMicroVMMayReach(t *testing.T) {
	t.Parallel()
	h := ownHost(t)
	names := newNameServer(t)
	require.NoError(t, os.WriteFile(filepath.Join(h.Dir, "dormouse.yaml"), fmt.Appendf(nil, officeConfig, names.port), 0o600))
	require.NoError(t, h.Stop())
	require.NoError(t, h.Start())

	image := h.build(t, probeArtifact(t), object{"hooks": allHooks, "egressNetworkConnectors": []string{noEgress}})
	require.Contains(t, h.buildLog(t, image.arn), "==> The build reaches no network")
	require.Contains(t, h.buildLog(t, image.arn), "==> Warning: network: refused to resolve deb.debian.org: no-egress")
	connector := h.connectorInto(t, "subnet-e2e")
	takeRoom(t, 2)
	sealed := h.runUntilRunning(t, image.arn, nil) // as its image
	office := h.runUntilRunning(t, image.arn, object{"egressNetworkConnectors": []string{connector}})
	internet := []string{"arn:aws:lambda:" + region + ":aws:network-connector:aws-network-connector:INTERNET_EGRESS"}
	require.Error(t, h.api.Try("RunMicrovm", object{"imageIdentifier": image.arn, "egressNetworkConnectors": append(internet, noEgress)}, nil))

	inside := append(h.insidePorts(t, sealed.at, office.at), "loopback.office.example:80", "metadata.office.example:80",
		"zero.office.example:8080", "gateway.office.example:53", "private.office.example:443", "other.example:443", "203.0.113.5:443")
	for _, v := range []*microVM{sealed, office} {
		question, err := json.Marshal(append(inside, "127.0.0.1:8080")) // itself: the question works
		require.NoError(t, err)
		var reached []string
		decode(t, v.ask(http.MethodPost, "/dial", string(question)), &reached)
		require.Equal(t, []string{"127.0.0.1:8080"}, reached, "of %v", inside)
	}
	for _, name := range names.names() {
		require.True(t, strings.HasSuffix(strings.ToLower(name), ".office.example."), "%s was asked for", name)
	}
	require.NotEmpty(t, names.names())

	requireRefused(t, office, "refused to resolve other.example: not-listed", "refused an address of loopback.office.example: loopback",
		"refused an address of metadata.office.example: link-local", "refused an address of private.office.example: private",
		"refused 203.0.113.5:443: not-listed")
	requireRefused(t, sealed, "refused to resolve other.example: no-egress", "refused 203.0.113.5:443: no-egress")

	d := inspected(t, office)
	require.Equal(t, awsapi.List[string]{"office"}, d.Networks)
	require.Positive(t, d.Traffic.Denied)
	require.Greater(t, d.Traffic.IngressIn, uint64(100))
	require.Greater(t, d.Traffic.IngressOut, uint64(10))
	office.suspend()
	slept := inspected(t, office).Traffic
	require.GreaterOrEqual(t, slept.IngressIn, d.Traffic.IngressIn)
	require.NoError(t, h.Stop())
	require.NoError(t, h.Start())
	require.Equal(t, slept, inspected(t, office).Traffic, "a restart of the daemon forgets nothing")
	office.call("ResumeMicrovm")
	office.await("RUNNING")
	require.GreaterOrEqual(t, inspected(t, office).Traffic.IngressIn, slept.IngressIn)
}

// connectorInto makes a network connector that leads into the networks with a subnet, and returns its ARN.
func (h *host) connectorInto(t *testing.T, subnet string) (arn string) {
	t.Helper()
	client := api.New(h.API(), region, h.env["AWS_ACCESS_KEY_ID"], h.env["AWS_SECRET_ACCESS_KEY"])
	connector, err := client.CreateNetworkConnector(t.Context(), &awsapi.CreateNetworkConnectorInput{
		Name: subnet, ClientToken: new(subnet), OperatorRole: new("arn:aws:iam::" + account + ":role/operator"),
		Configuration: awsapi.NetworkConnectorConfiguration{VpcEgressConfiguration: &awsapi.NetworkConnectorVpcEgressConfiguration{
			SubnetIds: []string{subnet}, NetworkProtocol: new(awsapi.NetworkProtocolIPv4),
			AssociatedComputeResourceTypes: []awsapi.ComputeResourceType{awsapi.ComputeResourceTypeMicroVm},
		}},
	})
	require.NoError(t, err)
	return connector.Arn
}

// insidePorts are the daemon's ports and those of endpoints, on every address a guest could think of.
func (h *host) insidePorts(t *testing.T, endpoints ...string) (all []string) {
	t.Helper()
	var ports []string
	for _, variable := range []string{"AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "AWS_ENDPOINT_URL_S3"} {
		at, err := url.Parse(h.env[variable])
		require.NoError(t, err)
		ports = append(ports, at.Port())
	}
	hosts := []string{"127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "10.0.2.2", "10.0.2.3", "169.254.169.254", "localhost"}
	for _, endpoint := range endpoints {
		host, port, err := net.SplitHostPort(endpoint)
		require.NoError(t, err)
		hosts, ports = append(hosts, host), append(ports, port)
	}
	interfaces, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, address := range interfaces {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			hosts = append(hosts, network.IP.String())
		}
	}
	slices.Sort(ports)
	for _, port := range slices.Compact(ports) {
		for _, host := range hosts {
			all = append(all, host+":"+port) // as workbench's /dial takes them apart
		}
	}
	return all
}

// requireRefused waits for events of refusals.
func requireRefused(t *testing.T, v *microVM, texts ...string) {
	t.Helper()
	eventually(t, stateLimit, "events of refusals", func() (bool, any) {
		var seen []string
		for _, e := range v.events("egress") {
			text, _, _ := strings.Cut(e.Detail, " (")
			seen = append(seen, text)
		}
		return !slices.ContainsFunc(texts, func(text string) bool { return !slices.Contains(seen, text) }), seen
	})
}

// inspected is what `dormouse inspect` tells of a VM beyond the AWS API.
func inspected(t *testing.T, v *microVM) extension.MicroVM {
	t.Helper()
	text, err := v.host.Command(t.Context(), "inspect", v.id, "--output", "json")
	require.NoError(t, err)
	var out struct{ Details extension.MicroVM }
	require.NoError(t, json.Unmarshal(text, &out))
	return out.Details
}
