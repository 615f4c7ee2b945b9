package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

const (
	defaultPort = 8080 // where endpoints send requests that name no port (spec/behaviour.md 7.2)
	authHeader  = "X-aws-proxy-auth"
	portHeader  = "X-aws-proxy-port"
)

func tokenCommand() *cobra.Command {
	var ports []string
	var ttl time.Duration
	var shell, header bool
	cmd := &cobra.Command{
		Use:   "token MICROVM",
		Short: "Print a token for the endpoint of a microVM",
		Long: `Print a token that opens the endpoint of a microVM: the value of the header X-aws-proxy-auth. Whoever has
it can reach the ports it names until it ends; it cannot be revoked.`,
		Example: `  dormouse token counter
  dormouse token 0c5b7f6e --port 8080 --port 9000-9010 --ttl 5m
  dormouse token --header counter | curl --cacert "$DORMOUSE_CA_BUNDLE" -H @- https://127.64.0.1:7443/`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: complete(microVMIDs, 1),
	}
	cmd.Flags().StringSliceVar(&ports, "port", []string{"8080"}, "port or range (8000-8100) it opens, or all; may be repeated")
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long it is valid: 1m to 1h, in whole minutes")
	cmd.Flags().BoolVar(&shell, "shell", false, "a token for the shell of a microVM with shell ingress")
	cmd.Flags().BoolVar(&header, "header", false, "print the whole header, name and value")
	output := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		allowed, err := parsePorts(ports)
		if err != nil {
			return err
		}
		if ttl < time.Minute || ttl%time.Minute != 0 {
			return usagef("--ttl %s is not a number of whole minutes", ttl)
		}
		s, err := connect(cmd)
		if err != nil {
			return err
		}
		id, err := s.find.MicroVM(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		mint := s.mint
		if shell {
			mint = s.mintShell
		}
		token, err := mint(cmd.Context(), id, allowed, ttl)
		if err != nil {
			return err
		}
		switch {
		case output.json():
			return s.screen.JSON(token)
		case header:
			s.screen.Printf("%s: %s\n", authHeader, token[authHeader])
		default:
			s.screen.Printf("%s\n", token[authHeader])
		}
		return nil
	}
	return cmd
}

func (s *session) mint(ctx context.Context, id string, ports []awsapi.PortSpecification, ttl time.Duration) (map[string]string, error) {
	out, err := s.API.CreateMicrovmAuthToken(ctx, &awsapi.CreateMicrovmAuthTokenInput{
		MicrovmIdentifier: id, ExpirationInMinutes: int32(ttl / time.Minute), AllowedPorts: ports,
	})
	if err != nil {
		return nil, err
	}
	return out.AuthToken, nil
}

func (s *session) mintShell(ctx context.Context, id string, _ []awsapi.PortSpecification, ttl time.Duration) (map[string]string, error) {
	out, err := s.API.CreateMicrovmShellAuthToken(ctx, &awsapi.CreateMicrovmShellAuthTokenInput{
		MicrovmIdentifier: id, ExpirationInMinutes: int32(ttl / time.Minute),
	})
	if err != nil {
		return nil, err
	}
	return out.AuthToken, nil
}
