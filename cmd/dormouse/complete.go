package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
)

// completeLimit bounds a look-up while somebody waits for the Tab key.
const completeLimit = 300 * time.Millisecond

// names lists what may be typed, with a description after a tab.
type names func(ctx context.Context, s *session) ([]string, error)

// complete completes the first most arguments (-1 = all) with names from the daemon. Without a daemon
// that answers there are none.
func complete(list names, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completeLimit)
		defer cancel()
		if fromEnvironment(cmd.Flags()) != nil { // the hook that does this does not run for completions
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		s, err := connect(cmd)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		found, _ := list(ctx, s)
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

func microVMIDs(ctx context.Context, s *session) (found []string, err error) {
	all, err := reference.MicroVMs(ctx, s.API, nil)
	for _, vm := range all {
		if reference.Live(vm.State) {
			found = append(found, shortID(vm.MicrovmId)+"\t"+reference.ImageName(vm.ImageArn)+" "+string(vm.State))
		}
	}
	return found, err
}

func imageNames(ctx context.Context, s *session) (found []string, err error) {
	all, err := reference.Images(ctx, s.API, "")
	for _, i := range all {
		found = append(found, i.Name+"\timage "+string(i.State))
	}
	return found, err
}

func anyNames(ctx context.Context, s *session) ([]string, error) {
	vms, err := microVMIDs(ctx, s)
	if err != nil {
		return nil, err
	}
	images, err := imageNames(ctx, s)
	return append(vms, images...), err
}
