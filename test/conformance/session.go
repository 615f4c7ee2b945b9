package conformance

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/dormouse-dev/dormouse/test/e2e/daemon"
	"github.com/dormouse-dev/dormouse/test/e2e/sdk"
)

const (
	account = "000000000000" // made by the first start of a daemon
	bucket  = "conformance"
)

// ClientResult is how the scenario went with a client.
type ClientResult struct {
	Name    string
	Origin  string
	Version string
	NotRun  string // why it could not be had, "" if it ran
	Steps   []StepResult
	Seconds float64
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

// session is a daemon and what clients need to know of it.
type session struct {
	repository string
	daemon     *daemon.Daemon
	env        map[string]string // what `dormouse env` makes, and nothing else
	endpoints  *endpoints
	progress   io.Writer
}

// Run starts a daemon with an empty data folder in root ("" = the system's folder for such), and
// takes the clients whose name holds only through the scenario. What is wrong with a client is in
// its result; the error is about everything else.
func Run(ctx context.Context, repository, root, only string, progress io.Writer) (results []ClientResult, err error) {
	s := &session{repository: repository, progress: progress}
	if s.daemon, err = daemon.New(ctx, root); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.daemon.Remove()) }()
	if err := s.daemon.Start(); err != nil {
		return nil, err
	}
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	for _, c := range clients {
		if strings.Contains(strings.ToLower(c.name), strings.ToLower(only)) {
			results = append(results, s.run(ctx, c))
		}
	}
	return results, s.daemon.Stop()
}

// prepare reads what the daemon's users are told, and puts the code of the image into S3.
func (s *session) prepare(ctx context.Context) (err error) {
	lines, err := s.daemon.Environment(ctx)
	if err != nil {
		return err
	}
	s.env = map[string]string{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, "=")
		s.env[name] = value
	}
	if s.endpoints, err = newEndpoints(s.env["DORMOUSE_CA_BUNDLE"]); err != nil {
		return err
	}
	return s.upload(ctx)
}

func (s *session) upload(ctx context.Context) error {
	var code bytes.Buffer
	archive := zip.NewWriter(&code)
	if err := errors.Join(archive.AddFS(os.DirFS(filepath.Join(s.repository, "examples", "counter"))), archive.Close()); err != nil {
		return fmt.Errorf("zip the example: %w", err)
	}
	storage := s3.New(s3.Options{
		Region: s.env["AWS_REGION"], BaseEndpoint: aws.String(s.env["AWS_ENDPOINT_URL_S3"]), UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(s.env["AWS_ACCESS_KEY_ID"], s.env["AWS_SECRET_ACCESS_KEY"], ""),
	})
	if _, err := storage.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		return fmt.Errorf("make a bucket: %w", err)
	}
	_, err := storage.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String("code.zip"), Body: bytes.NewReader(code.Bytes())})
	if err != nil {
		return fmt.Errorf("upload the code: %w", err)
	}
	return nil
}

// run takes one client through the scenario.
func (s *session) run(ctx context.Context, c *client) ClientResult {
	result := ClientResult{Name: c.name, Origin: c.origin}
	began := time.Now()
	fmt.Fprintf(s.progress, "%s: ", c.name)
	driver, version, err := s.start(ctx, c)
	if err != nil {
		result.NotRun = err.Error()
		fmt.Fprintf(s.progress, "not run: %v\n", err)
		return result
	}
	result.Version = version
	fmt.Fprintf(s.progress, "%s from %s\n", version, c.origin)
	r := &runner{client: c, driver: driver, endpoints: s.endpoints, vars: variables{
		"client": c.slug, "region": s.env["AWS_REGION"], "account": account, "accessKey": s.env["AWS_ACCESS_KEY_ID"],
		"artifact": "s3://" + bucket + "/code.zip", "missingArtifact": "s3://" + bucket + "/no-such-key",
	}}
	for _, chapter := range scenario {
		result.Steps = append(result.Steps, s.take(ctx, r, chapter)...)
	}
	if err := driver.Close(); err != nil {
		result.Steps = append(result.Steps, StepResult{Promise: "the client ends well", Outcome: Failed, Reason: err.Error()})
	}
	result.Seconds = time.Since(began).Seconds()
	return result
}

// take takes the steps of a chapter and tells how they went.
func (s *session) take(ctx context.Context, r *runner, c chapter) []StepResult {
	began := time.Now()
	var part ClientResult
	for _, step := range c.steps {
		part.Steps = append(part.Steps, r.take(ctx, step))
	}
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
	all := maps.Clone(s.env)
	all["AWS_MAX_ATTEMPTS"] = "1" // no retry may hide an error
	if all["AWS_ENDPOINT_URL_LAMBDA_CORE"] == "" {
		all["AWS_ENDPOINT_URL_LAMBDA_CORE"] = all["AWS_ENDPOINT_URL_LAMBDA_MICROVMS"]
	}
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
