package awsapi_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
)

// rulesInWords are the rules of serverEnforced that no constant carries out, with the tests that
// check what the service does.
var rulesInWords = map[string]string{
	"RunMicrovm.runHookPayload":          "control.TestEveryDecisionIsWhatTheServiceDoes",
	"RunMicrovm.imageIdentifier":         "control.TestRunRefusals",
	"RunMicrovm.egressNetworkConnectors": "control.TestAnImagesConnectorGoesToItsMicroVMs",
	"CodeArtifact.uri":                   "awsapi.TestTheRulesAreCarriedOutAtTheirEdges",
	"Hooks.port":                         "awsapi.TestServerRulesThatTheModelLacksAreEnforced",
}

// TestTheRulesInCodeAreThoseOfTheSpec holds every value of serverEnforced in spec/model.json
// against the constant that carries it out, but for the rulesInWords.
func TestTheRulesInCodeAreThoseOfTheSpec(t *testing.T) {
	model := awsapitest.ReadModel(t)
	inCode := map[string]map[string]any{
		"CreateMicrovmAuthToken.expirationInMinutes": {
			"maximum": awsapi.MaxTokenMinutes, "message": fmt.Sprintf("ExpirationMinutes 61 exceeded max allowed of %d.", awsapi.MaxTokenMinutes),
		},
		"CreateMicrovmShellAuthToken.expirationInMinutes": {"maximum": awsapi.MaxTokenMinutes},
		"RunMicrovm.maximumDurationInSeconds":             {"default": awsapi.DefaultDurationSeconds},
		"RunMicrovm.ingressNetworkConnectors":             {"default": []string{awsapi.DefaultIngress}},
		"CreateMicrovmImage.egressNetworkConnectors":      {"default": []string{awsapi.DefaultImageEgress}},
		"IdlePolicy.maxIdleDurationSeconds":               {"maximum": awsapi.MaxIdleSeconds},
		"Resources.minimumMemoryInMiB":                    {"enum": awsapi.MemorySizesMiB, "default": awsapi.DefaultMemoryMiB},
		"MicrovmHooks.*TimeoutInSeconds":                  {"default": awsapi.DefaultVMHookSeconds},
		"MicrovmImageHooks.*TimeoutInSeconds":             {"default": awsapi.DefaultImageHookSeconds},
	}
	for rule, test := range rulesInWords {
		require.Contains(t, model.ServerEnforced, rule, "the spec has no such rule")
		awsapitest.RequireTest(t, test)
	}
	for rule, values := range model.ServerEnforced {
		if rulesInWords[rule] != "" {
			continue
		}
		require.Contains(t, inCode, rule, "nothing carries this rule out")
		for name, want := range values {
			if name == "evidence" {
				continue
			}
			require.Contains(t, inCode[rule], name, rule)
			require.Equal(t, asJSON(t, want), asJSON(t, inCode[rule][name]), "%s %s", rule, name)
		}
		delete(inCode, rule)
	}
	require.Empty(t, inCode, "the spec has no such rules")
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return string(text)
}

// TestTheRulesAreCarriedOutAtTheirEdges sends the last value a rule allows and the first it refuses.
func TestTheRulesAreCarriedOutAtTheirEdges(t *testing.T) {
	server := newServer(awsapi.UnimplementedBackend{})
	token := func(minutes int) string {
		return fmt.Sprintf(`{"expirationInMinutes":%d,"allowedPorts":[{"port":1}]}`, minutes)
	}
	idle := func(seconds int) string {
		return fmt.Sprintf(`{"imageIdentifier":"arn:a","idlePolicy":{"maxIdleDurationSeconds":%d,"suspendedDurationSeconds":0,"autoResumeEnabled":true}}`, seconds)
	}
	image := func(uri string, mib int) string {
		return fmt.Sprintf(`{"baseImageArn":"b","buildRoleArn":"arn:aws:iam::123456789012:role/r","name":"n","codeArtifact":{"uri":%q},"resources":[{"minimumMemoryInMiB":%d}]}`, uri, mib)
	}
	const images, s3 = "/2025-09-09/microvm-images", "s3://bkt/app.zip"
	for _, c := range []struct{ path, right, wrong string }{
		{vmPath + "/auth-token", token(awsapi.MaxTokenMinutes), token(awsapi.MaxTokenMinutes + 1)},
		{vmPath + "/shell-auth-token", token(awsapi.MaxTokenMinutes), token(awsapi.MaxTokenMinutes + 1)},
		{listPath, idle(awsapi.MaxIdleSeconds), idle(awsapi.MaxIdleSeconds + 1)},
		{images, image(s3, int(slices.Max(awsapi.MemorySizesMiB))), image(s3, 2*int(slices.Max(awsapi.MemorySizesMiB)))},
		{images, image(s3, 512), image("s3://bkt", 512)},
	} {
		const passed = "is not available on this Dormouse server."
		require.Contains(t, server.call(t, "POST", c.path, c.right).Body, passed)
		require.NotContains(t, server.call(t, "POST", c.path, c.wrong).Body, passed)
	}
	for _, size := range awsapi.MemorySizesMiB {
		require.True(t, strings.HasSuffix(server.call(t, "POST", images, image(s3, int(size))).Body, `Dormouse server."}`))
	}
}
