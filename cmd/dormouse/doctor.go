package main

import (
	"encoding/json"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/assets"
	"github.com/dormouse-dev/dormouse/internal/doctor"
)

func doctorCommand() *cobra.Command {
	var assetsDir, output string
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this host gives microVMs, and what is missing, with the fix",
		Long: `Say which accelerator and isolation level this host gives, and what is missing, with the fix for
each. The exit status is 1 if microVMs cannot run here.`,
		Example: "  dormouse doctor\n  dormouse doctor --output json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			findings := doctor.Check(cmd.Context(), doctor.Config{DataDir: dir, Assets: func() error { return verifyAssets(assetsDir) }})
			if err := printFindings(cmd, findings, output); err != nil {
				return err
			}
			if !doctor.Healthy(findings) {
				return exitStatus(1)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&assetsDir, "assets", assets.DefaultDir(), "folder that `make setup` filled")
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func verifyAssets(dir string) error {
	set, err := assets.Open(dir)
	if err != nil {
		return err
	}
	return set.Verify()
}

func printFindings(cmd *cobra.Command, findings []doctor.Finding, output string) error {
	switch output {
	case "json":
		out := json.NewEncoder(cmd.OutOrStdout())
		out.SetIndent("", "  ")
		return out.Encode(findings)
	case "text":
	default:
		return fmt.Errorf("--output is text or json, not %q", output)
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
	for _, f := range findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Status, f.Name, f.Detail)
		if f.Fix != "" {
			fmt.Fprintf(table, "\t\tfix: %s\n", f.Fix)
		}
	}
	return table.Flush()
}
