//go:build !amd64

package kvm

import (
	"context"
	"errors"
	"fmt"
	"runtime"
)

// Probe has no guest code for this processor yet.
func Probe(context.Context) (Speed, error) {
	return Speed{}, fmt.Errorf("probe KVM on %s: %w", runtime.GOARCH, errors.ErrUnsupported)
}
