package main

import (
	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
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
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := dataDir(cmd)
		if err != nil {
			return err
		}
		findings := doctor.Check(cmd.Context(), doctor.Config{DataDir: dir, Assets: func() error { return verifyAssets(assetsDir) }})
		screen := screenOf(cmd)
		if output.json() {
			err = screen.JSON(findings)
		} else {
			printFindings(screen, findings)
		}
		if err == nil && !doctor.Healthy(findings) {
			err = exitFailed
		}
		return err
	}
	cmd.Flags().StringVar(&assetsDir, "assets", assets.DefaultDir(), "folder that make setup filled")
	portableDefault(cmd.Flags(), "assets", "~/.cache/dormouse")
	return cmd
}

func verifyAssets(dir string) error {
	set, err := assets.Open(dir)
	if err != nil {
		return err
	}
	return set.Verify()
}

func printFindings(screen *terminal.Screen, findings []doctor.Finding) {
	var rows [][]string
	for _, f := range findings {
		rows = append(rows, []string{screen.State(string(f.Status)), screen.Paint(terminal.Strong, f.Name), terminal.SafeLine(f.Detail)})
		if f.Fix != "" {
			rows = append(rows, []string{"", "", "fix: " + terminal.SafeLine(f.Fix)})
		}
	}
	screen.Table(nil, rows)
}
