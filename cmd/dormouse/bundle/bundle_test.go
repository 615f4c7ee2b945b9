package bundle

import (
	"archive/zip"
	"bytes"
	"crypto/rand"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/image/artifact"
)

// remover removes a file when the first piece of a zip is written.
type remover string

func (r remover) Write(p []byte) (int, error) {
	_ = os.Remove(string(r))
	return len(p), nil
}

func TestAFileThatGoesMeanwhileIsNotTheFolder(t *testing.T) {
	long := make([]byte, 64<<10)
	_, err := rand.Read(long) // so that it is not packed into a few bytes
	require.NoError(t, err)
	dir := folder(t, map[string]string{"Dockerfile": "FROM x", "a": string(long), "gone": ""})
	_, err = Pack(t.Context(), dir, remover(filepath.Join(dir, "gone")))
	require.ErrorIs(t, err, fs.ErrNotExist)
	var none *NoFolderError
	require.NotErrorAs(t, err, &none)
}

// folder makes a folder with these files.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
		require.NoError(t, os.WriteFile(file, []byte(content), 0o644))
	}
	return dir
}

func pack(t *testing.T, dir string) (Bundle, map[string]*zip.File, []byte) {
	t.Helper()
	var out bytes.Buffer
	made, err := Pack(t.Context(), dir, &out)
	require.NoError(t, err)
	require.EqualValues(t, out.Len(), made.Zipped)
	reader, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	require.NoError(t, err)
	entries := map[string]*zip.File{}
	for _, file := range reader.File {
		entries[file.Name] = file
	}
	return made, entries, out.Bytes()
}

func TestAFolderIsPackedWithModesAndLinks(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "FROM x", "bin/start": "#!", "empty/keep": ""})
	require.NoError(t, os.Chmod(filepath.Join(dir, "bin/start"), 0o755))
	require.NoError(t, os.Symlink("bin/start", filepath.Join(dir, "start")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	made, entries, _ := pack(t, dir)
	require.Equal(t, []string{"pipe"}, made.Skipped)
	require.Equal(t, 4, made.Files)
	require.EqualValues(t, len("FROM x#!"), made.Bytes)
	require.Equal(t, fs.FileMode(0o755), entries["bin/start"].Mode())
	require.Equal(t, fs.ModeSymlink, entries["start"].Mode().Type())
	link, err := entries["start"].Open()
	require.NoError(t, err)
	target, err := io.ReadAll(link)
	require.NoError(t, err)
	require.Equal(t, "bin/start", string(target))
}

func TestTheDaemonUnpacksWhatWasPacked(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "FROM x", "a/b/c.txt": "deep"})
	require.NoError(t, os.Symlink("b/c.txt", filepath.Join(dir, "a/link")))
	_, _, packed := pack(t, dir)
	archive, out := filepath.Join(t.TempDir(), "code.zip"), filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.WriteFile(archive, packed, 0o600))
	require.NoError(t, artifact.Unpack(t.Context(), archive, out, artifact.DefaultLimits))
	text, err := os.ReadFile(filepath.Join(out, "a/link"))
	require.NoError(t, err)
	require.Equal(t, "deep", string(text))
}

func TestTheSameFolderMakesTheSameZip(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "FROM x", "a": "1", "b/c": "2"})
	first, _, _ := pack(t, dir)
	second, _, _ := pack(t, dir)
	require.Equal(t, first.SHA256, second.SHA256)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "a"), []byte("3"), 0o644))
	third, _, _ := pack(t, dir)
	require.NotEqual(t, first.SHA256, third.SHA256)
}

func TestDockerignoreIsHeeded(t *testing.T) {
	for name, c := range map[string]struct {
		ignore string
		packed []string
	}{
		"nothing":           {"# only a comment\n", []string{"app.py", "doc/a.md", "doc/b.md", "node_modules/x/y.js", "sub/deep.log"}},
		"a folder":          {"node_modules\n", []string{"app.py", "doc/a.md", "doc/b.md", "sub/deep.log"}},
		"any depth":         {"**/*.log\n/node_modules/\n", []string{"app.py", "doc/a.md", "doc/b.md"}},
		"all but":           {"*\n!app.py\n!doc/b.md\n", []string{"app.py", "doc/b.md"}},
		"the two it needs":  {"Dockerfile\n.dockerignore\nnode_modules\n", []string{"app.py", "doc/a.md", "doc/b.md", "sub/deep.log"}},
		"but by a pattern":  {"*\n!doc/*.md\n!**/y.js\n", []string{"doc/a.md", "doc/b.md", "node_modules/x/y.js"}},
		"a folder, but one": {"doc\n!doc/a.md\nnode_modules", []string{"app.py", "doc/a.md", "sub/deep.log"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, entries, _ := pack(t, folder(t, map[string]string{
				"Dockerfile": "FROM x", ".dockerignore": c.ignore, "app.py": "1", "doc/a.md": "2", "doc/b.md": "3",
				"node_modules/x/y.js": "4", "sub/deep.log": "5",
			}))
			var files []string
			for _, entry := range entries {
				if !entry.Mode().IsDir() {
					files = append(files, entry.Name)
				}
			}
			require.ElementsMatch(t, append(c.packed, "Dockerfile", ".dockerignore"), files)
		})
	}
}

func TestAnIgnoredFolderIsLookedIntoOnlyWhereSomethingMayBeWanted(t *testing.T) {
	ignored, err := readIgnored(folder(t, map[string]string{".dockerignore": "*\n!/keep.txt\n!doc/deep/a.md\n!lib*/x\n!src/[ab]/c\n"}))
	require.NoError(t, err)
	for name, may := range map[string]bool{
		"node_modules": false, "keep.txt": false, "doc": true, "doc/deep": true, "doc/other": false, "docs": false,
		"lib": true, "libs": true, "libs/y": true, "src": true, "src/a": true, "srcs": false,
	} {
		require.Equal(t, may, ignored.mayReturn(name), name)
	}
	ignored, err = readIgnored(folder(t, map[string]string{".dockerignore": "*\n!**/keep\n"}))
	require.NoError(t, err)
	require.True(t, ignored.mayReturn("anywhere/at/all"))
}

func TestTheIgnoreFileOfTheDockerfileGoesFirst(t *testing.T) {
	_, entries, _ := pack(t, folder(t, map[string]string{
		"Dockerfile": "FROM x", ".dockerignore": "a\n", "Dockerfile.dockerignore": "b\nDockerfile*\n", "a": "1", "b": "2",
	}))
	require.Contains(t, entries, "a")
	require.NotContains(t, entries, "b")
	require.Contains(t, entries, "Dockerfile.dockerignore")
}

func TestWhatTheDaemonWouldRefuseIsNotSent(t *testing.T) {
	kept := limits
	t.Cleanup(func() { limits = kept })
	dir := folder(t, map[string]string{"Dockerfile": "FROM x", "a/b": "12345678"})
	limits.Entries = 2
	_, err := Pack(t.Context(), dir, io.Discard)
	require.ErrorContains(t, err, "it has more than 2 files and folders: name in .dockerignore")
	limits.Entries, limits.TotalBytes = 3, 13
	_, err = Pack(t.Context(), dir, io.Discard)
	require.ErrorContains(t, err, "it has more than 0 GiB: name in .dockerignore")
	limits.TotalBytes = 14
	_, err = Pack(t.Context(), dir, io.Discard)
	require.NoError(t, err)
}

func TestWhatCannotBeBuiltIsToldBeforeItIsSent(t *testing.T) {
	_, err := Pack(t.Context(), folder(t, map[string]string{"app.py": ""}), io.Discard)
	var missing *NoDockerfileError
	require.ErrorAs(t, err, &missing)

	_, err = Pack(t.Context(), filepath.Join(t.TempDir(), "none"), io.Discard)
	var none *NoFolderError
	require.ErrorAs(t, err, &none)

	file := filepath.Join(folder(t, map[string]string{"Dockerfile": ""}), "Dockerfile")
	_, err = Pack(t.Context(), file, io.Discard)
	require.EqualError(t, err, file+" is not a folder")

	for _, target := range []string{"/etc/passwd", "../outside"} {
		dir := folder(t, map[string]string{"Dockerfile": "FROM x"})
		require.NoError(t, os.Symlink(target, filepath.Join(dir, "link")))
		_, err = Pack(t.Context(), dir, io.Discard)
		require.ErrorContains(t, err, "the symbolic link link leads outside the folder")
	}

	dir := folder(t, map[string]string{"Dockerfile": "FROM x", ".dockerignore": "[\n"})
	_, err = Pack(t.Context(), dir, io.Discard)
	require.ErrorContains(t, err, "read .dockerignore")
}
