// Package direct runs a guest of an image snapshot in this process and dials it through its own network stack: what an endpoint is measured against.
package direct

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/dormouse-dev/dormouse/internal/guest"
	"github.com/dormouse-dev/dormouse/internal/netstack"
	"github.com/dormouse-dev/dormouse/internal/snapshot"
	"github.com/dormouse-dev/dormouse/internal/vmm"
	"github.com/dormouse-dev/dormouse/internal/vmm/qemu"
)

// Guest is a running guest and its network.
//
// It is restored by the daemon's own VMM driver and told the same by the same agent protocol, so that its
// QEMU and the guest do what those of a microVM of the same image do. What is left out is all that lies
// between a client and the guest's network: TLS, tokens, the proxy, leases, and the daemon as a process
// of its own.
type Guest struct {
	dir     string
	machine vmm.Machine
	stack   *netstack.Stack
	agent   *guest.Client
}

// Start restores the image snapshot in a folder, with a scratch folder for what the guest needs.
func Start(ctx context.Context, image, scratch string, accelerator qemu.Accelerator) (g *Guest, err error) {
	driver, err := qemu.New(ctx, "", accelerator)
	if err != nil {
		return nil, err
	}
	manifest, err := readManifest(image)
	if err != nil {
		return nil, err
	}
	g = new(Guest)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.Close())
		}
	}()
	if g.dir, err = os.MkdirTemp(scratch, "direct-"); err != nil {
		return nil, err
	}
	disk := filepath.Join(g.dir, snapshot.DiskFile)
	if err := snapshot.Clone(ctx, filepath.Join(image, snapshot.DiskFile), disk); err != nil {
		return nil, err
	}
	g.machine, err = driver.Prepare(ctx, vmm.Config{
		Dir: g.dir, CPUs: manifest.Machine.CPUs, MemoryMiB: manifest.Machine.MemoryMiB,
		Memory: filepath.Join(image, snapshot.MemoryFile), Root: filepath.Join(image, snapshot.RootFile),
		Data: disk, Ahead: true,
	})
	if err != nil {
		return nil, err
	}
	return g, g.restore(ctx, filepath.Join(image, snapshot.StateFile), [guest.SecretSize]byte(manifest.Secret))
}

func readManifest(image string) (manifest snapshot.Manifest, err error) {
	text, err := os.ReadFile(filepath.Join(image, "manifest.json"))
	if err != nil {
		return manifest, err
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return manifest, fmt.Errorf("read the snapshot's manifest: %w", err)
	}
	if len(manifest.Secret) != guest.SecretSize {
		return manifest, fmt.Errorf("the snapshot's secret has %d bytes", len(manifest.Secret))
	}
	return manifest, nil
}

// restore does what microvm.session does on a launch.
func (g *Guest) restore(ctx context.Context, stateFile string, secret [guest.SecretSize]byte) error {
	state, err := os.Open(stateFile)
	if err != nil {
		return err
	}
	defer state.Close()
	if err := g.machine.Load(ctx, state); err != nil {
		return err
	}
	card, err := g.machine.Network(ctx)
	if err != nil {
		return err
	}
	if g.stack, err = netstack.New(card, netstack.Config{}); err != nil {
		return err
	}
	g.agent = guest.New(g.stack.DialGuest, secret)
	if err := g.machine.Resume(ctx); err != nil {
		return err
	}
	request := guest.RestoreRequest{Hostname: "direct"}
	for _, random := range [][]byte{request.Secret[:], request.Entropy[:], request.MachineID[:]} {
		if _, err := rand.Read(random); err != nil {
			return err
		}
	}
	_, err = g.agent.Restore(ctx, request)
	return err
}

// PID is the process id of the guest's VMM.
func (g *Guest) PID() int { return g.machine.PID() }

// Dial connects to the app at the guest's own address.
func (g *Guest) Dial(ctx context.Context, port uint16) (net.Conn, error) {
	return g.stack.DialGuest(ctx, port)
}

// DialThroughAgent connects to the app the way the daemon does: the agent in the guest joins the connection
// with one on the guest's loopback.
func (g *Guest) DialThroughAgent(ctx context.Context, port uint16) (net.Conn, error) {
	return g.agent.Forward(ctx, port)
}

// Close ends the guest.
func (g *Guest) Close() (err error) {
	if g.machine != nil {
		err = g.machine.Kill()
	}
	if g.stack != nil {
		err = errors.Join(err, g.stack.Close())
	}
	return errors.Join(err, os.RemoveAll(g.dir))
}
