package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The agent is copied into the memory of every image: each dependency costs every user.
func TestTheAgentDependsOnAlmostNothing(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{
		"github.com/dormouse-dev/dormouse/cmd/dormouse-guest": true,
		"github.com/dormouse-dev/dormouse/internal/guest":     true,
		"golang.org/x/sys/unix":                               true,
	}
	for dependency := range strings.FieldsSeq(string(out)) {
		if !allowed[dependency] {
			t.Errorf("the agent depends on %s", dependency)
		}
	}
	out, err = exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for dependency := range strings.FieldsSeq(string(out)) {
		if dependency == "net/http" || dependency == "crypto/tls" {
			t.Errorf("the agent depends on %s", dependency)
		}
	}
}
