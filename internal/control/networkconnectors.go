package control

import (
	"context"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/dormouse-dev/dormouse/internal/arn"
	"github.com/dormouse-dev/dormouse/internal/awsapi"
	"github.com/dormouse-dev/dormouse/internal/store"
)

// Texts the live service uses (spec/api.md 6).
const (
	initialCreation = "Initial creation"
	nothingChanged  = "No configuration changes detected"
)

// connector finds one of the caller's network connectors by its id, name or ARN.
func (s *Service) connector(ctx context.Context, c awsapi.Caller, identifier, action string) (store.Connector, error) {
	idOrName := identifier
	if strings.HasPrefix(identifier, "arn:") {
		parsed, err := arn.ParseConnector(identifier)
		switch {
		case err != nil:
			return store.Connector{}, awsapi.Validation("Invalid ARN format: %s", identifier)
		case parsed.Managed() || parsed.Account == c.AccountID && parsed.Region != c.Region:
			return store.Connector{}, connectorNotFound(identifier)
		case parsed.Account != c.AccountID:
			return store.Connector{}, denied(c, action, identifier)
		}
		idOrName = parsed.Name
	}
	found, err := s.store.Connector(ctx, c.AccountID, c.Region, idOrName)
	return found, orRefusal(err, connectorNotFound(identifier))
}

// CreateNetworkConnector makes a way out into a network of the customer's. There is nothing to
// wait for: it says PENDING, as the service does, and is ACTIVE at once.
func (s *Service) CreateNetworkConnector(ctx context.Context, in *awsapi.CreateNetworkConnectorInput) (*awsapi.CreateNetworkConnectorOutput, error) {
	ctx, c := begin(ctx)
	if strings.Contains(in.Name, ":") { // the model lets it be an ARN, which only the service gives
		return nil, awsapi.Validation("Invalid network connector name: %s", in.Name)
	}
	if len(in.Tags) > maxTags {
		return nil, tooManyTags(awsapi.ValidationException)
	}
	parameters := *in
	parameters.ClientToken = nil
	id := "nc-" + uuid.NewString()
	token, err := s.clientToken(c, "CreateNetworkConnector", in.ClientToken, parameters, made{id: id})
	if err != nil {
		return nil, err
	}
	made, err := once(ctx, s, token, func() (store.Connector, error) {
		row := store.Connector{
			ID: id, ARN: arn.Connector{Region: c.Region, Account: c.AccountID, Name: id}.String(),
			AccountID: c.AccountID, Region: c.Region, Name: in.Name, State: store.ConnectorActive, Version: 1,
			Config: connectorConfig(in.Configuration), Tags: in.Tags, LastModified: s.clock.Now(),
		}
		row.Config.OperatorRoleARN = *in.OperatorRole
		err := s.store.CreateConnector(ctx, row, token)
		if errors.Is(err, store.ErrExists) {
			err = awsapi.Conflict("A network connector with the name '%s' already exists in this account", in.Name)
		}
		return row, orQuota(err)
	}, func(used store.ClientToken) (store.Connector, error) {
		earlier, err := s.store.Connector(ctx, c.AccountID, c.Region, used.ResultID)
		return earlier, orRefusal(err, resultGone())
	})
	if err != nil {
		return nil, err
	}
	w := describeConnector(made)
	return &awsapi.CreateNetworkConnectorOutput{
		Arn: w.Arn, Name: w.Name, Id: w.Id, Configuration: w.Configuration, OperatorRole: w.OperatorRole,
		State: new(awsapi.NetworkConnectorStatePending),
	}, nil
}

// GetNetworkConnector reads a network connector.
func (s *Service) GetNetworkConnector(ctx context.Context, in *awsapi.GetNetworkConnectorInput) (*awsapi.GetNetworkConnectorOutput, error) {
	ctx, c := begin(ctx)
	found, err := s.connector(ctx, c, in.Identifier, "GetNetworkConnector")
	if err != nil {
		return nil, err
	}
	return describeConnector(found), nil
}

func describeConnector(c store.Connector) *awsapi.GetNetworkConnectorOutput {
	out := &awsapi.GetNetworkConnectorOutput{
		Arn: c.ARN, Name: c.Name, Id: c.ID, Version: &c.Version,
		Configuration: connectorConfiguration(c.Config), OperatorRole: &c.Config.OperatorRoleARN,
		State:            new(awsapi.NetworkConnectorState(c.State)),
		LastUpdateStatus: new(awsapi.NetworkConnectorLastUpdateStatusSuccessful),
		LastModified:     &awsapi.ISOTimestamp{Time: c.LastModified},
	}
	if c.State == store.ConnectorActive {
		out.StateReason = new(initialCreation)
	}
	return out
}

// ListNetworkConnectors lists the caller's network connectors, newest first.
func (s *Service) ListNetworkConnectors(ctx context.Context, in *awsapi.ListNetworkConnectorsInput) (*awsapi.ListNetworkConnectorsOutput, error) {
	ctx, c := begin(ctx)
	var state string
	if in.State != nil {
		state = string(*in.State)
	}
	l, err := s.listingFrom("Marker", c, "ListNetworkConnectors", map[string]string{"state": state}, in.MaxItems, in.Marker)
	if err != nil {
		return nil, err
	}
	connectors, cursor, err := s.store.ListConnectors(ctx, c.AccountID, c.Region, state, l.page)
	if err != nil {
		return nil, err
	}
	return &awsapi.ListNetworkConnectorsOutput{NetworkConnectors: wire(connectors, summaryOfConnector), NextMarker: l.next(cursor)}, nil
}

func summaryOfConnector(c store.Connector) awsapi.NetworkConnectorSummary {
	return awsapi.NetworkConnectorSummary{
		Arn: c.ARN, Name: c.Name, Id: c.ID, Type: awsapi.NetworkConnectorTypeVpcEgress,
		State: new(awsapi.NetworkConnectorState(c.State)), LastModified: &awsapi.ISOTimestamp{Time: c.LastModified},
	}
}

// UpdateNetworkConnector replaces the configuration, the role or both. What is not sent stays.
func (s *Service) UpdateNetworkConnector(ctx context.Context, in *awsapi.UpdateNetworkConnectorInput) (*awsapi.UpdateNetworkConnectorOutput, error) {
	ctx, c := begin(ctx)
	found, err := s.connector(ctx, c, in.Identifier, "UpdateNetworkConnector")
	if err != nil {
		return nil, err
	}
	parameters := *in
	parameters.ClientToken, parameters.Identifier = nil, found.ID
	token, err := s.clientToken(c, "UpdateNetworkConnector", in.ClientToken, parameters, made{id: found.ID})
	if err != nil {
		return nil, err
	}
	return once(ctx, s, token, func() (*awsapi.UpdateNetworkConnectorOutput, error) {
		now, changed, err := s.store.UpdateConnector(ctx, found.ID, s.clock.Now(), token, func(config *store.ConnectorConfig) {
			role := config.OperatorRoleARN
			if in.Configuration != nil {
				*config = connectorConfig(*in.Configuration)
			}
			if config.OperatorRoleARN = role; in.OperatorRole != nil {
				config.OperatorRoleARN = *in.OperatorRole
			}
		})
		if err != nil {
			return nil, orRefusal(err, connectorNotFound(in.Identifier))
		}
		out := updatedConnector(now)
		if changed {
			out.State = new(awsapi.NetworkConnectorStatePending)
			out.LastUpdateStatus = new(awsapi.NetworkConnectorLastUpdateStatusInProgress)
		} else {
			out.LastUpdateStatusReason = new(nothingChanged)
		}
		return out, nil
	}, func(store.ClientToken) (*awsapi.UpdateNetworkConnectorOutput, error) {
		now, err := s.store.Connector(ctx, c.AccountID, c.Region, found.ID)
		return updatedConnector(now), orRefusal(err, connectorNotFound(in.Identifier))
	})
}

// updatedConnector describes a connector whose update is done.
func updatedConnector(c store.Connector) *awsapi.UpdateNetworkConnectorOutput {
	w := describeConnector(c)
	return &awsapi.UpdateNetworkConnectorOutput{
		Arn: w.Arn, Name: w.Name, Id: w.Id, Configuration: w.Configuration, OperatorRole: w.OperatorRole,
		State: w.State, LastUpdateStatus: w.LastUpdateStatus, LastModified: w.LastModified,
	}
}

// DeleteNetworkConnector removes a network connector that no microVM and no image version needs.
func (s *Service) DeleteNetworkConnector(ctx context.Context, in *awsapi.DeleteNetworkConnectorInput) (*awsapi.DeleteNetworkConnectorOutput, error) {
	ctx, c := begin(ctx)
	found, err := s.connector(ctx, c, in.Identifier, "DeleteNetworkConnector")
	if err != nil {
		return nil, err
	}
	err = s.store.DeleteConnector(ctx, found)
	if errors.Is(err, store.ErrInUse) {
		return nil, awsapi.Conflict("The network connector %s is in use by a MicroVM or a MicroVM image version.", found.ARN)
	}
	if err != nil {
		return nil, orRefusal(err, connectorNotFound(in.Identifier))
	}
	w := describeConnector(found)
	return &awsapi.DeleteNetworkConnectorOutput{
		Arn: w.Arn, Name: w.Name, Id: w.Id, Configuration: w.Configuration, OperatorRole: w.OperatorRole,
		State: new(awsapi.NetworkConnectorStateDeleting),
	}, nil
}

// connectorConfig is a configuration as it is stored, but for the role, which is no part of it.
func connectorConfig(w awsapi.NetworkConnectorConfiguration) store.ConnectorConfig {
	v := w.VpcEgressConfiguration
	config := store.ConnectorConfig{Subnets: v.SubnetIds, SecurityGroups: v.SecurityGroupIds, Protocol: string(*v.NetworkProtocol)}
	for _, t := range v.AssociatedComputeResourceTypes {
		config.ComputeTypes = append(config.ComputeTypes, string(t))
	}
	if len(config.SecurityGroups) == 0 {
		config.SecurityGroups = nil // no groups are no groups: not a change
	}
	return config
}

func connectorConfiguration(config store.ConnectorConfig) *awsapi.NetworkConnectorConfiguration {
	return &awsapi.NetworkConnectorConfiguration{VpcEgressConfiguration: &awsapi.NetworkConnectorVpcEgressConfiguration{
		SubnetIds: config.Subnets, SecurityGroupIds: config.SecurityGroups, NetworkProtocol: new(awsapi.NetworkProtocol(config.Protocol)),
		AssociatedComputeResourceTypes: wire(config.ComputeTypes, func(t string) awsapi.ComputeResourceType { return awsapi.ComputeResourceType(t) }),
	}}
}
