package config

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Role says where the credentials of a role come from that microVMs or builds run with. Exactly one of
// Static, Command and Assume is given.
type Role struct {
	// ARN is the role as RunMicrovm and CreateMicrovmImage name it. "arn:aws:iam::ACCOUNT:role/*" is
	// every role of an account that has no entry of its own.
	ARN     string   `yaml:"arn"`
	Static  *KeyPair `yaml:"static"`
	Command *Command `yaml:"command"`
	Assume  *Assume  `yaml:"assume"`
}

// KeyPair is an access key.
type KeyPair struct {
	AccessKeyID     string `yaml:"accessKeyId"`
	SecretAccessKey string `yaml:"secretAccessKey"`
	SessionToken    string `yaml:"sessionToken"`
}

// Command prints credentials on standard output, as a credential_process of the AWS CLI does.
type Command struct {
	Args    []string      `yaml:"args"`    // the program and its arguments; no shell
	Timeout time.Duration `yaml:"timeout"` // default 30s
}

// Assume asks an STS for credentials of a role.
type Assume struct {
	RoleARN     string   `yaml:"roleArn"`     // the role to assume; default: the entry's own
	Endpoint    string   `yaml:"endpoint"`    // URL of the STS; default: AWS's own of the region
	Region      string   `yaml:"region"`      // default: that of the daemon's AWS configuration
	ExternalID  string   `yaml:"externalId"`  // as the role's trust policy asks for it
	SessionTags *bool    `yaml:"sessionTags"` // default true: microVM and image are session tags
	Profile     string   `yaml:"profile"`     // of the daemon's AWS configuration, to ask with
	Keys        *KeyPair `yaml:"keys"`        // to ask with; default: the daemon's AWS credential chain
}

const (
	// DefaultCommandTimeout bounds a command that prints credentials.
	DefaultCommandTimeout = 30 * time.Second
	maxCommandTimeout     = 5 * time.Minute
)

// The form of role ARNs is the API's (spec/api.md 1.6), with "*" for all roles of an account.
var (
	roleARN   = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/[a-zA-Z_0-9+=,.@/-]+$`)
	everyRole = regexp.MustCompile(`^arn:aws[a-z-]*:iam::[0-9]{12}:role/\*$`)
)

func (f *File) checkRoles() error {
	seen := map[string]bool{}
	for i := range f.Roles {
		r, at := &f.Roles[i], fmt.Sprintf("roles[%d]", i)
		if !roleARN.MatchString(r.ARN) && !everyRole.MatchString(r.ARN) {
			return faultf(at, "arn is %q, not of the form arn:aws:iam::123456789012:role/NAME (or role/* for all others of the account)", r.ARN)
		}
		if seen[r.ARN] {
			return faultf(at, "%s has an entry already", r.ARN)
		}
		seen[r.ARN] = true
		if err := r.check(); err != nil {
			return faultf(at, "%s: %w", r.ARN, err)
		}
	}
	return nil
}

func (r *Role) check() error {
	sources := 0
	for _, given := range []bool{r.Static != nil, r.Command != nil, r.Assume != nil} {
		if given {
			sources++
		}
	}
	switch {
	case sources != 1:
		return errors.New("it needs one of static, command and assume")
	case r.Static != nil:
		return r.Static.check()
	case r.Command != nil:
		return r.Command.check()
	default:
		return r.Assume.check()
	}
}

func (k *KeyPair) check() error {
	if k.AccessKeyID == "" || k.SecretAccessKey == "" {
		return errors.New("accessKeyId and secretAccessKey are needed")
	}
	return nil
}

func (c *Command) check() error {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return errors.New("command: args is empty")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultCommandTimeout
	}
	if c.Timeout < 0 || c.Timeout > maxCommandTimeout {
		return fmt.Errorf("command: timeout is not between 0 and %v", maxCommandTimeout)
	}
	return nil
}

func (a *Assume) check() error {
	if a.RoleARN != "" && !roleARN.MatchString(a.RoleARN) {
		return fmt.Errorf("assume: roleArn is %q, not the ARN of a role", a.RoleARN)
	}
	if a.Endpoint != "" && !strings.HasPrefix(a.Endpoint, "https://") && !strings.HasPrefix(a.Endpoint, "http://") {
		return errors.New("assume: endpoint is not an http or https URL")
	}
	if a.Profile != "" && a.Keys != nil {
		return errors.New("assume: profile and keys exclude each other")
	}
	if a.Keys != nil {
		if err := a.Keys.check(); err != nil {
			return fmt.Errorf("assume: keys: %w", err)
		}
	}
	return nil
}
