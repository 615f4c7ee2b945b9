package conformance

var retire = chapter{title: "versions are retired", steps: []step{
	{promise: "a version is retired", operation: "UpdateMicrovmImageVersion", input: input(firstVersion).with("status", "INACTIVE"), want: merge(echoedVersion, members{"status": "INACTIVE", "state": "SUCCESSFUL", "updatedAt": aTime})},
	{promise: "it is not run", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"}, refusal: refused(notFound, "No active version found for MicroVM image ${image}")},
	{promise: "also if it is named", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "imageVersion": "1.0"}, refusal: refused(notFound, "No active version found for MicroVM image ${image} and version 1.0")},
	{promise: "microVMs of it go on", request: ptr(get("/time"))},
	{promise: "a version is ACTIVE or INACTIVE", operation: "UpdateMicrovmImageVersion", input: input(firstVersion).with("status", "RETIRED"), refusal: refused(invalid, constraint("status", enum+"[ACTIVE, INACTIVE]"))},
	{promise: "a version that is not there is not retired", operation: "UpdateMicrovmImageVersion", input: object{"imageIdentifier": "${image}", "imageVersion": "2.0", "status": "INACTIVE"}, refusal: refused(notFound, "MicroVMImage not found for MicroVMImage: ${image}, Version: 2.0")},
	{promise: "a retired version is made active", operation: "UpdateMicrovmImageVersion", input: input(firstVersion).with("status", "ACTIVE"), want: members{"status": "ACTIVE"}},
}}

var updateInput = input(updateOf(plainImage)).with("clientToken", "update-${client}", "description", "the second")

var updateBegins = chapter{title: "an image begins to be updated", steps: []step{
	{
		promise: "an update builds the next version and inherits nothing", operation: "UpdateMicrovmImage", input: updateInput,
		want: members{
			"imageArn": "${image}", "name": "conformance-${client}", "state": "UPDATING", "imageVersion": "2.0", "latestActiveImageVersion": "1.0",
			"description": "the second", "hooks": absent, "environmentVariables": absent, "additionalOsCapabilities": absent, "logging": absent,
			"egressNetworkConnectors": list{managed + "INTERNET_EGRESS"}, "createdAt": "${createdAt}", "updatedAt": aTime,
		},
		keep: map[string]string{"updated": "imageArn", "secondVersion": "imageVersion"},
	},
	{promise: "the same request with the same client token has no second effect", operation: "UpdateMicrovmImage", input: updateInput, want: members{"imageVersion": "2.0"}},
	{promise: "another request with the same client token is a conflict", operation: "UpdateMicrovmImage", input: input(updateInput).with("description", "another"), refusal: refused(conflict)},
	{promise: "one update at a time", operation: "UpdateMicrovmImage", input: updateOf(plainImage), refusal: refused(conflict, "MicroVM Image is already in state: UPDATING")},
	{promise: "no version is retired meanwhile", operation: "UpdateMicrovmImageVersion", input: input(firstVersion).with("status", "INACTIVE"), refusal: refused(conflict, "MicroVM Image is already in state: UPDATING")},
	{promise: "nor deleted", operation: "DeleteMicrovmImageVersion", input: firstVersion, refusal: refused(conflict, "MicroVM Image is already in state: UPDATING")},
	{promise: "nor is the image", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${image}"}, refusal: refused(invalid, "Cannot delete MicroVM image in its current state: ${image}")},
	{promise: "an update needs a whole configuration", operation: "UpdateMicrovmImage", input: input(updateInput).with("buildRoleArn", nil), refusal: refused(invalid, constraint("buildRoleArn", missing))},
	{promise: "and a valid one", operation: "UpdateMicrovmImage", input: input(updateOf(plainImage)).with("resources", list{object{"minimumMemoryInMiB": 1}}), refusal: refused(invalid, "The requested memory size of 1 MiB is not supported")},
}}

var (
	failingUpdate = input(updateOf(fullImage)).with("codeArtifact", object{"uri": "${missingArtifact}"})
	echoedUpdate  = members{
		"baseImageArn": baseImage, "baseImageVersion": "1.0", "buildRoleArn": buildRole, "codeArtifact": failingUpdate["codeArtifact"],
		"description": fullImage["description"], "logging": fullImage["logging"], "hooks": hooks,
		"egressNetworkConnectors": fullImage["egressNetworkConnectors"], "cpuConfigurations": fullImage["cpuConfigurations"],
		"resources": fullImage["resources"], "additionalOsCapabilities": list{"ALL"}, "environmentVariables": object{"COLOUR": "blue"},
	}
)

var updated = chapter{title: "an image is updated", steps: []step{
	{promise: "an image becomes UPDATED", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${updated}"}, until: members{"state": "UPDATED"}, want: members{"latestActiveImageVersion": "2.0", "createdAt": "${createdAt}", "tags": object{"purpose": "conformance"}}},
	{promise: "its versions come in pages, newest first", operation: "ListMicrovmImageVersions", input: object{"imageIdentifier": "${image}"}, pageSize: 1, want: members{"items": count(2), "items.0.imageVersion": "2.0", "items.0.status": "ACTIVE", "items.0.environmentVariables": absent, "items.1.imageVersion": "1.0", "items.1.status": "ACTIVE"}},
	{promise: "builds come in pages", operation: "ListMicrovmImageBuilds", input: secondVersion, pageSize: 1, want: members{"items": count(1), "items.0.buildState": "SUCCESSFUL"}},
	{promise: "the newest version is run", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"}, want: members{"imageVersion": "2.0"}, keep: map[string]string{"newest": "microvmId"}},
	{promise: "or the one that is named", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "imageVersion": "1.0"}, want: members{"imageVersion": "1.0"}, keep: map[string]string{"pinned": "microvmId"}},
	{promise: "a payload needs a run hook", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "runHookPayload": "x"}, refusal: refused(invalid, "run hook must be enabled")},
	{promise: "the newest runs", operation: "GetMicrovm", input: object{"microvmIdentifier": "${newest}"}, until: members{"state": "RUNNING"}},
	{promise: "and the other", operation: "GetMicrovm", input: object{"microvmIdentifier": "${pinned}"}, until: members{"state": "RUNNING"}},
	{promise: "the newest is terminated", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${newest}"}},
	{promise: "and the other is", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${pinned}"}},
	{promise: "and the oldest of all", operation: "TerminateMicrovm", input: object(second)},
	{promise: "the newest has ended", operation: "GetMicrovm", input: object{"microvmIdentifier": "${newest}"}, until: members{"state": "TERMINATED"}},
	{promise: "the other has ended", operation: "GetMicrovm", input: object{"microvmIdentifier": "${pinned}"}, until: members{"state": "TERMINATED"}},
	{promise: "the oldest has ended", operation: "GetMicrovm", input: object(second), until: members{"state": "TERMINATED"}},
	{promise: "a version is deleted", operation: "DeleteMicrovmImageVersion", input: firstVersion, want: members{"imageIdentifier": "${image}", "imageVersion": "1.0", "state": "DELETING"}, keep: map[string]string{"deletedVersion": "imageVersion"}},
	{promise: "and is gone then", operation: "GetMicrovmImageVersion", input: input(firstVersion).with("imageVersion", "${deletedVersion}"), gone: true, refusal: refused(notFound, "MicroVMImage not found for MicroVMImage: ${image}, Version: 1.0")},
	{promise: "the image is UPDATED", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${updated}"}, until: members{"state": "UPDATED"}, want: members{"latestActiveImageVersion": "2.0"}},
	{promise: "the last version cannot be deleted alone", operation: "DeleteMicrovmImageVersion", input: secondVersion, refusal: refused(invalid, "This is the last version. Please delete the entire image")},
	{promise: "an update can fail, and has all settings echoed", operation: "UpdateMicrovmImage", input: failingUpdate, want: merge(echoedUpdate, members{"imageVersion": "3.0", "state": "UPDATING"}), keep: map[string]string{"failed": "imageArn"}},
	{promise: "and the image is UPDATE_FAILED", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${failed}"}, until: members{"state": "UPDATE_FAILED"}, want: members{"latestActiveImageVersion": "2.0", "latestFailedImageVersion": "3.0"}},
}}

var deleted = chapter{title: "an image is deleted", steps: []step{
	{promise: "an image is deleted", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${image}"}, want: members{"imageIdentifier": "${image}", "state": "DELETING"}},
	{promise: "and is gone then", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${image}"}, gone: true, refusal: refused(notFound, "MicroVMImage not found for MicroVMImageID: ${image}")},
	{promise: "also from the list", operation: "ListMicrovmImages", input: object{"nameFilter": "conformance-${client}"}, want: members{"items": absent}},
	{promise: "its tags are gone", operation: "ListTags", input: object{"Resource": "${image}"}, refusal: refused(notFound)},
	{promise: "its microVMs can still be read", operation: "GetMicrovm", input: object(vm), want: members{"state": "TERMINATED", "imageArn": "${image}"}},
}}
