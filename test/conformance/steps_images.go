package conformance

import (
	"fmt"
	"strings"
)

const (
	baseImage    = "arn:aws:lambda:${region}:aws:microvm-image:al2023-1"
	ownImage     = "arn:aws:lambda:${region}:${account}:microvm-image:"
	unknownImage = ownImage + "no-such-image"
	foreignImage = "arn:aws:lambda:${region}:111122223333:microvm-image:theirs"
	slashImage   = "arn:aws:lambda:${region}:${account}:microvm-image/conformance-${client}"
	buildRole    = "arn:aws:iam::${account}:role/build"
	managed      = "arn:aws:lambda:${region}:aws:network-connector:aws-network-connector:"
	noSuchBuild  = "00000000-0000-4000-8000-000000000000"
)

// hooks has every member: some SDKs send defaults for those it lacks.
var hooks = object{
	"port": 9000,
	"microvmHooks": object{
		"run": "ENABLED", "runTimeoutInSeconds": 60, "resume": "ENABLED", "resumeTimeoutInSeconds": 60,
		"suspend": "ENABLED", "suspendTimeoutInSeconds": 60, "terminate": "DISABLED", "terminateTimeoutInSeconds": 1,
	},
	"microvmImageHooks": object{"ready": "ENABLED", "readyTimeoutInSeconds": 180, "validate": "DISABLED", "validateTimeoutInSeconds": 30},
}

// plainImage is what an image must have, and nothing else but a size that is quick to build.
var plainImage = input{
	"name": "plain-${client}", "baseImageArn": baseImage, "buildRoleArn": buildRole,
	"codeArtifact": object{"uri": "${artifact}"}, "resources": list{object{"minimumMemoryInMiB": 512}},
}

// fullImage has a value for every member of CreateMicrovmImage.
var fullImage = input(plainImage.with(
	"name", "conformance-${client}", "baseImageVersion", "1", "description", "counts: ä, \"quoted\"",
	"logging", object{"cloudWatch": object{"logGroup": "/conformance/${client}"}},
	"egressNetworkConnectors", list{managed + "INTERNET_EGRESS"}, "cpuConfigurations", list{object{"architecture": "ARM_64"}},
	"additionalOsCapabilities", list{"ALL"}, "hooks", hooks, "environmentVariables", object{"COLOUR": "blue"},
	"tags", object{"purpose": "conformance"}, "clientToken", "create-${client}",
))

// echoedVersion is how Create, Update, Get and List show the configuration of fullImage.
var echoedVersion = members{
	"imageArn": "${image}", "imageVersion": "1.0", "baseImageArn": baseImage, "baseImageVersion": "1.0",
	"buildRoleArn": buildRole, "codeArtifact": object{"uri": "${artifact}"}, "description": fullImage["description"],
	"logging": fullImage["logging"], "egressNetworkConnectors": fullImage["egressNetworkConnectors"],
	"cpuConfigurations": fullImage["cpuConfigurations"], "resources": fullImage["resources"],
	"additionalOsCapabilities": list{"ALL"}, "hooks": hooks, "environmentVariables": object{"COLOUR": "blue"},
	"tags": object{"purpose": "conformance"}, "createdAt": aTime,
}

var managedImages = chapter{title: "managed images", steps: []step{
	{
		promise: "the managed base image is listed", operation: "ListManagedMicrovmImages",
		want: members{"items": count(1), "items.0.imageArn": baseImage, "items.0.createdAt": someTime, "nextToken": absent},
	},
	{promise: "it is the only one on its page", operation: "ListManagedMicrovmImages", pageSize: 1, want: members{"items": count(1)}},
	{
		promise: "its versions come in pages, newest first", operation: "ListManagedMicrovmImageVersions",
		input: object{"imageIdentifier": baseImage}, pageSize: 1,
		want: members{
			"items": count(2), "items.0.imageVersion": "1", "items.0.imageArn": baseImage, "items.0.createdAt": someTime,
			"items.1.imageVersion": "0",
		},
	},
	{
		promise: "the newest is AVAILABLE", operation: "ListManagedMicrovmImageVersions", input: object{"imageIdentifier": baseImage},
		want: members{"items.0.status": "AVAILABLE"}, lacks: map[string]string{"cli": "the service model inside it does not have the member status yet"},
	},
	{
		promise: "an unknown managed image is not found", operation: "ListManagedMicrovmImageVersions",
		input: object{"imageIdentifier": baseImage + "0"}, refusal: refused(notFound),
	},
	{
		promise: "a page of a page token that nobody gave is refused", operation: "ListManagedMicrovmImages",
		input: object{"nextToken": "forged"}, refusal: refused(invalid),
	},
}}

var imageBegins = chapter{title: "an image begins to be built", steps: []step{
	{
		promise: "an image is CREATING, and all its settings are echoed", operation: "CreateMicrovmImage", input: object(fullImage),
		want: merge(echoedVersion, members{
			"imageArn": ownImage + "conformance-${client}", "name": "conformance-${client}", "state": "CREATING",
			"latestActiveImageVersion": absent, "latestFailedImageVersion": absent,
		}),
		keep: map[string]string{"image": "imageArn", "createdAt": "createdAt"},
	},
	{
		promise: "the same request with the same client token has no second effect", operation: "CreateMicrovmImage",
		input: object(fullImage), want: members{"imageArn": "${image}", "createdAt": "${createdAt}"},
	},
	{
		promise: "another request with the same client token is a conflict", operation: "CreateMicrovmImage",
		input: fullImage.with("description", "another"), refusal: refused(conflict),
	},
	{
		promise: "a name is used once only", operation: "CreateMicrovmImage", input: fullImage.with("clientToken", nil),
		refusal: refused(invalid, "A MicroVM image with the name 'conformance-${client}' already exists in this account"),
	},
	{
		promise: "an image that is CREATING can be read", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${image}"},
		want: members{"imageArn": "${image}", "name": "conformance-${client}", "state": "CREATING", "createdAt": "${createdAt}", "tags": object{"purpose": "conformance"}},
	},
	{
		promise: "and its version, with all its settings", operation: "GetMicrovmImageVersion", input: firstVersion,
		want: merge(echoedVersion, members{"state": oneOf("PENDING", "IN_PROGRESS"), "stateReason": absent}),
	},
	{
		promise: "and its build", operation: "ListMicrovmImageBuilds", input: firstVersion,
		want: members{
			"items": count(1), "items.0.imageArn": "${image}", "items.0.imageVersion": "1.0", "items.0.createdAt": aTime,
			"items.0.buildState": oneOf("PENDING", "IN_PROGRESS"), "items.0.architecture": "ARM_64", "items.0.chipset": "GRAVITON",
			"items.0.chipsetGeneration": "4", "items.0.stateReason": absent,
		},
		keep: map[string]string{"build": "items.0.buildId"},
	},
	{
		promise: "builds can be filtered", operation: "ListMicrovmImageBuilds",
		input: input(firstVersion).with("architecture", "ARM_64", "chipset", "GRAVITON", "chipsetGeneration", "2"),
		want:  members{"items": absent},
	},
	{
		promise: "an image that is CREATING cannot be run", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"},
		refusal: refused(notFound, "No active version found for MicroVM image ${image}"),
	},
	{
		promise: "nor deleted", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${image}"},
		refusal: refused(invalid, "Cannot delete MicroVM image in its current state: ${image}"),
	},
	{
		promise: "nor updated", operation: "UpdateMicrovmImage", input: updateOf(plainImage),
		refusal: refused(conflict, "MicroVM Image is already in state: CREATING"),
	},
	{
		promise: "nor can its version be retired", operation: "UpdateMicrovmImageVersion", input: input(firstVersion).with("status", "INACTIVE"),
		refusal: refused(conflict),
	},
}}

var (
	firstVersion  = object{"imageIdentifier": "${image}", "imageVersion": "1.0"}
	secondVersion = object{"imageIdentifier": "${image}", "imageVersion": "${secondVersion}"}
)

// updateOf makes the input of UpdateMicrovmImage from that of CreateMicrovmImage.
func updateOf(create input) object {
	return create.with("name", nil, "tags", nil, "clientToken", nil, "imageIdentifier", "${image}")
}

func merge(all ...members) members {
	out := members{}
	for _, some := range all {
		for path, expected := range some {
			out[path] = expected
		}
	}
	return out
}

var imageIsBuilt = chapter{title: "an image is built", steps: []step{
	{
		promise: "an image becomes CREATED", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${image}"},
		until: members{"state": "CREATED"}, want: members{"latestActiveImageVersion": "1.0", "latestFailedImageVersion": absent, "updatedAt": aTime},
	},
	{
		promise: "its version is SUCCESSFUL and ACTIVE", operation: "GetMicrovmImageVersion", input: firstVersion,
		want: merge(echoedVersion, members{"state": "SUCCESSFUL", "status": "ACTIVE", "stateReason": absent}),
	},
	{
		promise: "its build tells the sizes of what it made", operation: "GetMicrovmImageBuild",
		input: input(firstVersion).with("buildId", "${build}"),
		want: members{
			"buildId": "${build}", "buildState": "SUCCESSFUL", "imageArn": "${image}", "imageVersion": "1.0", "createdAt": aTime,
			"snapshotBuild.memorySnapshotSizeInBytes": positive, "snapshotBuild.diskSnapshotSizeInBytes": positive,
			"snapshotBuild.codeInstallSizeInBytes": positive,
		},
	},
	{
		promise: "images are found by a part of their name", operation: "ListMicrovmImages", input: object{"nameFilter": "ormance-${client}"},
		want: members{
			"items": count(1), "items.0.imageArn": "${image}", "items.0.name": "conformance-${client}", "items.0.state": "CREATED",
			"items.0.createdAt": "${createdAt}", "items.0.latestActiveImageVersion": "1.0",
		},
	},
	{
		promise: "versions are listed with all their settings", operation: "ListMicrovmImageVersions", input: object{"imageIdentifier": "${image}"},
		want: merge(members{"items": count(1)}, under("items.0", merge(echoedVersion, members{"state": "SUCCESSFUL", "status": "ACTIVE"}))),
	},
	{
		promise: "the last version cannot be deleted alone", operation: "DeleteMicrovmImageVersion", input: firstVersion,
		refusal: refused(invalid, "This is the last version. Please delete the entire image"),
	},
	{
		promise: "an image of another account and one of this account in another region differ: the latter is not found", as: otherRegion,
		operation: "GetMicrovmImage", input: object{"imageIdentifier": "${image}"}, refusal: refused(notFound),
	},
}}

// under puts a prefix before every path.
func under(prefix string, all members) members {
	out := members{}
	for path, expected := range all {
		out[prefix+"."+path] = expected
	}
	return out
}

var failedBuild = chapter{title: "a build fails", steps: []step{
	{
		promise: "an image without an artifact begins to be built", operation: "CreateMicrovmImage",
		input: plainImage.with("name", "failing-${client}", "codeArtifact", object{"uri": "${missingArtifact}"}),
		want: members{
			"state": "CREATING", "imageVersion": "1.0", "tags": absent, "hooks": absent, "logging": absent, "environmentVariables": absent,
			"cpuConfigurations": absent, "additionalOsCapabilities": absent, "description": absent,
			"egressNetworkConnectors": list{managed + "INTERNET_EGRESS"}, "baseImageVersion": "1.0",
		},
		keep: map[string]string{"failing": "imageArn"},
	},
	{
		promise: "and becomes CREATE_FAILED", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${failing}"},
		until: members{"state": "CREATE_FAILED"}, want: members{"latestFailedImageVersion": "1.0", "latestActiveImageVersion": absent},
	},
	{
		promise: "its version is FAILED and INACTIVE, and tells no reason", operation: "GetMicrovmImageVersion",
		input: object{"imageIdentifier": "${failing}", "imageVersion": "1.0"},
		want:  members{"state": "FAILED", "status": "INACTIVE", "stateReason": absent},
	},
	{
		promise: "its build tells the reason", operation: "ListMicrovmImageBuilds",
		input: object{"imageIdentifier": "${failing}", "imageVersion": "1.0"},
		want:  members{"items.0.buildState": "FAILED", "items.0.stateReason": like(".*S3_NO_SUCH_KEY.*")},
		keep:  map[string]string{"failedBuild": "items.0.buildId"},
	},
	{
		promise: "and no sizes", operation: "GetMicrovmImageBuild",
		input: object{"imageIdentifier": "${failing}", "imageVersion": "1.0", "buildId": "${failedBuild}"},
		want:  members{"buildState": "FAILED", "snapshotBuild": absent},
	},
	{
		promise: "a build belongs to its image", operation: "GetMicrovmImageBuild",
		input: object{"imageIdentifier": "${failing}", "imageVersion": "1.0", "buildId": "${build}"}, refusal: refused(notFound),
	},
	{
		promise: "it cannot be run", operation: "RunMicrovm", input: object{"imageIdentifier": "${failing}"},
		refusal: refused(notFound, "No active version found for MicroVM image ${failing}"),
	},
	{
		promise: "images come in pages", operation: "ListMicrovmImages", input: object{"nameFilter": "ing-${client}"}, pageSize: 1,
		want: members{"items": count(1), "items.0.state": "CREATE_FAILED"},
	},
	{
		promise: "an image that failed can be deleted", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${failing}"},
		want: members{"imageIdentifier": "${failing}", "state": "DELETING"},
	},
	{
		promise: "and is gone then", operation: "GetMicrovmImage", input: object{"imageIdentifier": "${failing}"},
		gone: true, refusal: refused(notFound, "MicroVMImage not found for MicroVMImageID: ${failing}"),
	},
}}

// manyVariables are more environment variables than an image may have.
func manyVariables() object {
	out := object{}
	for i := range 51 {
		out[fmt.Sprintf("V%d", i)] = "x"
	}
	return out
}

func long(n int) string { return strings.Repeat("x", n) }
