package control

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/endpoint"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func TestRunAppliesDefaultsAndAnswersPending(t *testing.T) {
	r := newRig(t)
	i := r.createImage(t, "app")
	out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{}})
	require.NoError(t, err)
	require.Regexp(t, `^microvm-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`, out.MicrovmId)
	want := &awsapi.RunMicrovmOutput{
		MicrovmId: out.MicrovmId, State: "PENDING", Endpoint: "127.64.0.2:7443", ImageArn: appARN, ImageVersion: "1.0",
		MaximumDurationInSeconds: 28800, StartedAt: awsapi.At(r.clock.Now()),
		IngressNetworkConnectors: []string{managed("HTTP_INGRESS")}, EgressNetworkConnectors: []string{managed("INTERNET_EGRESS")},
	}
	require.Equal(t, want, out)
	text, err := json.Marshal(out)
	require.NoError(t, err)
	for _, member := range []string{"executionRoleArn", "idlePolicy", "terminatedAt", "stateReason"} {
		require.Contains(t, string(text), fmt.Sprintf(`"%s":null`, member))
	}
	require.Equal(t, i.ID, r.vms.spec.Version.ImageID)
	require.Nil(t, r.vms.spec.VM.Idle)
	events, _, err := r.store.Events(r.ctx, out.MicrovmId, store.Page{Limit: 1})
	require.NoError(t, err)
	require.Equal(t, "request-1", events[0].RequestID)
}

func TestRunPassesEverythingOn(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app", func(in *awsapi.CreateMicrovmImageInput) {
		in.Hooks = &awsapi.Hooks{Port: p(int32(9000)), MicrovmHooks: &awsapi.MicrovmHooks{Run: p(awsapi.HookStateEnabled)}}
	})
	both := []string{managed("SHELL_INGRESS"), managed("ALL_INGRESS")} // accepted together (spec/api.md CreateMicrovmShellAuthToken)
	out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{
		ImageIdentifier: appARN, ImageVersion: p("1.0"), IngressNetworkConnectors: both, ExecutionRoleArn: p(roleARN),
		IdlePolicy:               &awsapi.IdlePolicy{MaxIdleDurationSeconds: 900, SuspendedDurationSeconds: 0, AutoResumeEnabled: true},
		Logging:                  &awsapi.Logging{Disabled: &awsapi.LoggingDisabled{}},
		RunHookPayload:           p(`{"tenant":"t1"}`),
		MaximumDurationInSeconds: p(int32(3600)),
	})
	require.NoError(t, err)
	vm := r.vms.spec.VM
	require.Equal(t, &store.IdlePolicy{MaxIdle: 15 * time.Minute, AutoResume: true}, vm.Idle)
	require.Equal(t, `{"tenant":"t1"}`, vm.RunHookPayload)
	require.True(t, vm.HasPayload)
	require.JSONEq(t, `{"disabled":{}}`, string(vm.WireLogging))
	require.Equal(t, time.Hour, vm.MaximumDuration)
	require.Equal(t, both, out.IngressNetworkConnectors)
	require.Equal(t, p(roleARN), out.ExecutionRoleArn)
	require.Equal(t, &awsapi.IdlePolicy{MaxIdleDurationSeconds: 900, AutoResumeEnabled: true}, out.IdlePolicy)

	got, err := r.GetMicrovm(r.ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: out.MicrovmId})
	require.NoError(t, err)
	require.Equal(t, awsapi.GetMicrovmOutput(*out), *got)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	require.NotContains(t, string(text), "tenant", "the payload is never shown")
}

func TestRunRefusals(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	_, err := r.CreateMicrovmImage(r.ctx, createInput("building"))
	require.NoError(t, err)
	building := "arn:aws:lambda:us-east-1:000000000000:microvm-image:building"
	deniedTo := func(action, resource string) string {
		return "User: arn:aws:iam::000000000000:root is not authorized to perform: lambda:" + action + " on resource: " + resource
	}
	customer := "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1"
	for name, c := range map[string]struct {
		in   awsapi.RunMicrovmInput
		code awsapi.ErrorCode
		text string
	}{
		"bare name": {
			awsapi.RunMicrovmInput{ImageIdentifier: "app"},
			awsapi.ValidationException, "Malformed ARN - doesn't start with 'arn:'",
		},
		"other ARN": {
			awsapi.RunMicrovmInput{ImageIdentifier: "arn:aws:s3:::bkt"},
			awsapi.ValidationException, "Invalid ARN format: arn:aws:s3:::bkt",
		},
		"another account": {
			awsapi.RunMicrovmInput{ImageIdentifier: foreign},
			awsapi.AccessDeniedException, deniedTo("RunMicrovm", foreign),
		},
		"unknown image": {
			awsapi.RunMicrovmInput{ImageIdentifier: noImage},
			awsapi.ResourceNotFoundException, "MicroVMImage not found for MicroVMImageID: " + noImage,
		},
		"unknown version": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, ImageVersion: p("2.0")},
			awsapi.ResourceNotFoundException, "No active version found for MicroVM image " + appARN + " and version 2.0",
		},
		"image still building": {
			awsapi.RunMicrovmInput{ImageIdentifier: building},
			awsapi.ResourceNotFoundException, "No active version found for MicroVM image " + building,
		},
		"pinned version still building": {
			awsapi.RunMicrovmInput{ImageIdentifier: building, ImageVersion: p("1.0")},
			awsapi.ResourceNotFoundException, "No active version found for MicroVM image " + building + " and version 1.0",
		},
		"malformed connector": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: []string{"arn:x"}},
			awsapi.ValidationException, "Malformed network connector ARN: arn:x",
		},
		"no such connector": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{managed("SOME_EGRESS")}},
			awsapi.ValidationException, "Unrecognized managed network connector ARN: " + managed("SOME_EGRESS"),
		},
		"connector of the other direction": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: []string{managed("INTERNET_EGRESS")}},
			awsapi.ValidationException, "Network connector cannot be used for ingress: " + managed("INTERNET_EGRESS"),
		},
		"customer connector": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{customer}},
			awsapi.ResourceNotFoundException, "Network connector not found: " + customer,
		},
		"connector of another account": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: []string{foreignConnector}},
			awsapi.AccessDeniedException, deniedTo("PassNetworkConnector", foreignConnector),
		},
		"payload without a run hook": {
			awsapi.RunMicrovmInput{ImageIdentifier: appARN, RunHookPayload: p("x")},
			awsapi.ValidationException, "The run hook must be enabled on the MicroVM image version to use runHookPayload.",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.RunMicrovm(r.ctx, &c.in)
			refused(t, err, c.code, c.text)
		})
	}
	require.Zero(t, r.vms.n)
}

func TestRunOnAFullHostTellsTheClientToComeBack(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	in := &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ClientToken: p("tok")}
	r.vms.err = microvm.ErrCapacity
	_, err := r.RunMicrovm(r.ctx, in)
	refused(t, err, awsapi.InsufficientCapacityException, "There is not enough capacity on this host to run another MicroVM. Please try again later.")
	r.vms.err = store.ErrConflict
	_, err = r.RunMicrovm(r.ctx, in)
	refused(t, err, awsapi.ResourceNotFoundException, "No active version found for MicroVM image "+appARN)
	r.vms.err = nil
	_, err = r.RunMicrovm(r.ctx, in)
	require.NoError(t, err, "a request that was refused can be repeated with its token")
}

func TestRunWithTheSameTokenHasOneEffect(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	in := func() *awsapi.RunMicrovmInput {
		return &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ClientToken: p("tok")}
	}
	ids := make([]string, 12)
	var wg sync.WaitGroup
	for n := range ids {
		wg.Go(func() {
			out, err := r.RunMicrovm(r.ctx, in())
			if err != nil {
				t.Error(err)
				return
			}
			ids[n] = out.MicrovmId
		})
	}
	wg.Wait()
	for _, id := range ids {
		require.Equal(t, ids[0], id)
	}
	out, err := r.ListMicrovms(r.ctx, &awsapi.ListMicrovmsInput{})
	require.NoError(t, err)
	require.Len(t, out.Items, 1)

	other := in()
	other.MaximumDurationInSeconds = p(int32(60))
	_, err = r.RunMicrovm(r.ctx, other)
	refused(t, err, awsapi.ConflictException, "The request uses the same client token as a previous, but non-identical request.")
	require.NoError(t, r.store.CreateAccount(r.ctx, store.Account{ID: "111111111111"}))
	_, err = r.RunMicrovm(as("111111111111", region), in())
	refused(t, err, awsapi.AccessDeniedException,
		"User: arn:aws:iam::111111111111:root is not authorized to perform: lambda:RunMicrovm on resource: "+appARN)
}

func TestMicroVMsOfOthersAreNotFound(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	id := r.run(t, store.VMRunning)
	none := "microvm-11111111-2222-3333-4444-555555555555"
	for _, c := range []struct{ account, region, id string }{
		{account, region, none}, {account, region, "x"}, {account, "eu-west-1", id}, {"111111111111", region, id},
	} {
		ctx, text := as(c.account, c.region), "MicroVM not found: "+c.id
		_, err := r.GetMicrovm(ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: c.id})
		refused(t, err, awsapi.ResourceNotFoundException, text)
		_, err = r.SuspendMicrovm(ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: c.id})
		refused(t, err, awsapi.ResourceNotFoundException, text)
		_, err = r.CreateMicrovmAuthToken(ctx, &awsapi.CreateMicrovmAuthTokenInput{MicrovmIdentifier: c.id})
		refused(t, err, awsapi.ResourceNotFoundException, text)
	}
	require.Empty(t, r.vms.calls)
}

func TestListMicroVMsFiltersByImageAndVersion(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	id := r.run(t, store.VMTerminated)
	list := func(image, version *string) []awsapi.MicrovmItem {
		out, err := r.ListMicrovms(r.ctx, &awsapi.ListMicrovmsInput{ImageIdentifier: image, ImageVersion: version})
		require.NoError(t, err)
		require.Nil(t, out.NextToken)
		return out.Items
	}
	want := []awsapi.MicrovmItem{{MicrovmId: id, State: "TERMINATED", ImageArn: appARN, ImageVersion: "1.0", StartedAt: awsapi.At(r.clock.Now())}}
	require.Equal(t, want, list(nil, nil))
	require.Equal(t, want, list(p(appARN), nil))
	require.Equal(t, want, list(p(appARN), p("1.0")))
	require.Empty(t, list(p(appARN), p("2.0")))
	require.Empty(t, list(p(noImage), nil))
	_, err := r.ListMicrovms(r.ctx, &awsapi.ListMicrovmsInput{ImageIdentifier: p("app")})
	refused(t, err, awsapi.ValidationException, "Invalid ARN format: app")
}

func TestStateChangesAreAskedForUnlessTheyAreMade(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	ops := map[string]func(id string) error{
		"suspend": func(id string) error {
			_, err := r.SuspendMicrovm(r.ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: id})
			return err
		},
		"resume": func(id string) error {
			_, err := r.ResumeMicrovm(r.ctx, &awsapi.ResumeMicrovmInput{MicrovmIdentifier: id})
			return err
		},
		"terminate": func(id string) error {
			_, err := r.TerminateMicrovm(r.ctx, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: id})
			return err
		},
	}
	// made: the manager is asked, because the row may be behind it; should it refuse, the row decides.
	const asked, made, done, ended = "asked", "made", "done", "ended"
	for state, want := range map[string]map[string]string{
		store.VMPending:     {"suspend": asked, "resume": asked, "terminate": asked},
		store.VMRunning:     {"suspend": asked, "resume": made, "terminate": asked},
		store.VMSuspending:  {"suspend": made, "resume": asked, "terminate": asked},
		store.VMSuspended:   {"suspend": made, "resume": asked, "terminate": asked},
		store.VMTerminating: {"suspend": asked, "resume": asked, "terminate": made},
		store.VMTerminated:  {"suspend": ended, "resume": ended, "terminate": done},
	} {
		r.vms.err = nil
		id := r.run(t, state)
		for op, outcome := range want {
			t.Run(op+" "+state, func(t *testing.T) {
				r.vms.calls, r.vms.err = nil, nil
				err := ops[op](id)
				if outcome == ended {
					refused(t, err, awsapi.ValidationException, "The MicroVM "+id+" has been terminated and its state cannot be changed.")
				} else {
					require.NoError(t, err)
				}
				if outcome == done || outcome == ended {
					require.Empty(t, r.vms.calls)
					return
				}
				require.Equal(t, []string{op + " " + id}, r.vms.calls)
				r.vms.err = microvm.ErrConflict
				if outcome == made {
					require.NoError(t, ops[op](id))
					return
				}
				refused(t, ops[op](id), awsapi.ConflictException, "The MicroVM "+id+" is in state "+state+", which does not allow this operation.")
				r.vms.err = errBroken
				require.ErrorIs(t, ops[op](id), errBroken)
			})
		}
	}
}

func TestAuthTokenOpensWhatWasAskedFor(t *testing.T) {
	r := newRig(t)
	r.createImage(t, "app")
	for _, state := range []string{store.VMPending, store.VMRunning, store.VMSuspending, store.VMSuspended} {
		id := r.run(t, state)
		out, err := r.CreateMicrovmAuthToken(r.ctx, &awsapi.CreateMicrovmAuthTokenInput{
			MicrovmIdentifier: id, ExpirationInMinutes: 60,
			AllowedPorts: []awsapi.PortSpecification{
				{Port: p(int32(8080))},
				{Range: &awsapi.PortRange{StartPort: 9000, EndPort: 65535}},
				{AllPorts: &awsapi.Unit{}},
			},
		})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"X-aws-proxy-auth": "a..b.c.d"}, out.AuthToken)
		require.Equal(t, id, r.tokens.vm)
		require.Equal(t, []endpoint.PortRange{{8080, 8080}, {9000, 65535}, {1, 65535}}, r.tokens.ports)
		require.Equal(t, time.Hour, r.tokens.ttl)
	}
	for _, state := range []string{store.VMTerminating, store.VMTerminated} {
		id := r.run(t, state)
		_, err := r.CreateMicrovmAuthToken(r.ctx, &awsapi.CreateMicrovmAuthTokenInput{MicrovmIdentifier: id})
		refused(t, err, awsapi.ConflictException, "The MicroVM "+id+" is in state "+state+", which does not allow this operation.")
	}
	r.tokens.err = endpoint.ErrTokenTooLong
	_, err := r.CreateMicrovmAuthToken(r.ctx, &awsapi.CreateMicrovmAuthTokenInput{MicrovmIdentifier: r.run(t, store.VMRunning)})
	refused(t, err, awsapi.ValidationException, "The allowedPorts are too many to fit in one token; use ranges.")
}
