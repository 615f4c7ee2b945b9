package conformance

var (
	vm      = input{"microvmIdentifier": "${vm}"}
	second  = input{"microvmIdentifier": "${second}"}
	waking  = idle(3600, 3600)
	fullRun = input{
		"imageIdentifier": "${image}", "imageVersion": "1.0", "executionRoleArn": "arn:aws:iam::${account}:role/run",
		"ingressNetworkConnectors": list{managed + "HTTP_INGRESS"}, "egressNetworkConnectors": list{managed + "INTERNET_EGRESS"},
		"idlePolicy": waking, "logging": object{"disabled": object{}}, "runHookPayload": `{"tenant":"${client}"}`,
		"maximumDurationInSeconds": 3600, "clientToken": "run-${client}",
	}
	// echoedRun is how Run and Get show fullRun.
	echoedRun = members{
		"imageArn": "${image}", "imageVersion": "1.0", "executionRoleArn": fullRun["executionRoleArn"], "idlePolicy": waking,
		"maximumDurationInSeconds": 3600, "startedAt": aTime, "terminatedAt": absent, "stateReason": absent,
		"ingressNetworkConnectors": fullRun["ingressNetworkConnectors"], "egressNetworkConnectors": fullRun["egressNetworkConnectors"],
	}
)

var launch = chapter{title: "microVMs are launched", steps: []step{
	{
		promise: "a microVM is PENDING at once, and all its settings are echoed", operation: "RunMicrovm", input: object(fullRun),
		want: merge(echoedRun, members{"microvmId": like("microvm-" + uuidPattern), "state": "PENDING"}),
		keep: map[string]string{"vm": "microvmId", "host": "endpoint"},
	},
	{
		promise: "the same request with the same client token runs no other", operation: "RunMicrovm", input: object(fullRun),
		want: members{"microvmId": "${vm}"},
	},
	{
		promise: "another request with the same client token is a conflict", operation: "RunMicrovm",
		input: fullRun.with("maximumDurationInSeconds", 3601), refusal: refused(conflict),
	},
	{
		promise: "a microVM becomes RUNNING", operation: "GetMicrovm", input: object(vm), until: members{"state": "RUNNING"},
		want: merge(echoedRun, members{"microvmId": "${vm}", "endpoint": "${host}"}),
	},
	{
		promise: "a microVM without settings has the defaults", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"},
		want: members{
			"state": "PENDING", "imageVersion": "1.0", "maximumDurationInSeconds": 28800, "idlePolicy": absent, "executionRoleArn": absent,
			"ingressNetworkConnectors": list{managed + "HTTP_INGRESS"}, "egressNetworkConnectors": list{managed + "INTERNET_EGRESS"},
		},
		keep: map[string]string{"second": "microvmId", "secondHost": "endpoint"},
	},
	{promise: "several run at once", operation: "GetMicrovm", input: object(second), until: members{"state": "RUNNING"}},
	{
		promise: "microVMs come in pages, newest first", operation: "ListMicrovms", input: object{"imageIdentifier": "${image}"}, pageSize: 1,
		want: members{
			"items": count(2), "items.0.microvmId": "${second}", "items.0.imageArn": "${image}", "items.0.imageVersion": "1.0",
			"items.0.state": "RUNNING", "items.0.startedAt": aTime, "items.1.microvmId": "${vm}",
		},
	},
	{
		promise: "and are found by their version", operation: "ListMicrovms", input: object{"imageIdentifier": "${image}", "imageVersion": "2.0"},
		want: members{"items": absent},
	},
	{promise: "a third one is run", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"}, keep: map[string]string{"third": "microvmId"}},
	{promise: "a fourth one is run", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"}, keep: map[string]string{"fourth": "microvmId"}},
	{
		promise: "there are no more than the account's memory allows", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}"},
		refusal: refused("ServiceQuotaExceededException", "The base maximum allocated memory limit has been reached for this account."),
	},
	{promise: "the third is terminated", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${third}"}},
	{promise: "and the fourth", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${fourth}"}},
	{promise: "the third has ended", operation: "GetMicrovm", input: object{"microvmIdentifier": "${third}"}, until: members{"state": "TERMINATED"}},
	{promise: "so has the fourth", operation: "GetMicrovm", input: object{"microvmIdentifier": "${fourth}"}, until: members{"state": "TERMINATED"}},
	{
		promise: "an image with microVMs cannot be deleted", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${image}"},
		refusal: refused(invalid, "Cannot delete microvm image with running microvms."),
	},
}}

// token is a step that makes a token for the first VM.
func token(promise, name string, ports ...any) step {
	return step{
		promise: promise, operation: "CreateMicrovmAuthToken", input: vm.with("expirationInMinutes", 60, "allowedPorts", ports),
		want: members{"authToken.X-aws-proxy-auth": like(`[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+`)},
		keep: map[string]string{name: "authToken.X-aws-proxy-auth"},
	}
}

// refusedToken is a step that CreateMicrovmAuthToken refuses.
func refusedToken(promise string, minutes int, r *refusal, ports ...any) step {
	return step{
		promise: promise, operation: "CreateMicrovmAuthToken",
		input: vm.with("expirationInMinutes", minutes, "allowedPorts", ports), refusal: r,
	}
}

func port(n int) object         { return object{"port": n} }
func portRange(a, b int) object { return object{"range": object{"startPort": a, "endPort": b}} }
func get(path string) request {
	return request{path: path, host: "${host}", token: "${token}", status: 200}
}
func (r request) as(token string, status int, body string) *request {
	r.token, r.status, r.body = token, status, body
	return &r
}

func counted(n int) step {
	r := get("/")
	return step{promise: "the app counts in its memory", request: &r, want: members{"counter": n}}
}

var allPorts = object{"allPorts": object{}}

var endpoint = chapter{title: "tokens and endpoints", steps: []step{
	token("a token opens a port", "token", port(8080)),
	token("or a range of ports", "rangeToken", portRange(8000, 8100), port(9999)),
	token("or all ports", "allToken", allPorts),
	{
		promise: "each microVM has its own", operation: "CreateMicrovmAuthToken",
		input: second.with("expirationInMinutes", 1, "allowedPorts", list{allPorts}), keep: map[string]string{"secondToken": "authToken.X-aws-proxy-auth"},
	},
	counted(1),
	{promise: "the run hook got the payload", request: ptr(get("/identity")), want: members{"microvmId": "${vm}", "runHookPayload": `{"tenant":"${client}"}`}},
	{promise: "a range opens the port too", request: get("/time").as("${rangeToken}", 200, "")},
	{promise: "and all ports", request: get("/time").as("${allToken}", 200, "")},
	{promise: "a request without a token is refused", request: get("/").as("", 403, "Request missing authentication")},
	{promise: "one with a token of another microVM is refused", request: get("/").as("${secondToken}", 403, "Token authentication failed")},
	{promise: "one to a port that the token does not open is refused", request: &request{path: "/", host: "${host}", token: "${token}", port: "9000", status: 403, body: "Access to port denied"}},
	{promise: "one to a port nobody listens on fails", request: &request{path: "/", host: "${host}", token: "${allToken}", port: "7", status: 502}},
	refusedToken("a token lasts at most an hour", 61, refused(invalid, "ExpirationMinutes 61 exceeded max allowed of 60."), port(8080)),
	refusedToken("and at least a minute", 0, refused(invalid, constraint("expirationInMinutes", below("1"))), port(8080)),
	refusedToken("a token opens something", 5, refused(invalid, constraint("allowedPorts", shorterThan("1")))),
	refusedToken("ports begin at 1", 5, refused(invalid, constraint("allowedPorts.1.member.port", below("1"))), port(0)),
	refusedToken("ports end at 65535", 5, refused(invalid, constraint("allowedPorts.2.member.range.endPort", above("65535"))), port(1), portRange(1, 65536)),
	refusedToken("a range has a beginning before its end", 5, refused(invalid), portRange(2, 1)),
	{
		promise: "a token needs a lifetime", operation: "CreateMicrovmAuthToken", input: vm.with("allowedPorts", list{port(8080)}),
		refusal: refused(invalid, constraint("expirationInMinutes", missing)),
	},
}}

func ptr(r request) *request { return &r }

var sleep = chapter{title: "microVMs sleep and wake", steps: []step{
	{promise: "a microVM is suspended", operation: "SuspendMicrovm", input: object(vm)},
	{promise: "and becomes SUSPENDED", operation: "GetMicrovm", input: object(vm), until: members{"state": "SUSPENDED"}, want: members{"stateReason": absent}},
	{promise: "once more has no effect", operation: "SuspendMicrovm", input: object(vm)},
	token("a token can be made meanwhile", "token", port(8080)),
	{promise: "an image with sleeping microVMs cannot be deleted", operation: "DeleteMicrovmImage", input: object{"imageIdentifier": "${image}"}, refusal: refused(invalid, "Cannot delete microvm image with running microvms.")},
	{promise: "a request wakes it, and its memory is as it was", request: ptr(get("/")), want: members{"counter": 2}},
	{promise: "then it is RUNNING", operation: "GetMicrovm", input: object(vm), until: members{"state": "RUNNING"}, want: members{"endpoint": "${host}"}},
	{promise: "a microVM that does not wake on requests is suspended", operation: "SuspendMicrovm", input: object(second)},
	{promise: "and becomes SUSPENDED too", operation: "GetMicrovm", input: object(second), until: members{"state": "SUSPENDED"}},
	{promise: "a request to it fails", request: &request{path: "/", host: "${secondHost}", token: "${secondToken}", status: 502}},
	{promise: "and leaves it SUSPENDED", operation: "GetMicrovm", input: object(second), want: members{"state": "SUSPENDED"}},
	{promise: "a microVM is resumed", operation: "ResumeMicrovm", input: object(second)},
	{promise: "and becomes RUNNING", operation: "GetMicrovm", input: object(second), until: members{"state": "RUNNING"}},
	{promise: "once more has no effect", operation: "ResumeMicrovm", input: object(second)},
}}

var shell = chapter{title: "shells", steps: []step{
	{
		promise: "a shell needs its connector", operation: "CreateMicrovmShellAuthToken", input: vm.with("expirationInMinutes", 5),
		refusal: refused(invalid, "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."),
	},
	{
		promise: "a token for a shell lasts at most an hour", operation: "CreateMicrovmShellAuthToken", input: vm.with("expirationInMinutes", 61),
		refusal: refused(invalid, "61"),
	},
	{
		promise: "a microVM has a shell and HTTP", operation: "RunMicrovm",
		input: object{"imageIdentifier": "${image}", "ingressNetworkConnectors": list{managed + "SHELL_INGRESS", managed + "HTTP_INGRESS"}},
		want:  members{"ingressNetworkConnectors": list{managed + "SHELL_INGRESS", managed + "HTTP_INGRESS"}}, keep: map[string]string{"shellVM": "microvmId", "shellHost": "endpoint"},
	},
	{promise: "it becomes RUNNING", operation: "GetMicrovm", input: object{"microvmIdentifier": "${shellVM}"}, until: members{"state": "RUNNING"}},
	{
		promise: "its token for the shell is made", operation: "CreateMicrovmShellAuthToken", input: object{"microvmIdentifier": "${shellVM}", "expirationInMinutes": 5},
		want: members{"authToken.X-aws-proxy-auth": like(`[\w-]+\.\.[\w-]+\.[\w-]+\.[\w-]+`)},
		keep: map[string]string{"shellToken": "authToken.X-aws-proxy-auth"},
	},
	{promise: "it opens a shell as root beside the app", request: &request{
		path: "/shell", host: "${shellHost}", token: "${shellToken}", typed: "echo $((6*7)) $(id -u)\rexit\r", body: "42 0\r\n",
	}},
	{promise: "and no port", request: &request{path: "/", host: "${shellHost}", token: "${shellToken}", status: 502}},
	{promise: "it is terminated", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${shellVM}"}},
	{
		promise: "a microVM with a shell and ALL_INGRESS is run", operation: "RunMicrovm",
		input: object{"imageIdentifier": "${image}", "ingressNetworkConnectors": list{managed + "SHELL_INGRESS", managed + "ALL_INGRESS"}},
		keep:  map[string]string{"bothVM": "microvmId"},
	},
	{
		promise: "but gets no token for the shell", operation: "CreateMicrovmShellAuthToken", input: object{"microvmIdentifier": "${bothVM}", "expirationInMinutes": 5},
		refusal: refused(invalid, "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS instead"),
	},
	{promise: "it is terminated too", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${bothVM}"}},
	{promise: "and becomes TERMINATED", operation: "GetMicrovm", input: object{"microvmIdentifier": "${bothVM}"}, until: members{"state": "TERMINATED"}},
	{promise: "as the one before", operation: "GetMicrovm", input: object{"microvmIdentifier": "${shellVM}"}, until: members{"state": "TERMINATED"}},
}}

const hasEnded = "The MicroVM ${vm} has been terminated and its state cannot be changed."

var terminate = chapter{title: "microVMs end", steps: []step{
	{promise: "a microVM is terminated", operation: "TerminateMicrovm", input: object(vm)},
	{
		promise: "and becomes TERMINATED", operation: "GetMicrovm", input: object(vm), until: members{"state": "TERMINATED"},
		want: members{"stateReason": "Success.", "terminatedAt": aTime, "startedAt": aTime, "imageArn": "${image}"},
	},
	{promise: "once more has no effect", operation: "TerminateMicrovm", input: object(vm)},
	{promise: "it cannot be suspended", operation: "SuspendMicrovm", input: object(vm), refusal: refused(invalid, hasEnded)},
	{promise: "nor resumed", operation: "ResumeMicrovm", input: object(vm), refusal: refused(invalid, hasEnded)},
	{promise: "nor opened", operation: "CreateMicrovmAuthToken", input: vm.with("expirationInMinutes", 5, "allowedPorts", list{port(8080)}), refusal: refused(conflict)},
	{promise: "and answers no request", request: get("/").as("${token}", 502, "")},
	{promise: "a microVM is run for two seconds", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "maximumDurationInSeconds": 2}, want: members{"maximumDurationInSeconds": 2}, keep: map[string]string{"brief": "microvmId"}},
	{promise: "and ends by itself", operation: "GetMicrovm", input: object{"microvmIdentifier": "${brief}"}, until: members{"state": "TERMINATED"}, want: members{"stateReason": "MicroVM exceeded maximum lifetime.", "terminatedAt": aTime}},
	{promise: "those that have ended stay in the list", operation: "ListMicrovms", input: object{"imageIdentifier": "${image}", "imageVersion": "1.0"}, want: members{"items": atLeast(4)}},
}}
