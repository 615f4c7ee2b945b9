package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestAppEnvironmentHasAPathAndAHomeAndNoNameTwice(t *testing.T) {
	got := appEnvironment([]string{"A=1", "HOME=/data", "A=2", "=odd", "noequals", "Z=a=b", "NUL=a\x00b"}, "/root")
	want := []string{"PATH=" + defaultPath, "HOME=/data", "A=2", "Z=a=b"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestCommandsAreLookedForInTheAppsPath(t *testing.T) {
	got := inPath("sh", []string{"HOME=/", "PATH=/usr/bin:/bin:"})
	want := []string{"/usr/bin/sh", "/bin/sh", "/sh"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseSecret(t *testing.T) {
	good := strings.Repeat("0f", 32)
	if secret, err := parseSecret("quiet dormouse.secret=" + good + " panic=-1\n"); err != nil || secret[31] != 0x0f {
		t.Errorf("%x, %v", secret, err)
	}
	for _, line := range []string{"", "quiet", "dormouse.secret=", "dormouse.secret=abc", "dormouse.secret=" + good + "00"} {
		if _, err := parseSecret(line); err == nil {
			t.Errorf("%q was taken", line)
		} else if strings.Contains(err.Error(), good) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

// openTestRoot makes an image in a folder beside a secret the image must not reach.
func openTestRoot(t *testing.T) (*imageRoot, string) {
	t.Helper()
	dir := t.TempDir()
	image := filepath.Join(dir, "image")
	if err := os.MkdirAll(filepath.Join(image, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "outside"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := openImageRoot(image)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(root.close)
	return root, image
}

func TestSymlinksOfTheImageDoNotLeadOutOfIt(t *testing.T) {
	root, image := openTestRoot(t)
	for name, target := range map[string]string{
		"etc/up": "../../outside", "etc/absolute": filepath.Join(filepath.Dir(image), "outside"), "etc/proc": "/proc/self/root/etc/passwd",
	} {
		if err := os.Symlink(target, filepath.Join(image, name)); err != nil {
			t.Fatal(err)
		}
		if content, err := root.readFile(name, 100); err == nil {
			t.Errorf("%s -> %s was read: %q", name, target, content)
		}
	}
	if err := os.Symlink("/../..", filepath.Join(image, "away")); err != nil {
		t.Fatal(err)
	}
	if err := root.mkdirAll("away/made/here", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(image, "made/here")); err != nil {
		t.Errorf("the folder was made outside: %v", err)
	}
}

func TestReadFileTakesOnlyRegularFilesWithinItsLimit(t *testing.T) {
	root, image := openTestRoot(t)
	os.WriteFile(filepath.Join(image, "etc/passwd"), []byte("0123456789"), 0o644)
	if content, err := root.readFile("etc/passwd", 10); err != nil || string(content) != "0123456789" {
		t.Errorf("%q, %v", content, err)
	}
	if _, err := root.readFile("etc/passwd", 9); err == nil {
		t.Error("a file over the limit was read")
	}
	if out, err := exec.Command("mkfifo", filepath.Join(image, "etc/fifo")).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v %s", err, out)
	}
	for _, name := range []string{"etc", "etc/fifo"} {
		if _, err := root.readFile(name, 100); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func TestAccountFilesThatAreMissingCountAsEmpty(t *testing.T) {
	root, _ := openTestRoot(t)
	if user, err := resolveUser(root, "7:8"); err != nil || user.UID != 7 || user.GID != 8 {
		t.Errorf("%+v, %v", user, err)
	}
}
