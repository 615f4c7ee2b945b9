package main

import (
	"fmt"
	"io"
	"time"
)

// progress is one line of set-up's output: "[3/9] kernel … done 12s".
type progress struct {
	number, of int
	out        io.Writer
}

// report prints the line around step, which tells whether it had anything to do.
func (p progress) report(name string, step func() (bool, error)) error {
	fmt.Fprintf(p.out, "[%d/%d] %s … ", p.number, p.of, name)
	start := time.Now()
	worked, err := step()
	outcome := "up to date"
	switch {
	case err != nil:
		outcome = "failed"
	case worked:
		outcome = "done"
	}
	fmt.Fprintf(p.out, "%s %s\n", outcome, time.Since(start).Round(time.Second))
	return err
}
