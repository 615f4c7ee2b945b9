package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
	"github.com/dormouse-dev/dormouse/internal/sigv4"
)

const (
	fakeKey    = "AKIAFAKEFAKEFAKEFAKE"
	fakeSecret = "not a secret"
	firstVM    = "microvm-0c5b7f6e-2b1d-4c5f-8a55-3f6f9a1f2c77"
	secondVM   = "microvm-0c9999aa-2b1d-4c5f-8a55-3f6f9a1f2c77"
	buildUUID  = "6f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11"
)

// fake is a server with the wire format, signatures and S3 of the real one, and states that move at once.
type fake struct {
	awsapi.UnimplementedBackend
	t *testing.T

	mu       sync.Mutex // guards all below
	vms      []*awsapi.GetMicrovmOutput
	images   []*awsapi.MicrovmImageSummary
	memory   int32
	events   []extension.Event
	logs     map[string]string // by source/kind
	build    extension.Build
	created  []*awsapi.CreateMicrovmImageInput
	updated  []*awsapi.UpdateMicrovmImageInput
	ran      []*awsapi.RunMicrovmInput
	purges   bool         // microVMs that end are gone at once
	onCreate func()       // called in the middle of CreateMicrovmImage
	stuck    func()       // if set, microVMs stay PENDING, and this is called when somebody looks
	follow   func() error // called before the end of a log that is followed
	endpoint http.Handler // the app in every microVM
	tls      *httptest.Server
}

func (f *fake) Secret(_ context.Context, id string) (secret, account string, err error) {
	if id != fakeKey {
		return "", "", sigv4.ErrUnknownKey
	}
	return fakeSecret, defaultAccountID, nil
}

const defaultAccountID = "000000000000"

// newFake starts the servers and points the environment at them.
func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, memory: 512, logs: map[string]string{}}
	clock := clockwork.NewRealClock()
	log := slog.New(slog.DiscardHandler)
	authenticator := awsapi.NewAuthenticator(f, clock)
	mux := http.NewServeMux()
	mux.Handle("/", awsapi.NewHandler(f, authenticator, awsapi.NewLimiter(nil, clock), log, clock))
	mux.HandleFunc(extension.Prefix, func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := authenticator.Authenticate(w, r); err != nil {
			awsapi.Refusal(err).Write(w)
			return
		}
		f.extend(w, r)
	})
	api := httptest.NewServer(mux)
	t.Cleanup(api.Close)
	f.tls = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.endpoint.ServeHTTP(w, r) }))
	t.Cleanup(f.tls.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.tls.Certificate().Raw})
	require.NoError(t, os.WriteFile(ca, certificate, 0o600))
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL_LAMBDA_MICROVMS": api.URL, "AWS_ENDPOINT_URL_S3": f.startS3(log), "AWS_REGION": "us-east-1",
		"AWS_ACCESS_KEY_ID": fakeKey, "AWS_SECRET_ACCESS_KEY": fakeSecret, "DORMOUSE_CA_BUNDLE": ca, "DORMOUSE_DATA_DIR": t.TempDir(),
	} {
		t.Setenv(name, value)
	}
	return f
}

func (f *fake) startS3(log *slog.Logger) string {
	s3, err := objectstore.NewServer(objectstore.ServerConfig{Dir: f.t.TempDir(), Credentials: f, Log: log})
	require.NoError(f.t, err)
	listener := httptest.NewUnstartedServer(nil).Listener
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s3.Serve(ctx, listener) }()
	f.t.Cleanup(func() {
		stop()
		require.NoError(f.t, <-done)
		require.NoError(f.t, s3.Close())
	})
	return "http://" + listener.Addr().String()
}

// result is how a command line ended.
type result struct {
	out, err string
	status   exitStatus
}

// dormouse runs a command line.
func dormouse(t *testing.T, args ...string) result {
	t.Helper()
	return dormouseIn(t.Context(), args...)
}

func dormouseIn(ctx context.Context, args ...string) result {
	root := rootCommand()
	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetArgs(args)
	verb, err := root.ExecuteContextC(ctx)
	status := report(&errOut, daemonFlags(verb), err)
	return result{out.String(), errOut.String(), status}
}

// ok runs a command line that must succeed and returns what it printed.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	r := dormouse(t, args...)
	require.Zero(t, r.status, "dormouse %s: %s", strings.Join(args, " "), r.err)
	return r.out
}

func fakeImageARN(name string) string {
	return arn.Image{Region: "us-east-1", Account: defaultAccountID, Name: name}.String()
}

func (f *fake) addImage(name string) *awsapi.MicrovmImageSummary {
	i := &awsapi.MicrovmImageSummary{
		Name: name, ImageArn: fakeImageARN(name), State: awsapi.MicrovmImageStateCreated,
		CreatedAt: awsapi.At(time.Now()), LatestActiveImageVersion: new("1.0"),
	}
	f.images = append(f.images, i)
	return i
}

func (f *fake) addVM(id, image string, state awsapi.MicrovmState) *awsapi.GetMicrovmOutput {
	vm := &awsapi.GetMicrovmOutput{
		MicrovmId: id, State: state, ImageArn: fakeImageARN(image), ImageVersion: "1.0", Endpoint: f.tls.Listener.Addr().String(),
		StartedAt: awsapi.At(time.Now()), MaximumDurationInSeconds: 28800,
	}
	f.vms = append(f.vms, vm)
	return vm
}

// extend answers the extension API.
func (f *fake) extend(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	what := strings.TrimPrefix(r.URL.Path, extension.Prefix)
	switch {
	case what == "events":
		found := extension.EventsOutput{}
		for _, e := range f.events {
			if q.Get("subject") == "" || e.Subject == q.Get("subject") {
				found.Events = append(found.Events, e)
			}
		}
		_ = json.NewEncoder(w).Encode(found)
	case what == "logs":
		text, known := f.logs[q.Get("source")+"/"+q.Get("kind")]
		if !known {
			awsapi.NotFound("no log of %s", q.Get("source")).Write(w)
			return
		}
		_, _ = fmt.Fprint(w, text)
		if q.Get("follow") != "" && f.follow != nil {
			_ = http.NewResponseController(w).Flush()
			_ = f.follow()
		}
	case strings.HasPrefix(what, "builds/"):
		_ = json.NewEncoder(w).Encode(f.build)
	default:
		_ = json.NewEncoder(w).Encode(extension.MicroVM{MicrovmID: strings.TrimPrefix(what, "microvms/"), MemoryMiB: new(2048), CPUs: new(1)})
	}
}
