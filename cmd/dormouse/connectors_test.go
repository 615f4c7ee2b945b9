package main

import (
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestConnectorsAreReadAndNamedWithTheSameWords(t *testing.T) {
	const own = "arn:aws:lambda:us-east-1:000000000000:network-connector:mine"
	arns, err := ingress.arns("us-east-1", []string{"none", "HTTP", "shell_ingress", own})
	require.NoError(t, err)
	require.Equal(t, []string{
		"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:NO_INGRESS",
		"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS",
		"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:SHELL_INGRESS", own,
	}, arns)
	require.Equal(t, "none, http, shell, "+own, ingress.names(arns))
	require.Equal(t, "", egress.names(nil))
	arns, err = egress.arns("us-east-1", []string{"none", "internet"})
	require.NoError(t, err)
	require.Equal(t, "none, internet", egress.names(arns))
}

func TestConnectorsOfAnEmptyVariableAreRefused(t *testing.T) {
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	typed := flags.StringSlice("egress", nil, "")
	arns, err := egress.arns("us-east-1", *typed)
	require.NoError(t, err)
	require.Nil(t, arns, "left out, they are those of the image")
	require.NoError(t, flags.Parse([]string{"--egress", ""}))
	_, err = egress.arns("us-east-1", *typed)
	require.EqualError(t, err, "--egress has no value: it is internet, none, or the ARN of a connector")
}
