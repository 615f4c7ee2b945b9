package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// The release that guests, base images and the builder are made from, whatever the host runs.
const (
	debianRelease = "bookworm"
	debianMirror  = "http://deb.debian.org" // signed indexes make plain HTTP safe
	debianKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
	networkFix    = "Check that this machine reaches " + debianMirror + " (http_proxy is honoured)"
)

// debianSources are the lines of sources.list, with its options ("[signed-by=…] " or "").
func debianSources(options string) []string {
	return []string{
		"deb " + options + debianMirror + "/debian " + debianRelease + " main",
		"deb " + options + debianMirror + "/debian " + debianRelease + "-updates main",
		"deb " + options + debianMirror + "/debian-security " + debianRelease + "-security main",
	}
}

// archive is the distribution's package archive, read with an apt that keeps its state in a
// folder of our own: it needs no root and does not depend on what the host's apt knows.
type archive struct {
	workshop *workshop
	dir      string
	updated  bool
}

// aptConf cuts apt off from the host: with an empty status file no package counts as installed.
const aptConf = `Dir "%[1]s/";
Dir::State "state";
Dir::State::status "%[1]s/status";
Dir::Cache "cache";
Dir::Etc "etc";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
`

// update fetches the package lists, once.
func (a *archive) update(ctx context.Context) error {
	if a.updated {
		return nil
	}
	for _, folder := range []string{"state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "etc/preferences.d", "etc/sources.list.d"} {
		if err := os.MkdirAll(filepath.Join(a.dir, folder), 0o755); err != nil {
			return err
		}
	}
	sources := strings.Join(debianSources("[signed-by="+debianKeyring+"] "), "\n") + "\n"
	for file, content := range map[string]string{
		"status":           "",
		"etc/sources.list": sources,
		"apt.conf":         fmt.Sprintf(aptConf, a.dir),
	} {
		if err := os.WriteFile(filepath.Join(a.dir, file), []byte(content), 0o644); err != nil {
			return err
		}
	}
	if _, err := a.apt(ctx, "apt-get", "update"); err != nil {
		return err
	}
	a.updated = true
	return nil
}

// apt runs apt-get or apt-cache; relative results land in the archive's folder.
func (a *archive) apt(ctx context.Context, program string, args ...string) (string, error) {
	cmd := a.workshop.command(ctx, program, args...)
	cmd.Dir = a.dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	return a.workshop.output(cmd)
}

// fetch downloads packages and all they depend on, and returns the paths of the .deb files.
func (a *archive) fetch(ctx context.Context, packages ...string) ([]string, error) {
	if err := a.update(ctx); err != nil {
		return nil, err
	}
	args := append([]string{"install", "--download-only", "--no-install-recommends", "--yes", "--quiet"}, packages...)
	if _, err := a.apt(ctx, "apt-get", args...); err != nil {
		return nil, err
	}
	return filepath.Glob(filepath.Join(a.dir, "cache/archives/*.deb"))
}

// fetchDependency downloads the one package that a metapackage stands for, without what it depends on.
func (a *archive) fetchDependency(ctx context.Context, metapackage string) (string, error) {
	if err := a.update(ctx); err != nil {
		return "", err
	}
	depends, err := a.apt(ctx, "apt-cache", "depends", "--important", metapackage)
	if err != nil {
		return "", err
	}
	_, name, found := strings.Cut(depends, "Depends: ")
	if !found {
		return "", fmt.Errorf("package %s depends on nothing", metapackage)
	}
	name = strings.Fields(name)[0]
	if _, err := a.apt(ctx, "apt-get", "download", name); err != nil {
		return "", err
	}
	debs, err := filepath.Glob(filepath.Join(a.dir, name+"_*.deb"))
	if err != nil {
		return "", err
	}
	if len(debs) != 1 {
		return "", fmt.Errorf("the download of %s left %d files", name, len(debs))
	}
	return debs[0], nil
}

// walkDeb calls visit for every entry of a package, with its name relative to the root ("usr/bin/git").
func (a *archive) walkDeb(ctx context.Context, deb string, visit func(*tar.Header, io.Reader) error) error {
	cmd := a.workshop.command(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	pipe, feed := io.Pipe()
	cmd.Stdout = feed
	go func() { feed.CloseWithError(a.workshop.run(cmd)) }()
	defer pipe.Close()
	return walkTar(pipe, visit)
}

// walkTar calls visit for every entry of a tar stream, with its name relative to the root.
func walkTar(r io.Reader, visit func(*tar.Header, io.Reader) error) error {
	for entries := tar.NewReader(r); ; {
		header, err := entries.Next()
		if errors.Is(err, io.EOF) {
			_, err = io.Copy(io.Discard, r) // padding; lets the writer end
			return err
		}
		if err != nil {
			return fmt.Errorf("read tar: %w", err)
		}
		header.Name = strings.Trim(strings.TrimPrefix(header.Name, "./"), "/")
		if err := visit(header, entries); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
}
