package conformance

// difference is a deliberate one from the live service that is about more than a request and its
// answer; those are control.Decisions.
type difference struct{ Topic, Live, Here, Reason string }

var differences = []difference{
	{"processor of guests", "arm64 (Graviton)", "x86-64, although the API says ARM_64", "the host's; ARM_64 is the only value the model allows"},
	{"managed base image", "Amazon Linux 2023", "Dormouse's own guest under the same name, `al2023-1`", "AWS's image is not to be had elsewhere"},
	{"roles", "checked with IAM and assumed", "what they give is said in the configuration; nothing where it knows them not", "there is no IAM; an account may do everything with what is its own"},
	{"endpoint", "`<uuid>.lambda-microvm.<region>.on.aws:443`, public certificates", "an address of this machine, or a name below a domain of the operator's; certificates of a local CA (`DORMOUSE_CA_BUNDLE`), from files or by ACME", "AWS's domain belongs to AWS"},
	{"customer network connectors", "lead into a VPC", "lead into the named networks of the configuration; a microVM whose connectors lead nowhere is sealed", "there is no VPC"},
	{"regions", "each has its own API", "the one a request is signed for is a name only", "one host"},
	{"prices, CloudTrail, CloudFormation", "there", "not there", "not part of this API"},
}
