package main

import (
	"github.com/spf13/pflag"

	"github.com/dormouse-dev/dormouse/internal/endpoint"
)

// traffic are the flags of serve that bound what goes through endpoints.
type traffic struct {
	vmLimits       []string
	maxConnections int
}

func (t *traffic) addFlags(f *pflag.FlagSet) {
	f.StringSliceVar(&t.vmLimits, "vm-limits", nil, `traffic of each microVM through its endpoint: aws for AWS's own, by size, connections=N (at once),
requests=N (per second), bandwidth-mb=N (per second, both directions together) or NAME=off, as in
aws,requests=100; none by default`)
	f.IntVar(&t.maxConnections, "max-connections", endpoint.DefaultMaxConnections(), `connections clients may have open to endpoints; beyond it the one that has done nothing for longest
is closed`)
	portableDefault(f, "max-connections", "half of the files the daemon may open")
}

// configure puts the flags into the configuration of endpoints.
func (t *traffic) configure(cfg *endpoint.Config) (err error) {
	if t.maxConnections < 1 {
		return usagef("--max-connections %d: it is 1 or more", t.maxConnections)
	}
	cfg.MaxConnections = t.maxConnections
	if cfg.Limits, err = endpoint.ParseLimits(t.vmLimits); err != nil {
		return usagef("--vm-limits: %v", err)
	}
	return nil
}
