package main

import (
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// buildFlags are the flags of build.
type buildFlags struct {
	name, bucket, description string
	memory                    memorySize
	env, egress               []string
	hooks                     string
	hooksPort                 int
	allCapabilities           bool
	detach, quiet             bool
	output                    *outputFormat
}

const defaultHooksPort = 9000

func (f *buildFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVarP(&f.name, "tag", "t", "", "name of the image; default is the name of the folder")
	flags.VarP(&f.memory, "memory", "m", "memory of its microVMs: "+memorySizes()+"; default is 2g; they may use four times that for a while")
	flags.StringArrayVarP(&f.env, "env", "e", nil, "environment variable NAME=VALUE, or NAME with the value it has here; may be repeated")
	flags.StringVar(&f.hooks, "hooks", "", "hooks the app serves, with their time limits: all, or some of ready, validate, run, resume, suspend, terminate (ready=2m,run)")
	flags.IntVar(&f.hooksPort, "hooks-port", defaultHooksPort, "port of the hooks")
	flags.StringSliceVar(&f.egress, "egress", nil, "what the build and its microVMs may reach: internet (default), none, or the ARN of a connector")
	flags.BoolVar(&f.allCapabilities, "all-capabilities", false, "give the app all capabilities of the guest's kernel")
	flags.StringVar(&f.description, "description", "", "what the version is")
	flags.StringVar(&f.bucket, "bucket", "", "S3 bucket for the packed folder; default is dormouse-code-ACCOUNT")
	flags.BoolVarP(&f.quiet, "quiet", "q", false, "no log; print only NAME:VERSION")
	flags.BoolVarP(&f.detach, "detach", "d", false, "do not wait for the build")
}

// buildRequest is the part of a request that the flags alone decide.
type buildRequest struct {
	env   map[string]string
	hooks *awsapi.Hooks
}

func (f *buildFlags) request() (r buildRequest, err error) {
	if r.env, err = parseEnv(f.env); err != nil {
		return r, err
	}
	r.hooks, err = parseHooks(f.hooks, f.hooksPort)
	return r, err
}

// parseEnv reads NAME=VALUE; a NAME alone takes the value it has here, and nothing if it has none.
func parseEnv(texts []string) (map[string]string, error) {
	var env map[string]string
	for _, text := range texts {
		name, value, given := strings.Cut(text, "=")
		if name == "" {
			return nil, usagef("--env %q has no name", text)
		}
		if !given {
			if value, given = os.LookupEnv(name); !given {
				continue
			}
		}
		if env == nil {
			env = map[string]string{}
		}
		env[name] = value
	}
	return env, nil
}

// parseHooks reads all, or HOOK[=TIME],…; nothing is no hooks.
func parseHooks(text string, port int) (*awsapi.Hooks, error) {
	if text == "" {
		return nil, nil
	}
	if port < 1 || port > 65535 {
		return nil, usagef("--hooks-port %d is no port", port)
	}
	if text == "all" {
		text = "ready,validate,run,resume,suspend,terminate"
	}
	image, vm := &awsapi.MicrovmImageHooks{}, &awsapi.MicrovmHooks{}
	for _, hook := range strings.Split(text, ",") {
		name, limit, limited := strings.Cut(strings.TrimSpace(hook), "=")
		var seconds *int32
		if limited {
			n, err := wholeSeconds(limit)
			if err != nil {
				return nil, usagef("--hooks %s: %v", hook, err)
			}
			seconds = &n
		}
		enabled := new(awsapi.HookStateEnabled)
		switch name {
		case "ready":
			image.Ready, image.ReadyTimeoutInSeconds = enabled, seconds
		case "validate":
			image.Validate, image.ValidateTimeoutInSeconds = enabled, seconds
		case "run":
			vm.Run, vm.RunTimeoutInSeconds = enabled, seconds
		case "resume":
			vm.Resume, vm.ResumeTimeoutInSeconds = enabled, seconds
		case "suspend":
			vm.Suspend, vm.SuspendTimeoutInSeconds = enabled, seconds
		case "terminate":
			vm.Terminate, vm.TerminateTimeoutInSeconds = enabled, seconds
		default:
			return nil, usagef("--hooks: there is no hook %q: ready, validate, run, resume, suspend, terminate, or all", name)
		}
	}
	return &awsapi.Hooks{Port: new(int32(port)), MicrovmImageHooks: image, MicrovmHooks: vm}, nil
}

// hookWords says which hooks are enabled, as --hooks takes them.
func hookWords(h *awsapi.Hooks) string {
	if h == nil {
		return "-"
	}
	image, vm := value(h.MicrovmImageHooks), value(h.MicrovmHooks)
	var words []string
	for _, hook := range []struct {
		name    string
		state   *awsapi.HookState
		seconds *int32
	}{
		{"ready", image.Ready, image.ReadyTimeoutInSeconds}, {"validate", image.Validate, image.ValidateTimeoutInSeconds},
		{"run", vm.Run, vm.RunTimeoutInSeconds}, {"resume", vm.Resume, vm.ResumeTimeoutInSeconds},
		{"suspend", vm.Suspend, vm.SuspendTimeoutInSeconds}, {"terminate", vm.Terminate, vm.TerminateTimeoutInSeconds},
	} {
		if value(hook.state) != awsapi.HookStateEnabled {
			continue
		}
		word := hook.name
		if hook.seconds != nil {
			word += "=" + span(time.Duration(*hook.seconds)*time.Second)
		}
		words = append(words, word)
	}
	return orElse(strings.Join(words, ","), "-")
}
