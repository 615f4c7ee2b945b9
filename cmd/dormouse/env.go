package main

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

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
	var key accessKey
	if err := readJSON(filepath.Join(dir, credentialsFile), &key); err != nil {
		return err
	}
	var daemon listenAddresses
	if err := readJSON(filepath.Join(dir, daemonFile), &daemon); err != nil {
		return err
	}
	lines := [][2]string{
		{"AWS_ACCESS_KEY_ID", key.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", key.SecretAccessKey},
		{"AWS_REGION", daemon.Region},
		{"AWS_DEFAULT_REGION", daemon.Region},
		{"AWS_ENDPOINT_URL_LAMBDA_MICROVMS", "http://" + daemon.API},
		{"DORMOUSE_CA_BUNDLE", filepath.Join(dir, localca.CertFile)},
	}
	if daemon.S3 != "" {
		lines = append(lines, [2]string{"AWS_ENDPOINT_URL_S3", "http://" + daemon.S3})
	}
	out := cmd.OutOrStdout()
	// A session token or profile left over from real AWS would make every signature wrong.
	fmt.Fprintln(out, "unset AWS_SESSION_TOKEN AWS_PROFILE")
	for _, line := range lines {
		fmt.Fprintf(out, "export %s=%s\n", line[0], shellQuote(line[1]))
	}
	return nil
}
