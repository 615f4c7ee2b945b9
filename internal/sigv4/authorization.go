package sigv4

import (
	"regexp"
	"strings"
	"time"
)

const algorithm = "AWS4-HMAC-SHA256"

// maxHeader bounds an Authorization header, in bytes; real ones have about 300.
const maxHeader = 8 << 10

// authorization is a parsed Authorization header, or the same in the query of a presigned request.
type authorization struct {
	accessKeyID   string
	date          string // YYYYMMDD
	region        string
	service       string
	signedHeaders []string // lower case
	signature     string   // 64 hexadecimal digits

	expires time.Duration // how long it is good for; 0 unless it is presigned
}

var (
	accessKeyForm = regexp.MustCompile(`\A[A-Za-z0-9_]{1,128}\z`)
	regionForm    = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]{0,31}\z`)
	headerForm    = regexp.MustCompile(`\A[a-z0-9!#$&'*+.^_|~-]+\z`)
	signatureForm = regexp.MustCompile(`\A[0-9a-f]{64}\z`)
)

// parseAuthorization reads
//
//	AWS4-HMAC-SHA256 Credential=KEY/DATE/REGION/SERVICE/aws4_request, SignedHeaders=a;b, Signature=HEX
func parseAuthorization(header string) (authorization, error) {
	if len(header) > maxHeader {
		return authorization{}, incomplete("Authorization header is too long.")
	}
	name, rest, _ := strings.Cut(header, " ")
	if name != algorithm {
		return authorization{}, incomplete("Unsupported AWS 'algorithm'; the Authorization header must begin with '" + algorithm + "'.")
	}
	fields, err := parseFields(rest)
	if err != nil {
		return authorization{}, err
	}
	a := authorization{signature: fields["Signature"]}
	if err := a.parseCredential(fields["Credential"]); err != nil {
		return authorization{}, err
	}
	return a, a.parseSigned(fields["SignedHeaders"])
}

// parseSigned reads the names of the signed headers and checks the form of the signature.
func (a *authorization) parseSigned(headers string) error {
	if !signatureForm.MatchString(a.signature) {
		return incomplete("Authorization header requires a 'Signature' of 64 hexadecimal digits.")
	}
	a.signedHeaders = strings.Split(headers, ";")
	hasHost := false
	for _, name := range a.signedHeaders {
		if !headerForm.MatchString(name) {
			return incomplete("Authorization header has a malformed 'SignedHeaders' parameter.")
		}
		hasHost = hasHost || name == "host"
	}
	if !hasHost {
		return invalid("'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// parseFields reads the three parameters, in any order, each of them once.
func parseFields(text string) (map[string]string, error) {
	fields := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		if _, again := fields[name]; !found || again {
			return nil, incomplete("Authorization header has a malformed parameter list.")
		}
		fields[name] = value
	}
	var missing []string
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if fields[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if missing != nil {
		return nil, incomplete(strings.Join(missing, " "))
	}
	return fields, nil
}

func (a *authorization) parseCredential(text string) error {
	parts := strings.Split(text, "/")
	if len(parts) != 5 || !accessKeyForm.MatchString(parts[0]) {
		return incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
	}
	if parts[4] != "aws4_request" {
		return invalid("Credential should be scoped with a valid terminator: 'aws4_request'.")
	}
	if !regionForm.MatchString(parts[2]) {
		return invalid("Credential should be scoped to a valid region.")
	}
	a.accessKeyID, a.date, a.region, a.service = parts[0], parts[1], parts[2], parts[3]
	return nil
}
