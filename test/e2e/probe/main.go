// Command probe tells inside a microVM what the capabilities of its image let an app do.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// answer is what GET / tells.
type answer struct {
	CapEff  string            `json:"capEff"`  // of /proc/self/status
	NoFile  unix.Rlimit       `json:"noFile"`  // RLIMIT_NOFILE
	Tried   map[string]string `json:"tried"`   // "" where it worked, else the error
	Modules []string          `json:"modules"` // of the kernel
	Nested  nested            `json:"nested"`  // what a container in the container saw
}

func main() {
	switch {
	case len(os.Args) > 1 && os.Args[1] == "nested":
		tellNested()
		return
	case len(os.Args) > 1 && os.Args[1] == "true":
		return
	}
	server := &http.Server{Addr: ":8080", Handler: http.HandlerFunc(serve)}
	fmt.Fprintln(os.Stderr, server.ListenAndServe())
	os.Exit(1)
}

func serve(w http.ResponseWriter, _ *http.Request) {
	a := answer{Tried: map[string]string{}}
	for name, attempt := range attempts {
		a.Tried[name] = inWords(bounded(attempt))
	}
	a.Tried["nested container"] = inWords(bounded(func() (err error) {
		a.Nested, err = runNested()
		return err
	}))
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &a.NoFile)
	a.CapEff = effective()
	modules, _ := os.ReadDir("/sys/module")
	for _, m := range modules {
		a.Modules = append(a.Modules, m.Name())
	}
	_ = json.NewEncoder(w).Encode(a)
}

// attemptLimit is for a slow machine: what works takes seconds there.
const attemptLimit = 45 * time.Second

// bounded gives up an attempt that hangs, so that the others are told.
func bounded(attempt func() error) error {
	done := make(chan error, 1)
	go func() { done <- attempt() }()
	select {
	case err := <-done:
		return err
	case <-time.After(attemptLimit):
		return errors.New("it hangs")
	}
}

func inWords(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func effective() string {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
