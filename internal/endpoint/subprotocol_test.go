package endpoint

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOfferIsTakenApart(t *testing.T) {
	for _, c := range []struct {
		name   string
		values []string
		want   offer
	}{
		{"nothing", nil, offer{}},
		{"as browsers send it", []string{"lambda-microvms, lambda-microvms.authentication.a.b.c, lambda-microvms.port.9000, chat"},
			offer{marker: true, token: "a.b.c", port: "9000", app: "chat"}},
		{"over several lines", []string{"chat", "lambda-microvms", "lambda-microvms.authentication.x,v2"},
			offer{marker: true, token: "x", app: "chat, v2"}},
		{"only the app's", []string{"graphql-ws,chat"}, offer{app: "graphql-ws, chat"}},
		{"no marker", []string{"lambda-microvms.authentication.x"}, offer{token: "x"}},
		{"other names of the platform are not the app's", []string{"lambda-microvms.future.1, lambda-microvmsx"}, offer{app: "lambda-microvmsx"}},
		{"blanks and empty elements", []string{" ,\tlambda-microvms\t,, chat ,"}, offer{marker: true, app: "chat"}},
		{"empty token is no token", []string{"lambda-microvms.authentication."}, offer{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parseOffer(c.values)
			require.NoError(t, err)
			require.Equal(t, c.want, got)
		})
	}
}

func TestContradictingOffersAreRefused(t *testing.T) {
	for _, value := range []string{
		"lambda-microvms.authentication.a, lambda-microvms.authentication.b",
		"lambda-microvms.port.1, lambda-microvms.port.2",
		"lambda-microvms.port.",
	} {
		_, err := parseOffer([]string{value})
		require.ErrorIs(t, err, errBadSubprotocol, value)
	}
}

func FuzzParseOffer(f *testing.F) {
	f.Add("lambda-microvms, lambda-microvms.authentication.a.b, lambda-microvms.port.1, chat")
	f.Add(",, ,\t")
	f.Fuzz(func(t *testing.T, value string) {
		o, err := parseOffer([]string{value})
		if err != nil {
			require.Equal(t, offer{}, o)
			return
		}
		for name := range strings.SplitSeq(o.app, ", ") {
			require.False(t, name == marker || strings.HasPrefix(name, marker+"."), "the guest would see %q", name)
		}
		again, err := parseOffer([]string{o.app})
		require.NoError(t, err)
		require.Equal(t, offer{app: o.app}, again)
	})
}
