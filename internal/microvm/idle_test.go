package microvm

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhatKeepsAMicroVMAwakeIsReadFromWords(t *testing.T) {
	for _, test := range []struct {
		words []string
		want  IdleCounts
	}{
		{nil, IdleCounts{}},
		{[]string{"egress"}, IdleCounts{Egress: true}},
		{[]string{"exec", "shell", "egress", "shell"}, IdleCounts{Exec: true, Shell: true, Egress: true}},
	} {
		counts, err := ParseIdleCounts(test.words)
		require.NoError(t, err)
		require.Equal(t, test.want, counts)
	}
	for _, word := range []string{"", "Shell", "cpu"} {
		_, err := ParseIdleCounts([]string{word})
		require.ErrorContains(t, err, "none of exec, shell and egress", word)
	}
}
