package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

func resumeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "resume MICROVM...",
		Short:   "Wake microVMs that sleep",
		Long:    "Wake microVMs that sleep, with everything still in memory. A request to its endpoint does the same.",
		Example: "  dormouse resume counter",
	}
	return moving(cmd, "is awake", awsapi.MicrovmStateRunning, func(ctx context.Context, s *session, id string) error {
		_, err := s.API.ResumeMicrovm(ctx, &awsapi.ResumeMicrovmInput{MicrovmIdentifier: id})
		return err
	})
}
