package control

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/loggroup"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// checkedElsewhere are the rows that other packages carry out, with the tests that check them.
var checkedElsewhere = map[string]string{
	"SHELL_INGRESS with NO_INGRESS":               "control.TestAShellTokenNeedsTheShellConnectorAlone",
	"failed suspend hook":                         "microvm.TestASuspendHookThatFailsEndsTheMicroVM",
	"traffic before /run":                         "microvm.TestNoRequestIsLetThroughBeforeTheRunHookHasAnswered",
	"rates of calls":                              "awsapi.TestCallsBeyondARateAreThrottledUntilTheClockAllowsThem",
	"memory quota of a microVM that ends":         "store.TestMemoryIsCountedUntilAMicroVMHasEnded",
	"way out through a network connector":         "microvm.TestAMicroVMWithACustomersConnectorIsSealedUnlessANetworkHasItsSubnet",
	"log stream":                                  "loggroup.TestAMicroVMsGroupAndStreamAreTheServices",
	"logs of a microVM without an execution role": "logship.TestWithoutARoleNothingGoesToTheService",
	"disabled logging":                            "microvm.TestOfAMicroVMWithoutLoggingNothingIsKept",
	"tags in the metadata service":                "metadata.TestTheTreeIsTheOneOfTheService",
	"bytes of shells and the idle timer":          "microvm.TestOnlyProcessesThatAreConfiguredToKeepTheirMicroVMAwake",
	"shell of a microVM that is suspended":        "microvm.TestProcessesEndBeforeTheirMicroVMIsPausedAndSayWhy",
}

// TestEveryDecisionIsWhatTheServiceDoes has one check for each row of Decisions.
func TestEveryDecisionIsWhatTheServiceDoes(t *testing.T) {
	checks := map[string]func(*testing.T, *rig){
		"image identifier":         decideGetImage("app", awsapi.ValidationException),
		"image of another account": decideGetImage(foreign, awsapi.AccessDeniedException),
		"image of another region":  decideGetImage(elsewhere, awsapi.ResourceNotFoundException),
		"microVM id prefix": func(t *testing.T, r *rig) {
			require.True(t, strings.HasPrefix(r.run(t, store.VMRunning), "microvm-"))
		},
		"endpoint host label": func(t *testing.T, r *rig) {
			out, err := r.GetMicrovm(r.ctx, &awsapi.GetMicrovmInput{MicrovmIdentifier: r.run(t, store.VMRunning)})
			require.NoError(t, err)
			require.NotContains(t, out.Endpoint, strings.TrimPrefix(out.MicrovmId, "microvm-"))
		},
		"log group": func(t *testing.T, r *rig) {
			require.Equal(t, "/aws/lambda-microvms/app", r.group(t, nil))
			require.Equal(t, "/own", r.group(t, &awsapi.Logging{CloudWatch: &awsapi.CloudWatchLogging{LogGroup: p("/own")}}))
		},
		"logging of an image, for its microVMs": func(t *testing.T, r *rig) {
			for _, logging := range []*awsapi.Logging{{CloudWatch: &awsapi.CloudWatchLogging{LogGroup: p("/own")}}, {Disabled: &awsapi.LoggingDisabled{}}} {
				in := updateInput()
				in.Logging = logging
				out, err := r.UpdateMicrovmImage(r.ctx, in)
				require.NoError(t, err)
				i := mustImage(t, r, "app")
				require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{
					ImageID: i.ID, To: store.ImageUpdated, Version: out.ImageVersion, VersionState: store.VersionSuccessful, VersionStatus: store.StatusActive,
				}))
				v, err := r.store.NewestRunnableVersion(r.ctx, i.ID)
				require.NoError(t, err)
				require.NotEmpty(t, v.Config.WireLogging)
				require.Equal(t, "/aws/lambda-microvms/app", r.group(t, nil))
			}
		},
		"suspend or resume in the wanted state": func(t *testing.T, r *rig) {
			require.NoError(t, r.suspend(t, store.VMSuspended))
			running := r.run(t, store.VMRunning)
			r.vms.err = microvm.ErrConflict // it is RUNNING: nothing is left to do
			_, err := r.ResumeMicrovm(r.ctx, &awsapi.ResumeMicrovmInput{MicrovmIdentifier: running})
			require.NoError(t, err)
		},
		"terminate of a terminated microVM": func(t *testing.T, r *rig) {
			_, err := r.TerminateMicrovm(r.ctx, &awsapi.TerminateMicrovmInput{MicrovmIdentifier: r.run(t, store.VMTerminated)})
			require.NoError(t, err)
		},
		"change of a terminated microVM": func(t *testing.T, r *rig) {
			requireCode(t, r.suspend(t, store.VMTerminated), awsapi.ValidationException)
		},
		"suspend of a PENDING microVM": func(t *testing.T, r *rig) {
			id := r.run(t, store.VMPending)
			r.vms.err = microvm.ErrConflict
			_, err := r.SuspendMicrovm(r.ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: id})
			requireCode(t, err, awsapi.ConflictException)
		},
		"token of a PENDING or SUSPENDED microVM": func(t *testing.T, r *rig) {
			require.NoError(t, r.mint(t, store.VMPending))
			require.NoError(t, r.mint(t, store.VMSuspended))
		},
		"token of a microVM that has ended": func(t *testing.T, r *rig) {
			requireCode(t, r.mint(t, store.VMTerminated), awsapi.ConflictException)
		},
		"duplicate image name": func(t *testing.T, r *rig) {
			_, err := r.CreateMicrovmImage(r.ctx, createInput("app"))
			requireCode(t, err, awsapi.ValidationException)
		},
		"echoed base version as input": func(t *testing.T, r *rig) {
			in := createInput("other")
			in.BaseImageVersion = p("1.0")
			_, err := r.CreateMicrovmImage(r.ctx, in)
			requireCode(t, err, awsapi.ValidationException)
			in.BaseImageVersion = p("1")
			out, err := r.CreateMicrovmImage(r.ctx, in)
			require.NoError(t, err)
			require.Equal(t, p("1.0"), out.BaseImageVersion)
		},
		"empty list of connectors": func(t *testing.T, r *rig) {
			out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: []string{}, EgressNetworkConnectors: []string{}})
			require.NoError(t, err)
			require.Equal(t, []string{managed("HTTP_INGRESS")}, out.IngressNetworkConnectors)
			require.Equal(t, []string{managed("INTERNET_EGRESS")}, out.EgressNetworkConnectors)
		},
		"NO_EGRESS": func(t *testing.T, r *rig) {
			for _, c := range []struct {
				connectors []string
				want       awsapi.ErrorCode
			}{
				{[]string{managed("NO_EGRESS")}, ""},
				{[]string{managed("NO_EGRESS"), managed("NO_EGRESS")}, ""},
				{[]string{managed("NO_EGRESS"), managed("INTERNET_EGRESS")}, awsapi.ValidationException},
				{[]string{r.createConnector(t, "office"), managed("NO_EGRESS")}, awsapi.ValidationException},
				{[]string{managed("SOME_EGRESS")}, awsapi.ValidationException},
			} {
				_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, EgressNetworkConnectors: c.connectors})
				requireCode(t, err, c.want)
			}
			_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, IngressNetworkConnectors: []string{managed("NO_EGRESS")}})
			requireCode(t, err, awsapi.ValidationException)
			in := createInput("sealed")
			in.EgressNetworkConnectors = []string{managed("NO_EGRESS")}
			_, err = r.CreateMicrovmImage(r.ctx, in)
			require.NoError(t, err)
			arn := strings.Replace(appARN, ":app", ":sealed", 1)
			image, err := r.GetMicrovmImageVersion(r.ctx, &awsapi.GetMicrovmImageVersionInput{ImageIdentifier: arn, ImageVersion: "1.0"})
			require.NoError(t, err)
			require.Equal(t, in.EgressNetworkConnectors, image.EgressNetworkConnectors)
		},
		"run hook payload without a run hook": func(t *testing.T, r *rig) {
			_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, RunHookPayload: p("x")})
			requireCode(t, err, awsapi.ValidationException)
		},
		"runnable image states": func(t *testing.T, r *rig) {
			for state, want := range map[string]awsapi.ErrorCode{
				store.ImageCreated: "", store.ImageUpdated: "", store.ImageUpdating: "", store.ImageUpdateFailed: "",
				store.ImageDeleteFailed: awsapi.ResourceNotFoundException, store.ImageDeleting: awsapi.ResourceNotFoundException,
			} {
				require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{ImageID: mustImage(t, r, "app").ID, To: state}))
				_, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN})
				requireCode(t, err, want)
			}
		},
		"update of an image whose create or last update failed": func(t *testing.T, r *rig) {
			i := mustImage(t, r, "app")
			for state, want := range map[string]awsapi.ErrorCode{
				store.ImageCreateFailed: "", store.ImageUpdateFailed: "", store.ImageUpdating: awsapi.ConflictException,
			} {
				require.NoError(t, r.store.ChangeImage(r.ctx, store.ImageChange{ImageID: i.ID, To: state}))
				_, err := r.UpdateMicrovmImage(r.ctx, updateInput())
				requireCode(t, err, want)
			}
		},
		"delete of a version with live microVMs": func(t *testing.T, r *rig) {
			r.addVersion(t, mustImage(t, r, "app"), store.VersionSuccessful)
			r.run(t, store.VMSuspended) // 2.0
			requireCode(t, r.deleteVersion("2.0"), awsapi.ValidationException)
			requireCode(t, r.deleteVersion("1.0"), "")
		},
		"delete of a version that is being deleted": func(t *testing.T, r *rig) {
			r.addVersion(t, mustImage(t, r, "app"), store.VersionFailed)
			for range 2 {
				require.NoError(t, r.deleteVersion("2.0"))
			}
		},
		"quotas": func(t *testing.T, r *rig) {
			r = r.limited(t, store.Quotas{Images: 1})
			ctx, in := as(account, "eu-west-1"), createInput("app")
			in.BaseImageArn = strings.Replace(baseARN, region, "eu-west-1", 1)
			_, err := r.CreateMicrovmImage(ctx, in)
			requireCode(t, err, awsapi.ServiceQuotaExceededException)
		},
		"delete of an image that is being deleted": func(t *testing.T, r *rig) {
			for range 2 {
				out, err := r.DeleteMicrovmImage(r.ctx, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: appARN})
				require.NoError(t, err)
				require.Equal(t, awsapi.MicrovmImageStateDeleting, out.State)
			}
		},
		"delete of an image that does not exist": func(t *testing.T, r *rig) {
			_, err := r.DeleteMicrovmImage(r.ctx, &awsapi.DeleteMicrovmImageInput{ImageIdentifier: noImage})
			requireCode(t, err, awsapi.ResourceNotFoundException)
		},
		"client token of a deleted image": func(t *testing.T, r *rig) {
			in := createInput("other")
			in.ClientToken = p("tok")
			_, err := r.CreateMicrovmImage(r.ctx, in)
			require.NoError(t, err)
			first := mustImage(t, r, "other").ID
			require.NoError(t, r.store.DeleteImage(r.ctx, first))
			_, err = r.CreateMicrovmImage(r.ctx, in)
			require.NoError(t, err)
			require.NotEqual(t, first, mustImage(t, r, "other").ID)
		},
		"role of another account": func(t *testing.T, r *rig) {
			role := strings.Replace(roleARN, account, otherAccount, 1)
			in := createInput("other")
			in.BuildRoleArn = role
			_, err := r.CreateMicrovmImage(r.ctx, in)
			refused(t, err, awsapi.AccessDeniedException, "Cross-account pass role is not allowed.")
			update := updateInput()
			update.BuildRoleArn = role
			_, err = r.UpdateMicrovmImage(r.ctx, update)
			refused(t, err, awsapi.AccessDeniedException, "Cross-account pass role is not allowed.")
			r.addVersion(t, mustImage(t, r, "app"), store.VersionSuccessful)
			_, err = r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, ExecutionRoleArn: &role})
			refused(t, err, awsapi.AccessDeniedException, "Cross-account pass role is not allowed.")
		},
		"list order": func(t *testing.T, r *rig) {
			r.createImage(t, "later")
			out, err := r.ListMicrovmImages(r.ctx, &awsapi.ListMicrovmImagesInput{})
			require.NoError(t, err)
			require.Equal(t, "later", out.Items[0].Name)
			require.Equal(t, "app", out.Items[1].Name)
		},
	}
	onTheWire := wireChecks()
	for _, d := range Decisions {
		inService, atDoor := checks[d.Topic], onTheWire[d.Topic]
		t.Run(d.Topic, func(t *testing.T) {
			t.Parallel() // they mostly wait for the disk
			if test := checkedElsewhere[d.Topic]; test != "" {
				awsapitest.RequireTest(t, test)
				return
			}
			require.True(t, (inService == nil) != (atDoor == nil), "this row has no check, or two")
			service := openDoor(t)
			service.createImage(t, "app")
			if inService != nil {
				inService(t, service.rig)
			} else {
				atDoor(t, service)
			}
		})
		delete(checks, d.Topic)
		delete(onTheWire, d.Topic)
	}
	require.Empty(t, checks, "these checks have no row")
	require.Empty(t, onTheWire, "these checks have no row")
}

// TestEveryContradictionOfTheSpecIsDecided has a row of Decisions for each row of spec/behaviour.md 18.
func TestEveryContradictionOfTheSpecIsDecided(t *testing.T) {
	decided := map[string]bool{}
	for _, d := range Decisions {
		require.False(t, decided[d.Topic], "%s is there twice", d.Topic)
		decided[d.Topic] = true
	}
	for topic := range checkedElsewhere {
		require.True(t, decided[topic], topic)
	}
	ours := map[string]string{
		"resume/suspend in the wrong state": "suspend or resume in the wanted state",
		"failure text member":               "failure text of a microVM",
		"codeartifact":                      "code artifact",
		"update option name":                "version status option",
		"runhookpayload limit":              "runHookPayload limit",
		"microvm id prefix":                 "microVM id prefix",
	}
	_, chapter, _ := strings.Cut(string(awsapitest.Spec(t, "behaviour.md")), "\n## 18. ")
	chapter, _, _ = strings.Cut(chapter, "\n## 19. ")
	rows := strings.Split(chapter, "\n| ")[2:] // after the heading
	require.Len(t, rows, 11)
	for _, row := range rows {
		topic, _, _ := strings.Cut(row, " |")
		topic = strings.ToLower(topic)
		if name := ours[topic]; name != "" {
			topic = name
		}
		require.True(t, decided[topic], "no decision on %q", topic)
	}
}

func decideGetImage(identifier string, code awsapi.ErrorCode) func(*testing.T, *rig) {
	return func(t *testing.T, r *rig) {
		_, err := r.GetMicrovmImage(r.ctx, &awsapi.GetMicrovmImageInput{ImageIdentifier: identifier})
		requireCode(t, err, code)
	}
}

func requireCode(t *testing.T, err error, code awsapi.ErrorCode) {
	t.Helper()
	if code == "" {
		require.NoError(t, err)
		return
	}
	var refusal *awsapi.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code)
}

func (r *rig) suspend(t *testing.T, state string) error {
	t.Helper()
	_, err := r.SuspendMicrovm(r.ctx, &awsapi.SuspendMicrovmInput{MicrovmIdentifier: r.run(t, state)})
	return err
}

func (r *rig) mint(t *testing.T, state string) error {
	t.Helper()
	_, err := r.CreateMicrovmAuthToken(r.ctx, &awsapi.CreateMicrovmAuthTokenInput{MicrovmIdentifier: r.run(t, state), ExpirationInMinutes: 1})
	return err
}

// group is the log group of a new microVM, whose logging is not disabled.
func (r *rig) group(t *testing.T, logging *awsapi.Logging) string {
	t.Helper()
	out, err := r.RunMicrovm(r.ctx, &awsapi.RunMicrovmInput{ImageIdentifier: appARN, Logging: logging})
	require.NoError(t, err)
	vm, err := r.store.MicroVM(r.ctx, out.MicrovmId)
	require.NoError(t, err)
	require.False(t, loggroup.Disabled(vm.WireLogging))
	return loggroup.OfMicroVM(vm).Group
}
