//! The operations and types of Lambda Core: network connectors.

use aws_sdk_lambdacore::Client;
use aws_sdk_lambdacore::operation::list_network_connectors::ListNetworkConnectorsOutput;
use aws_sdk_lambdacore::types::*;
use serde_json::{Map, Value};

use crate::convert::{FromJson, Members, ToJson, output_only, pascal, put, strings, structure, union};
use crate::operation::{Failure, Input, operations};

operations! {
    Client
    alone {
    CreateNetworkConnector create_network_connector { name, configuration, operator_role, client_token, tags } -> pascal { arn, name, id, configuration, operator_role, state };
    DeleteNetworkConnector delete_network_connector { identifier } -> pascal { arn, name, id, configuration, operator_role, state };
    GetNetworkConnector get_network_connector { identifier } -> pascal {
        arn, name, id, version, configuration, operator_role, state, state_reason, state_reason_code,
        last_update_status, last_update_status_reason, last_update_status_reason_code, last_modified
    };
    UpdateNetworkConnector update_network_connector { identifier, configuration, operator_role, client_token } -> pascal {
        arn, name, id, operator_role, configuration, state, last_update_status, last_update_status_reason,
        last_modified
    };
    }
    paged {
    ListNetworkConnectors list_network_connectors { state, marker, max_items } -> pascal { network_connectors, next_marker };
    }
}

strings! {
    ComputeResourceType, NetworkConnectorLastUpdateStatus, NetworkConnectorLastUpdateStatusReasonCode,
    NetworkConnectorState, NetworkConnectorStateReasonCode, NetworkConnectorType, NetworkProtocol,
}

structure! { pascal any:
    NetworkConnectorVpcEgressConfiguration { subnet_ids, security_group_ids, network_protocol, associated_compute_resource_types }
}

output_only! { pascal:
    NetworkConnectorSummary { arn, name, id, r#type, state, last_modified }
}

union! {
    NetworkConnectorConfiguration { VpcEgressConfiguration "VpcEgressConfiguration" }
}
