package image

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/dormouse-dev/dormouse/internal/image/artifact"
	"github.com/dormouse-dev/dormouse/internal/image/buildkit"
	"github.com/dormouse-dev/dormouse/internal/image/rootfs"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/objectstore"
)

// Documented reason codes of failed builds that this package gives itself (spec/behaviour.md 4.2).
const (
	codeContainerBuild = "CONTAINER_BUILD_FAILED"
	codeDiskFull       = "DISK_STORAGE_FULL"
	codeInternal       = "INTERNAL_PLATFORM_ERROR"
)

// containerBuildFailed is the text the service records (spec/behaviour.md 4.2).
const containerBuildFailed = "The container image build failed."

var (
	// errInterrupted is why a build fails that the daemon did not live to finish.
	errInterrupted = errors.New("the daemon was restarted")
	// errTimeLimit is why a build fails that took too long.
	errTimeLimit = errors.New("the build took too long")
)

// reason is why a build failed, as its record tells the user.
type reason struct {
	code string // documented code, "" where the service records a text only
	text string
}

// stateReason is the text of the build record. The service has shown texts for failing container
// builds and hooks; where only a code is documented, the code leads the text.
func (r reason) stateReason() string {
	if r.code == "" || r.code == codeContainerBuild {
		return r.text
	}
	return r.code + ": " + r.text
}

// reasonOf tells what a user may know of an error, and can do something about.
func reasonOf(err error) reason {
	var archive *artifact.Error
	var fetch *objectstore.FetchError
	var bake *microvm.BakeError
	switch {
	case errors.Is(err, errInterrupted): // whatever else failed, failed because of it
		return reason{codeInternal, "The build was interrupted because the daemon was restarted. Please request it again."}
	case errors.As(err, &archive):
		return reason{archive.Code, archive.Text}
	case errors.As(err, &fetch):
		return reason{string(fetch.Reason), fetch.Message}
	case errors.As(err, &bake):
		return reason{"", bake.Reason}
	case errors.Is(err, buildkit.ErrDiskFull), errors.Is(err, rootfs.ErrTooLarge):
		return reason{codeDiskFull, "The container image does not fit on the disk of the microVM or of the builder."}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return reason{codeDiskFull, "The disk of this host is full."}
	case errors.Is(err, rootfs.ErrNoCommand):
		return containerFault("It has neither ENTRYPOINT nor CMD, so there is nothing to start.")
	case errors.Is(err, rootfs.ErrPlatform):
		return containerFault("It was made for another processor than this host's.")
	case errors.Is(err, rootfs.ErrInvalid):
		return containerFault("Its layers are not valid.")
	case errors.Is(err, errTimeLimit):
		return containerFault("It took longer than is allowed.")
	case errors.Is(err, buildkit.ErrDockerfile):
		return reason{codeContainerBuild, containerBuildFailed}
	default:
		return reason{codeInternal, "An internal error occurred. The log of the daemon has the details."}
	}
}

func containerFault(why string) reason {
	return reason{codeContainerBuild, fmt.Sprintf("%s %s", containerBuildFailed, why)}
}
