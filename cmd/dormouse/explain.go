package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// explain is the one place where errors become words, advice and exit statuses.
func explain(err error) (text, hint string, status exitStatus) {
	text, status = err.Error(), exitFailed
	var advice interface{ Hint() string }
	if errors.As(err, &advice) {
		hint = advice.Hint()
	}
	var (
		usage     *usageError
		ambiguous *reference.AmbiguousError
		missing   *reference.NotFoundError
		noDaemon  *connection.NoDaemonError
		refusal   *awsapi.Error
		cut       *interrupted
		lost      *cutOff
		untrusted *tls.CertificateVerificationError
	)
	if errors.As(err, &untrusted) {
		hint = untrustedAdvice(os.Getenv("DORMOUSE_CA_BUNDLE"))
	}
	switch {
	case errors.As(err, &cut):
		return text, hint, exitInterrupted
	case errors.Is(err, context.Canceled):
		return "interrupted", "", exitInterrupted
	case errors.As(err, &lost):
		return text, hint, exitCut
	case errors.As(err, &usage), errors.As(err, &ambiguous):
		return text, hint, exitUsage
	case errors.As(err, &missing):
		return text, hint, exitNotFound
	case errors.As(err, &noDaemon):
		return text, "start one: dormouse up", exitUnreachable
	case errors.As(err, &refusal):
		return explainRefusal(err, refusal, hint)
	}
	if address, is := connection.Unreachable(err); is {
		if address == "" { // its name is unknown
			return "no daemon answers: " + text, "start it: dormouse up", exitUnreachable
		}
		return "no daemon answers at " + address, "start it: dormouse up", exitUnreachable
	}
	return text, hint, status
}

// untrustedAdvice says what to do about a certificate that does not fit. An environment with keys and an endpoint
// says what to check against, also when it is from before the daemon got other certificates.
func untrustedAdvice(bundle string) string {
	if bundle == "" {
		return "what clients are to check it against is said by: dormouse up --endpoint-ca"
	}
	return "it was checked against DORMOUSE_CA_BUNDLE, " + bundle + `; after the daemon got other certificates: eval "$(dormouse env)"`
}

// explainRefusal words what the API refused. The code stays in the text: it is what the documentation of AWS knows.
func explainRefusal(err error, e *awsapi.Error, hint string) (string, string, exitStatus) {
	text := e.Message
	if text == "" {
		text = "the daemon refused"
	}
	if e.Code != "" {
		text += " (" + string(e.Code) + ")"
	}
	if around := strings.TrimSuffix(err.Error(), e.Error()); around != err.Error() {
		text = around + text
	}
	switch e.Status() {
	case http.StatusNotFound:
		if e.Code != awsapi.ResourceNotFoundException {
			return "the server has no such operation: " + text, orElse(hint, "is it a Dormouse of this version?"), exitFailed
		}
		return text, hint, exitNotFound
	case http.StatusPaymentRequired:
		return text, orElse(hint, "what there is: dormouse ps, dormouse images; limits are flags of the daemon: dormouse serve --help"), exitRefused
	case http.StatusForbidden, http.StatusUnauthorized:
		if e.Code == awsapi.AccessDeniedException { // the keys are good, the account is another
			return text, orElse(hint, `an account has what is its own; to act as another: eval "$(dormouse env --account NAME)"`), exitRefused
		}
		return text, orElse(hint, "are these the keys of this daemon? see dormouse env"), exitRefused
	case http.StatusTooManyRequests:
		return text, orElse(hint, "try again in a moment"), exitRefused
	}
	if e.Status() >= http.StatusInternalServerError {
		return text + ", request " + e.RequestID, orElse(hint, "the daemon's log says more"), exitFailed
	}
	return text, hint, exitRefused
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
