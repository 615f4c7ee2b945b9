package role

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
)

const (
	maxOutput = 64 << 10 // bytes, of what a command prints
	maxErrors = 512      // bytes, of what it says on standard error
	// killWait is how long a command that has ended, or was killed, may leave its pipes open.
	killWait = time.Second
)

// command is a program that prints credentials. The SDK's own processcreds is no use here: it puts what
// was printed into its errors, and takes any amount of it.
type command struct {
	args    []string
	timeout time.Duration
	running chan struct{}
}

func (c *command) limit() time.Duration { return c.timeout }

func (c *command) credentials(ctx context.Context, s Session) (aws.Credentials, error) {
	select {
	case c.running <- struct{}{}:
		defer func() { <-c.running }()
	case <-ctx.Done():
		return aws.Credentials{}, errors.New("too many commands run that get credentials")
	}
	printed, err := c.run(ctx, s)
	if err != nil {
		return aws.Credentials{}, err
	}
	return parseProcess(printed)
}

// run returns what the command prints. It tells the command in its environment what for.
func (c *command) run(ctx context.Context, s Session) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Env = append(os.Environ(), "DORMOUSE_ROLE_ARN="+s.Role, "DORMOUSE_SESSION="+s.Name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // with its children
	cmd.WaitDelay = killWait
	out, said := bounded{limit: maxOutput}, bounded{limit: maxErrors}
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		_ = cmd.Cancel() // whom it left behind with its output: guests make it run again and again
	}
	switch {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s has not answered within %v", c.args[0], c.timeout)
	case err != nil && said.kept.Len() > 0:
		return nil, fmt.Errorf("%s: %w: %q", c.args[0], err, strings.ToValidUTF8(said.kept.String(), "?"))
	case err != nil:
		return nil, fmt.Errorf("%s: %w", c.args[0], err)
	case out.over:
		return nil, fmt.Errorf("%s prints more than %d bytes", c.args[0], maxOutput)
	}
	return out.kept.Bytes(), nil
}

// parseProcess reads the credential_process format of the AWS CLI. Its errors quote nothing of it.
func parseProcess(printed []byte) (aws.Credentials, error) {
	var p processcreds.CredentialProcessResponse
	if err := json.Unmarshal(printed, &p); err != nil {
		return aws.Credentials{}, errors.New("what the command prints is not JSON of the credential_process format")
	}
	if p.Version != 1 || p.AccessKeyID == "" || p.SecretAccessKey == "" {
		return aws.Credentials{}, errors.New("what the command prints lacks Version 1, AccessKeyId or SecretAccessKey")
	}
	found := aws.Credentials{AccessKeyID: p.AccessKeyID, SecretAccessKey: p.SecretAccessKey, SessionToken: p.SessionToken, Source: "command"}
	if p.Expiration != nil {
		found.Expires = *p.Expiration
	}
	return found, nil
}

// bounded keeps the first bytes of what is written to it. It does not fail, so the writer never blocks.
type bounded struct {
	kept  bytes.Buffer // not embedded: its ReadFrom knows no limit
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := min(len(p), b.limit-b.kept.Len())
	b.over = b.over || keep < len(p)
	b.kept.Write(p[:keep])
	return len(p), nil
}
