package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dormouse-dev/dormouse/cmd/dormouse/terminal"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
)

// defaultIdle is what run asks for: the API's own default is to never sleep.
const defaultIdle = "15m,8h,auto"

// span words a length of time as flags take it.
func span(d time.Duration) string { return terminal.Span(d) }

// parseIdle reads IDLE[,ASLEEP[,auto|manual]], or off.
func parseIdle(text string) (*awsapi.IdlePolicy, error) {
	if text == "off" {
		return nil, nil
	}
	parts := strings.Split(text, ",")
	policy := awsapi.IdlePolicy{SuspendedDurationSeconds: 8 * 3600, AutoResumeEnabled: true}
	var err error
	if policy.MaxIdleDurationSeconds, err = wholeSeconds(parts[0]); err != nil {
		return nil, usagef("--idle %s: %v", text, err)
	}
	if policy.MaxIdleDurationSeconds < 60 {
		return nil, usagef("--idle %s: the shortest time is 60s", text)
	}
	if len(parts) > 1 {
		if policy.SuspendedDurationSeconds, err = wholeSeconds(parts[1]); err != nil {
			return nil, usagef("--idle %s: %v", text, err)
		}
	}
	if len(parts) > 2 {
		switch parts[2] {
		case "auto":
		case "manual":
			policy.AutoResumeEnabled = false
		default:
			return nil, usagef("--idle %s: the third part is auto or manual", text)
		}
	}
	if len(parts) > 3 {
		return nil, usagef("--idle %s: it has at most three parts", text)
	}
	return &policy, nil
}

// wholeSeconds reads 90, 90s, 15m or 8h.
func wholeSeconds(text string) (int32, error) {
	if n, err := strconv.ParseInt(text, 10, 32); err == nil && n >= 0 {
		return int32(n), nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 || d > 1<<31*time.Second-time.Second {
		return 0, fmt.Errorf("%q is no time such as 90s, 15m or 8h", text)
	}
	return int32(d / time.Second), nil
}

// memorySize is an amount of memory in MiB; 0 is unset.
type memorySize int32

func (m *memorySize) Type() string { return "size" }

func (m *memorySize) String() string {
	switch {
	case m == nil || *m == 0:
		return ""
	case *m%1024 == 0:
		return strconv.Itoa(int(*m/1024)) + "g"
	}
	return strconv.Itoa(int(*m)) + "m"
}

// Set reads 512, 512m, 2g, 2GiB.
func (m *memorySize) Set(text string) error {
	number := strings.ToLower(text)
	unit := int64(1)
	for _, suffix := range []string{"ib", "b"} {
		number = strings.TrimSuffix(number, suffix)
	}
	if cut, ok := strings.CutSuffix(number, "g"); ok {
		number, unit = cut, 1024
	} else {
		number = strings.TrimSuffix(number, "m")
	}
	n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
	if err != nil || n <= 0 || n*unit > 1<<30 {
		return fmt.Errorf("%q is no size such as 512m or 2g", text)
	}
	size := memorySize(n * unit)
	if !slices.Contains(awsapi.MemorySizesMiB, int32(size)) {
		return fmt.Errorf("%s is none of the sizes there are: %s", text, memorySizes())
	}
	*m = size
	return nil
}

// memorySizes names the sizes there are, as flags take them.
func memorySizes() string {
	texts := make([]string, len(awsapi.MemorySizesMiB))
	for i, mib := range awsapi.MemorySizesMiB {
		size := memorySize(mib)
		texts[i] = size.String()
	}
	return strings.Join(texts, ", ")
}

// memoryOf is the memory of an image version.
func memoryOf(resources []awsapi.Resources) memorySize {
	if len(resources) == 0 {
		return awsapi.DefaultMemoryMiB
	}
	return memorySize(resources[0].MinimumMemoryInMiB)
}

// parsePorts reads 8080, 8000-8100 or all.
func parsePorts(texts []string) ([]awsapi.PortSpecification, error) {
	var ports []awsapi.PortSpecification
	for _, text := range texts {
		from, to, isRange := strings.Cut(text, "-")
		first, err := port(from)
		switch {
		case text == "all":
			ports = append(ports, awsapi.PortSpecification{AllPorts: &awsapi.Unit{}})
		case err != nil:
			return nil, err
		case !isRange:
			ports = append(ports, awsapi.PortSpecification{Port: &first})
		default:
			last, err := port(to)
			if err != nil {
				return nil, err
			}
			if last < first {
				return nil, usagef("the ports %s are the wrong way round", text)
			}
			ports = append(ports, awsapi.PortSpecification{Range: &awsapi.PortRange{StartPort: first, EndPort: last}})
		}
	}
	return ports, nil
}

func port(text string) (int32, error) {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, usagef("%q is no port", text)
	}
	return int32(n), nil
}
