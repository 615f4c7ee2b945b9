package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/remote"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// shellTokenTTL is the shortest there is: a token is checked when a shell begins.
const shellTokenTTL = time.Minute

func shellCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shell MICROVM",
		Short: "Open a shell in a microVM",
		Long: `Open a shell in a microVM, as root beside its app: same files, processes and network. It is /bin/bash, or
/bin/sh. The microVM must have been started with dormouse run --shell; if it sleeps it wakes. The exit status is
that of the shell. Without a terminal the shell reads its commands from standard input. A microVM that is suspended
closes its shells; they do not keep it awake, unless the daemon runs with --idle-counts shell: then what is typed and printed does.`,
		Example: `  dormouse shell counter
  echo 'cat /etc/os-release' | dormouse shell 0c5b7f6e`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(microVMIDs, 1),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		p := &remote.Process{Input: cmd.InOrStdin(), Output: cmd.OutOrStdout(), Errors: cmd.ErrOrStderr(), Terminal: remote.TerminalOf(os.Stdin)}
		return s.join(cmd.Context(), args[0], p)
	}
	return cmd
}

// join runs a process in a microVM and exits as it does.
func (s *session) join(ctx context.Context, name string, p *remote.Process) error {
	id, err := s.find.MicroVM(ctx, name)
	if err != nil {
		return err
	}
	vm, err := s.API.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: id})
	if err != nil {
		return err
	}
	token, err := s.mintShell(ctx, id, nil, shellTokenTTL)
	if err != nil {
		return s.adviseShell(vm, err)
	}
	if vm.State == awsapi.MicrovmStateSuspended && (vm.IdlePolicy == nil || !vm.IdlePolicy.AutoResumeEnabled) {
		if _, err := s.API.ResumeMicrovm(ctx, &awsapi.ResumeMicrovmInput{MicrovmIdentifier: id}); err != nil {
			return err
		}
		if _, err := s.await(ctx, id, awsapi.MicrovmStateRunning); err != nil { // till then its endpoint refuses
			return err
		}
	}
	if p.Client, err = s.Endpoints(); err != nil {
		return err
	}
	p.URL, p.Header = "wss://"+vm.Endpoint+"/shell", http.Header{}
	for name, value := range token {
		p.Header.Set(name, value)
	}
	code, err := p.Run(ctx)
	var refused *remote.RefusedError
	var ended *remote.EndedError
	switch {
	case errors.As(err, &refused):
		s.explainAnswer(refused.Response, vm, defaultPort)
		return exitCut
	case errors.As(err, &ended):
		return &cutOff{errors.New(shortID(id) + ": " + terminal.SafeLine(ended.Reason)), s.afterCut(id, ended.Reason)}
	case err != nil && ctx.Err() == nil:
		return &cutOff{fmt.Errorf("%s: %w", shortID(id), err), ""} // 1 would be the command's
	case err != nil:
		return err
	case code != 0:
		return exitStatus(code)
	}
	return nil
}

// adviseShell says how to get a microVM that has shells.
func (s *session) adviseShell(vm *awsapi.GetMicrovmOutput, err error) error {
	var refusal *awsapi.Error
	if !errors.As(err, &refusal) || !strings.Contains(refusal.Message, "SHELL_INGRESS") {
		return err
	}
	return &failure{err, "connectors are fixed when a microVM starts; start one with: " + s.command("run %s --shell", reference.ImageName(vm.ImageArn))}
}

// afterCut says what to do about a process that was cut off.
func (s *session) afterCut(id, reason string) string {
	switch {
	case strings.Contains(reason, "suspended"):
		return fmt.Sprintf("it wakes with: %s; shells and commands end when it sleeps", s.command("shell %s", shortID(id)))
	case strings.Contains(reason, "at once"):
		return "try again when one of them has ended"
	case strings.Contains(reason, "executable file not found"):
		return "what runs is a program of the image; for what only a shell knows: " + s.command("exec %s sh -c '...'", shortID(id))
	}
	return "what happened: " + s.command("events %s", shortID(id))
}

// cutOff says that a process in a microVM did not start, or did not come to its end.
type cutOff struct {
	error
	hint string
}

func (e *cutOff) Hint() string  { return e.hint }
func (e *cutOff) Unwrap() error { return e.error }
