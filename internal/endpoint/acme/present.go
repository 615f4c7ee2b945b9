package acme

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/mholt/acmez/v3"
	"github.com/mholt/acmez/v3/acme"
)

const (
	// commandLimit bounds one run of the command: records take minutes to reach all name servers of some zones.
	commandLimit = 10 * time.Minute
	// shownOutput is how much of its output an error shows, in bytes.
	shownOutput = 512
)

// command is the path of a program that answers DNS-01 challenges. It is run as
//
//	PROGRAM present _acme-challenge.vms.example.org VALUE
//	PROGRAM cleanup _acme-challenge.vms.example.org VALUE
//
// and makes or removes the TXT record of that name with that value, leaving those with other values
// alone. present returns when the zone's name servers serve the record. A status other than 0 means failure.
type command string

var _ acmez.Solver = command("")

// Present implements acmez.Solver.
func (c command) Present(ctx context.Context, challenge acme.Challenge) error {
	return c.run(ctx, "present", challenge)
}

// CleanUp implements acmez.Solver.
func (c command) CleanUp(ctx context.Context, challenge acme.Challenge) error {
	return c.run(ctx, "cleanup", challenge)
}

func (c command) run(ctx context.Context, verb string, challenge acme.Challenge) error {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(c), verb, challenge.DNS01TXTRecordName(), challenge.DNS01KeyAuthorization())
	cmd.WaitDelay = time.Second // for what it started and left behind
	var said tail
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s %s %s: %w: %s", c, verb, challenge.DNS01TXTRecordName(), err, strings.TrimSpace(said.String()))
	}
	return nil
}

// tail keeps the end of what is written.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	t.Buffer.Write(p)
	t.Next(t.Len() - min(t.Len(), shownOutput))
	return len(p), nil
}
