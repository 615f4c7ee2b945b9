package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
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
			settings, err := envSettings(cmd.Context(), dir, account, credential)
			if err != nil {
				return err
			}
			return printEnv(cmd, settings)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "id or name of the account to act as")
	completeAccounts(cmd)
	cmd.Flags().StringVar(&credential, "credentials", "", "id of the access key to use")
	return cmd
}

// envSettings are what the lines export. Only another key than the default one needs the database.
func envSettings(ctx context.Context, dir, account, credential string) (settings connection.Settings, err error) {
	if account == "" && credential == "" {
		return connection.FromDataDir(dir)
	}
	records, err := openRecords(ctx, dir)
	if err != nil {
		return settings, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	chosen, err := chooseKey(ctx, records, account, credential)
	if err != nil {
		return settings, err
	}
	settings, err = connection.WithoutKey(dir)
	settings.AccountID, settings.AccessKeyID, settings.SecretAccessKey = chosen.AccountID, chosen.AccessKeyID, chosen.Secret
	return settings, err
}

func printEnv(cmd *cobra.Command, settings connection.Settings) error {
	lines := [][2]string{
		{"AWS_ACCESS_KEY_ID", settings.AccessKeyID},
		{"AWS_SECRET_ACCESS_KEY", settings.SecretAccessKey},
		{"AWS_ACCOUNT_ID", settings.AccountID},
		{"AWS_REGION", settings.Region},
		{"AWS_DEFAULT_REGION", settings.Region},
		{"AWS_ENDPOINT_URL_LAMBDA_MICROVMS", settings.API},
		{"AWS_ENDPOINT_URL_LAMBDA_CORE", settings.API}, // network connectors
		{"DORMOUSE_CA_BUNDLE", cmp.Or(settings.CABundle, systemBundle())},
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

// systemBundle is the file of the system's authorities: with it a line that names a CA goes on to
// work where none is needed. The first is Debian's, the others those of Red Hat, SUSE and Alpine.
func systemBundle() string {
	for _, file := range []string{
		"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem",
	} {
		if _, err := os.Stat(file); err == nil {
			return file
		}
	}
	return ""
}
