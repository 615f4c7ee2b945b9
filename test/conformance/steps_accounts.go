package conformance

var strangers = chapter{title: "another account", steps: []step{
	{promise: "nobody sees images of others", operation: "ListMicrovmImages", as: stranger, want: members{"items": absent}},
	{promise: "nor reads them", operation: "GetMicrovmImage", as: stranger, input: object{"imageIdentifier": "${image}"}, refusal: refused(denied)},
	{promise: "nor runs them", operation: "RunMicrovm", as: stranger, input: object{"imageIdentifier": "${image}"}, refusal: refused(denied)},
	{promise: "nor tags them", operation: "TagResource", as: stranger, input: object{"Resource": "${image}", "Tags": object{"a": "b"}}, refusal: refused(denied)},
	{promise: "nor uses their roles", operation: "CreateMicrovmImage", as: stranger, input: plainImage.with("name", "stranger-${client}"), refusal: refused(denied, "Cross-account pass role is not allowed.")},
	{promise: "nobody sees microVMs of others", operation: "ListMicrovms", as: stranger, want: members{"items": absent}},
	{promise: "nor reads them", operation: "GetMicrovm", as: stranger, input: object(vm), refusal: refused(notFound, "MicroVM not found: ${vm}")},
	{promise: "nor opens them", operation: "CreateMicrovmAuthToken", as: stranger, input: vm.with("expirationInMinutes", 5, "allowedPorts", list{port(8080)}), refusal: refused(notFound, "MicroVM not found: ${vm}")},
	{promise: "nor ends them", operation: "TerminateMicrovm", as: stranger, input: object(vm), refusal: refused(notFound, "MicroVM not found: ${vm}")},
	{promise: "nobody sees connectors of others", operation: "ListNetworkConnectors", as: stranger, want: members{"NetworkConnectors": absent}},
}}

// Limits of the daemon that limited calls, per account (--rate-limits, --quotas). Each client has an
// account of its own there, so that nobody's calls count for another.
const (
	limitedRates  = "ListMicrovms=0.001/1,RunMicrovm=0.001/1,ListNetworkConnectors=0.001/1" // calls per second, and at once
	limitedQuotas = "images=1,versions=1"
	// mainQuotas are four microVMs of plainImage.
	mainQuotas = "memory-gib=2"
)

// limitedImage is what such an account may make at most.
var limitedImage = input(plainImage.with("buildRoleArn", "arn:aws:iam::${limitedAccount}:role/build"))

var limits = chapter{title: "limits of an account", steps: []step{
	{promise: "an account has a first image", operation: "CreateMicrovmImage", as: limited, input: limitedImage.with("codeArtifact", object{"uri": "${missingArtifact}"}), keep: map[string]string{"limitedImage": "imageArn"}},
	{promise: "and no second one, if one is its quota", operation: "CreateMicrovmImage", as: limited, input: limitedImage.with("name", "second-${client}"), refusal: refused("ServiceQuotaExceededException")},
	{promise: "that image's build ends", operation: "GetMicrovmImage", as: limited, input: object{"imageIdentifier": "${limitedImage}"}, until: members{"state": "CREATE_FAILED"}},
	{promise: "an image has one version, if one is its quota", operation: "UpdateMicrovmImage", as: limited, input: input(updateOf(limitedImage)).with("imageIdentifier", "${limitedImage}"), refusal: refused("ServiceQuotaExceededException")},
	{promise: "a first call is let through", operation: "ListMicrovms", as: limited, want: members{"items": absent}},
	{promise: "a second one too soon is not", operation: "ListMicrovms", as: limited, refusal: refused("ThrottlingException")},
	{promise: "a call that is refused counts as well", operation: "RunMicrovm", as: limited, input: object{"imageIdentifier": foreignImage}, refusal: refused(denied)},
	{promise: "so that the next one is too soon", operation: "RunMicrovm", as: limited, input: object{"imageIdentifier": unknownImage}, refusal: refused("ThrottlingException")},
	{promise: "a first call for connectors is let through", operation: "ListNetworkConnectors", as: limited, want: members{"NetworkConnectors": absent}},
	{promise: "a second one too soon is refused in that service's words", operation: "ListNetworkConnectors", as: limited, refusal: refused("TooManyRequestsException")},
}}
