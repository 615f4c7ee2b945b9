package main

import (
	"context"
	"log/slog"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/jonboulle/clockwork"

	"github.com/dormouse-dev/dormouse/internal/config"
	"github.com/dormouse-dev/dormouse/internal/metadata"
	"github.com/dormouse-dev/dormouse/internal/microvm"
	"github.com/dormouse-dev/dormouse/internal/role"
)

// identities gives guests their metadata services and roles.
type identities struct {
	roles *role.Roles
	clock clockwork.Clock
	log   *slog.Logger
}

// openIdentities makes identities of the roles of the configuration.
func openIdentities(ctx context.Context, configured []config.Role, clock clockwork.Clock, log *slog.Logger) (*identities, error) {
	roles, err := role.New(ctx, configured, clock)
	return &identities{roles: roles, clock: clock, log: log}, err
}

// metadata makes the metadata service of a guest.
func (i *identities) metadata(who microvm.Identity) http.Handler {
	log := i.log.With("microvm", who.Name)
	config := metadata.Config{Region: who.Region, Role: who.Role, Clock: i.clock, Log: log}
	switch have, err := i.roles.For(roleSession(who)); {
	case err == nil:
		config.Credentials = have
	case who.Role != "":
		log.Info("a guest asks for metadata, and has no credentials", "role", who.Role, "error", err)
	}
	return metadata.New(config)
}

// credentials are those of a guest's role for the daemon's own work, nil where the configuration has none.
func (i *identities) credentials(who microvm.Identity) aws.CredentialsProvider {
	have, err := i.roles.For(roleSession(who))
	if err != nil {
		return nil
	}
	return have
}

// forLogs are the credentials with which a role's logs are sent. They are the daemon's own only where the
// configuration has no roles at all: with the daemon's, any account could write to any log group.
func (i *identities) forLogs(_ context.Context, _, roleARN string) (aws.CredentialsProvider, error) {
	have, err := i.roles.For(roleSession(microvm.Identity{Name: "dormouse-logs", Role: roleARN}))
	if err != nil {
		return nil, err
	}
	return have, nil
}

// roleSession is what an STS learns of a guest.
func roleSession(who microvm.Identity) role.Session {
	kind := "dormouse:microvm"
	if strings.HasPrefix(who.Name, microvm.BuildName("")) {
		kind = "dormouse:build"
	}
	return role.Session{Role: who.Role, Name: who.Name, Tags: map[string]string{kind: who.Name, "dormouse:image": who.ImageARN}}
}
