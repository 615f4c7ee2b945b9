// Command dormouse is the daemon that runs microVMs and the command line around it.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"strings"
	"syscall"

	containerdlog "github.com/containerd/log"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

//go:generate go test -run TestTheReferenceIsCurrent -update .

// version is set by the build (`git describe`).
var version = "development"

func main() {
	// BuildKit's and containerd's client code logs by itself; what matters comes back as an error.
	_ = containerdlog.SetLevel("fatal")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second Ctrl-C ends what does not heed the first. SIGTERM may come twice, from a second `dormouse down`.
	context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt) })
	root := rootCommand()
	verb, err := root.ExecuteContextC(ctx)
	os.Exit(int(report(root.ErrOrStderr(), daemonFlags(verb), err)))
}

// Groups of verbs in the help.
const (
	groupUse    = "use"
	groupImages = "images"
	groupDaemon = "daemon"
)

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dormouse",
		Short: "MicroVMs for code nobody trusts, compatible with AWS Lambda MicroVMs",
		Long: `Dormouse runs code you do not trust in microVMs that start from a memory snapshot,
sleep when idle and wake with everything still in memory, behind the API of AWS Lambda MicroVMs.

Every flag can also be set by the environment: --listen-api is DORMOUSE_LISTEN_API.`,
		Example: `  dormouse up                                 # start the daemon
  dormouse build examples/counter -t counter  # a folder with a Dockerfile becomes an image
  dormouse run counter                        # a microVM of it
  dormouse curl counter /                     # a request to it`,
		Args:              knownVerb,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
		PersistentPreRunE: prepareFlags,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(misused)
	root.PersistentFlags().String("data-dir", defaultDataDir(), "folder that holds everything Dormouse keeps")
	portableDefault(root.PersistentFlags(), "data-dir", "~/.local/share/dormouse, for root /var/lib/dormouse")
	root.AddGroup(&cobra.Group{ID: groupUse, Title: "MicroVMs:"}, &cobra.Group{ID: groupImages, Title: "Images:"},
		&cobra.Group{ID: groupDaemon, Title: "The daemon:"})
	add(root, groupUse, runCommand(), curlCommand(), shellCommand(), execCommand(), psCommand(), suspendCommand(), resumeCommand(), rmCommand(),
		inspectCommand(), logsCommand(), eventsCommand(), tokenCommand())
	add(root, groupImages, buildCommand(), imagesCommand())
	add(root, groupDaemon, upCommand(), downCommand(), serveCommand(), envCommand(), doctorCommand(), prepareCommand(),
		accountCommand(), credentialsCommand())
	add(root, "", completionCommand(), versionCommand())
	return root
}

func add(root *cobra.Command, group string, verbs ...*cobra.Command) {
	for _, verb := range verbs {
		verb.GroupID = group
		verb.SuggestFor = knownElsewhere[verb.Name()]
		root.AddCommand(verb)
		checkArguments(verb)
	}
}

// knownElsewhere are words of other tools for what a verb does, or does instead.
var knownElsewhere = map[string][]string{
	"curl": {"call"}, "logs": {"attach"}, "shell": {"ssh", "attach", "console"}, "exec": {"ssh"}, "suspend": {"stop", "pause", "sleep"},
	"resume": {"wake", "unpause"}, "rm": {"delete", "remove", "kill", "terminate", "rmi"}, "ps": {"ls", "list", "status"},
	"run": {"launch", "create"}, "up": {"start", "daemon"}, "down": {"stop", "shutdown"},
}

// checkArguments has arguments that a verb does not take reported as misuse.
func checkArguments(verb *cobra.Command) {
	if check := verb.Args; check != nil {
		verb.Args = func(cmd *cobra.Command, args []string) error {
			return misused(cmd, wrongArguments(cmd, args, check(cmd, args)))
		}
	}
	for _, part := range verb.Commands() {
		checkArguments(part)
	}
}

// prepareFlags completes the flags of a verb from the environment, and checks them.
func prepareFlags(cmd *cobra.Command, _ []string) error {
	if err := fromEnvironment(cmd.Flags()); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return misused(cmd, err)
	}
	return misused(cmd, cmd.ValidateFlagGroups())
}

// fromEnvironment sets flags that were not given from DORMOUSE_* variables.
func fromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := "DORMOUSE_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		value, set := os.LookupEnv(name)
		if flag.Changed || !set || flag.Name == "help" {
			return
		}
		err := errors.Join(flags.Set(flag.Name, value), flags.SetAnnotation(flag.Name, ofEnvironment, nil))
		if flag.Name == "data-dir" { // only where it was typed it goes before the variables of AWS
			flag.Changed = false
		}
		if err != nil && failed == nil {
			failed = usagef("%s: %v", name, err)
		}
	})
	return failed
}

// ofEnvironment marks a flag that has its value from there.
const ofEnvironment = "of-environment"

// portableDefault words the default of a flag for the reference, which must not depend on who writes it.
func portableDefault(flags *pflag.FlagSet, flag, words string) {
	if err := flags.SetAnnotation(flag, portable, []string{words}); err != nil {
		panic(err) // no such flag
	}
}

const portable = "portable-default"
