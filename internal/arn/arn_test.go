package arn

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestImageARNsAreReadAndWrittenBack(t *testing.T) {
	for text, want := range map[string]Image{
		"arn:aws:lambda:us-east-1:123456789012:microvm-image:my-image": {"us-east-1", "123456789012", "my-image"},
		"arn:aws:lambda:eu-west-1:aws:microvm-image:al2023-1":          ManagedImage("eu-west-1", "al2023-1"),
	} {
		got, err := ParseImage(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
		require.Equal(t, want.Account == "aws", got.Managed())
	}
}

func TestConnectorARNsAreReadAndWrittenBack(t *testing.T) {
	for text, want := range map[string]Connector{
		"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS": ManagedConnector("us-east-1", "HTTP_INGRESS"),
		"arn:aws:lambda:us-east-1:123456789012:network-connector:nc-1":                      {"us-east-1", "123456789012", "nc-1"},
	} {
		got, err := ParseConnector(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
}

func TestBadARNsAreRefusedWithTheReason(t *testing.T) {
	image := func(s string) error { _, err := ParseImage(s); return err }
	connector := func(s string) error { _, err := ParseConnector(s); return err }
	for _, c := range []struct {
		parse func(string) error
		text  string
		want  Reason
	}{
		{image, "", NotARN},
		{image, "my-image", NotARN},
		{image, "arn:aws:lambda", Malformed},
		{image, "arn:aws:lambda:us-east-1:123456789012:microvm-image:", Malformed},
		{image, "arn:aws:lambda:us-east-1:123456789012:microvm-image:a:b", Malformed},
		{image, "arn:aws:lambda:us-east-1:12:microvm-image:a", Malformed},
		{image, "arn:aws:lambda:US EAST:123456789012:microvm-image:a", Malformed},
		{image, "arn:aws:s3:::bucket", OtherService},
		{image, "arn:other:lambda:us-east-1:123456789012:microvm-image:a", OtherService},
		{image, "arn:aws:lambda:us-east-1:123456789012:function:f", OtherResource},
		{image, "arn:aws:lambda:us-east-1:123456789012:microvm-image/a", SlashForm},
		{connector, "arn:aws:lambda:us-east-1:aws:network-connector:HTTP_INGRESS", Malformed},
		{connector, "arn:aws:lambda:us-east-1:123456789012:microvm-image:a", OtherResource},
		{connector, "HTTP_INGRESS", NotARN},
	} {
		var refusal *Error
		require.ErrorAs(t, c.parse(c.text), &refusal, c.text)
		require.Equal(t, c.want, refusal.Reason, c.text)
		require.Contains(t, refusal.Error(), reasonTexts[c.want])
	}
}

func FuzzParsedARNsWriteBackToTheSameText(f *testing.F) {
	f.Add("arn:aws:lambda:us-east-1:123456789012:microvm-image:my-image")
	f.Add("arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:HTTP_INGRESS")
	f.Add("arn:aws:lambda:::microvm-image:")
	f.Fuzz(func(t *testing.T, text string) {
		if image, err := ParseImage(text); err == nil && image.String() != text {
			t.Errorf("image %q became %q", text, image)
		}
		if connector, err := ParseConnector(text); err == nil && connector.String() != text {
			t.Errorf("connector %q became %q", text, connector)
		}
	})
}
