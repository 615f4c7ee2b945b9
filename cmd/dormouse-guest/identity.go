package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// identity is what makes two VMs of one memory snapshot different: names and machine-id.
// The files are on a tmpfs and bind-mounted into the app's /etc, so that changing them after a
// restore writes to no disk. They stay open: a restore only has to write.
type identity struct {
	hostname, hosts, resolv, machineID *liveFile

	mu      sync.Mutex // guards scratch, and the content of the files
	scratch []byte     // what is about to be written
}

// openIdentity makes the files with the names of a machine nobody has named yet.
func openIdentity() (*identity, error) {
	id := &identity{scratch: make([]byte, 0, 256)}
	for name, file := range id.files() {
		var err error
		if *file, err = makeLiveFile(filepath.Join(runDir, name)); err != nil {
			return nil, err
		}
	}
	if err := id.resolv.set([]byte("nameserver " + guest.ResolverIP + "\n")); err != nil {
		return nil, err
	}
	var machine [16]byte
	rand.Read(machine[:])
	if err := id.setMachineID(machine); err != nil {
		return nil, err
	}
	return id, id.setHostname("localhost")
}

func (id *identity) files() map[string]**liveFile {
	return map[string]**liveFile{
		"hostname": &id.hostname, "hosts": &id.hosts, "resolv.conf": &id.resolv, "machine-id": &id.machineID,
	}
}

func (id *identity) setHostname(name string) error {
	if name == "" || len(name) > guest.MaxHostname {
		return errors.New("host name is empty or too long")
	}
	id.mu.Lock()
	defer id.mu.Unlock()
	if errno := rawSetHostname(name); errno != 0 {
		return errors.New("set the host name: " + errno.Error())
	}
	const before = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n" + guest.GuestIP + "\t"
	text := append(append(append(id.scratch[:0], before...), name...), '\n')
	if err := id.hosts.set(text); err != nil {
		return err
	}
	return id.hostname.set(text[len(before):])
}

func (id *identity) setMachineID(machine [16]byte) error {
	id.mu.Lock()
	defer id.mu.Unlock()
	text := hex.AppendEncode(id.scratch[:0], machine[:])
	return id.machineID.set(append(text, '\n'))
}

// mountInto shows the files in the /etc of the app's root.
func (id *identity) mountInto(root *imageRoot) error {
	if err := root.mkdirAll("etc", 0o755); err != nil {
		return err
	}
	for name := range id.files() {
		if err := root.bindFile(filepath.Join(runDir, name), "etc/"+name); err != nil {
			return fmt.Errorf("mount /etc/%s: %w", name, err)
		}
	}
	return nil
}

// liveFile is an open file whose content is replaced in place, because bind mounts show its inode.
type liveFile struct {
	name string
	fd   int
	size int
}

func makeLiveFile(path string) (*liveFile, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_TRUNC|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return &liveFile{name: path, fd: fd}, nil
}

func (f *liveFile) set(content []byte) error {
	errno := rawPwrite(f.fd, content)
	if errno == 0 && len(content) < f.size {
		errno = rawTruncate(f.fd, len(content))
	}
	if errno != 0 {
		return &os.PathError{Op: "write", Path: f.name, Err: errno}
	}
	f.size = len(content)
	return nil
}
