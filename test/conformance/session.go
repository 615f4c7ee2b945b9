package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

// ClientResult is how the scenario went with a client.
type ClientResult struct {
	Name    string
	Origin  string
	Version string
	NotRun  string // why it could not be had, "" if it ran
	Steps   []StepResult
}

// Count is how many steps ended in a way.
func (r ClientResult) Count(outcome Outcome) (n int) {
	for _, s := range r.Steps {
		if s.Outcome == outcome {
			n++
		}
	}
	return n
}

// Broken tells whether a step failed, or was not run because one did.
func (r ClientResult) Broken() bool { return r.Count(Failed)+r.Count(NotRun) > 0 }

// session is what all clients have in common.
type session struct {
	repository string
	main       *host // where all but the chapter on limits happens
	limited    *host
	endpoints  *endpoints
	stranger   accessKey
	progress   io.Writer
}

// Run starts daemons with empty data folders in root ("" = the system's folder for such), and takes
// the clients whose name holds only through the scenario. What is wrong with a client is in its
// result; the error is about everything else.
func Run(ctx context.Context, repository, root, only string, progress io.Writer) (results []ClientResult, err error) {
	s := &session{progress: progress}
	if s.repository, err = filepath.Abs(repository); err != nil {
		return nil, fmt.Errorf("find the repository: %w", err)
	}
	if s.main, err = startHost(ctx, root, "DORMOUSE_QUOTAS="+mainQuotas); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.main.Remove()) }()
	if s.limited, err = startHost(ctx, root, "DORMOUSE_QUOTAS="+limitedQuotas, "DORMOUSE_RATE_LIMITS="+limitedRates); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.limited.Remove()) }()
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	for _, c := range clients {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if strings.Contains(strings.ToLower(c.name), strings.ToLower(only)) {
			results = append(results, s.run(ctx, c))
		}
	}
	return results, errors.Join(s.main.Stop(), s.limited.Stop())
}

// prepare puts the code of the image into S3 and makes a second account.
func (s *session) prepare(ctx context.Context) (err error) {
	if s.endpoints, err = newEndpoints(s.main.env["DORMOUSE_CA_BUNDLE"]); err != nil {
		return err
	}
	if s.stranger, err = s.main.newAccount(ctx, "strangers"); err != nil {
		return err
	}
	return s.main.upload(ctx, filepath.Join(s.repository, "examples", "counter"))
}

// run takes one client through the scenario.
func (s *session) run(ctx context.Context, c *client) ClientResult {
	result := ClientResult{Name: c.name, Origin: c.origin}
	fmt.Fprintf(s.progress, "%s: ", c.name)
	driver, version, err := s.start(ctx, c)
	if err != nil {
		result.NotRun = err.Error()
		fmt.Fprintf(s.progress, "not run: %s\n", short(err.Error()))
		return result
	}
	result.Version = version
	fmt.Fprintf(s.progress, "%s from %s\n", version, c.origin)
	limited, err := s.limited.newAccount(ctx, c.slug)
	if err != nil {
		result.Steps = append(result.Steps, StepResult{Promise: "the client gets an account", Outcome: Failed, Reason: err.Error()})
	}
	r := &runner{client: c, driver: driver, endpoints: s.endpoints, unknown: map[string]bool{}, vars: variables{
		"client": c.slug, "region": s.main.env["AWS_REGION"], "account": account, "accessKey": s.main.env["AWS_ACCESS_KEY_ID"],
		"artifact": "s3://" + bucket + "/" + artifact, "missingArtifact": "s3://" + bucket + "/no-such-key",
		"strangerKey": s.stranger.AccessKeyID, "strangerSecret": s.stranger.SecretAccessKey,
		"limitedAPI": s.limited.API(), "limitedAccount": limited.AccountID, "limitedKey": limited.AccessKeyID, "limitedSecret": limited.SecretAccessKey,
	}}
	for _, chapter := range scenario {
		if ctx.Err() != nil {
			break
		}
		result.Steps = append(result.Steps, s.take(ctx, r, chapter)...)
	}
	if err := driver.Close(); err != nil {
		result.Steps = append(result.Steps, StepResult{Promise: "the client ends well", Outcome: Failed, Reason: err.Error()})
	}
	return result
}

// take takes the steps of a chapter and tells how they went.
func (s *session) take(ctx context.Context, r *runner, c chapter) []StepResult {
	began := time.Now()
	part := ClientResult{Steps: make([]StepResult, len(c.steps))}
	var steps errgroup.Group
	steps.SetLimit(1)
	if c.independent {
		steps.SetLimit(runtime.NumCPU())
	}
	for i, step := range c.steps {
		steps.Go(func() error {
			part.Steps[i] = r.take(ctx, step)
			return nil
		})
	}
	_ = steps.Wait() // how steps ended is in their results
	fmt.Fprintf(s.progress, "  %-42s %3d passed", c.title, part.Count(Passed))
	for _, outcome := range []Outcome{Inexpressible, NotRun, Failed} {
		if n := part.Count(outcome); n > 0 {
			fmt.Fprintf(s.progress, ", %d %s", n, outcome)
		}
	}
	fmt.Fprintf(s.progress, "  %.1fs\n", time.Since(began).Seconds())
	for _, step := range part.Steps {
		if step.Outcome == Failed {
			fmt.Fprintf(s.progress, "    FAIL %s: %s: %s\n", step.Operation, step.Promise, short(step.Reason))
		}
	}
	return part.Steps
}

// start installs a client and starts its driver, which knows what `dormouse env` says and retries nothing.
func (s *session) start(ctx context.Context, c *client) (*sdk.Driver, string, error) {
	program, version, err := c.install(ctx, s.repository)
	if err != nil {
		return nil, "", err
	}
	all := maps.Clone(s.main.env)
	all["AWS_MAX_ATTEMPTS"] = "1" // no retry may hide an error
	var env []string
	for name, value := range all {
		env = append(env, name+"="+value)
	}
	driver, err := sdk.StartProgram(ctx, env, program[0], program[1:]...)
	return driver, version, err
}

// short is the beginning of a text, on one line.
func short(text string) string {
	const most = 300 // characters
	line := []rune(strings.Join(strings.Fields(text), " "))
	if len(line) <= most {
		return string(line)
	}
	return string(line[:most]) + "…"
}
