package main

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// dataDir is the data folder of a command, absolute.
func dataDir(cmd *cobra.Command) (string, error) {
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

// shellQuote makes a POSIX shell read s as one word.
func shellQuote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
