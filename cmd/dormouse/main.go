// Command dormouse is the daemon that runs microVMs and the command line around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	containerdlog "github.com/containerd/log"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// version is set by the build (`git describe`).
var version = "development"

func main() {
	// BuildKit's and containerd's client code logs by itself; what matters comes back as an error.
	_ = containerdlog.SetLevel("fatal")
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := rootCommand().ExecuteContext(ctx); err != nil {
		var status exitStatus
		if errors.As(err, &status) {
			os.Exit(int(status))
		}
		fmt.Fprintln(os.Stderr, "dormouse:", err)
		os.Exit(1)
	}
}

// exitStatus ends the program with a status and no further text.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "dormouse",
		Short: "MicroVMs for code nobody trusts, compatible with AWS Lambda MicroVMs",
		Long: `Dormouse runs code you do not trust in microVMs that start from a memory snapshot,
sleep when idle and wake with everything still in memory, behind the API of AWS Lambda MicroVMs.

Every flag can also be set by the environment: --listen-api is DORMOUSE_LISTEN_API.`,
		SilenceUsage:      true,
		SilenceErrors:     true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd.Flags()) },
	}
	root.PersistentFlags().String("data-dir", defaultDataDir(), "folder that holds everything Dormouse keeps")
	root.AddCommand(serveCommand(), envCommand(), doctorCommand(), logsCommand(), eventsCommand(),
		accountCommand(), credentialsCommand(), prepareCommand(), versionCommand())
	return root
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
		if err := flags.Set(flag.Name, value); err != nil && failed == nil {
			failed = fmt.Errorf("%s: %w", name, err)
		}
	})
	return failed
}
