package control

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/awsapi/awsapitest"
	"github.com/dormouse-dev/dormouse/internal/store"
)

const connectorsPath = "/2026-04-04/network-connectors"

// newConnector is the body of CreateNetworkConnector.
func newConnector(name string) string {
	return `{"Name":"` + name + `","OperatorRole":"` + roleARN + `","ClientToken":"` + name + `","Configuration":` + egressConfiguration("subnet-1") + `}`
}

func egressConfiguration(subnet string) string {
	return `{"VpcEgressConfiguration":{"SubnetIds":["` + subnet + `"],"NetworkProtocol":"IPv4","AssociatedComputeResourceTypes":["MicroVm"]}}`
}

// get reads a resource of exampleAccount.
func (d *door) get(t *testing.T, target string) map[string]any {
	t.Helper()
	answer := d.call(t, "GET", target, "")
	require.Equal(t, 200, answer.Status, answer.Body)
	return answer.JSON(t)
}

// requireRefusal sends a request that is refused.
func (d *door) requireRefusal(t *testing.T, method, target, body string, status int, code string) awsapitest.Answer {
	t.Helper()
	answer := d.call(t, method, target, body)
	require.Equal(t, status, answer.Status, answer.Body)
	require.Equal(t, code, answer.ErrorType(), answer.Body)
	return answer
}

// wireChecks check rows of Decisions as a client sees them.
func wireChecks() map[string]func(*testing.T, *door) {
	vmPath, imagePath := vmsPath+"/"+exampleVM, imagesPath+"/"+label(exampleImage)
	return map[string]func(*testing.T, *door){
		"runHookPayload limit": func(t *testing.T, d *door) {
			d.addExamples(t)
			run := func(n int) string {
				return `{"imageIdentifier":"` + exampleImage + `","runHookPayload":"` + strings.Repeat("x", n) + `"}`
			}
			require.Equal(t, 200, d.call(t, "POST", vmsPath, run(4096)).Status)
			d.requireRefusal(t, "POST", vmsPath, run(4097), 400, "ValidationException")
		},
		"failure text of a microVM": func(t *testing.T, d *door) {
			d.addExamples(t)
			d.setVM(t, exampleVM, store.VMTerminated)
			vm := d.get(t, vmPath)
			require.Equal(t, "Success.", vm["stateReason"])
			require.NotContains(t, vm, "terminationMessage")
			require.NotContains(t, vm, "terminationReasonCode")
		},
		"code artifact": func(t *testing.T, d *door) {
			for _, uri := range []string{"123456789012.dkr.ecr.us-east-1.amazonaws.com/app:latest", "https://bkt.s3.amazonaws.com/app.zip", "s3://bkt"} {
				refusal := d.requireRefusal(t, "POST", imagesPath, strings.Replace(newImage("app"), "s3://bkt/app.zip", uri, 1), 400, "ValidationException")
				require.Contains(t, refusal.Body, "CodeArtifact URI must be a valid S3 URI")
			}
			created := d.call(t, "POST", imagesPath, newImage("app"))
			require.Equal(t, 201, created.Status)
			require.Equal(t, map[string]any{"uri": "s3://bkt/app.zip"}, created.JSON(t)["codeArtifact"])
		},
		"version status option": func(t *testing.T, d *door) {
			d.addExamples(t)
			d.requireRefusal(t, "PATCH", imagePath+"/versions/1.0", `{"state":"INACTIVE"}`, 400, "ValidationException")
			require.Equal(t, "ACTIVE", d.get(t, imagePath+"/versions/1.0")["status"])
			require.Equal(t, 200, d.call(t, "PATCH", imagePath+"/versions/1.0", `{"status":"INACTIVE"}`).Status)
			require.Equal(t, "INACTIVE", d.get(t, imagePath+"/versions/1.0")["status"])
			d.requireRefusal(t, "POST", vmsPath, `{"imageIdentifier":"`+exampleImage+`"}`, 404, "ResourceNotFoundException")
		},
		"failure text of a version": func(t *testing.T, d *door) {
			d.addExamples(t)
			const reason = "Ready hook returned HTTP status 500."
			b := store.Build{ID: exampleBuild, State: store.BuildFailed, StateReason: reason, EndedAt: d.clock.Now()}
			require.NoError(t, d.store.ChangeImage(d.ctx, store.ImageChange{
				ImageID: "my-image", To: store.ImageUpdateFailed, Version: firstVersion, VersionState: store.VersionFailed, Build: &b,
			}))
			version := d.get(t, imagePath+"/versions/1.0")
			require.Equal(t, "FAILED", version["state"])
			require.Contains(t, version, "stateReason")
			require.Nil(t, version["stateReason"])
			require.NotContains(t, version, "terminationMessage")
			require.Equal(t, reason, d.get(t, imagePath+"/versions/1.0/builds/"+exampleBuild)["stateReason"])
		},
		"microVM id of another form": func(t *testing.T, d *door) {
			d.requireRefusal(t, "GET", vmsPath+"/mvm-1", "", 404, "ResourceNotFoundException")
		},
		"SHELL_INGRESS with ALL_INGRESS": func(t *testing.T, d *door) {
			d.addExamples(t)
			both := `["` + managed("SHELL_INGRESS") + `","` + managed("ALL_INGRESS") + `"]`
			require.Equal(t, 200, d.call(t, "POST", vmsPath, `{"imageIdentifier":"`+exampleImage+`","ingressNetworkConnectors":`+both+`}`).Status)
		},
		"reserved environment variables": func(t *testing.T, d *door) {
			for _, name := range reservedKeys {
				d.requireRefusal(t, "POST", imagesPath, newImage("env", `"environmentVariables":{"`+name+`":"x"}`), 400, "ValidationException")
			}
			require.Contains(t, reservedKeys, "AWS_REGION")
			require.Equal(t, 201, d.call(t, "POST", imagesPath, newImage("env", `"environmentVariables":{"AWS_OTHER":"x"}`)).Status)
		},
		"builds of a version": func(t *testing.T, d *door) {
			d.addExamples(t)
			builds := d.get(t, imagePath+"/versions/1.0/builds")["items"].([]any)
			require.Len(t, builds, 1)
			require.Equal(t, "4", builds[0].(map[string]any)["chipsetGeneration"])
		},
		"change of an image that is being updated": func(t *testing.T, d *door) {
			d.addExamples(t)
			require.NoError(t, d.store.ChangeImage(d.ctx, store.ImageChange{ImageID: "my-image", To: store.ImageUpdating}))
			d.requireRefusal(t, "PATCH", imagePath+"/versions/1.0", `{"status":"INACTIVE"}`, 409, "ConflictException")
		},
		"delete of an image with microVMs": func(t *testing.T, d *door) {
			d.addExamples(t)
			d.requireRefusal(t, "DELETE", imagePath, "", 400, "ValidationException")
		},
		"delete of an image that is being built": func(t *testing.T, d *door) {
			require.Equal(t, 201, d.call(t, "POST", imagesPath, newImage("my-image")).Status)
			d.requireRefusal(t, "DELETE", imagePath, "", 400, "ValidationException")
		},
		"delete of an image with ACTIVE versions": func(t *testing.T, d *door) {
			d.addExamples(t)
			d.setVM(t, exampleVM, store.VMTerminated)
			d.setVM(t, "microvm-0", store.VMTerminated)
			require.Equal(t, "ACTIVE", d.get(t, imagePath+"/versions/1.0")["status"])
			require.Equal(t, 200, d.call(t, "DELETE", imagePath, "").Status)
		},
		"client token of another request": func(t *testing.T, d *door) {
			require.Equal(t, 201, d.call(t, "POST", imagesPath, newImage("a", `"clientToken":"t"`)).Status)
			d.requireRefusal(t, "POST", imagesPath, newImage("b", `"clientToken":"t"`), 409, "ConflictException")
		},
		"name filter": func(t *testing.T, d *door) {
			d.addExamples(t) // my-image is the newer one
			page := d.get(t, imagesPath+"?maxResults=1&nameFilter=other")
			require.Equal(t, []any{}, page["items"])
			require.NotNil(t, page["nextToken"])
		},
		"tags of a resource without any": func(t *testing.T, d *door) {
			d.addExamples(t)
			require.Equal(t, map[string]any{}, d.get(t, imagePath)["tags"])
			require.Equal(t, map[string]any{}, d.get(t, tagsPath+label(exampleImage))["Tags"])
			require.Nil(t, d.get(t, imagePath+"/versions/1.0")["tags"])
			require.Equal(t, 204, d.call(t, "DELETE", tagsPath+label(exampleImage)+"?tagKeys=none", "").Status)
			require.Nil(t, d.get(t, imagePath+"/versions/1.0")["tags"])
		},
		"number of tags": func(t *testing.T, d *door) {
			d.addExamples(t)
			require.Equal(t, 204, d.call(t, "POST", tagsPath+label(exampleImage), `{"Tags":`+manyTags(50)+`}`).Status)
			d.requireRefusal(t, "POST", tagsPath+label(exampleImage), `{"Tags":{"one-more":""}}`, 400, "InvalidParameterValueException")
		},
		"removing a tag that is not there": func(t *testing.T, d *door) {
			d.addExamples(t)
			require.Equal(t, 204, d.call(t, "DELETE", tagsPath+label(exampleImage)+"?tagKeys=none", "").Status)
		},
		"absent members of an answer": func(t *testing.T, d *door) {
			d.addExamples(t)
			vm := d.get(t, vmPath)
			require.Contains(t, vm, "terminatedAt")
			require.Nil(t, vm["terminatedAt"])
		},
		"members the model lacks": func(t *testing.T, d *door) {
			model := awsapitest.ReadModel(t)
			created := d.call(t, "POST", imagesPath, newImage("n"))
			require.Empty(t, model.Faults(t, "CreateMicrovmImage", created.Body))
		},
		"where an error's type is": func(t *testing.T, d *door) {
			refusal := d.requireRefusal(t, "GET", vmsPath+"/none", "", 404, "ResourceNotFoundException").JSON(t)
			require.NotContains(t, refusal, "__type")
			require.NotContains(t, refusal, "code")
		},
		"text of a 403 or of a body that cannot be read": func(t *testing.T, d *door) {
			denied := d.requireRefusal(t, "GET", imagesPath+"/"+label(appARN), "", 403, "AccessDeniedException").JSON(t)
			unreadable := d.requireRefusal(t, "POST", vmsPath, "[]", 400, "ValidationException").JSON(t)
			for _, refusal := range []map[string]any{denied, unreadable} {
				require.Contains(t, refusal, "Message")
				require.NotContains(t, refusal, "message")
			}
		},
		"page token with unencoded padding": func(t *testing.T, d *door) {
			require.JSONEq(t, `{"message":null}`, d.requireRefusal(t, "GET", vmsPath+"?nextToken=a==", "", 400, "ValidationException").Body)
		},
		"raw slash in a label": func(t *testing.T, d *door) {
			d.requireRefusal(t, "GET", imagesPath+"/a/b", "", 404, "UnknownOperationException")
		},
		"bad signature": func(t *testing.T, d *door) {
			d.signer.Secret = "other"
			d.requireRefusal(t, "GET", vmsPath, "", 403, "InvalidSignatureException")
			d.signer.Key = "AKIDOTHER"
			d.requireRefusal(t, "GET", vmsPath, "", 403, "UnrecognizedClientException")
		},
		"presigned request": func(t *testing.T, d *door) {
			require.Equal(t, 200, awsapitest.Do(d.handler, d.signer.Presigned(t, "GET", vmsPath, "", "60")).Status)
		},
		"body that is not signed": func(t *testing.T, d *door) {
			r := d.signer.RequestWithHash(t, "POST", imagesPath, newImage("n"), "UNSIGNED-PAYLOAD")
			require.Equal(t, "InvalidSignatureException", awsapitest.Do(d.handler, r).ErrorType())
		},

		"network connector members modelled optional": func(t *testing.T, d *door) {
			for _, optional := range []string{
				`"ClientToken":"office",`, `"OperatorRole":"` + roleARN + `",`, `"NetworkProtocol":"IPv4",`, `,"AssociatedComputeResourceTypes":["MicroVm"]`,
			} {
				d.requireRefusal(t, "POST", connectorsPath, strings.Replace(newConnector("office"), optional, "", 1), 400, "InvalidParameterValueException")
			}
			require.Equal(t, 202, d.call(t, "POST", connectorsPath, newConnector("office")).Status)
		},
		"network connector without subnets": func(t *testing.T, d *door) {
			require.Equal(t, 202, d.call(t, "POST", connectorsPath, strings.Replace(newConnector("office"), `"SubnetIds":["subnet-1"],`, "", 1)).Status)
		},
		"way of a network connector to ACTIVE": func(t *testing.T, d *door) {
			require.Equal(t, "PENDING", d.call(t, "POST", connectorsPath, newConnector("office")).JSON(t)["State"])
			require.Equal(t, "ACTIVE", d.get(t, connectorsPath+"/office")["State"])
		},
		"network connector that does not exist": func(t *testing.T, d *door) {
			refusal := d.requireRefusal(t, "GET", connectorsPath+"/office", "", 404, "ResourceNotFoundException")
			require.JSONEq(t, `{"Type":"User","Message":"Network connector not found: office"}`, refusal.Body)
		},
		"absent members of lambda-core's answers": func(t *testing.T, d *door) {
			require.Equal(t, map[string]any{"NetworkConnectors": []any{}}, d.get(t, connectorsPath))
		},
		"name of a network connector in use": func(t *testing.T, d *door) {
			require.Equal(t, 202, d.call(t, "POST", connectorsPath, newConnector("office")).Status)
			again := strings.Replace(newConnector("office"), `"ClientToken":"office"`, `"ClientToken":"again"`, 1)
			d.requireRefusal(t, "POST", connectorsPath, again, 409, "ResourceConflictException")
		},
		"update of a network connector that changes nothing": func(t *testing.T, d *door) {
			require.Equal(t, 202, d.call(t, "POST", connectorsPath, newConnector("office")).Status)
			same := d.call(t, "PUT", connectorsPath+"/office", `{"Configuration":`+egressConfiguration("subnet-1")+`}`).JSON(t)
			require.Equal(t, "Successful", same["LastUpdateStatus"])
			require.Equal(t, "No configuration changes detected", same["LastUpdateStatusReason"])
			require.EqualValues(t, 1, d.get(t, connectorsPath+"/office")["Version"])
		},
		"configuration in an update of a network connector": func(t *testing.T, d *door) {
			require.Equal(t, 202, d.call(t, "POST", connectorsPath, newConnector("office")).Status)
			d.requireRefusal(t, "PUT", connectorsPath+"/office", `{"Configuration":{"VpcEgressConfiguration":{"SubnetIds":["subnet-2"]}}}`, 400, "InvalidParameterValueException")
			require.Equal(t, 202, d.call(t, "PUT", connectorsPath+"/office", `{"Configuration":`+egressConfiguration("subnet-2")+`}`).Status)
			configuration := d.get(t, connectorsPath+"/office")["Configuration"].(map[string]any)["VpcEgressConfiguration"].(map[string]any)
			require.Equal(t, []any{"subnet-2"}, configuration["SubnetIds"])
		},
		"delete of a network connector in use": func(t *testing.T, d *door) {
			d.addExamples(t)
			arn := d.call(t, "POST", connectorsPath, newConnector("office")).JSON(t)["Arn"].(string)
			run := `{"imageIdentifier":"` + exampleImage + `","egressNetworkConnectors":["` + arn + `"]}`
			id := d.call(t, "POST", vmsPath, run).JSON(t)["microvmId"].(string)
			d.requireRefusal(t, "DELETE", connectorsPath+"/office", "", 409, "ResourceConflictException")
			d.setVM(t, id, store.VMTerminated)
			require.Equal(t, 201, d.call(t, "POST", imagesPath, newImage("closed", `"egressNetworkConnectors":["`+arn+`"]`)).Status)
			d.requireRefusal(t, "DELETE", connectorsPath+"/office", "", 409, "ResourceConflictException")
		},
		"network connector of another account": func(t *testing.T, d *door) {
			d.requireRefusal(t, "GET", connectorsPath+"/"+label(foreignConnector), "", 403, string(awsapi.AccessDeniedException))
		},
	}
}
