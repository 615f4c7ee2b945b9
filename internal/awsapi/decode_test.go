package awsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

const (
	testImage = `arn:aws:lambda:us-east-1:123456789012:microvm-image:my-image`
	testRole  = `arn:aws:iam::123456789012:role/BuildRole`
	noWhite   = `Member must satisfy regular expression pattern: [^\s]+`
	tagText   = `Member must satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*)`
)

// image is a CreateMicrovmImage body with one more member.
func image(member string) string {
	return `{"baseImageArn":"b","buildRoleArn":"` + testRole + `","codeArtifact":{"uri":"s3://bkt/app.zip"},"name":"n"` + member + `}`
}

func token(ports string) string { return `{"expirationInMinutes":30,"allowedPorts":` + ports + `}` }

func refusalOf(t *testing.T, operation string, labels map[string]string, query, body string) *Error {
	t.Helper()
	in := newInput(Operations[operation])
	err := Operations[operation].decode(labels, query, []byte(body), in)
	if err == nil {
		return nil
	}
	var refusal *Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, ValidationException, refusal.Code)
	return refusal
}

// newInput makes the structure an operation is decoded into.
func newInput(op *Operation) (in any) {
	_, _ = op.invoke(context.Background(), UnimplementedBackend{}, func(made any) error {
		in = made
		return nil
	})
	return in
}

func TestConstraintsAreReportedInTheWordsOfTheService(t *testing.T) {
	vm := map[string]string{"microvmIdentifier": "microvm-1"}
	version := map[string]string{"imageIdentifier": testImage, "imageVersion": "1.0"}
	long := func(n int) string { return strings.Repeat("x", n) }
	const one, two = "1 validation error detected: ", "2 validation errors detected: "
	for _, c := range []struct {
		operation   string
		labels      map[string]string
		query, body string
		want        string
	}{
		{"RunMicrovm", nil, "", ``, one + "Value null at 'imageIdentifier' failed to satisfy constraint: Member must not be null"},
		{"RunMicrovm", nil, "", `{}`, one + "Value null at 'imageIdentifier' failed to satisfy constraint: Member must not be null"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":null}`, one + "Value null at 'imageIdentifier' failed to satisfy constraint: Member must not be null"},
		{"RunMicrovm", nil, "", `{"ImageIdentifier":"a"}`, one + "Value null at 'imageIdentifier' failed to satisfy constraint: Member must not be null"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":""}`, one + "Value '' at 'imageIdentifier' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"` + long(257) + `"}`, one + "Value '" + long(257) + "' at 'imageIdentifier' failed to satisfy constraint: Member must have length less than or equal to 256"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","runHookPayload":"` + long(4097) + `"}`, one + "Value at 'runHookPayload' failed to satisfy constraint: Member must have length less than or equal to 4096"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","maximumDurationInSeconds":0}`, one + "Value '0' at 'maximumDurationInSeconds' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","maximumDurationInSeconds":28801}`, one + "Value '28801' at 'maximumDurationInSeconds' failed to satisfy constraint: Member must have value less than or equal to 28800"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","idlePolicy":{"maxIdleDurationSeconds":59,"autoResumeEnabled":true}}`, two +
			"Value '59' at 'idlePolicy.maxIdleDurationSeconds' failed to satisfy constraint: Member must have value greater than or equal to 60; " +
			"Value null at 'idlePolicy.suspendedDurationSeconds' failed to satisfy constraint: Member must not be null"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","ingressNetworkConnectors":["a",""]}`, one + "Value '[a, ]' at 'ingressNetworkConnectors' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 2048, Member must have length greater than or equal to 1, Member must not be null]"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","egressNetworkConnectors":["1","2","3","4","5","6","7","8","9","10","11"]}`, one + "Value '[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]' at 'egressNetworkConnectors' failed to satisfy constraint: Member must have length less than or equal to 10"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","egressNetworkConnectors":[null]}`, one + "Value '[null]' at 'egressNetworkConnectors' failed to satisfy constraint: Member must satisfy constraint: [Member must have length less than or equal to 2048, Member must have length greater than or equal to 1, Member must not be null]"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","logging":{}}`, one + "Value '{}' at 'logging' failed to satisfy constraint: Member must have exactly one of [disabled, cloudWatch] set"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","logging":{"disabled":{},"cloudWatch":{}}}`, one + "Value '{cloudWatch={}, disabled={}}' at 'logging' failed to satisfy constraint: Member must have exactly one of [disabled, cloudWatch] set"},
		{"RunMicrovm", nil, "", `{"imageIdentifier":"a","logging":{"brandNew":1}}`, one + "Value '{brandNew=1}' at 'logging' failed to satisfy constraint: Member must have exactly one of [disabled, cloudWatch] set"},
		{"GetMicrovm", map[string]string{"microvmIdentifier": ""}, "", "", one + "Value '' at 'microvmIdentifier' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"ListMicrovms", nil, "maxResults=51", "", one + "Value '51' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 50"},
		{"ListMicrovms", nil, "maxResults=-1", "", one + "Value '-1' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"ListMicrovmImageBuilds", version, "architecture=X86", "", one + "Value 'X86' at 'architecture' failed to satisfy constraint: Member must satisfy enum value set: [ARM_64]"},
		{"UpdateMicrovmImageVersion", version, "", `{"status":"on"}`, one + "Value 'on' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [ACTIVE, INACTIVE]"},
		{"UpdateMicrovmImageVersion", map[string]string{"imageIdentifier": testImage, "imageVersion": ""}, "", `{"status":"ACTIVE"}`, two +
			"Value '' at 'imageVersion' failed to satisfy constraint: Member must have length greater than or equal to 1; Value '' at 'imageVersion' failed to satisfy constraint: " + noWhite},
		{"CreateMicrovmImage", nil, "", image(`,"name":"a b"`), one + "Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
		{"CreateMicrovmImage", nil, "", image(`,"codeArtifact":{"uri":null}`), one + "Value '{uri=null}' at 'codeArtifact' failed to satisfy constraint: Member must have exactly one of [uri] set"},
		{"CreateMicrovmImage", nil, "", image(`,"cpuConfigurations":[{},{"architecture":"X"}]`), two +
			"Value null at 'cpuConfigurations.1.member.architecture' failed to satisfy constraint: Member must not be null; " +
			"Value 'X' at 'cpuConfigurations.2.member.architecture' failed to satisfy constraint: Member must satisfy enum value set: [ARM_64]"},
		{"CreateMicrovmImage", nil, "", image(`,"resources":[null]`), one + "Value null at 'resources.1.member' failed to satisfy constraint: Member must not be null"},
		{"CreateMicrovmImage", nil, "", image(`,"additionalOsCapabilities":["SOME"]`), one + "Value '[SOME]' at 'additionalOsCapabilities' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [ALL], Member must not be null]"},
		{"CreateMicrovmImage", nil, "", image(`,"environmentVariables":{"A":"` + long(4097) + `"}`), one + "Value at 'environmentVariables' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 4096, Member must have length greater than or equal to 0, Member must not be null]"},
		{"CreateMicrovmImage", nil, "", image(`,"environmentVariables":{"A B":"secret"}`), one + "Value at 'environmentVariables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 1, " + noWhite + ", Member must not be null]"},
		{"CreateMicrovmImage", nil, "", image(`,"tags":{"k":"v!"}`), one + "Value '{k=v!}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0, " + tagText + ", Member must not be null]"},
		{"CreateMicrovmImage", nil, "", image(`,"hooks":{"microvmHooks":{"runTimeoutInSeconds":61}}`), one + "Value '61' at 'hooks.microvmHooks.runTimeoutInSeconds' failed to satisfy constraint: Member must have value less than or equal to 60"},
		{"CreateMicrovmAuthToken", vm, "", token(`[]`), one + "Value '[]' at 'allowedPorts' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"CreateMicrovmAuthToken", vm, "", token(`[{"port":0}]`), one + "Value '0' at 'allowedPorts.1.member.port' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{"CreateMicrovmAuthToken", vm, "", token(`[{"port":1,"allPorts":{}}]`), one + "Value '{allPorts={}, port=1}' at 'allowedPorts.1.member' failed to satisfy constraint: Member must have exactly one of [port, range, allPorts] set"},
		{"UntagResource", map[string]string{"Resource": testImage}, "", "", one + "Value null at 'TagKeys' failed to satisfy constraint: Member must not be null"},
	} {
		refusal := refusalOf(t, c.operation, c.labels, c.query, c.body)
		require.NotNil(t, refusal, c.want)
		require.Equal(t, c.want, refusal.Message)
		require.False(t, refusal.capitalMessage)
	}
}

func TestWrongJSONIsRefusedTheWayTheFrontEndDoes(t *testing.T) {
	vm := map[string]string{"microvmIdentifier": "microvm-1"}
	const syntax = "Could not parse request body into json: "
	for _, c := range []struct{ operation, query, body, want string }{
		{"CreateMicrovmAuthToken", "", token(`[{"allPorts":true}]`), "Expected null"},
		{"CreateMicrovmAuthToken", "", token(`{"port":1}`), "Expected list or null at 'allowedPorts'"},
		{"CreateMicrovmAuthToken", "", `{"expirationInMinutes":"30"}`, "STRING_VALUE cannot be converted to Integer at 'expirationInMinutes'"},
		{"CreateMicrovmAuthToken", "", `{"expirationInMinutes":1.5}`, "NUMBER_VALUE cannot be converted to Integer at 'expirationInMinutes'"},
		{"CreateMicrovmAuthToken", "", `{"expirationInMinutes":2147483648}`, "NUMBER_VALUE cannot be converted to Integer at 'expirationInMinutes'"},
		{"CreateMicrovmAuthToken", "", `{"expirationInMinutes":[1]}`, "Start of list found where not expected at 'expirationInMinutes'"},
		{"CreateMicrovmAuthToken", "", `{"expirationInMinutes":{}}`, "Start of structure or map found where not expected at 'expirationInMinutes'"},
		{"CreateMicrovmAuthToken", "", `[]`, "Expected null"},
		{"CreateMicrovmAuthToken", "", `"x"`, "Expected null"},
		{"RunMicrovm", "", `{"imageIdentifier":true}`, "TRUE_VALUE cannot be converted to String at 'imageIdentifier'"},
		{"RunMicrovm", "", `{"imageIdentifier":"a","runHookPayload":1234567}`, "NUMBER_VALUE cannot be converted to String at 'runHookPayload'"},
		{"RunMicrovm", "", `{"imageIdentifier":"a","idlePolicy":{"autoResumeEnabled":"yes"}}`, "STRING_VALUE cannot be converted to Boolean at 'idlePolicy.autoResumeEnabled'"},
		{"RunMicrovm", "", `{"imageIdentifier":"a","idlePolicy":7}`, "Expected null"},
		{"CreateMicrovmImage", "", image(`,"tags":[]`), "Expected map or null at 'tags'"},
		{"CreateMicrovmImage", "", image(`,"tags":{"k":1}`), "NUMBER_VALUE cannot be converted to String at 'tags'"},
		{"ListMicrovms", "maxResults=ten", "", "STRING_VALUE cannot be converted to Integer at 'maxResults'"},
		{"ListMicrovms", "maxResults=", "", "STRING_VALUE cannot be converted to Integer at 'maxResults'"},
		{"ListMicrovms", "maxResults=1e1", "", "STRING_VALUE cannot be converted to Integer at 'maxResults'"},
		{"RunMicrovm", "", `{`, syntax + "unexpected EOF"},
		{"RunMicrovm", "", `imageIdentifier=a`, syntax + "invalid character 'i' looking for beginning of value"},
		{"RunMicrovm", "", `{"imageIdentifier":"a"}{}`, syntax + "more than one value"},
	} {
		refusal := refusalOf(t, c.operation, vm, c.query, c.body)
		require.NotNil(t, refusal, c.want)
		require.Equal(t, c.want, refusal.Message)
		require.JSONEq(t, `{"Message":`+quoted(c.want)+`}`, string(refusal.body()))
	}
}

func quoted(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func TestServerRulesThatTheModelLacksAreEnforced(t *testing.T) {
	vm := map[string]string{"microvmIdentifier": "microvm-1"}
	enabled := `,"hooks":{"microvmImageHooks":{"ready":"ENABLED"}}`
	for _, c := range []struct{ operation, body, want string }{
		{"CreateMicrovmAuthToken", `{"expirationInMinutes":61,"allowedPorts":[{"port":1}]}`, "ExpirationMinutes 61 exceeded max allowed of 60."},
		{"CreateMicrovmAuthToken", token(`[{"range":{"startPort":2,"endPort":1}}]`), "Invalid port range: startPort 2 is greater than endPort 1."},
		{"RunMicrovm", `{"imageIdentifier":"a","idlePolicy":{"maxIdleDurationSeconds":28801,"suspendedDurationSeconds":0,"autoResumeEnabled":true}}`, "maxIdleDurationSeconds 28801 exceeded max allowed of 28800."},
		{"CreateMicrovmImage", image(`,"resources":[{"minimumMemoryInMiB":1000}]`), "The requested memory size of 1000 MiB is not supported by base MicroVM image b. Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."},
		{"CreateMicrovmImage", image(`,"codeArtifact":{"uri":"https://x/app.zip"}`), "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"},
		{"CreateMicrovmImage", image(`,"codeArtifact":{"uri":"s3://bkt/"}`), "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"},
		{"CreateMicrovmImage", image(enabled), "hooks.port is required when a lifecycle hook is ENABLED."},
		{"CreateMicrovmImage", image(`,"hooks":{"microvmImageHooks":{"ready":"DISABLED"}}`), ""},
		{"CreateMicrovmImage", image(strings.Replace(enabled, `{"m`, `{"port":9000,"m`, 1)), ""},
	} {
		refusal := refusalOf(t, c.operation, vm, "", c.body)
		if c.want == "" {
			require.Nil(t, refusal, c.body)
			continue
		}
		require.NotNil(t, refusal, c.want)
		require.Equal(t, c.want, refusal.Message)
	}
}

func TestConstraintsComeBeforeServerRules(t *testing.T) {
	refusal := refusalOf(t, "CreateMicrovmImage", nil, "", image(`,"name":"","codeArtifact":{"uri":"https://x/app.zip"}`))
	require.Contains(t, refusal.Message, "validation errors detected")
}

func TestLengthsCountCharactersAndNotBytes(t *testing.T) {
	body := func(n int) string {
		return fmt.Sprintf(`{"imageIdentifier":"a","runHookPayload":%q}`, strings.Repeat("é", n))
	}
	require.Nil(t, refusalOf(t, "RunMicrovm", nil, "", body(4096)))
	require.NotNil(t, refusalOf(t, "RunMicrovm", nil, "", body(4097)))
}

func TestUnknownMembersNullsAndForeignPlacesAreIgnored(t *testing.T) {
	in := new(GetMicrovmInput)
	require.NoError(t, Operations["GetMicrovm"].decode(map[string]string{"microvmIdentifier": "a"}, "microvmIdentifier=b&x=y", []byte(`not json`), in))
	require.Equal(t, "a", in.MicrovmIdentifier)

	run := new(RunMicrovmInput)
	body := `{"imageIdentifier":"a","IMAGEVERSION":"2.0","imageVersion":null,"new":{"x":[1]},"logging":{"cloudWatch":{"logGroup":"g","x":1},"disabled":null},"egressNetworkConnectors":[]}`
	require.NoError(t, Operations["RunMicrovm"].decode(nil, "imageVersion=3.0", []byte(body), run))
	require.Equal(t, &RunMicrovmInput{
		ImageIdentifier: "a", Logging: &Logging{CloudWatch: &CloudWatchLogging{LogGroup: new("g")}}, EgressNetworkConnectors: []string{},
	}, run)
}

func TestARefusalOfAHostileBodyStaysSmall(t *testing.T) {
	for name, member := range map[string]string{
		"many faulty items": `,"cpuConfigurations":[` + strings.Repeat("{},", 300000) + `{}]`,
		"one long value":    `,"name":"` + strings.Repeat("é", 500000) + `"`,
		"one long list":     `,"egressNetworkConnectors":[` + strings.Repeat(`"",`, 300000) + `""]`,
	} {
		refusal := refusalOf(t, "CreateMicrovmImage", nil, "", image(member))
		require.NotNil(t, refusal, name)
		require.Less(t, len(refusal.Message), 3*maxDisplayed, name)
		require.True(t, utf8.ValidString(refusal.Message), name)
	}
	refusal := refusalOf(t, "CreateMicrovmImage", nil, "", image(`,"cpuConfigurations":[`+strings.Repeat("{},", 300)+`{}]`))
	require.Contains(t, refusal.Message, "301 validation errors detected")
	require.Equal(t, maxListedFailures, strings.Count(refusal.Message, "failed to satisfy"))
}

func FuzzWhatIsDecodedMeetsTheModelAndSurvivesEncoding(f *testing.F) {
	f.Add("", []byte(image(`,"hooks":{"port":9000,"microvmHooks":{"run":"ENABLED"}},"tags":{"a":"b"},"logging":{"disabled":{}}`)))
	f.Add("maxResults=1", []byte(`{"imageIdentifier":"a","idlePolicy":{"maxIdleDurationSeconds":60,"suspendedDurationSeconds":0,"autoResumeEnabled":true}}`))
	f.Add("tagKeys=a&tagKeys=b&%zz", []byte(token(`[{"port":80},{"range":{"startPort":1,"endPort":2}},{"allPorts":{}}]`)))
	f.Add("State=ACTIVE&MaxItems=100&Marker=x", []byte(`{"Name":"n","OperatorRole":"`+testRole+`","ClientToken":"t","Configuration":{"VpcEgressConfiguration":{"SubnetIds":["subnet-1"],"NetworkProtocol":"IPv4","AssociatedComputeResourceTypes":["MicroVm"]}}}`))
	f.Add("", []byte(`{"Configuration":{"VpcEgressConfiguration":{}},"Tags":{"a":"b"}}`))
	f.Add("", []byte(`{"name":1e999,"tags":{"":null},"resources":[[[]]]}`))
	labels := map[string]string{"microvmIdentifier": "m", "imageIdentifier": testImage, "imageVersion": "1.0", "Resource": testImage, "buildId": "b", "Identifier": "nc-1"}
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		for name, op := range Operations {
			in := newInput(op)
			err := op.decode(labels, query, body, in)
			var refusal *Error
			if err != nil {
				if !errors.As(err, &refusal) || refusal.Code != ValidationException {
					t.Errorf("%s: not a refusal: %v", name, err)
				}
				continue
			}
			request, err := op.NewRequest(in)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			again := newInput(op)
			if err := op.decode(labels, request.Query.Encode(), request.Body, again); err != nil {
				t.Errorf("%s: own encoding refused: %v", name, err)
			}
		}
	})
}
