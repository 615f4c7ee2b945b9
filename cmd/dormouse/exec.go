package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/remote"
)

func execCommand() *cobra.Command {
	var tty, noInput bool
	cmd := &cobra.Command{
		Use:   "exec MICROVM COMMAND...",
		Short: "Run a command in a microVM",
		Long: `Run a command in a microVM, as root beside its app. Standard input, output and errors are passed on byte by
byte, and the exit status is that of the command, or 128 and the number of the signal that ended it. With -t it gets
a terminal. The microVM must have been started with dormouse run --shell; if it sleeps it wakes. No shell reads the
command: for pipes and variables run sh -c. Flags come before MICROVM. Ctrl-C interrupts the command; what it
started and left in its session ends with the connection.`,
		Example: `  dormouse exec counter ls -l
  dormouse exec counter sh -c 'echo $HOSTNAME; ls | wc -l'
  tar c src | dormouse exec counter tar x -C /app
  dormouse exec -t counter python3`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: complete(microVMIDs, 1),
	}
	flags := cmd.Flags()
	flags.SetInterspersed(false) // what follows the microVM is the command's
	flags.BoolVarP(&tty, "tty", "t", false, "give the command a terminal")
	flags.BoolVarP(&noInput, "no-input", "n", false, "do not read standard input")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, command := args[0], args[1:]
		if command[0] == "--" {
			command = command[1:]
		}
		if len(command) == 0 {
			return usagef("COMMAND is missing")
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		p := &remote.Process{Command: command, Output: cmd.OutOrStdout(), Errors: cmd.ErrOrStderr()}
		if !noInput {
			p.Input = cmd.InOrStdin()
		}
		if tty {
			if p.Terminal = remote.TerminalOf(os.Stdin); p.Terminal == nil {
				return usagef("-t needs a terminal, and standard input is none")
			}
		}
		return s.join(cmd.Context(), name, p)
	}
	return cmd
}
