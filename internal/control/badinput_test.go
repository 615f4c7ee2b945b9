package control

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const (
	vmsPath    = "/2025-09-09/microvms"
	imagesPath = "/2025-09-09/microvm-images"
	tagsPath   = "/2017-03-31/tags/"
)

// label writes a text as the SDKs put it into a path.
func label(text string) string {
	return strings.NewReplacer(":", "%3A", "/", "%2F").Replace(text)
}

// newImage is the body of CreateMicrovmImage with more members.
func newImage(name string, members ...string) string {
	members = append([]string{
		`"baseImageArn":"` + baseARN + `"`, `"buildRoleArn":"` + exampleRole + `"`, `"codeArtifact":{"uri":"s3://bkt/app.zip"}`, `"name":"` + name + `"`,
	}, members...)
	return "{" + strings.Join(members, ",") + "}"
}

// manyTags is a JSON object of n tags.
func manyTags(n int) string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	return "{" + strings.Join(tags, ",") + "}"
}

func TestBadInputIsRefusedInTheServicesWords(t *testing.T) {
	d := openDoor(t)
	d.addExamples(t)
	const (
		one, two = "1 validation error detected: ", "2 validation errors detected: "
		at       = "' failed to satisfy constraint: "
		empty    = "Member must have length greater than or equal to 1"
		json     = "Could not parse request body into json: "
		invalid  = "ValidationException"
		denied   = "AccessDeniedException"
		missing  = "ResourceNotFoundException"
		unknown  = "UnknownOperationException"
	)
	seventy := strings.Repeat("n", 70)
	tokenPath, imagePath := vmsPath+"/"+exampleVM+"/auth-token", imagesPath+"/"+label(exampleImage)
	slash := strings.Replace(exampleImage, "microvm-image:", "microvm-image/", 1)
	user := "User: arn:aws:iam::123456789012:root is not authorized to perform: lambda:GetMicrovmImage on resource: "
	arnPattern := awsapitest.ReadModel(t).Operations["ListTags"].Input["Resource"].Pattern
	for name, c := range map[string]struct {
		method, target, body string
		status               int
		code, text           string
	}{
		"no JSON":               {"POST", vmsPath, `{"imageIdentifier":`, 400, invalid, json + "unexpected EOF"},
		"two objects":           {"POST", vmsPath, `{}{}`, 400, invalid, json + "more than one value"},
		"not an object":         {"POST", vmsPath, `["a"]`, 400, invalid, "Expected null"},
		"number for a text":     {"POST", vmsPath, `{"imageIdentifier":1}`, 400, invalid, "NUMBER_VALUE cannot be converted to String at 'imageIdentifier'"},
		"text for a number":     {"POST", vmsPath, `{"imageIdentifier":"a","maximumDurationInSeconds":"60"}`, 400, invalid, "STRING_VALUE cannot be converted to Integer at 'maximumDurationInSeconds'"},
		"object for a list":     {"POST", vmsPath, `{"imageIdentifier":"a","egressNetworkConnectors":{}}`, 400, invalid, "Expected list or null at 'egressNetworkConnectors'"},
		"list for a map":        {"POST", imagesPath, newImage("n", `"tags":[]`), 400, invalid, "Expected map or null at 'tags'"},
		"true for a structure":  {"POST", tokenPath, `{"expirationInMinutes":1,"allowedPorts":[{"allPorts":true}]}`, 400, invalid, "Expected null"},
		"text for a boolean":    {"POST", vmsPath, `{"imageIdentifier":"a","idlePolicy":{"maxIdleDurationSeconds":60,"suspendedDurationSeconds":0,"autoResumeEnabled":"true"}}`, 400, invalid, "STRING_VALUE cannot be converted to Boolean at 'idlePolicy.autoResumeEnabled'"},
		"page size no number":   {"GET", vmsPath + "?maxResults=x", "", 400, invalid, "STRING_VALUE cannot be converted to Integer at 'maxResults'"},
		"nothing at all":        {"POST", vmsPath, "", 400, invalid, one + "Value null at 'imageIdentifier" + at + "Member must not be null"},
		"name of 70 characters": {"POST", imagesPath, newImage(seventy), 400, invalid, one + "Value '" + seventy + "' at 'name" + at + "Member must have length less than or equal to 64"},
		"name with a blank":     {"POST", imagesPath, newImage("a b"), 400, invalid, one + "Value 'a b' at 'name" + at + "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
		"duplicate name":        {"POST", imagesPath, newImage("my-image"), 400, invalid, "A MicroVM image with the name 'my-image' already exists in this account"},
		"page of 51":            {"GET", imagesPath + "?maxResults=51", "", 400, invalid, one + "Value '51' at 'maxResults" + at + "Member must have value less than or equal to 50"},
		"page of 0":             {"GET", imagesPath + "?maxResults=0", "", 400, invalid, one + "Value '0' at 'maxResults" + at + "Member must have value greater than or equal to 1"},

		"union of two": {"POST", vmsPath, `{"imageIdentifier":"a","logging":{"disabled":{},"cloudWatch":{}}}`, 400, invalid,
			one + "Value '{cloudWatch={}, disabled={}}' at 'logging" + at + "Member must have exactly one of [disabled, cloudWatch] set"},
		"union of none": {"POST", tokenPath, `{"expirationInMinutes":1,"allowedPorts":[{}]}`, 400, invalid,
			one + "Value '{}' at 'allowedPorts.1.member" + at + "Member must have exactly one of [port, range, allPorts] set"},
		"constraints before rules": {"POST", imagesPath, newImage("", `"resources":[{"minimumMemoryInMiB":1000}]`), 400, invalid,
			two + "Value '' at 'name" + at + empty + "; Value '' at 'name" + at + "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]+"},
		"rules before look-ups": {"POST", tokenPath + "x", `{}`, 404, unknown, "No operation of the service has this method and path."},
		"token for 61 minutes":  {"POST", strings.Replace(tokenPath, "1111", "none", 1), `{"expirationInMinutes":61,"allowedPorts":[{"port":1}]}`, 400, invalid, "ExpirationMinutes 61 exceeded max allowed of 60."},
		"secret in a refusal":   {"POST", vmsPath, `{"imageIdentifier":"a","runHookPayload":"` + strings.Repeat("s", 4097) + `"}`, 400, invalid, one + "Value at 'runHookPayload" + at + "Member must have length less than or equal to 4096"},

		"image by name":             {"GET", imagesPath + "/my-image", "", 400, invalid, "Invalid ARN format: my-image"},
		"run by name":               {"POST", vmsPath, `{"imageIdentifier":"my-image"}`, 400, invalid, "Malformed ARN - doesn't start with 'arn:'"},
		"ARN of another service":    {"GET", imagesPath + "/" + label("arn:aws:s3:::bkt"), "", 400, invalid, "Invalid ARN format: arn:aws:s3:::bkt"},
		"ARN of five parts":         {"GET", imagesPath + "/arn:aws:lambda:us-east-1:123456789012", "", 400, invalid, "Invalid ARN format: arn:aws:lambda:us-east-1:123456789012"},
		"ARN with a slash, encoded": {"GET", imagesPath + "/" + label(slash), "", 403, denied, user + slash},
		"ARN with a slash, raw":     {"GET", imagesPath + "/" + slash, "", 404, unknown, "No operation of the service has this method and path."},
		"ARN of another account":    {"GET", imagesPath + "/" + label(appARN), "", 403, denied, user + appARN},
		"encoded twice":             {"GET", imagesPath + "/" + strings.ReplaceAll(label(exampleImage), "%", "%25"), "", 400, invalid, "Invalid ARN format: " + label(exampleImage)},
		"action in a label":         {"GET", vmsPath + "/" + exampleVM + "%2Fsuspend", "", 404, missing, "MicroVM not found: " + exampleVM + "/suspend"},
		"dots in a label":           {"GET", vmsPath + "/..%2Fmicrovm-images", "", 404, missing, "MicroVM not found: ../microvm-images"},
		"bad escape in a label":     {"GET", vmsPath + "/%zz", "", 400, invalid, "The path is malformed."},
		"empty label at the end":    {"GET", vmsPath + "/", "", 400, invalid, one + "Value '' at 'microvmIdentifier" + at + empty},
		"empty label in the middle": {"POST", vmsPath + "//suspend", "", 400, invalid, one + "Value '' at 'microvmIdentifier" + at + empty},
		"empty version":             {"GET", imagePath + "/versions/", "", 400, invalid, two + "Value '' at 'imageVersion" + at + empty + "; Value '' at 'imageVersion" + at + `Member must satisfy regular expression pattern: [^\s]+`},
		"unknown method":            {"PATCH", vmsPath, "{}", 405, unknown, "The path does not allow the method; it allows GET, POST."},
		"id of another form":        {"GET", vmsPath + "/mvm-1", "", 404, missing, "MicroVM not found: mvm-1"},

		"forged page token": {"GET", imagesPath + "?nextToken=Zm9yZ2Vk", "", 400, invalid, "Invalid nextToken"},
		"unencoded padding": {"GET", imagesPath + "?nextToken=abc==", "", 400, invalid, ""},
		"51 tags":           {"POST", imagesPath, newImage("tagged", `"tags":`+manyTags(51)), 400, invalid, "A resource can have at most 50 tags."},
		"51 tags, later":    {"POST", tagsPath + label(exampleImage), `{"Tags":` + manyTags(51) + `}`, 400, "InvalidParameterValueException", "A resource can have at most 50 tags."},
		"tags of a microVM": {"GET", tagsPath + exampleVM, "", 400, invalid, one + "Value '" + exampleVM + "' at 'Resource" + at + "Member must satisfy regular expression pattern: " + arnPattern},
		"tags of no image":  {"GET", tagsPath + label(exampleImage+"2"), "", 404, missing, "MicroVMImage not found for MicroVMImageID: " + exampleImage + "2"},
		"tag key of 129":    {"POST", tagsPath + label(exampleImage), `{"Tags":{"` + strings.Repeat("k", 129) + `":""}}`, 400, invalid, one + "Value '{" + strings.Repeat("k", 129) + "=}' at 'Tags" + at + `Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: ([\p{L}\p{Z}\p{N}_.:/=+\-@]*), Member must not be null]`},
		"nothing to tag":    {"POST", tagsPath + label(exampleImage), `{}`, 400, invalid, one + "Value null at 'Tags" + at + "Member must not be null"},
		"bad role": {"POST", imagesPath, strings.Replace(newImage("n"), exampleRole, "arn:aws:iam::12:role/xyz", 1), 400, invalid, one + "Value 'arn:aws:iam::12:role/xyz' at 'buildRoleArn" + at +
			`Member must satisfy regular expression pattern: arn:aws[a-z\-]*:iam::[0-9]{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+`},
		"bad base image":         {"POST", imagesPath, strings.Replace(newImage("n"), baseARN, "al2023-1", 1), 400, invalid, "Invalid ARN format: al2023-1"},
		"bad egress":             {"POST", imagesPath, newImage("n", `"egressNetworkConnectors":["INTERNET_EGRESS"]`), 400, invalid, "Malformed network connector ARN: INTERNET_EGRESS"},
		"no such egress":         {"POST", imagesPath, newImage("n", `"egressNetworkConnectors":["`+managed("SOME_EGRESS")+`"]`), 400, invalid, "Unrecognized managed network connector ARN: " + managed("SOME_EGRESS")},
		"connector by other ARN": {"GET", connectorsPath + "/" + label(exampleImage), "", 400, "InvalidParameterValueException", "Invalid ARN format: " + exampleImage},
		"connector name of 70":   {"POST", connectorsPath, newConnector(seventy), 400, "InvalidParameterValueException", two + "Value '" + seventy + "' at 'Name" + at + "Member must satisfy regular expression pattern: " + connectorPattern(t) + "; Value '" + seventy + "' at 'ClientToken" + at + "Member must have length less than or equal to 64"},
		"bad connector":          {"POST", connectorsPath, `{"Name":"a b","Configuration":{"VpcEgressConfiguration":{"SubnetIds":[]}}}`, 400, "InvalidParameterValueException", two + "Value 'a b' at 'Name" + at + "Member must satisfy regular expression pattern: " + connectorPattern(t) + "; Value '[]' at 'Configuration.VpcEgressConfiguration.SubnetIds" + at + empty},
	} {
		t.Run(name, func(t *testing.T) {
			d.call(t, c.method, c.target, c.body).RequireError(t, c.status, c.code, c.text)
		})
	}
	images, _, err := d.store.ListImages(context.Background(), exampleAccount, region, store.Page{Limit: 10})
	require.NoError(t, err)
	require.Len(t, images, 2, "nothing was made")
}

// connectorPattern is the pattern of connector names in the model.
func connectorPattern(t *testing.T) string {
	t.Helper()
	return awsapitest.ReadModel(t).CompanionServices["lambda-core"].Shapes["NetworkConnectorName"].Pattern
}

func TestWhatIsUnusualAndRightIsAccepted(t *testing.T) {
	d := openDoor(t)
	d.addExamples(t)
	for name, c := range map[string]struct {
		method, target, body string
		status               int
	}{
		"unknown members":       {"POST", imagesPath, newImage("unknown", `"brandNew":{"x":[1]}`, `"logging":{"disabled":{},"brandNew":null}`), 201},
		"nulls":                 {"POST", imagesPath, newImage("nulls", `"hooks":null`, `"tags":null`, `"clientToken":null`), 201},
		"11 tags":               {"POST", imagesPath, newImage("eleven", `"tags":`+manyTags(11)), 201},
		"50 tags":               {"POST", imagesPath, newImage("fifty", `"tags":`+manyTags(50)), 201},
		"11 tags, later":        {"POST", tagsPath + label(exampleImage), `{"Tags":` + manyTags(11) + `}`, 204},
		"name of 64 characters": {"POST", imagesPath, newImage(strings.Repeat("n", 64)), 201},
		"raw colons":            {"GET", imagesPath + "/" + exampleImage, "", 200},
		"body of a GET":         {"GET", vmsPath + "/" + exampleVM, "no JSON", 200},
		"empty page token":      {"GET", imagesPath + "?nextToken=", "", 200},
		"unknown parameter":     {"GET", imagesPath + "?brandNew=1", "", 200},
	} {
		got := d.call(t, c.method, c.target, c.body)
		require.Equal(t, c.status, got.Status, "%s: %s", name, got.Body)
	}
}

func TestAPageTokenLeadsOnInItsOwnListOnly(t *testing.T) {
	d := openDoor(t)
	d.addExamples(t)
	require.NoError(t, d.store.CreateAccount(d.ctx, store.Account{ID: "999999999999"}))
	require.NoError(t, d.store.CreateCredential(d.ctx, store.Credential{AccessKeyID: "AKIDOTHER", Secret: exampleSecret, AccountID: "999999999999"}))
	token, ok := d.call(t, "GET", imagesPath+"?maxResults=1", "").JSON(t)["nextToken"].(string)
	require.True(t, ok)
	query := "?nextToken=" + strings.ReplaceAll(token, "=", "%3D")
	require.Equal(t, 200, d.call(t, "GET", imagesPath+query, "").Status)

	changed := "?nextToken=A" + query[len("?nextToken=A"):]
	if changed == query {
		changed = "?nextToken=B" + query[len("?nextToken=A"):]
	}
	other, elsewhere := d.signer, d.signer
	other.Key, elsewhere.Region = "AKIDOTHER", "eu-west-1"
	for name, r := range map[string]func() awsapitest.Answer{
		"another list":   func() awsapitest.Answer { return d.call(t, "GET", vmsPath+query, "") },
		"another filter": func() awsapitest.Answer { return d.call(t, "GET", imagesPath+query+"&nameFilter=a", "") },
		"another account": func() awsapitest.Answer {
			return awsapitest.Do(d.handler, other.Request(t, "GET", imagesPath+query, ""))
		},
		"another region": func() awsapitest.Answer {
			return awsapitest.Do(d.handler, elsewhere.Request(t, "GET", imagesPath+query, ""))
		},
		"a letter changed": func() awsapitest.Answer { return d.call(t, "GET", imagesPath+changed, "") },
	} {
		t.Run(name, func(t *testing.T) { r().RequireError(t, 400, "ValidationException", "Invalid nextToken") })
	}
	connectors := d.call(t, "GET", "/2026-04-04/network-connectors?Marker="+query[len("?nextToken="):], "")
	connectors.RequireError(t, 400, "InvalidParameterValueException", "Invalid Marker")
}

func TestARefusalWithoutATextSaysNull(t *testing.T) {
	d := openDoor(t)
	require.JSONEq(t, `{"message":null}`, d.call(t, "GET", vmsPath+"?nextToken=abc==", "").Body)
	require.JSONEq(t, `{"Message":"Expected null"}`, d.call(t, "POST", vmsPath+"/x/auth-token", `{"expirationInMinutes":1,"allowedPorts":[{"allPorts":true}]}`).Body)
}
