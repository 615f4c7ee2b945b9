package artifact

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// item is one entry of a test archive; Content is the target of a symbolic link.
type item struct {
	Name    string
	Mode    fs.FileMode
	Content string
}

var small = Limits{Entries: 20, DirectoryBytes: 4096, FileBytes: 4096, TotalBytes: 8192, NameBytes: 512, Depth: 10}

func makeZip(t testing.TB, items ...item) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for _, it := range items {
		header := &zip.FileHeader{Name: it.Name, Method: zip.Deflate, Modified: time.Unix(1_700_000_000, 0)}
		header.SetMode(it.Mode)
		f, err := w.CreateHeader(header)
		require.NoError(t, err)
		_, err = f.Write([]byte(it.Content))
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	return buf.Bytes()
}

func unpack(t testing.TB, archive []byte, limits Limits) (string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "code.zip")
	require.NoError(t, os.WriteFile(path, archive, 0o600))
	context := filepath.Join(dir, "context")
	err := Unpack(t.Context(), path, context, limits)
	return context, err
}

var docker = item{"Dockerfile", 0o644, "FROM scratch\n"}

func TestUnpackKeepsContentModesTimesAndLinks(t *testing.T) {
	dir, err := unpack(t, makeZip(t,
		item{"bin/", fs.ModeDir | 0o755, ""},
		item{"bin/run.sh", 0o750, "#!/bin/sh\n"},
		item{"deep/in/side/file", 0o600, "x"},
		item{"bin/latest", fs.ModeSymlink | 0o777, "run.sh"},
		item{"up", fs.ModeSymlink | 0o777, "deep/in/../in/side"},
		item{"dangling", fs.ModeSymlink | 0o777, "made/by/the/build"},
		item{"suid", fs.ModeSetuid | 0o755, ""},
		item{"unreadable", 0o001, "secret"},
		docker,
	), small)
	require.NoError(t, err)

	info, err := os.Stat(filepath.Join(dir, "bin/run.sh"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o750), info.Mode())
	require.True(t, info.ModTime().Equal(time.Unix(1_700_000_000, 0)))
	content, err := os.ReadFile(filepath.Join(dir, "bin/latest"))
	require.NoError(t, err)
	require.Equal(t, "#!/bin/sh\n", string(content))
	target, err := os.Readlink(filepath.Join(dir, "dangling"))
	require.NoError(t, err)
	require.Equal(t, "made/by/the/build", target)
	require.FileExists(t, filepath.Join(dir, "up/file"))

	info, err = os.Stat(filepath.Join(dir, "suid"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o755), info.Mode(), "no setuid file on the host")
	info, err = os.Stat(filepath.Join(dir, "unreadable"))
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o601), info.Mode(), "the daemon itself has to read it")
}

func TestUnpackRefuses(t *testing.T) {
	valid := makeZip(t, docker)
	for name, c := range map[string]struct {
		archive []byte
		want    string // part of the text for the user
	}{
		"an empty file":              {nil, "not a zip file"},
		"something else than a zip":  {[]byte(strings.Repeat("#!/bin/sh\n", 100)), "not a zip file"},
		"a zip cut short":            {valid[:len(valid)-30], "not a zip file"},
		"a name that climbs out":     {makeZip(t, docker, item{"../evil", 0o644, ""}), "leads outside"},
		"a name that climbs inside":  {makeZip(t, docker, item{"a/../../evil", 0o644, ""}), "leads outside"},
		"an absolute name":           {makeZip(t, docker, item{"/etc/cron.d/evil", 0o644, ""}), "leads outside"},
		"a Windows name":             {makeZip(t, docker, item{`..\evil`, 0o644, ""}), "not allowed"},
		"a name with a zero byte":    {makeZip(t, docker, item{"a\x00b", 0o644, ""}), "not allowed"},
		"a name that is not UTF-8":   {makeZip(t, docker, item{"a\xff", 0o644, ""}), "not UTF-8"},
		"an empty name":              {makeZip(t, docker, item{"", 0o644, ""}), "leads outside"},
		"a long name":                {makeZip(t, docker, item{strings.Repeat("a/", 300) + "b", 0o644, ""}), "longer than 512"},
		"a long component":           {makeZip(t, docker, item{strings.Repeat("a", 300), 0o644, ""}), "longer than 255"},
		"a deep name":                {makeZip(t, docker, item{strings.Repeat("a/", 20) + "b", 0o644, ""}), "folders deep"},
		"the same name twice":        {makeZip(t, docker, docker), "more than one entry"},
		"the same name in two forms": {makeZip(t, docker, item{"./Dockerfile", 0o644, ""}), "more than one entry"},
		"a file that is a folder":    {makeZip(t, docker, item{"a", 0o644, ""}, item{"a/b", 0o644, ""}), "contradicts"},
		"a folder that is a file":    {makeZip(t, docker, item{"a/b", 0o644, ""}, item{"a", 0o644, ""}), "contradicts"},
		"a file written through a link": {makeZip(t, docker, item{"a", fs.ModeSymlink | 0o777, "b"},
			item{"b/", fs.ModeDir | 0o755, ""}, item{"a/c", 0o644, ""}), "contradicts"},
		"a link to an absolute path": {makeZip(t, docker, item{"a", fs.ModeSymlink | 0o777, "/etc/passwd"}), "leads outside"},
		"a link that climbs out":     {makeZip(t, docker, item{"a/b", fs.ModeSymlink | 0o777, "../../x"}), "leads outside"},
		"links that climb out together": {makeZip(t, docker,
			item{"d/e/up", fs.ModeSymlink | 0o777, ".."},
			item{"x", fs.ModeSymlink | 0o777, "d/e/up/../.."}), "leads outside"},
		"a link to itself":      {makeZip(t, docker, item{"a", fs.ModeSymlink | 0o777, "a"}), "leads outside"},
		"a link without target": {makeZip(t, docker, item{"a", fs.ModeSymlink | 0o777, ""}), "leads outside"},
		"a device":              {makeZip(t, docker, item{"a", fs.ModeDevice | 0o644, ""}), "neither a file"},
		"a fifo":                {makeZip(t, docker, item{"a", fs.ModeNamedPipe | 0o644, ""}), "neither a file"},
		"a socket":              {makeZip(t, docker, item{"a", fs.ModeSocket | 0o644, ""}), "neither a file"},
		"a big file":            {makeZip(t, docker, item{"a", 0o644, strings.Repeat("0", 5000)}), "more than 4096 bytes"},
		"many bytes in all": {makeZip(t, docker, item{"a", 0o644, strings.Repeat("0", 4000)},
			item{"b", 0o644, strings.Repeat("0", 4000)}, item{"c", 0o644, strings.Repeat("0", 4000)}), "more bytes than are allowed"},
		"many entries":          {makeZip(t, many(21, "f%d")...), "21 entries"},
		"many implied folders":  {makeZip(t, many(5, "%d/a/b/c/d/e/f")...), "too many files and folders"},
		"a huge directory":      {makeZip(t, many(200, "f%d")...), "too many entries"},
		"a flipped byte":        {damage(valid), "damaged"},
		"an encrypted entry":    {patchCentral(valid, 8, 0x1), "encrypted"},
		"an unknown method":     {patchCentral(valid, 10, 99), "other than deflate"},
		"a bomb that says 1 kB": {bomb(t), "damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := unpack(t, c.archive, small)
			var fault *Error
			require.ErrorAs(t, err, &fault)
			require.Equal(t, CodeInvalid, fault.Code)
			require.Contains(t, fault.Text, c.want)
			require.NoFileExists(t, filepath.Join(filepath.Dir(dir), "evil"))
		})
	}
}

func TestUnpackWithoutDockerfileSaysWhereOneIs(t *testing.T) {
	for name, c := range map[string]struct {
		items []item
		want  string
	}{
		"none":          {[]item{{"app.py", 0o644, ""}}, "no Dockerfile at the root of the archive."},
		"empty archive": {nil, "no Dockerfile at the root of the archive."},
		"in a folder":   {[]item{{"app/Dockerfile", 0o644, ""}}, `found "app/Dockerfile": zip the content`},
		"a folder":      {[]item{{"Dockerfile/x", 0o644, ""}}, "no Dockerfile at the root"},
		"dangling link": {[]item{{"Dockerfile", fs.ModeSymlink | 0o777, "gone"}}, "no Dockerfile at the root"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(t, makeZip(t, c.items...), small)
			var fault *Error
			require.ErrorAs(t, err, &fault)
			code, text := fault.Reason()
			require.Equal(t, CodeDockerfileNotFound, code)
			require.Contains(t, text, c.want)
		})
	}
}

func TestUnpackStopsWhenCancelled(t *testing.T) {
	path := filepath.Join(t.TempDir(), "code.zip")
	require.NoError(t, os.WriteFile(path, makeZip(t, docker), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Unpack(ctx, path, filepath.Join(t.TempDir(), "context"), small)
	require.ErrorIs(t, err, context.Canceled)
}

func FuzzUnpackNeverWritesOutsideNorBeyondItsLimits(f *testing.F) {
	f.Add(makeZip(f, docker, item{"a/b", 0o600, "x"}, item{"l", fs.ModeSymlink | 0o777, "a/b"}))
	f.Add(makeZip(f, docker, item{"../evil", 0o644, "x"}))
	f.Add(makeZip(f, item{"a", fs.ModeSymlink | 0o777, ".."}, item{"a/evil", 0o644, "x"}))
	f.Fuzz(func(t *testing.T, archive []byte) {
		parent := t.TempDir()
		path := filepath.Join(parent, "code.zip")
		require.NoError(t, os.WriteFile(path, archive, 0o600))
		err := Unpack(t.Context(), path, filepath.Join(parent, "context"), small)
		if fault := new(Error); err != nil && !errors.As(err, &fault) {
			t.Fatalf("a broken archive is blamed on the host: %v", err)
		}
		var size, count int64
		require.NoError(t, filepath.WalkDir(filepath.Join(parent, "context"), func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			require.NoError(t, err)
			count++
			if d.Type().IsRegular() {
				info, err := d.Info()
				require.NoError(t, err)
				size += info.Size()
			}
			return nil
		}))
		require.LessOrEqual(t, size, small.TotalBytes)
		require.LessOrEqual(t, count, int64(small.Entries+1))
		left, err := os.ReadDir(parent)
		require.NoError(t, err)
		require.LessOrEqual(t, len(left), 2, "only the archive and its context")
	})
}

func many(n int, format string) []item {
	items := make([]item, n)
	for i := range items {
		items[i] = item{fmt.Sprintf(format, i), 0o644, ""}
	}
	return items
}

// damage inverts the first byte of the first entry's compressed content.
func damage(archive []byte) []byte {
	out := bytes.Clone(archive)
	content := 30 + int(binary.LittleEndian.Uint16(out[26:])) + int(binary.LittleEndian.Uint16(out[28:]))
	out[content] ^= 0xff
	return out
}

// patchCentral overwrites a 16-bit field of the first central directory header.
func patchCentral(archive []byte, offset int, value uint16) []byte {
	out := bytes.Clone(archive)
	header := bytes.Index(out, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint16(out[header+offset:], value)
	return out
}

// bomb claims 1 kB in its headers and unpacks to 1 MB.
func bomb(t *testing.T) []byte {
	t.Helper()
	content := bytes.Repeat([]byte{0}, 1<<20)
	full := makeZip(t, item{"bomb", 0o644, string(content)})
	header := bytes.Index(full, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(full[header+24:], 1024)
	require.Equal(t, crc32.ChecksumIEEE(content), binary.LittleEndian.Uint32(full[header+16:]))
	return full
}
