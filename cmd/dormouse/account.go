package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/store"
)

// shownAccount is an account as it is printed.
type shownAccount struct {
	AccountID string    `json:"accountId"`
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"createdAt"`
}

func showAccount(a store.Account) shownAccount {
	return shownAccount{AccountID: a.ID, Name: a.Name, CreatedAt: a.CreatedAt}
}

func accountCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "account",
		Short: "Create and list accounts",
		Long: `Create and list accounts. An account has images, microVMs and buckets of its own, and sees and
reaches nothing of others. These commands work on the data folder, also while a daemon serves from it.`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(accountCreateCommand(), accountListCommand())
	return cmd
}

func accountCreateCommand() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an account",
		Long:  "Create an account. It has no access key yet: `dormouse credentials create --account NAME` makes one.",
		Example: `  dormouse account create team-a
  dormouse account create team-b --id 123456789012 --output json`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&id, "id", "", "twelve digits; chosen at random by default")
	output := outputFlag(cmd)
	cmd.RunE = withRecords(func(cmd *cobra.Command, records *store.Store, args []string) error {
		account := store.Account{ID: id, Name: args[0], CreatedAt: time.Now().UTC()}
		if err := createAccount(cmd.Context(), records, &account); err != nil {
			return err
		}
		if output.json() {
			return screenOf(cmd).JSON(showAccount(account))
		}
		screenOf(cmd).Printf("account %s (%s) created\n", account.ID, account.Name)
		return nil
	})
	return cmd
}

var (
	accountName = regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._-]{0,63}\z`)
	accountID   = regexp.MustCompile(`\A[0-9]{12}\z`)
)

// createAccount stores an account, and gives it an id if it has none.
func createAccount(ctx context.Context, records *store.Store, account *store.Account) error {
	if !accountName.MatchString(account.Name) || accountID.MatchString(account.Name) {
		return fmt.Errorf("%q cannot be the name of an account: up to 64 letters, digits, dots, hyphens and underscores, and no twelve digits", account.Name)
	}
	if account.ID == "" {
		account.ID = store.NewAccountID()
	}
	if !accountID.MatchString(account.ID) {
		return fmt.Errorf("%q cannot be the id of an account: it has twelve digits", account.ID)
	}
	err := records.CreateAccount(ctx, *account)
	if errors.Is(err, store.ErrExists) {
		if there, err := records.Account(ctx, account.Name); err == nil {
			return fmt.Errorf("there is an account called %s already, %s", there.Name, there.ID)
		}
		return fmt.Errorf("there is an account with the id %s already", account.ID)
	}
	return err
}

func accountListCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List accounts",
		Example: "  dormouse account list",
		Args:    cobra.NoArgs,
	}
	output := outputFlag(cmd)
	cmd.RunE = withRecords(func(cmd *cobra.Command, records *store.Store, _ []string) error {
		accounts, err := records.Accounts(cmd.Context())
		if err != nil {
			return err
		}
		shown, rows := make([]shownAccount, len(accounts)), make([][]string, len(accounts))
		for i, a := range accounts {
			shown[i], rows[i] = showAccount(a), []string{a.ID, a.Name, showTime(a.CreatedAt)}
		}
		if output.json() {
			return screenOf(cmd).JSON(shown)
		}
		screenOf(cmd).Table([]string{"ACCOUNT", "NAME", "CREATED"}, rows)
		return nil
	})
	return cmd
}

// findAccount finds an account by its id or name.
func findAccount(ctx context.Context, records *store.Store, idOrName string) (store.Account, error) {
	account, err := records.Account(ctx, idOrName)
	if errors.Is(err, store.ErrNotFound) {
		return store.Account{}, fmt.Errorf("there is no account %q: `dormouse account list` shows them", idOrName)
	}
	return account, err
}
