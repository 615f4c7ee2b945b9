package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var assetsDir string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host gives microVMs, and what is missing, with the fix",
		Long: `Say which accelerator and isolation level this host gives, and what is missing, with the fix for
each. The exit status is 1 if microVMs cannot run here.`,
		Example: "  dormouse doctor\n  dormouse doctor --output json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&assetsDir, "assets", assets.DefaultDir(), "folder that `make setup` filled")
	format := addOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		findings := doctor.Check(cmd.Context(), doctor.Config{DataDir: dir, Assets: func() error { return verifyAssets(assetsDir) }})
		err = format.print(cmd, findings, func(w io.Writer) error { return printFindings(w, findings) })
		if err == nil && !doctor.Healthy(findings) {
			err = exitStatus(1)
		}
		return err
	}
	return cmd
}

func verifyAssets(dir string) error {
	set, err := assets.Open(dir)
	if err != nil {
		return err
	}
	return set.Verify()
}

func printFindings(w io.Writer, findings []doctor.Finding) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Status, f.Name, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(table, "\t\tfix: %s\n", f.Fix)
		}
	}
	return table.Flush()
}
