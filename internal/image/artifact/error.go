package artifact

import "fmt"

// Documented reason codes of a refused archive (spec/behaviour.md 4.2).
const (
	CodeDockerfileNotFound = "ARCHIVE_DOCKERFILE_NOT_FOUND"
	CodeInvalid            = "ARCHIVE_INVALID"
)

// Error is a fault of the archive. Text is for the user; Err, if any, is the cause, for the operator.
type Error struct {
	Code string
	Text string
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Code + ": " + e.Text
	}
	return e.Code + ": " + e.Text + " (" + e.Err.Error() + ")"
}

func (e *Error) Unwrap() error { return e.Err }

// Reason is what a build records of this error: a documented code and a text for the user.
func (e *Error) Reason() (code, text string) { return e.Code, e.Text }

func invalid(cause error, format string, args ...any) *Error {
	return &Error{
		Code: CodeInvalid,
		Text: "The code artifact is not a usable zip archive: " + fmt.Sprintf(format, args...) + ".",
		Err:  cause,
	}
}
