package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPartsAreChosenByName(t *testing.T) {
	for _, test := range []struct {
		only, skip string
		want       []part
		failure    string
	}{
		{"", "", allParts, ""},
		{"steady,volley", "", []part{partSteady, partVolley}, ""},
		{"", "rounds,burst,suspended,control", dataParts, ""},
		{"steady,volley", "volley", []part{partSteady}, ""},
		{"stedy", "", nil, `-only: "stedy" is none of rounds, burst`},
		{"", "all", nil, `-skip: "all" is none of`},
	} {
		t.Run(test.only+" without "+test.skip, func(t *testing.T) {
			parts, err := chosen(test.only, test.skip)
			if test.failure != "" {
				require.ErrorContains(t, err, test.failure)
				return
			}
			require.NoError(t, err)
			require.Equal(t, test.want, parts)
		})
	}
}
