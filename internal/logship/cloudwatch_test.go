package logship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/logfile"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/logship/cloudwatchtest"
)

var here = loggroup.Destination{AccountID: "000000000000", Region: "eu-west-1", Group: "/g", Stream: "s[1.0]", RoleARN: "role"}

// service is a CloudWatch sink and what it sends to.
func service(t *testing.T, clock clockwork.Clock) (*CloudWatch, *cloudwatchtest.Server) {
	t.Helper()
	fake := cloudwatchtest.New()
	server := httptest.NewServer(fake)
	t.Cleanup(server.Close)
	sink, err := NewCloudWatch(CloudWatchConfig{
		Endpoint: server.URL, Clock: clock, Log: slog.New(slog.DiscardHandler),
		Credentials: func(_ context.Context, account, role string) (aws.CredentialsProvider, error) {
			if account != here.AccountID || role != here.RoleARN {
				return nil, errors.New("not that role's")
			}
			return credentials.NewStaticCredentialsProvider(cloudwatchtest.Key, cloudwatchtest.Secret, ""), nil
		},
	})
	require.NoError(t, err)
	return sink, fake
}

func line(at time.Time, stream, text string) logfile.Line {
	return logfile.Line{At: at, Stream: stream, Text: []byte(text)}
}

func messages(events []cloudwatchtest.Event) (texts []string) {
	for _, e := range events {
		texts = append(texts, e.Message)
	}
	return texts
}

func TestGroupsAndStreamsAreMadeWhenTheyAreMissing(t *testing.T) {
	now := time.Now()
	sink, fake := service(t, clockwork.NewFakeClockAt(now))
	require.NoError(t, sink.Put(t.Context(), here, []logfile.Line{line(now, "stdout", "one"), line(now, "stdout", ""), line(now, "stderr", "two\xff")}))
	require.NoError(t, sink.Put(t.Context(), here, []logfile.Line{line(now, "dormouse", "[note]")}))
	other := here
	other.Stream = "other"
	require.NoError(t, sink.Put(t.Context(), other, []logfile.Line{line(now, "stdout", "x")}))
	require.Equal(t, []string{"one", "two\uFFFD", "[dormouse] [note]"}, messages(fake.Events("/g", here.Stream)))
	require.Equal(t, now.UnixMilli(), fake.Events("/g", here.Stream)[0].Timestamp)
	require.Equal(t, []string{"x"}, messages(fake.Events("/g", "other")))
	require.Equal(t, 1, fake.Calls("CreateLogGroup"), "a role may not be allowed to, where there is one")
	require.Equal(t, 3, fake.Calls("CreateLogStream"))
	require.Empty(t, fake.Mistakes())
}

func TestBatchesKeepToTheLimitsOfTheService(t *testing.T) {
	now := time.Now()
	for name, lines := range map[string][]logfile.Line{
		"many":        many(25_000, func(i int) logfile.Line { return line(now, "stdout", fmt.Sprint(i)) }),
		"large":       many(200, func(int) logfile.Line { return line(now, "stdout", strings.Repeat("x", 16<<10)) }),
		"binary":      many(100, func(int) logfile.Line { return line(now, "stdout", strings.Repeat("\xff\xfea", 10_000)) }),
		"one too big": {line(now, "stdout", strings.Repeat("ü", 400<<10))},
		"backwards":   many(100, func(i int) logfile.Line { return line(now.Add(-time.Duration(i)*time.Second), "stdout", "x") }),
		"many days":   many(300, func(i int) logfile.Line { return line(now.Add(-time.Duration(i)*time.Hour), "stdout", "x") }),
		"any time":    {line(time.Time{}, "stdout", "a"), line(now.AddDate(100, 0, 0), "stdout", "b"), line(now, "stdout", "c")},
	} {
		sink, fake := service(t, clockwork.NewFakeClockAt(now))
		require.NoError(t, sink.Put(t.Context(), here, lines), name)
		require.Empty(t, fake.Mistakes(), name)
		require.Zero(t, sink.Rejected(), name)
		sent := strings.Join(messages(fake.Events("/g", here.Stream)), "")
		var want strings.Builder
		for _, l := range lines {
			want.WriteString(strings.ToValidUTF8(string(l.Text), "\uFFFD"))
		}
		require.Len(t, sent, want.Len(), name)
	}
}

func many(n int, f func(int) logfile.Line) (lines []logfile.Line) {
	for i := range n {
		lines = append(lines, f(i))
	}
	return lines
}

func TestABatchThatTheServiceRefusesIsGivenUpAndCounted(t *testing.T) {
	sink, fake := service(t, clockwork.NewRealClock())
	var logged bytes.Buffer
	sink.cfg.Log = slog.New(slog.NewTextHandler(&logged, nil))
	require.NoError(t, sink.Put(t.Context(), here, []logfile.Line{line(time.Now(), "stdout", "one")}))
	fake.RejectAll(true)
	require.NoError(t, sink.Put(t.Context(), here, []logfile.Line{line(time.Now(), "stdout", "two")}))
	require.EqualValues(t, 1, sink.Rejected())
	require.NoError(t, sink.Put(t.Context(), here, []logfile.Line{line(time.Now(), "stdout", "two")}))
	require.EqualValues(t, 2, sink.Rejected())
	require.Equal(t, 1, strings.Count(logged.String(), "refuses events"), "guests must not fill the daemon's log")
	fake.RejectAll(false)
	odd := here
	odd.Stream = "a:b" // which another service may allow
	require.NoError(t, sink.Put(t.Context(), odd, []logfile.Line{line(time.Now(), "stdout", "three")}))
	require.EqualValues(t, 3, sink.Rejected())
}

func TestARoleWithoutCredentialsSendsNothing(t *testing.T) {
	sink, fake := service(t, clockwork.NewRealClock())
	stranger := here
	stranger.RoleARN = "other"
	require.ErrorContains(t, sink.Put(t.Context(), stranger, []logfile.Line{line(time.Now(), "stdout", "one")}), "not that role's")
	require.Zero(t, fake.Calls("PutLogEvents"))
}

// FuzzBatches checks that whatever a guest writes, and whenever it says so, is sent within the limits and whole.
func FuzzBatches(f *testing.F) {
	f.Add("one\ntwo", int64(0), int64(1000))
	f.Add(strings.Repeat("\xff", 100_000), int64(1790000000), int64(-86400000))
	f.Fuzz(func(t *testing.T, text string, start, step int64) {
		now := time.Unix(1790000000, 0)
		var lines []logfile.Line
		at := time.Unix(start%(1<<33), 0)
		for l := range strings.SplitSeq(text, "\n") {
			lines = append(lines, line(at, "stdout", l))
			at = at.Add(time.Duration(step%(1<<40)) * time.Millisecond)
		}
		sent := 0
		for _, batch := range batches(lines, now) {
			require.NotEmpty(t, batch)
			require.LessOrEqual(t, len(batch), maxEvents)
			require.LessOrEqual(t, batch[len(batch)-1].at-batch[0].at, maxSpan.Milliseconds())
			size := 0
			for i, e := range batch {
				require.NotEmpty(t, e.text)
				require.LessOrEqual(t, len(e.text)+eventOverhead, maxEvent)
				require.True(t, i == 0 || batch[i-1].at <= e.at)
				size += len(e.text) + eventOverhead
				sent += len(e.text)
			}
			require.LessOrEqual(t, size, maxBatch)
		}
		want := 0
		for _, l := range lines {
			want += len(strings.ToValidUTF8(string(l.Text), "\uFFFD"))
		}
		require.Equal(t, want, sent)
	})
}
