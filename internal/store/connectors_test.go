package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const connectorARN = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1"

func testConnector(id, name string) Connector {
	return Connector{
		ID: id, ARN: "arn:aws:lambda:us-east-1:000000000000:network-connector:" + id, AccountID: DefaultAccountID, Region: "us-east-1",
		Name: name, State: ConnectorActive, Version: 1, LastModified: testTime, Tags: map[string]string{"a": "b"},
		Config: ConnectorConfig{OperatorRoleARN: "role", Subnets: []string{"subnet-1"}, Protocol: "IPv4", ComputeTypes: []string{"MicroVm"}},
	}
}

func TestConnectorsAreFoundByIDAndByNameInTheirAccountAndRegion(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	c := testConnector("nc-1", "office")
	require.NoError(t, s.CreateConnector(ctx, c, nil))
	for _, by := range []string{"nc-1", "office"} {
		got, err := s.Connector(ctx, DefaultAccountID, "us-east-1", by)
		require.NoError(t, err)
		require.Equal(t, c, got)
	}
	for _, other := range [][3]string{{DefaultAccountID, "eu-west-1", "nc-1"}, {"111111111111", "us-east-1", "nc-1"}, {DefaultAccountID, "us-east-1", "none"}} {
		_, err := s.Connector(ctx, other[0], other[1], other[2])
		require.ErrorIs(t, err, ErrNotFound)
	}
	require.ErrorIs(t, s.CreateConnector(ctx, testConnector("nc-2", "office"), nil), ErrExists)
	require.NoError(t, s.CreateConnector(ctx, testConnector("nc-2", "nc-1"), nil))
	got, err := s.Connector(ctx, DefaultAccountID, "us-east-1", "nc-1")
	require.NoError(t, err)
	require.Equal(t, "nc-1", got.ID, "an id counts for more than a name")
}

func TestConnectorsAreListedByState(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	require.NoError(t, s.CreateConnector(ctx, testConnector("nc-1", "a"), nil))
	pending := testConnector("nc-2", "b")
	pending.State = "PENDING"
	require.NoError(t, s.CreateConnector(ctx, pending, nil))
	for state, want := range map[string][]string{"": {"b", "a"}, ConnectorActive: {"a"}, "FAILED": nil} {
		list, next, err := s.ListConnectors(ctx, DefaultAccountID, "us-east-1", state, Page{Limit: 2})
		require.NoError(t, err)
		require.Zero(t, next)
		var names []string
		for _, c := range list {
			names = append(names, c.Name)
		}
		require.Equal(t, want, names, state)
	}
	list, next, err := s.ListConnectors(ctx, DefaultAccountID, "us-east-1", "", Page{Limit: 1})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.NotZero(t, next)
}

func TestAnUpdateOfAConnectorThatChangesNothingWritesNothing(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	c := testConnector("nc-1", "a")
	require.NoError(t, s.CreateConnector(ctx, c, nil))
	token := &ClientToken{AccountID: DefaultAccountID, Region: "us-east-1", Operation: "UpdateNetworkConnector", Token: "t", Parameters: []byte{1}, ResultID: c.ID}
	got, changed, err := s.UpdateConnector(ctx, c.ID, testTime.Add(time.Hour), token, func(*ConnectorConfig) {})
	require.NoError(t, err)
	require.False(t, changed)
	require.Equal(t, c, got)
	_, err = s.ClientToken(ctx, *token)
	require.ErrorIs(t, err, ErrNotFound, "nor claims its token")
}

func TestAnUpdateOfAConnectorIsMadeOnce(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	c := testConnector("nc-1", "a")
	require.NoError(t, s.CreateConnector(ctx, c, nil))
	token := &ClientToken{AccountID: DefaultAccountID, Region: "us-east-1", Operation: "UpdateNetworkConnector", Token: "t", Parameters: []byte{1}, ResultID: c.ID}
	edit := func(config *ConnectorConfig) { config.Subnets = []string{"subnet-2"} }
	got, changed, err := s.UpdateConnector(ctx, c.ID, testTime.Add(time.Hour), token, edit)
	require.NoError(t, err)
	require.True(t, changed)
	c.Version, c.LastModified, c.Config.Subnets = 2, testTime.Add(time.Hour), []string{"subnet-2"}
	require.Equal(t, c, got)
	stored, err := s.Connector(ctx, DefaultAccountID, "us-east-1", c.ID)
	require.NoError(t, err)
	require.Equal(t, c, stored)
	_, _, err = s.UpdateConnector(ctx, c.ID, testTime, token, edit)
	require.ErrorIs(t, err, ErrTokenUsed, "also where nothing is left to change")
	_, _, err = s.UpdateConnector(ctx, "none", testTime, nil, edit)
	require.ErrorIs(t, err, ErrNotFound)
}

func TestTheNewestTokensOfAConnectorsUpdatesAreKept(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	create := &ClientToken{AccountID: DefaultAccountID, Region: "us-east-1", Operation: "CreateNetworkConnector", Token: "0", Parameters: []byte{1}, ResultID: "nc-1"}
	require.NoError(t, s.CreateConnector(ctx, testConnector("nc-1", "a"), create))
	update := *create
	update.Operation = "UpdateNetworkConnector"
	for n := range keptUpdateTokens + 2 {
		update.Token, update.CreatedAt = fmt.Sprint(n), testTime.Add(time.Duration(n))
		_, _, err := s.UpdateConnector(ctx, "nc-1", testTime, &update, func(c *ConnectorConfig) { c.Subnets = []string{update.Token} })
		require.NoError(t, err)
	}
	for token, want := range map[string]error{"0": ErrNotFound, "1": ErrNotFound, "2": nil, fmt.Sprint(keptUpdateTokens + 1): nil} {
		update.Token = token
		_, err := s.ClientToken(ctx, update)
		require.ErrorIs(t, err, want, token)
	}
	_, err := s.ClientToken(ctx, *create)
	require.NoError(t, err)
}

func TestWhatConnectorsOthersHaveCostsNothing(t *testing.T) {
	s := openTest(t)
	for query, args := range map[string][]any{
		connectorUsedSQL:          {DefaultAccountID, "us-east-1", connectorARN},
		missingConnectorSQL:       {"[]", DefaultAccountID},
		usageSQL[QuotaConnectors]: {DefaultAccountID},
	} {
		for _, step := range planOf(t, s, query, args...) {
			require.NotRegexp(t, `SCAN (microvms|images|v|network_connectors)\b`, step)
		}
	}
}

func TestAConnectorIsDeletedOnlyWhenNothingNeedsIt(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	c := testConnector("nc-1", "a")
	token := &ClientToken{AccountID: DefaultAccountID, Region: "us-east-1", Operation: "CreateNetworkConnector", Token: "t", Parameters: []byte{1}, ResultID: c.ID}
	require.NoError(t, s.CreateConnector(ctx, c, token))
	i := addImage(t, s, "app")
	m := testVM(i, 1)
	m.EgressConnectors = []string{connectorARN}
	require.NoError(t, s.InsertMicroVM(ctx, m, nil, Event{}))
	require.ErrorIs(t, s.DeleteConnector(ctx, c), ErrInUse)
	from := m.State
	m.State = VMTerminated
	require.NoError(t, s.TransitionMicroVM(ctx, m, from, Event{}))

	v, err := s.Version(ctx, i.ID, "1.0")
	require.NoError(t, err)
	v.Config.EgressConnectors = []string{connectorARN}
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageCreated}))
	v, _, err = s.AddVersion(ctx, []string{ImageCreated}, v, Build{ID: "b2", ImageID: i.ID}, nil, Event{})
	require.NoError(t, err)
	require.ErrorIs(t, s.DeleteConnector(ctx, c), ErrInUse)
	require.NoError(t, s.ChangeImage(ctx, ImageChange{ImageID: i.ID, To: ImageUpdated}))
	require.NoError(t, s.BeginDeleteVersion(ctx, i.ID, v.Version, []string{ImageUpdated}, Event{}))
	require.NoError(t, s.DeleteVersion(ctx, i.ID, v.Version, Event{}))

	require.NoError(t, s.DeleteConnector(ctx, c))
	require.ErrorIs(t, s.DeleteConnector(ctx, c), ErrNotFound)
	_, err = s.ClientToken(ctx, *token)
	require.ErrorIs(t, err, ErrNotFound, "its token is forgotten with it")
}

func TestNothingIsAddedWithAConnectorThatIsGoneOrNotActive(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	inactive := testConnector("nc-2", "b")
	inactive.State = "INACTIVE"
	require.NoError(t, s.CreateConnector(ctx, inactive, nil))
	i := addImage(t, s, "app")
	for _, arn := range []string{connectorARN, inactive.ARN} {
		m := testVM(i, 1)
		m.EgressConnectors = []string{"arn:aws:lambda:us-east-1:aws:network-connector:aws-network-connector:INTERNET_EGRESS", arn}
		var gone *ConnectorError
		require.ErrorAs(t, s.InsertMicroVM(ctx, m, nil, Event{}), &gone)
		require.Equal(t, arn, gone.ARN)
		_, err := s.MicroVM(ctx, m.ID)
		require.ErrorIs(t, err, ErrNotFound)

		other := i
		other.ID, other.Name = "image-2", "other"
		v := ImageVersion{ImageID: other.ID, Version: "1.0", Major: 1, Config: ImageConfig{EgressConnectors: []string{arn}}}
		require.ErrorAs(t, s.CreateImage(ctx, other, v, Build{ID: "b3", ImageID: other.ID, Version: "1.0"}, nil, Event{}), &gone)
		_, err = s.Image(ctx, other.ID)
		require.ErrorIs(t, err, ErrNotFound)
	}
}

func TestTagsOfAConnectorAreEdited(t *testing.T) {
	s, ctx := openTest(t), context.Background()
	require.NoError(t, s.CreateConnector(ctx, testConnector("nc-1", "a"), nil))
	require.NoError(t, s.EditTags(ctx, TaggedConnector, "nc-1", func(tags map[string]string) (map[string]string, error) {
		tags["c"] = "d"
		return tags, nil
	}))
	got, err := s.Connector(ctx, DefaultAccountID, "us-east-1", "nc-1")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"a": "b", "c": "d"}, got.Tags)
}
