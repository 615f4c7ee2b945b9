package role

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/config"
)

const (
	appRole = "arn:aws:iam::000000000000:role/app"
	session = "microvm-00000000-0000-0000-0000-000000000001"
)

func open(t *testing.T, roles ...config.Role) *Roles {
	t.Helper()
	r, err := New(t.Context(), roles, clockwork.NewRealClock())
	require.NoError(t, err)
	return r
}

func TestTheEntryOfARoleWinsOverTheOneOfItsAccount(t *testing.T) {
	key := func(id string) *config.KeyPair { return &config.KeyPair{AccessKeyID: id, SecretAccessKey: "x"} }
	r := open(t,
		config.Role{ARN: "arn:aws:iam::000000000000:role/*", Static: key("OTHERS")},
		config.Role{ARN: appRole, Static: key("APP")},
		config.Role{ARN: "arn:aws:iam::111111111111:role/app", Static: key("ELSEWHERE")},
	)
	for arn, want := range map[string]string{
		appRole:                                 "APP",
		"arn:aws:iam::000000000000:role/team/x": "OTHERS",
		"arn:aws:iam::000000000000:role/app2":   "OTHERS",
		"arn:aws:iam::111111111111:role/app":    "ELSEWHERE",
		"arn:aws:iam::111111111111:role/app2":   "",
		"arn:aws-cn:iam::000000000000:role/x":   "",
		"":                                      "",
	} {
		found, err := r.For(Session{Role: arn})
		if want == "" {
			require.ErrorIs(t, err, ErrUnknown, arn)
			continue
		}
		require.NoError(t, err, arn)
		got, err := found.Retrieve(t.Context())
		require.NoError(t, err, arn)
		require.Equal(t, want, got.AccessKeyID, arn)
	}
}

// asked is a source that a test plays.
type asked struct {
	calls  atomic.Int32
	answer func(call int32) (aws.Credentials, error)
}

func (a *asked) limit() time.Duration { return 10 * time.Second }
func (a *asked) credentials(ctx context.Context, _ Session) (aws.Credentials, error) {
	call := a.calls.Add(1)
	select {
	case <-time.After(time.Second):
		return a.answer(call)
	case <-ctx.Done():
		return aws.Credentials{}, ctx.Err()
	}
}

func keys(expires time.Time) aws.Credentials {
	return aws.Credentials{AccessKeyID: "AKIA", SecretAccessKey: "s", Expires: expires}
}

func TestCredentialsAreKeptAndRenewedAheadOfTheirEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &asked{answer: func(int32) (aws.Credentials, error) { return keys(time.Time{}), nil }}
		c := newCredentials(from, Session{}, clockwork.NewRealClock())
		began := time.Now()
		got, err := c.Retrieve(t.Context())
		require.NoError(t, err)
		require.Equal(t, began.Add(55*time.Minute), got.Expires, "spec/behaviour.md 11")
		require.True(t, got.CanExpire)
		require.Equal(t, began, c.Made())

		time.Sleep(5 * time.Minute)
		again, err := c.Retrieve(t.Context())
		require.NoError(t, err)
		require.Equal(t, got, again, "the same after a pause of 5 minutes")
		time.Sleep(36 * time.Minute)
		renewed, err := c.Retrieve(t.Context())
		require.NoError(t, err)
		require.Greater(t, renewed.Expires, got.Expires)
		require.EqualValues(t, 2, from.calls.Load())
		time.Sleep(70 * time.Minute)
		_, err = c.Retrieve(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, 3, from.calls.Load(), "new ones after a pause of 70 minutes")
	})
}

func TestShortCredentialsAreNotRenewedAllTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &asked{answer: func(int32) (aws.Credentials, error) { return keys(time.Now().Add(8 * time.Minute)), nil }}
		c := newCredentials(from, Session{}, clockwork.NewRealClock())
		for range 5 {
			_, err := c.Retrieve(t.Context())
			require.NoError(t, err)
			time.Sleep(time.Minute)
		}
		require.EqualValues(t, 1, from.calls.Load())
	})
}

func TestManyWhoAskAtOnceCauseOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := &asked{answer: func(int32) (aws.Credentials, error) { return keys(time.Time{}), nil }}
		c := newCredentials(from, Session{}, clockwork.NewRealClock())
		var good atomic.Int32
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		go func() {
			_, err := c.Retrieve(impatient)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}()
		for range 100 {
			go func() {
				if _, err := c.Retrieve(t.Context()); err == nil {
					good.Add(1)
				}
			}()
		}
		time.Sleep(time.Minute)
		require.EqualValues(t, 100, good.Load())
		require.EqualValues(t, 1, from.calls.Load())
	})
}

func TestAFailureStandsForAWhileAndSparesWhatIsStillValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("no STS today")
		from := &asked{}
		from.answer = func(call int32) (aws.Credentials, error) {
			if call == 2 {
				return keys(time.Time{}), nil
			}
			return aws.Credentials{}, broken
		}
		c := newCredentials(from, Session{Role: appRole}, clockwork.NewRealClock())
		for range 3 {
			_, err := c.Retrieve(t.Context())
			require.ErrorIs(t, err, broken)
			require.ErrorContains(t, err, appRole)
		}
		require.EqualValues(t, 1, from.calls.Load())
		time.Sleep(retryAfter)
		have, err := c.Retrieve(t.Context())
		require.NoError(t, err)

		time.Sleep(45 * time.Minute)
		for range 3 {
			still, err := c.Retrieve(t.Context())
			require.NoError(t, err)
			require.Equal(t, have, still)
		}
		require.EqualValues(t, 3, from.calls.Load())
		time.Sleep(10 * time.Minute)
		_, err = c.Retrieve(t.Context())
		require.ErrorIs(t, err, broken)
	})
}

func TestASourceThatHangsOrGivesNothingIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for want, answer := range map[string]func(int32) (aws.Credentials, error){
			"deadline": func(int32) (aws.Credentials, error) {
				time.Sleep(time.Hour)
				return keys(time.Time{}), context.DeadlineExceeded
			},
			"no keys": func(int32) (aws.Credentials, error) { return aws.Credentials{}, nil },
			"expired": func(int32) (aws.Credentials, error) { return keys(time.Now()), nil },
		} {
			c := newCredentials(&asked{answer: answer}, Session{}, clockwork.NewRealClock())
			_, err := c.Retrieve(t.Context())
			require.ErrorContains(t, err, want)
		}
	})
}

// script is a command that a test writes.
func script(t *testing.T, text string) *command {
	t.Helper()
	path := filepath.Join(t.TempDir(), "give")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700))
	return &command{args: []string{"/bin/sh", path}, timeout: 30 * time.Second, running: make(chan struct{}, 1)}
}

func TestACommandPrintsCredentials(t *testing.T) {
	c := script(t, `printf '{"Version":1,"AccessKeyId":"%s","SecretAccessKey":"%s","SessionToken":"t","Expiration":"2031-01-02T03:04:05Z"}' "$DORMOUSE_SESSION" "$DORMOUSE_ROLE_ARN"`)
	got, err := c.credentials(t.Context(), Session{Role: appRole, Name: session})
	require.NoError(t, err)
	require.Equal(t, aws.Credentials{
		AccessKeyID: session, SecretAccessKey: appRole, SessionToken: "t", Source: "command",
		Expires: time.Date(2031, 1, 2, 3, 4, 5, 0, time.UTC),
	}, got)
}

func TestWhatACommandMayDoIsBounded(t *testing.T) {
	for text, want := range map[string]string{
		"echo nonsense-hush":                                              "credential_process",
		`echo '{"Version":1,"AccessKeyId":"hush"}'`:                       "lacks",
		`echo '{"Version":2,"AccessKeyId":"a","SecretAccessKey":"hush"}'`: "lacks",
		`echo '{"Version":1,"AccessKeyId":7,"SecretAccessKey":"hush"}'`:   "credential_process",
		"echo hush; echo why >&2; exit 3":                                 `exit status 3: "why\n"`,
		"exit 4":                                                          "exit status 4",
		"yes hush":                                                        "has not answered within",
		"head -c 70000 /dev/zero":                                         "prints more than",
		"sleep 1000 & sleep 1000":                                         "has not answered within",
	} {
		c := script(t, text)
		c.timeout = 300 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
		_, err := c.credentials(ctx, Session{Role: appRole})
		cancel()
		require.ErrorContains(t, err, want, text)
		require.NotContains(t, err.Error(), "hush", text)
	}
	_, err := (&command{args: []string{"/nonexistent"}, running: make(chan struct{}, 1)}).credentials(t.Context(), Session{})
	require.ErrorContains(t, err, "/nonexistent")
	full := script(t, "")
	full.running <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = full.credentials(ctx, Session{})
	require.ErrorContains(t, err, "too many commands")
}

func TestWhatACommandLeavesBehindWithItsOutputEnds(t *testing.T) {
	left := filepath.Join(t.TempDir(), "left")
	c := script(t, "sleep 1000 & echo $! >"+left)
	_, err := c.credentials(t.Context(), Session{Role: appRole})
	require.ErrorIs(t, err, exec.ErrWaitDelay)
	text, err := os.ReadFile(left)
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	require.Eventually(t, func() bool { // nobody may have collected it yet
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, 10*time.Second, 10*time.Millisecond)
}

func FuzzParseProcess(f *testing.F) {
	f.Add([]byte(`{"Version":1,"AccessKeyId":"a","SecretAccessKey":"b","Expiration":"2031-01-02T03:04:05Z"}`))
	f.Fuzz(func(t *testing.T, printed []byte) {
		got, err := parseProcess(printed)
		require.Equal(t, err == nil, got.HasKeys())
	})
}
