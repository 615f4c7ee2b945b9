// Package loggroup tells where the lines of a microVM or a build go: to which log group and stream, as whom, or nowhere.
package loggroup

import (
	"encoding/json"
	"time"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Destination is a log stream in a log group of an account.
type Destination struct {
	AccountID, Region string
	Group, Stream     string
	// RoleARN is who sends: the execution role of a microVM, the build role of a build. Without one nothing is sent to
	// CloudWatch (spec/behaviour.md 11).
	RoleARN string
}

// Part is one of the streams that a build has.
type Part string

// The streams of a build (spec/behaviour.md 15): the Dockerfile's, the microVM's that the snapshot is taken of, and the
// one's that is validated.
const (
	BuildPart    Part = "build"
	SnapshotPart Part = "snapshot"
	ValidatePart Part = "validate"
)

// settings is the `logging` member of a request, as it was kept.
type settings struct {
	CloudWatch *struct {
		LogGroup  *string `json:"logGroup"`
		LogStream *string `json:"logStream"`
	} `json:"cloudWatch"`
	Disabled *struct{} `json:"disabled"`
}

// read parses what was checked when it came; nil says nothing.
func read(wire []byte) (s settings) {
	if len(wire) > 0 {
		_ = json.Unmarshal(wire, &s) // it is an encoding of ours
	}
	return s
}

// Disabled tells whether a `logging` member says that nothing is to be kept.
func Disabled(wire []byte) bool { return read(wire).Disabled != nil }

// OfMicroVM is where the lines of a microVM go. Without `logging` of its own it has the default group, whatever its image
// has (spec/behaviour.md 15).
func OfMicroVM(vm store.MicroVM) Destination {
	name := vm.ImageID
	if image, err := arn.ParseImage(vm.ImageARN); err == nil {
		name = image.Name
	}
	d := Destination{AccountID: vm.AccountID, Region: vm.Region, RoleARN: vm.ExecutionRoleARN}
	d.name(vm.WireLogging, name, vm.StartedAt, vm.ImageVersion, vm.ID)
	return d
}

// OfBuild is where the lines of a part of a build go.
func OfBuild(i store.Image, v store.ImageVersion, b store.Build, part Part) Destination {
	d := Destination{AccountID: i.AccountID, Region: i.Region, RoleARN: v.Config.BuildRoleARN}
	d.name(v.Config.WireLogging, i.Name, b.CreatedAt, v.Version, string(part)+"-"+b.ID)
	return d
}

func (d *Destination) name(wire []byte, image string, begun time.Time, version, source string) {
	d.Group = "/aws/lambda-microvms/" + image
	d.Stream = begun.UTC().Format("2006/01/02") + "[" + version + "]" + source
	if own := read(wire).CloudWatch; own != nil {
		if own.LogGroup != nil {
			d.Group = *own.LogGroup
		}
		if own.LogStream != nil {
			d.Stream = *own.LogStream
		}
	}
}
