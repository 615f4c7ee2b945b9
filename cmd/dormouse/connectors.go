package main

import (
	"slices"
	"strings"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/arn"
)

// direction is the way the traffic goes through the connectors of a flag.
type direction struct {
	flag  string
	words []managedWord
}

// managedWord is what a flag takes for a connector of the service itself.
type managedWord struct{ word, connector string }

// shellConnector lets shells in.
const shellConnector = "SHELL_INGRESS"

// The connectors the service has (spec/behaviour.md 6), and NO_EGRESS, which is Dormouse's own.
var (
	ingress = direction{"--ingress", []managedWord{{"http", "HTTP_INGRESS"}, {"shell", shellConnector}, {"all", "ALL_INGRESS"}, {"none", "NO_INGRESS"}}}
	egress  = direction{"--egress", []managedWord{{"internet", "INTERNET_EGRESS"}, {"none", "NO_EGRESS"}}}
)

// arns are the connectors that were typed: words, names of the service or ARNs.
func (d direction) arns(region string, typed []string) (arns []string, err error) {
	if typed != nil && len(typed) == 0 { // an empty variable of a script must not mean the default
		return nil, usagef("%s has no value: it is %s, or the ARN of a connector", d.flag, d.choices())
	}
	for _, text := range typed {
		if strings.HasPrefix(text, "arn:") {
			arns = append(arns, text)
			continue
		}
		i := slices.IndexFunc(d.words, func(w managedWord) bool {
			return strings.EqualFold(text, w.word) || strings.EqualFold(text, w.connector)
		})
		if i < 0 {
			return nil, usagef("%s: there is no connector %q: it is %s, or the ARN of a connector", d.flag, text, d.choices())
		}
		arns = append(arns, arn.ManagedConnector(region, d.words[i].connector).String())
	}
	return arns, nil
}

func (d direction) choices() string {
	words := make([]string, len(d.words))
	for i, w := range d.words {
		words[i] = w.word
	}
	return strings.Join(words, ", ")
}

// names names connectors as the flag takes them.
func (d direction) names(arns []string) string {
	names := make([]string, len(arns))
	for i, text := range arns {
		names[i] = terminal.SafeLine(text)
		connector, err := arn.ParseConnector(text)
		if err != nil || !connector.Managed() {
			continue
		}
		for _, w := range d.words {
			if w.connector == connector.Name {
				names[i] = w.word
			}
		}
	}
	return strings.Join(names, ", ")
}
