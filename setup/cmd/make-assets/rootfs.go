package main

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// rootfs is a root file system under construction, as a tar stream. /bin, /sbin and /lib are
// links into /usr, as in Debian.
type rootfs struct {
	tar     *tar.Writer
	have    map[string]bool // paths without leading slash
	bundle  bytes.Buffer    // CA certificates met so far, PEM
	busybox []byte
}

func newRootfs(w io.Writer) *rootfs {
	return &rootfs{tar: tar.NewWriter(w), have: map[string]bool{}}
}

// skeleton is what programs expect in every root: accounts, and who is localhost.
var skeleton = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/sh\n",
	"etc/group":         "root:x:0:\n",
	"etc/hosts":         "127.0.0.1 localhost\n::1 localhost\n",
	"etc/nsswitch.conf": "hosts: files dns\n",
}

func (r *rootfs) addSkeleton() error {
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "root", "var/lib/buildkit", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"} {
		if err := r.addFolder(dir); err != nil {
			return err
		}
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := r.add(&tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: "usr/" + link, Mode: 0o777}, nil); err != nil {
			return err
		}
	}
	for _, file := range slices.Sorted(maps.Keys(skeleton)) {
		if err := r.addFile(file, 0o644, []byte(skeleton[file])); err != nil {
			return err
		}
	}
	return nil
}

// addFolder adds a folder and those above it.
func (r *rootfs) addFolder(dir string) error {
	if dir == "." || r.have[dir] {
		return nil
	}
	if err := r.addFolder(path.Dir(dir)); err != nil {
		return err
	}
	return r.add(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755}, nil)
}

// addFile adds a file and the folders above it.
func (r *rootfs) addFile(name string, mode int64, data []byte) error {
	if err := r.addFolder(path.Dir(name)); err != nil {
		return err
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))}
	return r.add(header, bytes.NewReader(data))
}

func (r *rootfs) add(header *tar.Header, content io.Reader) error {
	if r.have[header.Name] {
		return nil
	}
	r.have[header.Name] = true
	if err := r.tar.WriteHeader(header); err != nil || content == nil {
		return err
	}
	_, err := io.Copy(r.tar, content)
	return err
}

// wanted are the parts of packages that git and busybox run with: all of these, but perl.
var wanted = []string{
	"usr/bin/git", "usr/bin/busybox",
	"usr/lib/git-core/", "usr/share/git-core/templates/",
	"usr/lib64/",
}

// unwanted are scripts and desktop programs of git that would need perl, python or tcl.
var unwanted = []string{
	"usr/lib/git-core/mergetools/", "usr/lib/git-core/git-add--interactive", "usr/lib/git-core/git-instaweb",
	"usr/lib/git-core/git-request-pull", "usr/lib/git-core/git-filter-branch",
}

// addFromDeb adds one entry of a package if the builder needs it.
func (r *rootfs) addFromDeb(header *tar.Header, content io.Reader) error {
	header.Name, header.Linkname = mergeUsr(header.Name), mergeUsr(header.Linkname)
	switch {
	case header.Typeflag == tar.TypeDir:
		return nil // made with the first file in it
	case strings.HasPrefix(header.Name, "usr/share/ca-certificates/"):
		_, err := io.Copy(&r.bundle, content)
		return err
	case !r.wants(header.Name):
		return nil
	case header.Name == "usr/bin/busybox":
		r.busybox, _ = io.ReadAll(content)
		content = bytes.NewReader(r.busybox)
	}
	if err := r.addFolder(path.Dir(header.Name)); err != nil {
		return err
	}
	header.Uname, header.Gname = "", ""
	return r.add(header, content)
}

func (r *rootfs) wants(name string) bool {
	matches := func(prefix string) bool {
		return name == prefix || strings.HasSuffix(prefix, "/") && strings.HasPrefix(name, prefix)
	}
	for _, prefix := range unwanted {
		if matches(prefix) {
			return false
		}
	}
	for _, prefix := range wanted {
		if matches(prefix) {
			return true
		}
	}
	return isLibrary(name)
}

// isLibrary tells the loader (on arm64) and shared libraries of its own search path,
// "usr/lib/x86_64-linux-gnu/libz.so.1", from plug-ins in the folders below it. libperl is among
// git's dependencies for scripts only.
func isLibrary(name string) bool {
	loader, _ := path.Match("usr/lib/ld-linux-*.so*", name)
	library, _ := path.Match("usr/lib/*-linux-gnu/*.so*", name)
	return loader || library && !strings.HasPrefix(path.Base(name), "libperl.")
}

// mergeUsr turns "./lib/x" into "usr/lib/x" and "/lib/x" into "/usr/lib/x".
func mergeUsr(name string) string {
	name = strings.TrimPrefix(name, "./")
	bare, rooted := strings.CutPrefix(name, "/")
	for _, dir := range []string{"bin/", "sbin/", "lib/", "lib64/"} {
		if strings.HasPrefix(bare, dir) {
			bare = "usr/" + bare
		}
	}
	if rooted {
		return "/" + bare
	}
	return bare
}

// addBusyboxLinks makes a link for every command that busybox has and no package brought.
func (r *rootfs) addBusyboxLinks(ctx context.Context, w *workshop) error {
	program := filepath.Join(w.scratch, "busybox")
	if err := os.WriteFile(program, r.busybox, 0o755); err != nil {
		return err
	}
	commands, err := w.output(w.command(ctx, program, "--list"))
	if err != nil {
		return err
	}
	for _, command := range strings.Fields(commands) {
		header := &tar.Header{Typeflag: tar.TypeSymlink, Name: "usr/bin/" + command, Linkname: "busybox", Mode: 0o777}
		if err := r.add(header, nil); err != nil {
			return err
		}
	}
	return nil
}

// close adds the CA bundle, where every TLS library looks for it, and ends the stream.
func (r *rootfs) close() error {
	if err := r.addFile("etc/ssl/certs/ca-certificates.crt", 0o644, r.bundle.Bytes()); err != nil {
		return err
	}
	return r.tar.Close()
}
