package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/extension"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// limits are the flags of serve that bound what each account may do. By default nothing does.
type limits struct {
	rates  []string
	quotas []string
}

func (l *limits) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&l.rates, "rate-limits", nil, `calls per second and account: aws for AWS's own, Operation=RATE[/BURST] or Operation=off, as in
aws,RunMicrovm=20/40; none by default`)
	f.StringSliceVar(&l.quotas, "quotas", nil, `what each account may have: aws for AWS's own, memory-gib=N (classes of microVMs that are not
TERMINATED), images=N, versions=N (of an image), builds=N (not ended), connectors=N
or NAME=off, as in aws,memory-gib=64; none by default`)
}

// parse reads both flags.
func (l *limits) parse() (awsapi.Rates, store.Quotas, error) {
	rates, err := awsapi.ParseRates(l.rates, extension.Operations...)
	if err != nil {
		return nil, store.Quotas{}, usagef("--rate-limits: %v", err)
	}
	quotas, err := parseQuotas(l.quotas)
	if err != nil {
		return nil, store.Quotas{}, usagef("--quotas: %v", err)
	}
	return rates, quotas, nil
}

// awsQuotas are the service's defaults outside its four large regions (spec/behaviour.md 13). How
// many network connectors it allows is not published.
var awsQuotas = store.Quotas{MemoryMiB: 400 << 10, Images: 100, Versions: 50, Builds: 5}

// maxQuota bounds what can be configured, so that nothing overflows.
const maxQuota = 1_000_000

// parseQuotas reads the items of --quotas; later ones win.
func parseQuotas(items []string) (q store.Quotas, err error) {
	members := map[string]*int{
		"memory-gib": &q.MemoryMiB, "images": &q.Images, "versions": &q.Versions, "builds": &q.Builds,
		"connectors": &q.Connectors,
	}
	for _, item := range items {
		if item == "aws" {
			q = awsQuotas
			continue
		}
		name, value, _ := strings.Cut(item, "=")
		member := members[name]
		if member == nil {
			return store.Quotas{}, fmt.Errorf("%q is neither aws nor NAME=N with one of the names %s", item, strings.Join(slices.Sorted(maps.Keys(members)), ", "))
		}
		if value == "off" {
			*member = 0
			continue
		}
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > maxQuota {
			return store.Quotas{}, fmt.Errorf("%s: it is a number from 1 to %d, or off", item, maxQuota)
		}
		if *member = n; name == "memory-gib" {
			*member = n << 10
		}
	}
	return q, nil
}
