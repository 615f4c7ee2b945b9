package awsapi

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"
)

// List is a list that is always present: nil is written as [] and not as null.
type List[T any] []T

// MarshalJSON writes a JSON array.
func (l List[T]) MarshalJSON() ([]byte, error) {
	if l == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]T(l))
}

// Timestamp travels as a JSON number: seconds since 1970 with a fraction of milliseconds (spec/api.md 1.3).
type Timestamp struct{ time.Time }

// At is t on the wire.
func At(t time.Time) Timestamp { return Timestamp{t} }

// MarshalJSON writes 1790000000.123; the finer part of t is cut off.
func (t Timestamp) MarshalJSON() ([]byte, error) {
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return strconv.AppendInt(nil, ms/1000, 10), nil
	}
	return strconv.AppendFloat(nil, float64(ms)/1000, 'f', 3, 64), nil
}

// ISOTimestamp travels as a text in UTC with milliseconds: 2026-11-23T14:51:05.123Z (spec/api.md 6).
type ISOTimestamp struct{ time.Time }

const isoForm = "2006-01-02T15:04:05.000Z"

// MarshalJSON writes 2026-11-23T14:51:05.123Z; the finer part of t is cut off.
func (t ISOTimestamp) MarshalJSON() ([]byte, error) {
	return []byte(`"` + t.UTC().Format(isoForm) + `"`), nil
}

// UnmarshalJSON reads any RFC 3339 time.
func (t *ISOTimestamp) UnmarshalJSON(data []byte) error {
	var read time.Time
	if err := read.UnmarshalJSON(data); err != nil {
		return fmt.Errorf("timestamp %.40q: %w", data, err)
	}
	t.Time = read.UTC()
	return nil
}

// latestTimestamp bounds what is accepted, in seconds since 1970: the end of the year 9999.
const latestTimestamp = 253402300799

// UnmarshalJSON reads what MarshalJSON writes.
func (t *Timestamp) UnmarshalJSON(data []byte) error {
	seconds, err := strconv.ParseFloat(string(data), 64)
	if err != nil || math.IsNaN(seconds) || math.Abs(seconds) > latestTimestamp {
		return fmt.Errorf("timestamp %.40q is no number of seconds since 1970", data)
	}
	t.Time = time.UnixMilli(int64(math.Round(seconds * 1000))).UTC()
	return nil
}
