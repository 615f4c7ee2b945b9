package main

import (
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// explainAnswer says in words what the endpoint, not the app, has answered, and tells whether it did.
func (s *session) explainAnswer(response *http.Response, vm *awsapi.GetMicrovmOutput, port int) bool {
	code := response.Header.Get("X-Aws-Proxy-Error")
	if code == "" {
		return false
	}
	id := shortID(vm.MicrovmId)
	var why string
	switch code {
	case "APP_CONNECT_FAILED":
		why = fmt.Sprintf("nothing listens on port %d in the microVM; choose another with --port, or see what the app says: %s", port, s.command("logs %s", id))
	case "APP_RESPONSE_FAILED":
		why = "the app closed the connection without a valid answer (one that speaks HTTP/2 only wants -H 'X-aws-proxy-force-h2: true'); what it says: " + s.command("logs %s", id)
	case "MICROVM_CONNECT_FAILED":
		why = fmt.Sprintf("the microVM is %s; what happened: %s", vm.State, s.command("events %s", id))
	case "MICROVM_SUSPENDED":
		why = "it sleeps and its idle policy says that only you wake it: " + s.command("resume %s", id)
	case "MICROVM_WAKE_FAILED":
		why = "it could not be woken; what happened: " + s.command("events %s", id)
	case "INGRESS_DENIED":
		why = "its ingress connectors let no HTTP in: see --ingress of dormouse run"
	case "SHELL_DENIED":
		why = "its ingress connectors let no shells in: see --shell of dormouse run"
	case "MICROVM_INTERRUPTED":
		why = "it was suspended under the request; the next one wakes it"
	case "MICROVM_WAIT_TIMEOUT", "MICROVM_TOO_MANY_WAITING":
		why = "it did not serve in time, or too many requests wait for it; what happened: " + s.command("events %s", id)
	case "REQUEST_RATE_EXCEEDED", "CONNECTION_LIMIT_EXCEEDED":
		why = fmt.Sprintf("%s for a microVM of its size; try again in a moment; the limits are the daemon's --vm-limits",
			map[bool]string{true: "too many requests a second", false: "too many connections"}[code == "REQUEST_RATE_EXCEEDED"])
	default:
		why = terminal.SafeLine(code)
	}
	s.screen.Notef("dormouse: HTTP %d from the endpoint: %s", response.StatusCode, why)
	return true
}

func (f *curlFlags) print(screen *terminal.Screen, response *http.Response) (err error) {
	out, flush := screen.Stranger()
	if f.file != "" {
		file, err := os.Create(f.file)
		if err != nil {
			return err
		}
		defer file.Close()
		out, flush = file, file.Close
	}
	if f.include {
		fmt.Fprintf(out, "%s %s\n", response.Proto, response.Status)
		if err := response.Header.Write(out); err != nil {
			return err
		}
		fmt.Fprintln(out)
	}
	ended := &lastByte{}
	if _, err := io.Copy(io.MultiWriter(out, ended), response.Body); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if f.file == "" && screen.Interactive() && ended.seen && ended.byte != '\n' {
		fmt.Fprintln(out)
	}
	return flush()
}

// lastByte remembers the last byte written.
type lastByte struct {
	byte byte
	seen bool
}

func (l *lastByte) Write(p []byte) (int, error) {
	if len(p) > 0 {
		l.byte, l.seen = p[len(p)-1], true
	}
	return len(p), nil
}
