package extension

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// FuzzQuery checks that a query is refused with a text for users or read within its bounds, and that
// what was read is written so that it is read again.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"", "subject=microvm-1&maxResults=7&nextToken=x", "source=microvm-1&kind=app&follow=true&tail=0", "tail=-1&source=x",
		"source=a&source=b", "follow=&source=x", "source=%zz", "a;b", "kind=\x00&source=x", "maxResults=9223372036854775808",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		events, err := parseEvents(raw)
		if read(t, err) {
			require.True(t, events.MaxResults >= 1 && events.MaxResults <= maxEvents)
			again, err := parseEvents(events.Query().Encode())
			require.NoError(t, err)
			require.Equal(t, events, again)
		}
		logs, err := parseLogs(raw)
		if read(t, err) {
			require.NotEmpty(t, logs.Source)
			require.True(t, logs.Tail == nil || *logs.Tail >= 0 && *logs.Tail <= maxTail)
			again, err := parseLogs(logs.Query().Encode())
			require.NoError(t, err)
			require.Equal(t, logs, again)
		}
	})
}

func read(t *testing.T, err error) bool {
	if err == nil {
		return true
	}
	var refusal *awsapi.Error
	require.True(t, errors.As(err, &refusal))
	require.Equal(t, awsapi.ValidationException, refusal.Code)
	return false
}
