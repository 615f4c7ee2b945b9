package control

// Decision is one question that the sources answer differently or not at all
// (spec/behaviour.md 18 and 19), and what Dormouse does. Where recorded live behaviour exists, it wins.
type Decision struct {
	Topic         string
	Documentation string // "" = silent
	Observed      string // on the live service; "" = never recorded
	Chosen        string
}

// Decisions are the ones this package carries out. There is a test for every row.
var Decisions = []Decision{
	{"image identifier", "name or ARN", "ARN only", "ARN only; anything else is a ValidationException"},
	{"image of another account", "", "403, also for the slash form", "AccessDeniedException before it is looked for"},
	{"image of another region", "", "", "ResourceNotFoundException: look-ups stay in the region of the signature"},
	{"microVM id prefix", "mvm-, ai-", "microvm-", "microvm-<uuid>"},
	{"endpoint host label", "same as the id in examples", "another UUID", "whatever the endpoint shows; never the id"},
	{"suspend or resume in the wanted state", "409", "200", "200, nothing happens"},
	{"terminate of a terminated microVM", "", "200", "200, nothing happens"},
	{"change of a terminated microVM", "409", "400", "ValidationException"},
	{"suspend of a PENDING microVM", "409", "", "ConflictException"},
	{"token of a PENDING or SUSPENDED microVM", "", "200 while SUSPENDED", "made: requests are parked until it runs"},
	{"token of a microVM that has ended", "", "", "ConflictException, which the model declares"},
	{"duplicate image name", "ConflictException in the model", "400", "ValidationException"},
	{"code artifact", "the model's text once mentioned ECR", "S3 URI only", "S3 URI only, refused with the request"},
	{"version status option", "--state", "status", "status"},
	{"echoed base version as input", "", "not accepted", "\"1\" is echoed as \"1.0\", and \"1.0\" is refused"},
	{"empty list of connectors", "", "egress: same as none", "same as none in both directions"},
	{"run hook payload without a run hook", "", "400, wording not known", "ValidationException"},
	{"failure text of a version", "`terminationMessage` on one page", "null; the reason is on the build", "null; the reason is on the build"},
	{"runnable image states", "CREATED and UPDATED", "UPDATING images go on naming their latest active version", "also UPDATING and UPDATE_FAILED: neither an update, nor a failed one, nor the deletion of another version keeps ACTIVE versions from running"},
	{"update of an image whose create or last update failed", "", "", "allowed: it builds the next version. After a failed deletion it is a ConflictException, because files may be gone"},
	{"delete of a version with live microVMs", "", "", "ValidationException, as for the image"},
	{"delete of a version that is being deleted", "", "", "200 with DELETING again"},
	{"quotas", "per account and region", "", "per account, over all regions: they are names of one host here, and a caller can sign for any"},
	{"delete of an image that is being deleted", "success", "", "200 with DELETING again"},
	{"delete of an image that does not exist", "success", "", "ResourceNotFoundException, which the model declares: a typing error must not look like a deletion"},
	{"client token of a deleted image", "", "replays a create that never ends", "forgotten with the image: the request makes a new one"},
	{"list order", "", "", "newest first, 50 to a page; stable while items are added"},
}
