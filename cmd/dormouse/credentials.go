package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/connection"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// shownCredential is an access key as it is printed; the secret only when the key is made.
type shownCredential struct {
	AccountID       string    `json:"accountId"`
	AccessKeyID     string    `json:"accessKeyId"`
	SecretAccessKey string    `json:"secretAccessKey,omitempty"`
	CreatedAt       time.Time `json:"createdAt"`
}

func credentialsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "credentials",
		Short: "Create, list and delete access keys",
		Long: `Create, list and delete the access keys of accounts. They work on the data folder; a daemon that
serves from it accepts a new key, and refuses a deleted one, from the next request on.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(credentialsCreateCommand(), credentialsListCommand(), credentialsDeleteCommand())
	return cmd
}

func credentialsCreateCommand() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:   "create --account ACCOUNT",
		Short: "Create an access key and print it with its secret",
		Example: `  dormouse credentials create --account team-a
  eval "$(dormouse env --account team-a)"`,
		Args: cobra.NoArgs,
		PreRunE: func(*cobra.Command, []string) error {
			if account == "" {
				return &usageError{"--account is missing: the id or the name of an account", "see them all: dormouse account list"}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "id or name of the account")
	completeAccounts(cmd)
	output := outputFlag(cmd)
	cmd.RunE = withRecords(func(cmd *cobra.Command, records *store.Store, _ []string) error {
		owner, err := findAccount(cmd.Context(), records, account)
		if err != nil {
			return err
		}
		key := store.NewCredential(owner.ID, time.Now())
		if err := records.CreateCredential(cmd.Context(), key); err != nil {
			return err
		}
		// First of all: whatever fails from here on, the key is there.
		if output.json() {
			err = screenOf(cmd).JSON(shownCredential{key.AccountID, key.AccessKeyID, key.Secret, key.CreatedAt})
		} else {
			screenOf(cmd).Printf("account            %s (%s)\naccess key id      %s\nsecret access key  %s\n\nact with it: eval \"$(dormouse env --credentials %s%s)\"; who may read the data folder can have it printed so\n",
				owner.ID, owner.Name, key.AccessKeyID, key.Secret, key.AccessKeyID, daemonFlags(cmd))
		}
		return errors.Join(err, keepAccessKey(cmd, records, owner.ID))
	})
	return cmd
}

func credentialsListCommand() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List access keys, without their secrets",
		Example: "  dormouse credentials list --account team-a",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&account, "account", "", "id or name of the account; all by default")
	completeAccounts(cmd)
	output := outputFlag(cmd)
	cmd.RunE = withRecords(func(cmd *cobra.Command, records *store.Store, _ []string) error {
		var owner store.Account
		if account != "" {
			var err error
			if owner, err = findAccount(cmd.Context(), records, account); err != nil {
				return err
			}
		}
		keys, err := records.Credentials(cmd.Context(), owner.ID)
		if err != nil {
			return err
		}
		shown, rows := make([]shownCredential, len(keys)), make([][]string, len(keys))
		for i, key := range keys {
			shown[i] = shownCredential{AccountID: key.AccountID, AccessKeyID: key.AccessKeyID, CreatedAt: key.CreatedAt}
			rows[i] = []string{key.AccessKeyID, key.AccountID, showTime(key.CreatedAt)}
		}
		if output.json() {
			return screenOf(cmd).JSON(shown)
		}
		screenOf(cmd).Table([]string{"ACCESS KEY ID", "ACCOUNT", "CREATED"}, rows)
		return nil
	})
	return cmd
}

func credentialsDeleteCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete ACCESS-KEY-ID",
		Short: "Delete an access key, which opens nothing from then on",
		Long: `Delete an access key. Requests signed with it are refused from then on; tokens made with it stay
valid until they expire. If the default account is left without a key, the next start of the daemon makes one.`,
		Example: "  dormouse credentials delete AKIAIOSFODNN7EXAMPLE",
		Args:    cobra.ExactArgs(1),
	}
	output := outputFlag(cmd)
	cmd.RunE = withRecords(func(cmd *cobra.Command, records *store.Store, args []string) error {
		key, err := records.Credential(cmd.Context(), args[0])
		if err == nil {
			err = records.DeleteCredential(cmd.Context(), args[0])
		}
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("there is no access key %q: `dormouse credentials list` shows them", args[0])
		}
		if err != nil {
			return err
		}
		if err := keepAccessKey(cmd, records, key.AccountID); err != nil {
			return err
		}
		if output.json() {
			return screenOf(cmd).JSON(map[string]string{"accessKeyId": args[0]})
		}
		screenOf(cmd).Printf("access key %s deleted\n", args[0])
		return nil
	})
	return cmd
}

// keepAccessKey keeps the file of the default account's access key true after a change of an
// account's keys.
func keepAccessKey(cmd *cobra.Command, records *store.Store, changed string) error {
	if changed != store.DefaultAccountID {
		return nil
	}
	dir, err := dataDir(cmd)
	if err != nil {
		return err
	}
	key, err := oldestKey(cmd.Context(), records, store.DefaultAccountID)
	if errors.Is(err, errNoKey) {
		if err := os.Remove(filepath.Join(dir, connection.CredentialsFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	return writeAccessKey(dir, key)
}

var errNoKey = errors.New("the account has no access key: `dormouse credentials create --account` makes one")

// oldestKey is the access key that stands for an account.
func oldestKey(ctx context.Context, records *store.Store, accountID string) (store.Credential, error) {
	keys, err := records.Credentials(ctx, accountID)
	if err != nil {
		return store.Credential{}, err
	}
	if len(keys) == 0 {
		return store.Credential{}, errNoKey
	}
	return keys[0], nil
}

// chooseKey finds the access key to act with: the one named, else that of an account.
func chooseKey(ctx context.Context, records *store.Store, account, accessKeyID string) (store.Credential, error) {
	var owner store.Account
	var err error
	if account != "" {
		if owner, err = findAccount(ctx, records, account); err != nil {
			return store.Credential{}, err
		}
	}
	if accessKeyID == "" {
		return oldestKey(ctx, records, owner.ID)
	}
	key, err := records.Credential(ctx, accessKeyID)
	if errors.Is(err, store.ErrNotFound) {
		return store.Credential{}, fmt.Errorf("there is no access key %q: `dormouse credentials list` shows them", accessKeyID)
	}
	if err == nil && account != "" && key.AccountID != owner.ID {
		err = fmt.Errorf("the access key %s does not belong to account %s", accessKeyID, owner.ID)
	}
	return key, err
}
