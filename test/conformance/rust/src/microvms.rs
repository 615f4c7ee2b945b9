//! The operations and types of Lambda MicroVMs.

use aws_sdk_lambdamicrovms::Client;
use aws_sdk_lambdamicrovms::operation::list_managed_microvm_image_versions::ListManagedMicrovmImageVersionsOutput;
use aws_sdk_lambdamicrovms::operation::list_managed_microvm_images::ListManagedMicrovmImagesOutput;
use aws_sdk_lambdamicrovms::operation::list_microvm_image_builds::ListMicrovmImageBuildsOutput;
use aws_sdk_lambdamicrovms::operation::list_microvm_image_versions::ListMicrovmImageVersionsOutput;
use aws_sdk_lambdamicrovms::operation::list_microvm_images::ListMicrovmImagesOutput;
use aws_sdk_lambdamicrovms::operation::list_microvms::ListMicrovmsOutput;
use aws_sdk_lambdamicrovms::types::*;
use serde_json::{Map, Value, json};

use crate::convert::{FromJson, Members, ToJson, camel, output_only, pascal, put, strings, structure, union};
use crate::operation::{Failure, Input, operations};

operations! {
    Client
    alone {
    CreateMicrovmAuthToken create_microvm_auth_token { microvm_identifier, expiration_in_minutes, allowed_ports } -> camel { auth_token };
    CreateMicrovmImage create_microvm_image {
        base_image_arn, build_role_arn, code_artifact, name, base_image_version, description, logging,
        egress_network_connectors, cpu_configurations, resources, additional_os_capabilities, hooks,
        environment_variables, tags, client_token
    } -> camel {
        image_arn, name, state, created_at, base_image_arn, build_role_arn, code_artifact, image_version,
        latest_active_image_version, latest_failed_image_version, base_image_version, description, logging,
        egress_network_connectors, cpu_configurations, resources, additional_os_capabilities, hooks,
        environment_variables, tags, updated_at
    };
    CreateMicrovmShellAuthToken create_microvm_shell_auth_token { microvm_identifier, expiration_in_minutes } -> camel { auth_token };
    DeleteMicrovmImage delete_microvm_image { image_identifier } -> camel { image_identifier, state };
    DeleteMicrovmImageVersion delete_microvm_image_version { image_identifier, image_version } -> camel { image_identifier, image_version, state };
    GetMicrovm get_microvm { microvm_identifier } -> camel {
        microvm_id, state, endpoint, image_arn, image_version, maximum_duration_in_seconds, started_at,
        execution_role_arn, idle_policy, terminated_at, state_reason, ingress_network_connectors,
        egress_network_connectors
    };
    GetMicrovmImage get_microvm_image { image_identifier } -> camel {
        image_arn, name, state, created_at, latest_active_image_version, latest_failed_image_version, tags, updated_at
    };
    GetMicrovmImageBuild get_microvm_image_build { image_identifier, image_version, build_id } -> camel {
        image_arn, image_version, build_id, build_state, architecture, chipset, chipset_generation, created_at,
        state_reason, snapshot_build
    };
    GetMicrovmImageVersion get_microvm_image_version { image_identifier, image_version } -> camel {
        base_image_arn, build_role_arn, code_artifact, image_arn, image_version, state, status, created_at,
        base_image_version, description, logging, egress_network_connectors, cpu_configurations, resources,
        additional_os_capabilities, hooks, environment_variables, updated_at, state_reason, tags
    };
    ListTags list_tags { resource } -> pascal { tags };
    ResumeMicrovm resume_microvm { microvm_identifier } -> camel {};
    RunMicrovm run_microvm {
        image_identifier, ingress_network_connectors, egress_network_connectors, image_version, execution_role_arn,
        idle_policy, logging, run_hook_payload, maximum_duration_in_seconds, client_token
    } -> camel {
        microvm_id, state, endpoint, image_arn, image_version, maximum_duration_in_seconds, started_at,
        execution_role_arn, idle_policy, terminated_at, state_reason, ingress_network_connectors,
        egress_network_connectors
    };
    SuspendMicrovm suspend_microvm { microvm_identifier } -> camel {};
    TagResource tag_resource { resource, tags } -> camel {};
    TerminateMicrovm terminate_microvm { microvm_identifier } -> camel {};
    UntagResource untag_resource { resource, tag_keys } -> camel {};
    UpdateMicrovmImage update_microvm_image {
        base_image_arn, build_role_arn, code_artifact, image_identifier, base_image_version, description, logging,
        egress_network_connectors, cpu_configurations, resources, additional_os_capabilities, hooks,
        environment_variables, client_token
    } -> camel {
        image_arn, name, state, created_at, base_image_arn, build_role_arn, code_artifact, updated_at, image_version,
        latest_active_image_version, latest_failed_image_version, base_image_version, description, logging,
        egress_network_connectors, cpu_configurations, resources, additional_os_capabilities, hooks,
        environment_variables
    };
    UpdateMicrovmImageVersion update_microvm_image_version { image_identifier, image_version, status } -> camel {
        base_image_arn, build_role_arn, code_artifact, image_arn, image_version, state, status, created_at,
        base_image_version, description, logging, egress_network_connectors, cpu_configurations, resources,
        additional_os_capabilities, hooks, environment_variables, updated_at, state_reason, tags
    };
    }
    paged {
    ListManagedMicrovmImageVersions list_managed_microvm_image_versions { image_identifier, max_results, next_token } -> camel { items, next_token };
    ListManagedMicrovmImages list_managed_microvm_images { max_results, next_token } -> camel { items, next_token };
    ListMicrovmImageBuilds list_microvm_image_builds { image_identifier, image_version, max_results, next_token, architecture, chipset, chipset_generation } -> camel { items, next_token };
    ListMicrovmImageVersions list_microvm_image_versions { image_identifier, max_results, next_token } -> camel { items, next_token };
    ListMicrovmImages list_microvm_images { max_results, next_token, name_filter } -> camel { items, next_token };
    ListMicrovms list_microvms { max_results, next_token, image_identifier, image_version } -> camel { items, next_token };
    }
}

strings! {
    Architecture, BuildState, Capability, Chipset, HookState, ManagedMicrovmImageVersionStatus, MicrovmImageState,
    MicrovmImageVersionState, MicrovmImageVersionStatus, MicrovmState,
}

structure! { camel whole:
    CpuConfiguration { architecture }
    IdlePolicy { max_idle_duration_seconds, suspended_duration_seconds, auto_resume_enabled }
    PortRange { start_port, end_port }
    Resources { minimum_memory_in_mib }
}

structure! { camel any:
    CloudWatchLogging { log_group, log_stream }
    Hooks { port, microvm_hooks, microvm_image_hooks }
    LoggingDisabled {}
    MicrovmHooks {
        run, run_timeout_in_seconds, resume, resume_timeout_in_seconds, suspend, suspend_timeout_in_seconds, terminate,
        terminate_timeout_in_seconds
    }
    MicrovmImageHooks { ready, ready_timeout_in_seconds, validate, validate_timeout_in_seconds }
}

output_only! { camel:
    ManagedMicrovmImageSummary { image_arn, created_at, updated_at }
    ManagedMicrovmImageVersion { image_arn, image_version, created_at, status, updated_at }
    MicrovmImageBuildSummary {
        image_arn, image_version, build_id, build_state, architecture, chipset, chipset_generation, created_at,
        state_reason
    }
    MicrovmImageSummary { image_arn, name, state, created_at, latest_active_image_version, latest_failed_image_version }
    MicrovmImageVersionSummary {
        base_image_arn, build_role_arn, code_artifact, image_arn, image_version, state, status, created_at,
        base_image_version, description, logging, egress_network_connectors, cpu_configurations, resources,
        additional_os_capabilities, hooks, environment_variables, updated_at, state_reason, tags
    }
    MicrovmItem { microvm_id, state, image_arn, image_version, started_at }
    SnapshotBuild { memory_snapshot_size_in_bytes, code_install_size_in_bytes, disk_snapshot_size_in_bytes }
}

union! {
    CodeArtifact { Uri "uri" }
    Logging { Disabled "disabled", CloudWatch "cloudWatch" }
}

/// A union of which one variant holds nothing.
impl FromJson for PortSpecification {
    fn from_json(value: &Value) -> Result<Self, String> {
        if *value == json!({"allPorts": {}}) {
            return Ok(PortSpecification::AllPorts);
        }
        match (value.get("port"), value.get("range")) {
            (Some(port), None) => Ok(PortSpecification::Port(FromJson::from_json(port)?)),
            (None, Some(range)) => Ok(PortSpecification::Range(FromJson::from_json(range)?)),
            _ => Err(format!("{value} is no PortSpecification")),
        }
    }
}
