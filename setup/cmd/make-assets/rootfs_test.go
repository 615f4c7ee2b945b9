package main

import (
	"archive/tar"
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/stretchr/testify/require"
)

func TestTheBuilderTakesGitItsLibrariesAndNoPerl(t *testing.T) {
	r := newRootfs(io.Discard)
	for name, want := range map[string]bool{
		"usr/bin/git":                             true,
		"usr/lib/git-core/git-remote-https":       true,
		"usr/lib/git-core/git-instaweb":           false,
		"usr/lib/x86_64-linux-gnu/libz.so.1":      true,
		"usr/lib/ld-linux-aarch64.so.1":           true,
		"usr/lib64/ld-linux-x86-64.so.2":          true,
		"usr/lib/x86_64-linux-gnu/libperl.so.5.3": false,
		"usr/lib/x86_64-linux-gnu/gconv/UTF-7.so": false,
		"usr/bin/perl":                            false,
		"usr/share/doc/git/copyright":             false,
	} {
		require.Equal(t, want, r.wants(name), name)
	}
}

func TestPackagePathsMoveBelowUsr(t *testing.T) {
	for name, want := range map[string]string{
		"lib64/ld-linux-x86-64.so.2":          "usr/lib64/ld-linux-x86-64.so.2",
		"./lib/x86_64-linux-gnu/libz.so.1":    "usr/lib/x86_64-linux-gnu/libz.so.1",
		"/lib/x86_64-linux-gnu/ld-2.so":       "/usr/lib/x86_64-linux-gnu/ld-2.so",
		"usr/lib/x86_64-linux-gnu/libc.so.6":  "usr/lib/x86_64-linux-gnu/libc.so.6",
		"library/x":                           "library/x",
		"libz.so.1.2.13":                      "libz.so.1.2.13",
		"./usr/lib/git-core/git-remote-https": "usr/lib/git-core/git-remote-https",
	} {
		require.Equal(t, want, mergeUsr(name), name)
	}
}

func TestEveryFolderStandsBeforeWhatIsInItAndOnlyOnce(t *testing.T) {
	var out bytes.Buffer
	r := newRootfs(&out)
	require.NoError(t, r.addSkeleton())
	require.NoError(t, r.addFile("usr/share/a/b/file", 0o644, []byte("x")))
	require.NoError(t, r.addFile("usr/share/a/b/file", 0o644, []byte("again")))
	require.NoError(t, r.close())

	seen := map[string]bool{"": true}
	require.NoError(t, walkTar(&out, func(header *tar.Header, _ io.Reader) error {
		require.False(t, seen[header.Name], "%s twice", header.Name)
		parent := header.Name[:max(0, strings.LastIndex(header.Name, "/"))]
		require.True(t, seen[parent], "%s before its folder", header.Name)
		seen[header.Name] = true
		return nil
	}))
	require.True(t, seen["etc/ssl/certs/ca-certificates.crt"])
}

func TestBuildkitdAsksTheMirrorForNamesWithoutADomain(t *testing.T) {
	named, err := reference.ParseNormalizedNamed("debian")
	require.NoError(t, err)
	var config bytes.Buffer
	require.NoError(t, writeBuildkitdConfig(&config))
	require.Contains(t, config.String(), `[registry."`+reference.Domain(named)+`"]`+"\n  mirrors = [\"10.0.2.4:5000\"]")
	require.Contains(t, config.String(), `[registry."10.0.2.4:5000"]`+"\n  http = true")
}
