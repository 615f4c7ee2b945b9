package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/reference"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// completeLimit bounds a look-up while somebody waits for the Tab key.
const completeLimit = 300 * time.Millisecond

// names lists what may be typed, with a description after a tab.
type names func(ctx context.Context, s *session) ([]string, error)

// complete completes the first most arguments (-1 = all) with names from the daemon. Without a daemon
// that answers there are none.
func complete(list names, most int) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
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
		var found []string
		if strings.Contains(begun, ":") {
			found, _ = imageVersions(ctx, s, begun)
		} else {
			found, _ = list(ctx, s)
		}
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

// imageVersions completes what begins with a name and a colon, as NAME:VERSION.
func imageVersions(ctx context.Context, s *session, begun string) (found []string, err error) {
	name, _, _ := strings.Cut(begun, ":")
	image, err := s.find.Image(ctx, name)
	if err != nil {
		return nil, err
	}
	versions, err := s.versions(ctx, image)
	for _, v := range versions {
		found = append(found, name+":"+v.ImageVersion+"\t"+string(v.State)+" "+string(v.Status))
	}
	return found, err
}

func completeAccounts(cmd *cobra.Command) {
	if err := cmd.RegisterFlagCompletionFunc("account", accounts); err != nil {
		panic(err) // no such flag
	}
}

// accounts completes --account from the data folder.
func accounts(cmd *cobra.Command, _ []string, _ string) (found []string, _ cobra.ShellCompDirective) {
	_ = withRecords(func(cmd *cobra.Command, records *store.Store, _ []string) error {
		all, err := records.Accounts(cmd.Context())
		for _, a := range all {
			found = append(found, a.Name+"\t"+a.ID)
		}
		return err
	})(cmd, nil)
	return found, cobra.ShellCompDirectiveNoFileComp
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
