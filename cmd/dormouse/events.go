package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func eventsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "events ID|IMAGE-ARN",
		Short: "Print the state changes of a microVM or image, newest first, as JSON lines",
		Long: `Print the state changes of a microVM or image, newest first, one JSON object per line: what
caused them, which API call, and how long each phase took (nanoseconds; phases add up to the total).`,
		Example: "  dormouse events microvm-0c5b7f6e-2b1d-4c5f-8a55-3f6f9a1f2c77",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := dataDir(cmd)
			if err != nil {
				return err
			}
			records, err := openRecords(cmd.Context(), dir)
			if err != nil {
				return err
			}
			defer records.Close()
			const most = 1000
			subject, err := eventSubject(cmd.Context(), records, args[0])
			if err != nil {
				return err
			}
			events, _, err := records.Events(cmd.Context(), subject, store.Page{Limit: most})
			if err != nil {
				return err
			}
			out := json.NewEncoder(cmd.OutOrStdout())
			for _, e := range events {
				if err := out.Encode(e); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// eventSubject is the id under which events of a microVM or image are kept. The API tells an
// image's ARN and not its id.
func eventSubject(ctx context.Context, records *store.Store, name string) (string, error) {
	if !strings.HasPrefix(name, "arn:") {
		return name, nil
	}
	parsed, err := arn.ParseImage(name)
	if err != nil {
		return "", err
	}
	image, err := records.ImageByName(ctx, parsed.Account, parsed.Region, parsed.Name)
	if err != nil {
		return "", fmt.Errorf("find image %s: %w", name, err)
	}
	return image.ID, nil
}
