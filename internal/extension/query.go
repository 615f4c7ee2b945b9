package extension

import (
	"net/url"
	"slices"
	"strconv"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// Bounds of what may be asked for.
const (
	defaultEvents = 100
	maxEvents     = 1000
	maxTail       = 100_000 // lines
)

// members reads a query in which only some names may occur, each once.
func members(rawQuery string, names ...string) (map[string]string, error) {
	values, err := url.ParseQuery(rawQuery)
	if err != nil {
		return nil, awsapi.Validation("The query is malformed.").WithCause(err)
	}
	found := map[string]string{}
	for name, list := range values {
		if !slices.Contains(names, name) {
			return nil, awsapi.Validation("Unknown query member %.40q.", name)
		}
		if len(list) != 1 {
			return nil, awsapi.Validation("Query member %s is given %d times.", name, len(list))
		}
		found[name] = list[0]
	}
	return found, nil
}

// number reads a whole number within bounds.
func number(text, name string, low, high int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		return 0, awsapi.Validation("%s must be a number from %d to %d.", name, low, high)
	}
	return n, nil
}

func parseEvents(rawQuery string) (in EventsInput, err error) {
	found, err := members(rawQuery, "subject", "maxResults", "nextToken")
	if err != nil {
		return in, err
	}
	in = EventsInput{Subject: found["subject"], NextToken: found["nextToken"], MaxResults: defaultEvents}
	if text, given := found["maxResults"]; given {
		in.MaxResults, err = number(text, "maxResults", 1, maxEvents)
	}
	return in, err
}

func parseLogs(rawQuery string) (in LogsInput, err error) {
	found, err := members(rawQuery, "source", "kind", "follow", "tail")
	if err != nil {
		return in, err
	}
	in = LogsInput{Source: found["source"], Kind: Kind(found["kind"]), Follow: found["follow"] == "true"}
	if in.Source == "" {
		return in, awsapi.Validation("source must be the id of a microVM or of a build.")
	}
	if !slices.Contains([]Kind{"", BuildLog, AppLog, ConsoleLog, VMMLog}, in.Kind) {
		return in, awsapi.Validation("kind must be build, app, console or vmm.")
	}
	if !slices.Contains([]string{"", "true", "false"}, found["follow"]) {
		return in, awsapi.Validation("follow must be true or false.")
	}
	if text, given := found["tail"]; given {
		tail, err := number(text, "tail", 0, maxTail)
		if err != nil {
			return in, err
		}
		in.Tail = &tail
	}
	return in, nil
}

// noQuery refuses members where there are none.
func noQuery(rawQuery string) error {
	_, err := members(rawQuery)
	return err
}
