package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// maxPayload is the most the API takes, in bytes (spec/api.md RunMicrovm).
const maxPayload = 4096

// runFlags are the flags of run.
type runFlags struct {
	wait, quiet     bool
	shell           bool
	payload, idle   string
	version, role   string
	memory          memorySize
	ingress, egress []string
	lifetime        time.Duration
	port            int
}

func (f *runFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.BoolVar(&f.wait, "wait", false, "wait until it is RUNNING")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "print only the id")
	flags.StringVar(&f.payload, "payload", "", "what its run hook is told: text, @FILE, or - for standard input")
	flags.StringVar(&f.idle, "idle", defaultIdle, "IDLE[,ASLEEP[,auto|manual]]: sleep after IDLE without requests, end after ASLEEP asleep, wake on a request or only when told; off = never sleep")
	flags.StringVar(&f.version, "image-version", "", "version of the image, instead of the newest that is ACTIVE")
	flags.Var(&f.memory, "memory", "refuse an image that has another size of memory")
	flags.StringSliceVar(&f.ingress, "ingress", nil, "who may reach it: http (default), shell, all, none, or ARNs of connectors")
	flags.BoolVar(&f.shell, "shell", false, "allow shells and commands (dormouse shell, dormouse exec): adds shell to --ingress")
	flags.StringSliceVar(&f.egress, "egress", nil, "what it may reach: internet, none, or ARNs of connectors; default is what the image says")
	flags.DurationVar(&f.lifetime, "max-duration", 0, "end it after this time, at most 8h, asleep or not")
	flags.StringVar(&f.role, "role", "", "ARN of its execution role")
	flags.IntVar(&f.port, "port", defaultPort, "port of the app in the commands that are printed")
}

// input is the call that the flags ask for.
func (f *runFlags) input(ctx context.Context, s *session, image reference.Image) (*awsapi.RunMicrovmInput, error) {
	in := &awsapi.RunMicrovmInput{ImageIdentifier: image.ARN}
	var err error
	if in.IngressNetworkConnectors, err = ingress.arns(s.Region, f.ingress); err != nil {
		return nil, err
	}
	if f.shell {
		if in.IngressNetworkConnectors, err = withShell(s.Region, in.IngressNetworkConnectors); err != nil {
			return nil, err
		}
	}
	if in.EgressNetworkConnectors, err = egress.arns(s.Region, f.egress); err != nil {
		return nil, err
	}
	if image.Version != "" && f.version != "" && image.Version != reference.Version(f.version) {
		return nil, usagef("two versions: %s and --image-version %s", image, f.version)
	}
	if version := orElse(image.Version, reference.Version(f.version)); version != "" {
		in.ImageVersion = &version
	}
	if in.IdlePolicy, err = parseIdle(f.idle); err != nil {
		return nil, err
	}
	if f.lifetime != 0 {
		in.MaximumDurationInSeconds = new(int32(f.lifetime / time.Second))
	}
	if f.role != "" {
		in.ExecutionRoleArn = &f.role
	}
	if f.payload != "" {
		payload, err := argument(ctx, f.payload, maxPayload)
		if err != nil {
			return nil, err
		}
		in.RunHookPayload = new(string(payload))
	}
	return in, nil
}

// withShell adds the connector for shells, and where there was none the one for HTTP that then would have
// been there by default. Beside ALL_INGRESS no token for a shell is made (spec/api.md), and NO_INGRESS closes everything.
func withShell(region string, connectors []string) ([]string, error) {
	managed := func(name string) string { return arn.ManagedConnector(region, name).String() }
	switch shell := managed(shellConnector); {
	case slices.Contains(connectors, managed("ALL_INGRESS")):
		return nil, usagef("--ingress all does not go with --shell: beside it there are no shells; without it --shell allows both")
	case slices.Contains(connectors, managed("NO_INGRESS")):
		return nil, usagef("--ingress none does not go with --shell: it keeps shells out too; --ingress shell lets in shells alone")
	case len(connectors) == 0:
		return []string{managed(awsapi.DefaultIngress), shell}, nil
	case slices.Contains(connectors, shell):
		return connectors, nil
	default:
		return append(connectors, shell), nil
	}
}

// argument is text that was typed, or with @FILE or - what a file or standard input holds, up to limit bytes.
func argument(ctx context.Context, text string, limit int64) ([]byte, error) {
	name, isFile := strings.CutPrefix(text, "@")
	if !isFile && text != "-" {
		return []byte(text), nil
	}
	type outcome struct {
		content []byte
		err     error
	}
	read := make(chan outcome, 1)
	go func() { // a terminal or a pipe keeps its reader until the other end is done
		content, err := readUpTo(name, limit)
		read <- outcome{content, err}
	}()
	select {
	case got := <-read:
		if got.err == nil && int64(len(got.content)) > limit {
			return nil, usagef("%s holds more than the %d bytes that are allowed", text, limit)
		}
		return got.content, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// readUpTo reads a file, or standard input where it is -, and one byte more than limit if there is so much.
func readUpTo(name string, limit int64) ([]byte, error) {
	from := os.Stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, usagef("%v", err)
		}
		defer file.Close()
		from = file
	}
	return io.ReadAll(io.LimitReader(from, limit+1))
}

// idleWords says what an idle policy does.
func idleWords(p *awsapi.IdlePolicy) string {
	if p == nil {
		return "never sleeps"
	}
	idle := time.Duration(p.MaxIdleDurationSeconds) * time.Second
	asleep := time.Duration(p.SuspendedDurationSeconds) * time.Second
	if asleep == 0 {
		return fmt.Sprintf("ends after %s without requests", span(idle))
	}
	wakes := "wakes on the next one"
	if !p.AutoResumeEnabled {
		wakes = "wakes when told"
	}
	return fmt.Sprintf("sleeps after %s without requests, %s, ends after %s asleep", span(idle), wakes, span(asleep))
}
