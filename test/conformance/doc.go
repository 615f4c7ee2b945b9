// Package conformance has real AWS clients take images and VMs through their whole life, each by the same steps.
package conformance

// A client is a small program in its own language (awscli, boto3, rust, and ../e2e/sdk for JavaScript)
// that makes the calls it is told to, as JSON, and tells what the SDK made of the answers. Everything
// else is here, once: the steps are data (steps_*.go), run.go takes them, judge.go compares, report.go
// writes docs/compatibility.md. `make conformance` runs it; conformance_test.go does for `go test`.
