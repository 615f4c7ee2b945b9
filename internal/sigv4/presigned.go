package sigv4

import (
	"net/url"
	"strconv"
	"time"
)

// maxExpires is how long a presigned request can be good for, in seconds: a week.
const maxExpires = 7 * 24 * 60 * 60

// Parameters of a signature in the query.
const (
	queryAlgorithm     = "X-Amz-Algorithm"
	queryCredential    = "X-Amz-Credential"
	queryDate          = "X-Amz-Date"
	queryExpires       = "X-Amz-Expires"
	querySecurityToken = "X-Amz-Security-Token"
	querySignedHeaders = "X-Amz-SignedHeaders"
	querySignature     = "X-Amz-Signature"
)

// presigned says that a request carries its signature in the query.
func presigned(query url.Values) bool {
	return query.Has(queryAlgorithm) || query.Has(querySignature)
}

// parsePresigned reads the signature in a query. malformed is why the query does not parse as a
// whole: what does not would be left out of what is signed again, so nothing of it is tolerated.
func parsePresigned(query url.Values, malformed error) (authorization, error) {
	if malformed != nil {
		return authorization{}, incomplete("The query string is malformed.")
	}
	for _, name := range []string{queryAlgorithm, queryCredential, queryDate, queryExpires, querySignedHeaders, querySignature} {
		if len(query[name]) != 1 || query.Get(name) == "" {
			return authorization{}, incomplete("AWS query-string parameters must include '" + name + "', once.")
		}
	}
	if query.Get(queryAlgorithm) != algorithm {
		return authorization{}, incomplete("Unsupported AWS 'algorithm': " + queryAlgorithm + " must be '" + algorithm + "'.")
	}
	seconds, err := strconv.Atoi(query.Get(queryExpires))
	if err != nil || seconds < 1 || seconds > maxExpires {
		return authorization{}, incomplete(queryExpires + " must be a number of seconds from 1 to " + strconv.Itoa(maxExpires) + ".")
	}
	a := authorization{signature: query.Get(querySignature), expires: time.Duration(seconds) * time.Second}
	if err := a.parseCredential(query.Get(queryCredential)); err != nil {
		return authorization{}, err
	}
	return a, a.parseSigned(query.Get(querySignedHeaders))
}

// unsigned is a query without what a presigning client adds after the others.
func unsigned(rawQuery string) string {
	values, _ := url.ParseQuery(rawQuery) // Claim has read it
	values.Del(querySignature)
	return values.Encode()
}
