package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/endpoint/localca"
)

func envCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "env",
		Short: "Print what points the AWS CLI, SDKs and curl at this daemon",
		Long: `Print export lines for the shell. After them the AWS CLI and every AWS SDK talk to this
daemon, and curl --cacert "$DORMOUSE_CA_BUNDLE" trusts the endpoints of its microVMs.`,
		Example: `  eval "$(dormouse env)"
  aws lambda-microvms list-microvms`,
		Args: cobra.NoArgs,
		RunE: runEnv,
	}
}

func runEnv(cmd *cobra.Command, _ []string) error {
	dir, err := dataDir(cmd)
	if err != nil {
		return err
	}
	settings, err := connection.FromDataDir(dir)
	if err != nil {
		return err
	}
	lines := [][2]string{
		{"AWS_ACCESS_KEY_ID", settings.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", settings.SecretAccessKey},
		{"AWS_REGION", settings.Region},
		{"AWS_DEFAULT_REGION", settings.Region},
		{"AWS_ENDPOINT_URL_LAMBDA_MICROVMS", settings.API},
		{"DORMOUSE_CA_BUNDLE", filepath.Join(dir, localca.CertFile)},
	}
	if settings.S3 != "" {
		lines = append(lines, [2]string{"AWS_ENDPOINT_URL_S3", settings.S3})
	}
	out := cmd.OutOrStdout()
	// A session token or profile left over from real AWS would make every signature wrong.
	fmt.Fprintln(out, "unset AWS_SESSION_TOKEN AWS_PROFILE")
	for _, line := range lines {
		fmt.Fprintf(out, "export %s=%s\n", line[0], shellQuote(line[1]))
	}
	return nil
}
