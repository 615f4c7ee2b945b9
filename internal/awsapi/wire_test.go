package awsapi

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTimesTravelAsTheirServiceWritesThem(t *testing.T) {
	at := time.Date(2026, 11, 23, 15, 51, 5, 123456789, time.FixedZone("CET", 3600))
	cut := at.Truncate(time.Millisecond).UTC()
	for text, v := range map[string]any{
		"1795445465.123":             At(at),
		"1795445465":                 At(at.Truncate(time.Second)),
		`"2026-11-23T14:51:05.123Z"`: ISOTimestamp{at},
		`"2026-11-23T14:51:05.000Z"`: ISOTimestamp{at.Truncate(time.Second)},
	} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.Equal(t, text, string(got))
	}
	var number Timestamp
	require.NoError(t, json.Unmarshal([]byte("1795445465.123"), &number))
	require.Equal(t, cut, number.Time)
	var iso ISOTimestamp
	for _, text := range []string{`"2026-11-23T14:51:05.123Z"`, `"2026-11-23T15:51:05.123+01:00"`} {
		require.NoError(t, json.Unmarshal([]byte(text), &iso))
		require.Equal(t, cut, iso.Time)
	}
	for _, text := range []string{`1795445465`, `"yesterday"`, `""`} {
		require.Error(t, json.Unmarshal([]byte(text), &iso), text)
	}
	for _, text := range []string{`"2026-11-23T14:51:05Z"`, `1e99`, `true`} {
		require.Error(t, json.Unmarshal([]byte(text), &number), text)
	}
}
