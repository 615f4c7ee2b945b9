package control

// Decision is one question that the sources answer differently or not at all (spec/behaviour.md 18
// and 19, and what spec/api.md marks as observed), and what Dormouse does. Where recorded live
// behaviour exists, it wins.
type Decision struct {
	Topic         string
	Documentation string // "" = silent
	Observed      string // on the live service; "" = never recorded
	Chosen        string
}

// Decisions are all of them, whichever package carries them out. There is a test for every row.
var Decisions = []Decision{
	{"runHookPayload limit", "16 KB", "4096", "4096 characters"},
	{"image identifier", "name or ARN", "ARN only", "ARN only; anything else is a ValidationException"},
	{"image of another account", "", "403, also for the slash form", "AccessDeniedException before it is looked for"},
	{"image of another region", "", "", "ResourceNotFoundException: look-ups stay in the region of the signature"},
	{"microVM id prefix", "mvm-, ai-", "microvm-", "microvm-<uuid>"},
	{"endpoint host label", "same as the id in examples", "another UUID", "whatever the endpoint shows; never the id"},
	{"failed suspend hook", "the microVM stays up", "the microVM is terminated", "terminated, with the hook's answer as stateReason"},
	{"log group", "two spellings", "/aws/lambda-microvms/", "/aws/lambda-microvms/<image name>"},
	{"log stream", "the microVM id", "YYYY/MM/DD[<imageVersion>]<microvmId>", "YYYY/MM/DD[<imageVersion>]<microvmId>"},
	{"logging of an image, for its microVMs", "", "its custom group is not inherited", "none of it is inherited, `disabled` neither"},
	{"logs of a microVM without an execution role", "none", "", "kept on the host, under the same group and stream; never sent to CloudWatch"},
	{"disabled logging", "", "", "nothing is kept, for `dormouse logs` neither; of a build Dormouse's own lines alone"},
	{"failure text of a microVM", "`terminationMessage` on one page", "`stateReason`, and a null terminationReasonCode", "stateReason alone"},
	{"traffic before /run", "never", "seen once", "never: requests wait until the hook has answered 200"},
	{"suspend or resume in the wanted state", "409", "200", "200, nothing happens"},
	{"terminate of a terminated microVM", "", "200", "200, nothing happens"},
	{"change of a terminated microVM", "409", "400", "ValidationException"},
	{"suspend of a PENDING microVM", "409", "", "ConflictException"},
	{"token of a PENDING or SUSPENDED microVM", "", "200 while SUSPENDED", "made: requests are parked until it runs"},
	{"token of a microVM that has ended", "", "", "ConflictException, which the model declares"},
	{"microVM id of another form", "", "502 with HTML", "ResourceNotFoundException: errors are always JSON, or SDKs fail on them"},
	{"SHELL_INGRESS with ALL_INGRESS", "not to be combined", "RunMicrovm accepts both", "RunMicrovm accepts both"},
	{"duplicate image name", "ConflictException in the model", "400", "ValidationException"},
	{"code artifact", "the model's text once mentioned ECR", "S3 URI only", "S3 URI only, refused with the request"},
	{"version status option", "--state", "status", "status"},
	{"echoed base version as input", "", "not accepted", "\"1\" is echoed as \"1.0\", and \"1.0\" is refused"},
	{"empty list of connectors", "", "egress: same as none", "same as none in both directions"},
	{"run hook payload without a run hook", "", "400, wording not known", "ValidationException"},
	{"reserved environment variables", "a list without its members", "AWS_REGION", "AWS_REGION, and those that the platform sets"},
	{"builds of a version", "one per chip generation", "two, of generations 3 and 4", "one, of generation 4"},
	{"failure text of a version", "`terminationMessage` on one page", "null; the reason is on the build", "null; the reason is on the build"},
	{"runnable image states", "CREATED and UPDATED", "UPDATING images go on naming their latest active version", "also UPDATING and UPDATE_FAILED: neither an update, nor a failed one, nor the deletion of another version keeps ACTIVE versions from running"},
	{"update of an image whose create or last update failed", "", "", "allowed: it builds the next version. After a failed deletion it is a ConflictException, because files may be gone"},
	{"delete of a version with live microVMs", "", "", "ValidationException, as for the image"},
	{"delete of a version that is being deleted", "", "", "200 with DELETING again"},
	{"quotas", "per account and region", "", "per account, over all regions: they are names of one host here, and a caller can sign for any"},
	{"rates of calls", "per account and region", "", "per account, over all regions, as quotas"},
	{"memory quota of a microVM that ends", "RUNNING plus SUSPENDED ones count", "", "counted until it is TERMINATED: its guest has the memory while its terminate hook runs"},
	{"change of an image that is being updated", "", "409", "ConflictException"},
	{"delete of an image with microVMs", "ConflictException in the model", "400", "ValidationException"},
	{"delete of an image that is being built", "ConflictException in the model", "400", "ValidationException"},
	{"delete of an image with ACTIVE versions", "", "accepted", "accepted"},
	{"delete of an image that is being deleted", "success", "", "200 with DELETING again"},
	{"delete of an image that does not exist", "success", "", "ResourceNotFoundException, which the model declares: a typing error must not look like a deletion"},
	{"client token of a deleted image", "", "replays a create that never ends", "forgotten with the image: the request makes a new one"},
	{"client token of another request", "ConflictException", "", "ConflictException"},
	{"list order", "", "", "newest first, 50 to a page; stable while items are added"},
	{"name filter", "", "applied after paging", "applied after paging: a page may be empty and not the last"},
	{"tags of a resource without any", "", "{} from GetMicrovmImage and ListTags, else null", "the same"},
	{"number of tags", "", "", "50, as everywhere in AWS"},
	{"removing a tag that is not there", "", "", "no error"},

	{"absent members of an answer", "left out", "null", "null, in every answer of lambda-microvms"},
	{"members the model lacks", "", "id, terminationReasonCode and others", "not sent: SDKs drop them"},
	{"where an error's type is", "`__type` or the header x-amzn-errortype", "the header", "the header"},
	{"text of a 403 or of a body that cannot be read", "`message`", "`Message`", "`Message`"},
	{"page token with unencoded padding", "", "400 with a null message", "ValidationException with a null message"},
	{"raw slash in a label", "", "404 with HTML", "404 UnknownOperationException: errors are always JSON"},
	{"bad signature", "", "", "the names of other AWS services, with 403"},
	{"presigned request", "", "", "accepted, as by other AWS services"},
	{"body that is not signed", "", "SDKs always sign it", "InvalidSignatureException"},

	{"network connector members modelled optional", "optional", "ClientToken, OperatorRole, NetworkProtocol and AssociatedComputeResourceTypes are enforced", "enforced: InvalidParameterValueException"},
	{"network connector without subnets", "optional", "", "made: it leads nowhere"},
	{"way of a network connector to ACTIVE", "4-10 minutes", "4-10 minutes", "PENDING in the answer, ACTIVE at once: there is nothing to wait for"},
	{"network connector that does not exist", "", "`Message`", "`Message`"},
	{"absent members of lambda-core's answers", "left out", "NextMarker is left out", "left out"},
	{"name of a network connector in use", "ResourceConflictException in the model", "", "ResourceConflictException"},
	{"update of a network connector that changes nothing", "", "Successful, No configuration changes detected", "the same, without a new version"},
	{"configuration in an update of a network connector", "replaces the old one", "", "replaces the old one, so it has to be as complete"},
	{"delete of a network connector in use", "ResourceConflictException in the model", "", "ResourceConflictException while a microVM that is not TERMINATED or an image version has it"},
	{"network connector of another account", "", "403 for images", "AccessDeniedException before it is looked for"},
	{"way out through a network connector", "into a VPC", "without routes the only block", "none: a microVM without INTERNET_EGRESS is sealed"},
}
