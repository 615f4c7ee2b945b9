package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/dormouse-dev/dormouse/internal/guest"
)

// identity is what makes two VMs of one memory snapshot different: names and machine-id.
// The files are on a tmpfs and bind-mounted into the app's /etc, so that changing them after a
// restore writes to no disk. They stay open: a restore only has to write.
type identity struct {
	hostname  *os.File
	hosts     *os.File
	resolv    *os.File
	machineID *os.File
}

// openIdentity makes the files with the names of a machine nobody has named yet.
func openIdentity() (*identity, error) {
	id := &identity{}
	for name, file := range id.files() {
		opened, err := os.OpenFile(filepath.Join(runDir, name), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
		if err != nil {
			return nil, err
		}
		*file = opened
	}
	if err := rewrite(id.resolv, []byte("nameserver "+guest.ResolverIP+"\n")); err != nil {
		return nil, err
	}
	var machine [16]byte
	rand.Read(machine[:])
	if err := id.setMachineID(machine); err != nil {
		return nil, err
	}
	return id, id.setHostname("localhost")
}

func (id *identity) files() map[string]**os.File {
	return map[string]**os.File{
		"hostname": &id.hostname, "hosts": &id.hosts, "resolv.conf": &id.resolv, "machine-id": &id.machineID,
	}
}

func (id *identity) setHostname(name string) error {
	if name == "" || len(name) > guest.MaxHostname {
		return errors.New("host name is empty or too long")
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if err := rewrite(id.hostname, []byte(name+"\n")); err != nil {
		return err
	}
	return rewrite(id.hosts, []byte("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"+guest.GuestIP+"\t"+name+"\n"))
}

func (id *identity) setMachineID(machine [16]byte) error {
	text := make([]byte, 0, 33)
	text = hex.AppendEncode(text, machine[:])
	return rewrite(id.machineID, append(text, '\n'))
}

// rewrite replaces the content of an open file in place: a bind mount shows this very inode.
func rewrite(file *os.File, content []byte) error {
	fd := int(file.Fd())
	if _, err := unix.Pwrite(fd, content, 0); err != nil {
		return fmt.Errorf("write %s: %w", file.Name(), err)
	}
	if err := unix.Ftruncate(fd, int64(len(content))); err != nil {
		return fmt.Errorf("cut %s: %w", file.Name(), err)
	}
	return nil
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
