package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/endpoint/localca"
)

func envCommand() *cobra.Command {
	var account, credential string
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print what points the AWS CLI, SDKs and curl at this daemon",
		Long: `Print export lines for the shell. After them the AWS CLI and every AWS SDK talk to this
daemon, and curl --cacert "$DORMOUSE_CA_BUNDLE" trusts the endpoints of its microVMs.

The access key is the oldest one of the default account, or of --account, or the one --credentials names.`,
		Example: `  eval "$(dormouse env)"
  aws lambda-microvms list-microvms
  eval "$(dormouse env --account team-a)"`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			key, err := envKey(cmd.Context(), dir, account, credential)
			if err != nil {
				return err
			}
			return printEnv(cmd, dir, key)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "id or name of the account to act as")
	cmd.Flags().StringVar(&credential, "credentials", "", "id of the access key to use")
	return cmd
}

// envKey is the access key that the lines export. The default one is in a file of its own, so that
// nothing but that file is read for it.
func envKey(ctx context.Context, dir, account, credential string) (key accessKey, err error) {
	if account == "" && credential == "" {
		return key, readJSON(filepath.Join(dir, credentialsFile), &key)
	}
	records, err := openRecords(ctx, dir)
	if err != nil {
		return accessKey{}, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	chosen, err := chooseKey(ctx, records, account, credential)
	return accessKey{chosen.AccountID, chosen.AccessKeyID, chosen.Secret}, err
}

func printEnv(cmd *cobra.Command, dir string, key accessKey) error {
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
