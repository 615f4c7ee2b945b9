package conformance

// refusedImage is a step that CreateMicrovmImage refuses for what it changes in a valid input.
func refusedImage(promise string, r *refusal, changes ...any) step {
	return step{promise: promise, operation: "CreateMicrovmImage", input: plainImage.with(changes...), refusal: r}
}

var refusedImages = chapter{title: "images that cannot be", steps: []step{
	refusedImage("a name has letters, digits, dash and underscore", refused(invalid, "1 validation error detected: Value 'not a name' "+constraint("name", pattern+"[a-zA-Z0-9-_]+")), "name", "not a name"),
	refusedImage("a name has at most 64 characters", refused(invalid, constraint("name", longerThan("64"))), "name", long(65)),
	refusedImage("an image needs a name", refused(invalid, "Value null "+constraint("name", missing)), "name", nil),
	refusedImage("an image needs an artifact", refused(invalid, constraint("codeArtifact", missing)), "codeArtifact", nil),
	refusedImage("all that breaks a constraint is named at once", refused(invalid, "2 validation errors detected: ", constraint("name", pattern), constraint("buildRoleArn", pattern)), "name", "a b", "buildRoleArn", "arn:aws:iam::not-an-account:role/build"),
	refusedImage("a description is not a role", refused(invalid, constraint("buildRoleArn", shorterThan("20"))), "buildRoleArn", "arn:role"),
	refusedImage("a hook's port is a port", refused(invalid, constraint("hooks.port", above("65535"))), "hooks", object{"port": 65536}),
	refusedImage("the ready hook has an hour", refused(invalid, constraint("hooks.microvmImageHooks.readyTimeoutInSeconds", above("3600"))), "hooks", object{"port": 9000, "microvmImageHooks": object{"readyTimeoutInSeconds": 3601}}),
	refusedImage("the run hook has a minute", refused(invalid, constraint("hooks.microvmHooks.runTimeoutInSeconds", above("60"))), "hooks", object{"port": 9000, "microvmHooks": object{"runTimeoutInSeconds": 61}}),
	refusedImage("a hook is ENABLED or DISABLED", refused(invalid, enum+"[DISABLED, ENABLED]"), "hooks", object{"port": 9000, "microvmHooks": object{"run": "MAYBE"}}),
	refusedImage("the only architecture is ARM_64", refused(invalid, enum+"[ARM_64]"), "cpuConfigurations", list{object{"architecture": "X86_64"}}),
	refusedImage("the only set of capabilities is ALL", refused(invalid, "[ALL]"), "additionalOsCapabilities", list{"SOME"}),
	refusedImage("an image has at most one egress connector", refused(invalid, constraint("egressNetworkConnectors", longerThan("1"))), "egressNetworkConnectors", list{managed + "INTERNET_EGRESS", managed + "INTERNET_EGRESS"}),
	refusedImage("an image has at most 50 environment variables", refused(invalid, "Value at 'environmentVariables'", longerThan("50")), "environmentVariables", manyVariables()),
	refusedImage("values of environment variables are not repeated in errors", refused(invalid, "Value at 'environmentVariables'", longerThan("4096")), "environmentVariables", object{"SECRET": long(4097)}),
	refusedImage("keys of tags have certain characters", refused(invalid, "'tags'"), "tags", object{"a#b": "c"}),
	refusedImage("a log group has certain characters", refused(invalid, constraint("logging.cloudWatch.logGroup", pattern)), "logging", object{"cloudWatch": object{"logGroup": "a b"}}),
	refusedImage("a client token has at most 128 characters", refused(invalid, constraint("clientToken", longerThan("128"))), "clientToken", long(129)),
	refusedImage("there are five sizes", refused(invalid, "The requested memory size of 640 MiB is not supported by base MicroVM image "+baseImage+". Supported memory sizes in MiB are: [512, 1024, 2048, 4096, 8192]."), "resources", list{object{"minimumMemoryInMiB": 640}}),
	refusedImage("an image has one size", refused(invalid, constraint("resources", longerThan("1"))), "resources", list{object{"minimumMemoryInMiB": 512}, object{"minimumMemoryInMiB": 1024}}),
	refusedImage("an artifact is in S3", refused(invalid, "CodeArtifact URI must be a valid S3 URI in the format: s3://<bucket>/<key>"), "codeArtifact", object{"uri": "ecr://repository/image"}),
	refusedImage("a base version exists", refused(invalid, "No managed MicroVM Image with arn "+baseImage+" and version 7 is available"), "baseImageVersion", "7"),
	refusedImage("a base version is not the echoed form", refused(invalid, "No managed MicroVM Image with arn "+baseImage+" and version 1.0 is available"), "baseImageVersion", "1.0"),
	refusedImage("a base image is a managed one", refused(invalid, "No managed MicroVM Image with arn "+unknownImage), "baseImageArn", unknownImage),
	refusedImage("AWS_REGION is the platform's", refused(invalid, "AWS_REGION"), "environmentVariables", object{"AWS_REGION": "mars"}),
	refusedImage("a managed connector is one there is", refused(invalid, "Unrecognized managed network connector ARN: "+managed+"SOME_EGRESS"), "egressNetworkConnectors", list{managed + "SOME_EGRESS"}),
	refusedImage("connectors have ARNs", refused(invalid, "Malformed network connector ARN"), "egressNetworkConnectors", list{"INTERNET_EGRESS"}),
}}

// onEveryImage makes a step of each operation on an image, version or build, with the same image.
func onEveryImage(promise, image string, r func(operation string) *refusal) []step {
	version := input{"imageIdentifier": image, "imageVersion": "1.0"}
	inputs := []struct {
		operation string
		input     object
	}{
		{"GetMicrovmImage", object{"imageIdentifier": image}},
		{"UpdateMicrovmImage", input(updateOf(plainImage)).with("imageIdentifier", image)},
		{"DeleteMicrovmImage", object{"imageIdentifier": image}},
		{"ListMicrovmImageVersions", object{"imageIdentifier": image}},
		{"GetMicrovmImageVersion", object(version)},
		{"UpdateMicrovmImageVersion", version.with("status", "ACTIVE")},
		{"DeleteMicrovmImageVersion", object(version)},
		{"ListMicrovmImageBuilds", object(version)},
		{"GetMicrovmImageBuild", version.with("buildId", noSuchBuild)},
		{"RunMicrovm", object{"imageIdentifier": image}},
	}
	var steps []step
	for _, i := range inputs {
		steps = append(steps, step{promise: promise, operation: i.operation, input: i.input, refusal: r(i.operation)})
	}
	return steps
}

// imageNotFound is the text for operations on an image or, where they name a version, on that.
func imageNotFound(operation string) *refusal {
	switch operation {
	case "GetMicrovmImageVersion", "UpdateMicrovmImageVersion", "DeleteMicrovmImageVersion", "ListMicrovmImageBuilds", "GetMicrovmImageBuild":
		return refused(notFound, "MicroVMImage not found for MicroVMImage: "+unknownImage+", Version: 1.0")
	}
	return refused(notFound, "MicroVMImage not found for MicroVMImageID: "+unknownImage)
}

func bareName(operation string) *refusal {
	if operation == "RunMicrovm" {
		return refused(invalid, "Malformed ARN - doesn't start with 'arn:'")
	}
	return refused(invalid, "Invalid ARN format: ")
}

func deniedTo(operation string) *refusal { return refused(denied, "lambda:"+operation) }

var unknownImages = chapter{title: "images that are not there", steps: concat(
	onEveryImage("an image that is not there is not found", unknownImage, imageNotFound),
	onEveryImage("images of other accounts are denied", foreignImage, deniedTo),
	onEveryImage("an ARN with a slash is denied", slashImage, deniedTo),
	onEveryImage("images are named by their ARN", "conformance-${client}", bareName),
)}

func concat(all ...[]step) []step {
	var out []step
	for _, some := range all {
		out = append(out, some...)
	}
	return out
}

// refusedRun is a step that RunMicrovm refuses for what it changes in a valid input.
func refusedRun(promise string, r *refusal, changes ...any) step {
	return step{promise: promise, operation: "RunMicrovm", input: input{"imageIdentifier": "${image}"}.with(changes...), refusal: r}
}

func idle(maxIdle, suspended int) object {
	return object{"maxIdleDurationSeconds": maxIdle, "suspendedDurationSeconds": suspended, "autoResumeEnabled": true}
}

var refusedRuns = chapter{title: "microVMs that cannot be", steps: []step{
	refusedRun("a microVM lives at most 8 hours", refused(invalid, "Value '28801' "+constraint("maximumDurationInSeconds", above("28800"))), "maximumDurationInSeconds", 28801),
	refusedRun("and at least a second", refused(invalid, constraint("maximumDurationInSeconds", below("1"))), "maximumDurationInSeconds", 0),
	refusedRun("a payload has at most 4096 bytes, and is not repeated in the error", refused(invalid, "1 validation error detected: Value at 'runHookPayload' failed to satisfy constraint: "+longerThan("4096")), "runHookPayload", long(4097)),
	refusedRun("a microVM is idle for at least a minute before it is suspended", refused(invalid, constraint("idlePolicy.maxIdleDurationSeconds", below("60"))), "idlePolicy", idle(59, 60)),
	refusedRun("and at most 8 hours", refused(invalid, "28801"), "idlePolicy", idle(28801, 60)),
	refusedRun("it is suspended for no negative time", refused(invalid, constraint("idlePolicy.suspendedDurationSeconds", below("0"))), "idlePolicy", idle(60, -1)),
	refusedRun("an idle policy is complete", refused(invalid, constraint("idlePolicy.suspendedDurationSeconds", missing)), "idlePolicy", object{"maxIdleDurationSeconds": 60, "autoResumeEnabled": true}),
	refusedRun("a microVM has at most 10 connectors", refused(invalid, constraint("ingressNetworkConnectors", longerThan("10"))), "ingressNetworkConnectors", repeat(managed+"HTTP_INGRESS", 11)),
	refusedRun("an ingress connector is one for ingress", refused(invalid), "ingressNetworkConnectors", list{managed + "INTERNET_EGRESS"}),
	refusedRun("connectors of other accounts are denied", refused(denied), "egressNetworkConnectors", list{"arn:aws:lambda:${region}:111122223333:network-connector:nc-1"}),
	refusedRun("a managed connector is a known one", refused(invalid, "Unrecognized managed network connector ARN: "+managed+"SIDE_INGRESS"), "ingressNetworkConnectors", list{managed + "SIDE_INGRESS"}),
	refusedRun("a version has no spaces", refused(invalid, constraint("imageVersion", pattern)), "imageVersion", "1 0"),
	refusedRun("a pinned version exists", refused(notFound, "No active version found for MicroVM image ${image} and version 9.0"), "imageVersion", "9.0"),
	refusedRun("a role is an ARN", refused(invalid, constraint("executionRoleArn", pattern)), "executionRoleArn", "arn:aws:iam::nobody:role/none"),
	refusedRun("a client token is not empty", refused(invalid, constraint("clientToken", shorterThan("1"))), "clientToken", ""),
	refusedRun("an image identifier is not empty", refused(invalid, constraint("imageIdentifier", shorterThan("1"))), "imageIdentifier", ""),
	refusedRun("an image identifier has at most 256 characters", refused(invalid, constraint("imageIdentifier", longerThan("256"))), "imageIdentifier", long(257)),
	refusedRun("a log stream has no colon", refused(invalid, constraint("logging.cloudWatch.logStream", pattern)), "logging", object{"cloudWatch": object{"logStream": "a:b"}}),
}}

func repeat(value any, n int) (out list) {
	for range n {
		out = append(out, value)
	}
	return out
}

const unknownVM = "microvm-00000000-0000-4000-8000-000000000000"

// onEveryVM makes a step of each operation on a VM, with the same VM.
func onEveryVM(promise, id string, r *refusal) []step {
	vm := input{"microvmIdentifier": id}
	steps := []step{
		{operation: "CreateMicrovmAuthToken", input: vm.with("expirationInMinutes", 5, "allowedPorts", list{object{"port": 8080}})},
		{operation: "CreateMicrovmShellAuthToken", input: vm.with("expirationInMinutes", 5)},
	}
	for _, operation := range []string{"GetMicrovm", "SuspendMicrovm", "ResumeMicrovm", "TerminateMicrovm"} {
		steps = append(steps, step{operation: operation, input: object(vm)})
	}
	for i := range steps {
		steps[i].promise, steps[i].refusal = promise, r
	}
	return steps
}

var unknownVMs = chapter{title: "microVMs that are not there", steps: concat(
	onEveryVM("a microVM that is not there is not found", unknownVM, refused(notFound, "MicroVM not found: "+unknownVM)),
	onEveryVM("an id of another form is not found either", "mvm-1", refused(notFound, "MicroVM not found: mvm-1")),
	onEveryVM("a longer id is refused", long(257), refused(invalid, constraint("microvmIdentifier", longerThan("256")))),
)}

var refusedLists = chapter{title: "lists that cannot be", steps: []step{
	{promise: "a page has at most 50 items", operation: "ListMicrovms", input: object{"maxResults": 51}, refusal: refused(invalid, "Value '51' "+constraint("maxResults", above("50")))},
	{promise: "and at least one", operation: "ListMicrovmImages", input: object{"maxResults": 0}, refusal: refused(invalid, constraint("maxResults", below("1")))},
	{promise: "a page token that nobody gave is refused", operation: "ListMicrovms", input: object{"nextToken": "forged"}, refusal: refused(invalid)},
	{promise: "a name filter has no spaces", operation: "ListMicrovmImages", input: object{"nameFilter": "a b"}, refusal: refused(invalid, constraint("nameFilter", pattern))},
	{promise: "microVMs of an image of another account are denied", operation: "ListMicrovms", input: object{"imageIdentifier": foreignImage}, refusal: refused(denied)},
	{promise: "an image that is not there has no microVMs", operation: "ListMicrovms", input: object{"imageIdentifier": unknownImage}, want: members{"items": absent}},
	{promise: "a chipset is GRAVITON", operation: "ListMicrovmImageBuilds", input: input(firstVersion).with("chipset", "EPYC"), refusal: refused(invalid, constraint("chipset", enum+"[GRAVITON]"))},
}}

var callers = chapter{title: "callers who are not let in", steps: []step{
	{promise: "a wrong secret key is refused", operation: "ListMicrovms", as: wrongSecret, refusal: refused("InvalidSignatureException")},
	{promise: "an unknown access key is refused", operation: "ListMicrovms", as: unknownKey, refusal: refused("UnrecognizedClientException")},
	{promise: "also for a request with a body and an ARN in its path", operation: "TagResource", as: wrongSecret, input: object{"Resource": "${image}", "Tags": object{"a": "b"}}, refusal: refused("InvalidSignatureException")},
	{promise: "and for connectors", operation: "ListNetworkConnectors", as: wrongSecret, refusal: refused("InvalidSignatureException")},
}}

var tags = chapter{title: "tags", steps: []step{
	{promise: "tags are added", operation: "TagResource", input: object{"Resource": "${image}", "Tags": object{"team": "ä + b", "empty": ""}}},
	{promise: "to those that are there", operation: "ListTags", input: object{"Resource": "${image}"}, want: members{"Tags": object{"purpose": "conformance", "team": "ä + b", "empty": ""}}},
	{promise: "tags are changed", operation: "TagResource", input: object{"Resource": "${image}", "Tags": object{"team": "c"}}},
	{promise: "and show with the image", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${image}"}, want: members{"tags": object{"purpose": "conformance", "team": "c", "empty": ""}}},
	{promise: "tags are taken off, also those that are not there", operation: "UntagResource", input: object{"Resource": "${image}", "TagKeys": list{"team", "empty", "never"}}},
	{promise: "and are gone then", operation: "ListTags", input: object{"Resource": "${image}"}, want: members{"Tags": object{"purpose": "conformance"}}},
	{promise: "an image that is not there has no tags", operation: "ListTags", input: object{"Resource": unknownImage}, refusal: refused(notFound, "MicroVMImage not found for MicroVMImageID: "+unknownImage)},
	{promise: "and gets none", operation: "TagResource", input: object{"Resource": unknownImage, "Tags": object{"a": "b"}}, refusal: refused(notFound)},
	{promise: "and loses none", operation: "UntagResource", input: object{"Resource": unknownImage, "TagKeys": list{"a"}}, refusal: refused(notFound)},
	{promise: "images of other accounts are not tagged", operation: "TagResource", input: object{"Resource": foreignImage, "Tags": object{"a": "b"}}, refusal: refused(denied)},
	{promise: "microVMs have no tags", operation: "ListTags", input: object{"Resource": unknownVM}, refusal: refused(invalid, constraint("Resource", pattern))},
	{promise: "a tag's value has at most 256 characters", operation: "TagResource", input: object{"Resource": "${image}", "Tags": object{"a": long(257)}}, refusal: refused(invalid, longerThan("256"))},
	{promise: "a tag's key has at most 128 characters", operation: "UntagResource", input: object{"Resource": "${image}", "TagKeys": list{long(129)}}, refusal: refused(invalid, longerThan("128"))},
	{promise: "an image has at most 50 tags", operation: "TagResource", input: object{"Resource": "${image}", "Tags": manyVariables()}, refusal: refused(badRequest)},
}}
