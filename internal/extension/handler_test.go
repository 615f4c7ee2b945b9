package extension_test

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/store"
)

func signedGet(t *testing.T, url, account, region string) (*http.Response, error) {
	return signed(t, http.MethodGet, url, account, region)
}

func signed(t *testing.T, method, url, account, region string) (*http.Response, error) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	require.NoError(t, err)
	sum := sha256.Sum256(nil)
	keys := aws.Credentials{AccessKeyID: account, SecretAccessKey: "secret"}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), keys, request, hex.EncodeToString(sum[:]), "lambda", region, time.Now()))
	return http.DefaultClient.Do(request)
}

func TestEventsOnTheWire(t *testing.T) {
	r := newRig(t)
	status, body := r.get("events?subject=" + vmID)
	require.Equal(t, 200, status)
	require.JSONEq(t, `{"events":[
		{"at":1795608000.250,"subject":"microvm-1","operation":"change","from":"PENDING","to":"RUNNING","cause":"api","requestId":"","detail":"why",
		 "phases":[{"name":"queue","seconds":0.0001},{"name":"load","seconds":1}]},
		{"at":1795608000.250,"subject":"microvm-1","operation":"launch","from":"","to":"PENDING","cause":"api","requestId":"request-1","detail":"","phases":[]}
	],"nextToken":null}`, body)
	status, body = r.get("events?subject=" + strings.ReplaceAll(image, ":", "%3A"))
	require.Equal(t, 200, status)
	require.Contains(t, body, `"subject":"`+image+`"`)
	require.NotContains(t, body, "image-1", "ids of images are not told")
}

func TestEventsWithoutASubjectAreThoseOfTheAccountPageByPage(t *testing.T) {
	r := newRig(t)
	r.moves(vmID, store.VMSuspending)
	var got []string
	in := extension.EventsInput{MaxResults: 1}
	for {
		out, err := r.as(mine).Events(t.Context(), in)
		require.NoError(t, err)
		require.Len(t, out.Events, 1)
		got = append(got, out.Events[0].Subject+" "+out.Events[0].To)
		if out.NextToken == nil {
			break
		}
		in.NextToken = *out.NextToken
	}
	require.Equal(t, []string{vmID + " SUSPENDING", vmID + " RUNNING", vmID + " PENDING", image + " SUCCESSFUL", image + " CREATING"}, got)

	_, err := r.as(theirs).Events(t.Context(), in)
	refused(t, err, awsapi.ValidationException) // a token is the account's
	out, err := r.as(theirs).Events(t.Context(), extension.EventsInput{})
	require.NoError(t, err)
	require.Len(t, out.Events, 4)
	require.Equal(t, "microvm-2", out.Events[0].Subject)
	_, body := r.getAs(mine, "eu-west-1", "events")
	require.JSONEq(t, `{"events":[],"nextToken":null}`, body)
}

func TestNobodySeesWhatBelongsToAnotherAccountOrRegion(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{
		"events?subject=" + vmID, "events?subject=" + image, "logs?source=" + vmID, "logs?source=" + buildID,
		"logs?source=" + vmID + "&kind=console&tail=3", "microvms/" + vmID, "builds/" + buildID,
	} {
		status, body := r.get(path)
		require.Equal(t, 200, status, "%s: %s", path, body)
		for _, c := range []struct{ account, region string }{{theirs, region}, {mine, "eu-west-1"}} {
			status, _ := r.getAs(c.account, c.region, path)
			require.Equal(t, 404, status, "%s as %v", path, c)
		}
	}
}

func TestUnknownThingsAreNotFound(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{
		"events?subject=microvm-none", "events?subject=%2e%2e", "events?subject=arn:aws:lambda:us-east-1:000000000000:microvm-image:none",
		"logs?source=microvm-none", "logs?source=..%2f..", "logs?source=8f0c8a52-4e0b-4a55-9c0e-3f7a0d9f2b11",
		"microvms/none", "microvms/", "microvms/..%2fx", "builds/none", "builds/%00",
	} {
		status, body := r.get(path)
		require.Equal(t, 404, status, path)
		require.Contains(t, body, `"message"`, path)
	}
	for _, path := range []string{"", "events/", "events/x", "logs/x", "microvms", "builds", "nothing"} {
		status, body := r.get(path)
		require.Equal(t, 404, status, path)
		require.Contains(t, body, "No operation", path)
	}
}

func TestBadRequestsAreRefusedWithATextForUsers(t *testing.T) {
	r := newRig(t)
	for path, text := range map[string]string{
		"events?maxResults=0":                            "maxResults must be a number from 1 to 1000.",
		"events?maxResults=1001":                         "maxResults must be a number from 1 to 1000.",
		"events?maxResults=x":                            "maxResults must be a number from 1 to 1000.",
		"events?nextToken=x":                             "Invalid nextToken",
		"events?subject=arn:aws:x":                       "Invalid ARN format: arn:aws:x",
		"events?subject=a&subject=b":                     "Query member subject is given 2 times.",
		"events?sort=up":                                 `Unknown query member \"sort\".`,
		"logs":                                           "source must be the id of a microVM or of a build.",
		"logs?source=" + vmID + "&kind=x":                "kind must be build, app, console or vmm.",
		"logs?source=" + vmID + "&kind=build":            "A MicroVM has logs of the kinds app, console and vmm only.",
		"logs?source=" + buildID + "&kind=app":           "A build has a log of kind build only.",
		"logs?source=" + vmID + "&follow=yes":            "follow must be true or false.",
		"logs?source=" + vmID + "&tail=-1":               "tail must be a number from 0 to 100000.",
		"logs?source=" + vmID + "&tail=9999999999999999": "tail must be a number from 0 to 100000.",
		"microvms/" + vmID + "?x=1":                      `Unknown query member \"x\".`,
		"builds/" + buildID + "?x=1":                     `Unknown query member \"x\".`,
	} {
		status, body := r.get(path)
		require.Equal(t, 400, status, path)
		require.Contains(t, body, text, path)
	}
}

func TestRequestsMustBeSignedAndReadOnly(t *testing.T) {
	r := newRig(t)
	response, err := http.Get(r.url + extension.Prefix + "events")
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, 403, response.StatusCode)
	require.Equal(t, "MissingAuthenticationTokenException", response.Header.Get("x-amzn-errortype"))
	response, err = signed(t, http.MethodPost, r.url+extension.Prefix+"events", mine, region)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, 404, response.StatusCode)
	require.Equal(t, "UnknownOperationException", response.Header.Get("x-amzn-errortype"))
	response, err = signedGet(t, r.url+"/2025-09-09/microvms", mine, region)
	require.NoError(t, err)
	response.Body.Close()
	require.Equal(t, http.StatusTeapot, response.StatusCode, "the AWS API's")
}

func TestDetailsOfAMicroVM(t *testing.T) {
	r := newRig(t)
	_, body := r.get("microvms/" + vmID)
	const gone = `{"microvmId":"microvm-1","memoryMiB":2048,"cpus":1,"suspendedAt":null,"generation":0,"checkpointBytes":null,"diskBytes":null,"vmmPid":null,"lastTrafficAt":null,
		"traffic":{"ingressIn":0,"ingressOut":0,"egressIn":0,"egressOut":0,"denied":0},"networks":[]}`
	require.JSONEq(t, gone, body)
	r.vms.details[vmID] = microvm.Details{Generation: 3, LastTraffic: noon, DiskBytes: 4096, VMMPID: 4711,
		Traffic: store.Traffic{IngressIn: 1, IngressOut: 2, EgressIn: 3, EgressOut: 4, Denied: 5}, Networks: []string{"office"}}
	_, body = r.get("microvms/" + vmID)
	require.JSONEq(t, `{"microvmId":"microvm-1","memoryMiB":2048,"cpus":1,"suspendedAt":null,"generation":3,"checkpointBytes":null,"diskBytes":4096,"vmmPid":4711,"lastTrafficAt":1795608000.250,
		"traffic":{"ingressIn":1,"ingressOut":2,"egressIn":3,"egressOut":4,"denied":5},"networks":["office"]}`, body)
	r.moves(vmID, store.VMSuspending)
	r.moves(vmID, store.VMSuspended)
	r.vms.details[vmID] = microvm.Details{Generation: 3, LastTraffic: noon, DiskBytes: 4096, CheckpointBytes: 8192}
	out, err := r.as(mine).MicroVM(t.Context(), vmID)
	require.NoError(t, err)
	require.Equal(t, noon, out.SuspendedAt.Time)
	require.Equal(t, int64(8192), *out.CheckpointBytes)
	require.Nil(t, out.VMMPid)
}

func TestABuildOnTheWire(t *testing.T) {
	r := newRig(t)
	_, body := r.get("builds/" + buildID)
	require.JSONEq(t, `{"buildId":"`+buildID+`","imageArn":"`+image+`","imageVersion":"1.0","state":"IN_PROGRESS","stateReason":"",
		"createdAt":1795608000.250,"endedAt":null,"phases":[],"codeBytes":0,"memoryBytes":0,"diskBytes":0,"logTail":[]}`, body)
	r.endBuild()
	out, err := r.as(mine).Build(t.Context(), buildID)
	require.NoError(t, err)
	require.Equal(t, noon.Add(time.Minute), out.EndedAt.Time)
	require.Equal(t, awsapi.List[string]{"one", "two"}, out.LogTail)
	require.Equal(t, awsapi.List[extension.Phase]{{Name: "fetch", Seconds: 0.02}}, out.Phases)
	require.Equal(t, "FAILED no 7", out.State+" "+out.StateReason+" "+string(rune('0'+out.CodeBytes)))
}

func TestEveryOperationKeepsToItsRate(t *testing.T) {
	r := newRig(t, "aws", "ExtensionLogs=1", "ExtensionEvents=1", "ExtensionMicrovm=1", "ExtensionBuild=1")
	for _, path := range []string{"logs?source=" + vmID, "events", "microvms/" + vmID, "builds/" + buildID} {
		status, _ := r.get(path)
		require.Equal(t, 200, status, path)
		status, body := r.get(path)
		require.Equal(t, 429, status, path)
		require.Contains(t, body, "Rate exceeded")
		status, _ = r.getAs(theirs, region, path)
		require.NotEqual(t, 429, status, "another account has its own")
	}
	r.clock.Advance(time.Second)
	status, _ := r.get("events")
	require.Equal(t, 200, status)
}
