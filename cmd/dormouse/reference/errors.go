package reference

import (
	"errors"
	"fmt"
	"strings"
)

// NotFoundError says that nothing has the name.
type NotFoundError struct {
	Kind         string // "image", "microVM", "microVM or image"
	Text         string
	Near         []string // names like it
	ImageWithout string   // image of that name, which has no live microVM
	Ended        string   // id of the microVM of that image that was started last, which has ended
}

func (e *NotFoundError) Error() string {
	if e.ImageWithout != "" {
		return fmt.Sprintf("image %s has no live microVM", e.ImageWithout)
	}
	return fmt.Sprintf("no %s is called %q", e.Kind, e.Text)
}

// Hint says what to do about it.
func (e *NotFoundError) Hint() string {
	switch {
	case e.ImageWithout != "":
		return "start one: dormouse run " + e.ImageWithout
	case len(e.Near) > 0:
		return "did you mean " + strings.Join(sorted(e.Near), ", ") + "?"
	case e.Kind == "image":
		return "see them all: dormouse images"
	}
	return "see them all: dormouse ps -a, dormouse images"
}

// AmbiguousError says that a name means more than one thing.
type AmbiguousError struct {
	Text       string
	Candidates []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("%q may be any of these:\n  %s", e.Text, strings.Join(e.Candidates, "\n  "))
}

// Hint says what to do about it.
func (e *AmbiguousError) Hint() string { return "name one by its id" }

func asNotFound(err error, missing **NotFoundError) bool { return errors.As(err, missing) }
