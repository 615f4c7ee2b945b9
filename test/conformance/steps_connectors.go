package conformance

// connector has a value for every member of CreateNetworkConnector.
var connector = input{
	"Name": "conformance-${client}", "OperatorRole": "arn:aws:iam::${account}:role/network", "ClientToken": "connector-${client}",
	"Configuration": object{"VpcEgressConfiguration": vpc}, "Tags": object{"purpose": "conformance"},
}

var vpc = input{
	"SubnetIds": list{"subnet-0a1b2c3d"}, "SecurityGroupIds": list{"sg-0a1b2c3d"},
	"NetworkProtocol": "IPv4", "AssociatedComputeResourceTypes": list{"MicroVm"},
}

// vpcWith is a configuration with members changed.
func vpcWith(changes ...any) object {
	return object{"VpcEgressConfiguration": vpc.with(changes...)}
}

const (
	ownConnector     = "arn:aws:lambda:${region}:${account}:network-connector:"
	unknownConnector = "nc-00000000-0000-4000-8000-000000000000"
)

var connectors = chapter{title: "network connectors", steps: []step{
	{
		promise: "a connector is PENDING at once", operation: "CreateNetworkConnector", input: object(connector),
		want: members{
			"Name": "conformance-${client}", "State": "PENDING", "Id": like("nc-" + uuidPattern), "Arn": like("arn:aws:lambda:.*:network-connector:nc-" + uuidPattern),
			"OperatorRole": connector["OperatorRole"], "Configuration": connector["Configuration"],
		},
		keep: map[string]string{"connector": "Id", "connectorARN": "Arn"},
	},
	{promise: "the same request with the same client token makes no other", operation: "CreateNetworkConnector", input: object(connector), want: members{"Id": "${connector}"}},
	{promise: "it becomes ACTIVE", operation: "GetNetworkConnector", input: object{"Identifier": "${connector}"}, until: members{"State": "ACTIVE"}, want: members{"StateReason": "Initial creation", "Arn": "${connectorARN}", "LastModified": aTime, "Configuration": connector["Configuration"]}},
	{promise: "it is found by its name", operation: "GetNetworkConnector", input: object{"Identifier": "conformance-${client}"}, want: members{"Id": "${connector}"}},
	{promise: "and by its ARN", operation: "GetNetworkConnector", input: object{"Identifier": "${connectorARN}"}, want: members{"Id": "${connector}"}},
	{promise: "a second one is made", operation: "CreateNetworkConnector", input: connector.with("Name", "second-${client}", "ClientToken", nil), keep: map[string]string{"secondConnector": "Name"}},
	{promise: "connectors come in pages", operation: "ListNetworkConnectors", pageSize: 1, want: members{"items": atLeast(2), "items.0.Type": "VPC_EGRESS", "items.0.Arn": like("arn:aws:lambda:.*")}},
	{promise: "those in a state are listed", operation: "ListNetworkConnectors", input: object{"State": "FAILED"}, want: members{"NetworkConnectors": absent, "NextMarker": absent}},
	{promise: "a microVM goes out through it", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "egressNetworkConnectors": list{"${connectorARN}"}}, want: members{"egressNetworkConnectors": list{"${connectorARN}"}}, keep: map[string]string{"connectedVM": "microvmId"}},
	{promise: "that microVM runs", operation: "GetMicrovm", input: object{"microvmIdentifier": "${connectedVM}"}, until: members{"state": "RUNNING"}},
	{promise: "and keeps it from being deleted", operation: "DeleteNetworkConnector", input: object{"Identifier": "${connector}"}, refusal: refused("ResourceConflictException")},
	{promise: "that microVM is terminated", operation: "TerminateMicrovm", input: object{"microvmIdentifier": "${connectedVM}"}},
	{promise: "and has ended", operation: "GetMicrovm", input: object{"microvmIdentifier": "${connectedVM}"}, until: members{"state": "TERMINATED"}},
	{promise: "an update without changes says so", operation: "UpdateNetworkConnector", input: object{"Identifier": "${connector}", "Configuration": connector["Configuration"]}, want: members{"Id": "${connector}", "State": "ACTIVE", "LastUpdateStatus": "Successful", "LastUpdateStatusReason": "No configuration changes detected"}},
	{promise: "a connector is changed", operation: "UpdateNetworkConnector", input: object{"Identifier": "${connector}", "Configuration": vpcWith("NetworkProtocol", "DualStack"), "OperatorRole": "arn:aws:iam::${account}:role/other", "ClientToken": "change-${client}"}},
	{promise: "and shows it", operation: "GetNetworkConnector", input: object{"Identifier": "${connector}"}, until: members{"LastUpdateStatus": "Successful", "Configuration.VpcEgressConfiguration.NetworkProtocol": "DualStack", "OperatorRole": "arn:aws:iam::${account}:role/other"}},
	{promise: "a connector needs a role", operation: "CreateNetworkConnector", input: connector.with("Name", "x-${client}", "ClientToken", nil, "OperatorRole", nil), refusal: refused(badRequest)},
	{promise: "and a protocol", operation: "CreateNetworkConnector", input: connector.with("Name", "x-${client}", "ClientToken", nil, "Configuration", vpcWith("NetworkProtocol", nil)), refusal: refused(badRequest)},
	{promise: "and resource types", operation: "CreateNetworkConnector", input: connector.with("Name", "x-${client}", "ClientToken", nil, "Configuration", vpcWith("AssociatedComputeResourceTypes", nil)), refusal: refused(badRequest)},
	{promise: "and a subnet", operation: "CreateNetworkConnector", input: connector.with("Name", "x-${client}", "ClientToken", nil, "Configuration", vpcWith("SubnetIds", list{"net-1"})), refusal: refused(badRequest)},
	{promise: "a name is used once only", operation: "CreateNetworkConnector", input: connector.with("ClientToken", nil), refusal: refused("ResourceConflictException")},
	{promise: "a page has at most 100 items", operation: "ListNetworkConnectors", pageSize: 101, refusal: refused(badRequest)},
	{promise: "a marker that nobody gave is refused", operation: "ListNetworkConnectors", input: object{"Marker": "forged"}, refusal: refused(badRequest)},
	{promise: "a connector that is not there is not found", operation: "GetNetworkConnector", input: object{"Identifier": unknownConnector}, refusal: refused(notFound)},
	{promise: "nor updated", operation: "UpdateNetworkConnector", input: object{"Identifier": unknownConnector, "Configuration": connector["Configuration"]}, refusal: refused(notFound)},
	{promise: "nor deleted", operation: "DeleteNetworkConnector", input: object{"Identifier": unknownConnector}, refusal: refused(notFound)},
	{promise: "nor used", operation: "RunMicrovm", input: object{"imageIdentifier": "${image}", "egressNetworkConnectors": list{ownConnector + unknownConnector}}, refusal: refused(notFound)},
	{promise: "a connector is deleted", operation: "DeleteNetworkConnector", input: object{"Identifier": "${connectorARN}"}, want: members{"State": "DELETING", "Id": "${connector}"}},
	{promise: "and is gone then", operation: "GetNetworkConnector", input: object{"Identifier": "${connector}"}, gone: true, refusal: refused(notFound)},
	{promise: "the second one too", operation: "DeleteNetworkConnector", input: object{"Identifier": "${secondConnector}"}, want: members{"State": "DELETING"}},
}}
