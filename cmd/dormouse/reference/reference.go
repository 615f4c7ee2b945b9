// Package reference finds the microVM or image that a person means by a name, an id or the beginning of one.
package reference

import (
	"context"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// Lists are the operations that names are looked up with.
type Lists interface {
	ListMicrovms(context.Context, *awsapi.ListMicrovmsInput) (*awsapi.ListMicrovmsOutput, error)
	ListMicrovmImages(context.Context, *awsapi.ListMicrovmImagesInput) (*awsapi.ListMicrovmImagesOutput, error)
}

// Finder looks things up in the lists of an account.
type Finder struct{ Lists Lists }

// Image is an image, or one version of it.
type Image struct {
	Name    string
	ARN     string
	State   awsapi.MicrovmImageState
	Version string // "" where none was named
	Latest  string // newest ACTIVE version, "" if there is none
}

func (i Image) String() string {
	if i.Version == "" {
		return i.Name
	}
	return i.Name + ":" + i.Version
}

const idPrefix = "microvm-"

var (
	fullID    = regexpOnce(`\Amicrovm-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z`)
	beginning = regexpOnce(`\A[0-9a-f][0-9a-f-]{0,35}\z`)
	wholeUUID = regexpOnce(`\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\z`)
	version   = regexpOnce(`\A[0-9]+(\.[0-9]+)?\z`)
)

// IsID tells whether text is the whole id of a microVM.
func IsID(text string) bool { return fullID().MatchString(text) }

// IsUUID tells whether text is a UUID, as ids of builds are.
func IsUUID(text string) bool { return wholeUUID().MatchString(text) }

// MicroVM finds the id of a microVM by its id, the beginning of that (with or without "microvm-"),
// or the name of an image that has exactly one live microVM. Errors: *NotFoundError, *AmbiguousError.
func (f Finder) MicroVM(ctx context.Context, text string) (string, error) {
	if IsID(text) {
		return text, nil
	}
	all, err := MicroVMs(ctx, f.Lists, nil)
	if err != nil {
		return "", err
	}
	matches := matching(all, text)
	switch len(matches) {
	case 0:
		return "", f.noMicroVM(ctx, text, all)
	case 1:
		return matches[0].MicrovmId, nil
	}
	ambiguous := &AmbiguousError{Text: text}
	for _, vm := range matches {
		ambiguous.Candidates = append(ambiguous.Candidates, vm.MicrovmId+"  "+string(vm.State)+"  "+ImageName(vm.ImageArn)+":"+vm.ImageVersion)
	}
	return "", ambiguous
}

// matching are the microVMs that text may mean. Ended ones count only where no live one matches.
func matching(all []awsapi.MicrovmItem, text string) []awsapi.MicrovmItem {
	var live, ended []awsapi.MicrovmItem
	start := strings.TrimPrefix(text, idPrefix)
	for _, vm := range all {
		byID := beginning().MatchString(start) && strings.HasPrefix(vm.MicrovmId, idPrefix+start)
		switch {
		case !byID && !isOf(vm, text):
		case Live(vm.State):
			live = append(live, vm)
		case byID:
			ended = append(ended, vm)
		}
	}
	if len(live) > 0 {
		return live
	}
	return ended
}

// isOf tells whether text names the image of a microVM.
func isOf(vm awsapi.MicrovmItem, text string) bool {
	name, wanted := splitVersion(text)
	return (name == ImageName(vm.ImageArn) || name == vm.ImageArn) && (wanted == "" || wanted == vm.ImageVersion)
}

// Live tells whether a microVM has not ended and is not ending.
func Live(state awsapi.MicrovmState) bool {
	return state != awsapi.MicrovmStateTerminated && state != awsapi.MicrovmStateTerminating
}

// Image finds an image by its name or ARN, with or without ":VERSION". Errors: *NotFoundError.
func (f Finder) Image(ctx context.Context, text string) (Image, error) {
	name, wanted := splitVersion(text)
	filter := ImageName(name)
	all, err := Images(ctx, f.Lists, filter)
	if err != nil {
		return Image{}, err
	}
	for _, i := range all {
		if i.Name == name || i.ImageArn == name {
			found := Image{Name: i.Name, ARN: i.ImageArn, State: i.State, Version: wanted}
			if i.LatestActiveImageVersion != nil {
				found.Latest = *i.LatestActiveImageVersion
			}
			return found, nil
		}
	}
	missing := &NotFoundError{Kind: "image", Text: text}
	for _, i := range all {
		missing.Near = append(missing.Near, i.Name)
	}
	return Image{}, missing
}

// Target is what a name means where both kinds are welcome: an image, or else a microVM.
type Target struct {
	MicroVM string // id
	Image   *Image
}

// Any finds an image by its name, or else a microVM. A name that is also the beginning of the id of a
// live microVM is ambiguous.
func (f Finder) Any(ctx context.Context, text string) (Target, error) {
	if IsID(text) {
		return Target{MicroVM: text}, nil
	}
	image, err := f.Image(ctx, text)
	if missing := (*NotFoundError)(nil); err != nil && !asNotFound(err, &missing) {
		return Target{}, err
	}
	if err != nil {
		id, err := f.MicroVM(ctx, text)
		if missing := (*NotFoundError)(nil); asNotFound(err, &missing) {
			missing.Kind = "microVM or image"
		}
		return Target{MicroVM: id}, err
	}
	if start := strings.TrimPrefix(text, idPrefix); beginning().MatchString(start) {
		vms, err := MicroVMs(ctx, f.Lists, nil)
		if err != nil {
			return Target{}, err
		}
		ambiguous := &AmbiguousError{Text: text, Candidates: []string{"the image " + image.ARN}}
		for _, vm := range vms {
			if Live(vm.State) && strings.HasPrefix(vm.MicrovmId, idPrefix+start) {
				ambiguous.Candidates = append(ambiguous.Candidates, vm.MicrovmId)
			}
		}
		if len(ambiguous.Candidates) > 1 {
			return Target{}, ambiguous
		}
	}
	return Target{Image: &image}, nil
}

// splitVersion splits NAME:VERSION, also where NAME is an ARN. The version 2 is 2.0, and the version
// "latest" is none: it is what one gets without.
func splitVersion(text string) (name, wanted string) {
	at := strings.LastIndexByte(text, ':')
	if at < 0 {
		return text, ""
	}
	name, wanted = text[:at], text[at+1:]
	switch {
	case wanted == "latest":
		return name, ""
	case strings.HasPrefix(text, "arn:") && strings.Count(text, ":") < 7: // the colon before an ARN's name
		return text, ""
	case version().MatchString(wanted):
		return name, Version(wanted)
	}
	return text, ""
}

// Version is a version as the API writes it: 2 is 2.0.
func Version(text string) string {
	if version().MatchString(text) && !strings.Contains(text, ".") {
		return text + ".0"
	}
	return text
}

// ImageName is the name in the ARN of an image, or the text itself if it is none.
func ImageName(text string) string {
	if parsed, err := arn.ParseImage(text); err == nil {
		return parsed.Name
	}
	return text
}

// noMicroVM says that nothing was found, and what may have been meant.
func (f Finder) noMicroVM(ctx context.Context, text string, all []awsapi.MicrovmItem) error {
	missing := &NotFoundError{Kind: "microVM", Text: text}
	var last awsapi.MicrovmItem // the list does not tell when they ended
	for _, vm := range all {
		if isOf(vm, text) && (last.MicrovmId == "" || vm.StartedAt.After(last.StartedAt.Time)) {
			last = vm
		}
	}
	missing.Ended = last.MicrovmId
	if image, err := f.Image(ctx, text); err == nil {
		missing.ImageWithout = image.Name
	}
	return missing
}

func regexpOnce(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// sorted returns names in order, each once.
func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
