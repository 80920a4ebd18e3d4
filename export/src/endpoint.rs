//! Load assignments.

use crate::Message;
use proxy_core::xds::{Endpoint, EndpointHealth, LoadAssignment, LocalityEndpoints};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
pub fn load_assignment(assignment: &LoadAssignment) -> Value {
    let mut message = Message::default();
    message.set("cluster_name", &*assignment.cluster);
    message.set_list("endpoints", assignment.localities.iter().map(locality));
    let mut policy = Message::default();
    if assignment.overprovisioning_factor_percent != 140 {
        policy.set(
            "overprovisioning_factor",
            assignment.overprovisioning_factor_percent,
        );
    }
    policy.set_flag(
        "weighted_priority_health",
        assignment.weighted_priority_health,
    );
    if assignment.drop_overload_ppm > 0 {
        let share = json!({ "numerator": assignment.drop_overload_ppm, "denominator": "MILLION" });
        let drops = json!([{ "category": "drop_overload", "drop_percentage": share }]);
        policy.set("drop_overloads", drops);
    }
    let policy = Value::from(policy);
    if policy.as_object().is_some_and(|fields| !fields.is_empty()) {
        message.set("policy", policy);
    }
    message.into()
}

fn locality(group: &LocalityEndpoints) -> Value {
    let mut message = Message::default();
    let mut parts = group.locality.split('/');
    let mut locality = Message::default();
    for name in ["region", "zone", "sub_zone"] {
        locality.set_some(name, parts.next().filter(|part| !part.is_empty()));
    }
    message.set("locality", locality);
    message.set_list("lb_endpoints", group.endpoints.iter().map(endpoint));
    if group.weight > 0 {
        message.set("load_balancing_weight", group.weight);
    }
    if group.priority > 0 {
        message.set("priority", group.priority);
    }
    message.into()
}

fn endpoint(endpoint: &Endpoint) -> Value {
    let mut inner = Message::default();
    inner.set("address", socket_address(endpoint.address));
    inner.set_some("hostname", endpoint.hostname.as_deref());
    let mut message = Message::default();
    message.set("endpoint", inner);
    let health = match endpoint.health {
        EndpointHealth::Healthy => "HEALTHY",
        EndpointHealth::Unhealthy => "UNHEALTHY",
        EndpointHealth::Draining => "DRAINING",
        EndpointHealth::Degraded => "DEGRADED",
    };
    message.set("health_status", health);
    message.set("load_balancing_weight", endpoint.weight);
    let mut metadata = Message::default();
    if endpoint.mutual_tls {
        metadata.set(
            "envoy.transport_socket_match",
            json!({ "tlsMode": "istio" }),
        );
    }
    if !endpoint.lb_metadata.is_empty() {
        metadata.set("envoy.lb", lb_metadata(&endpoint.lb_metadata));
    }
    let metadata = Value::from(metadata);
    if metadata
        .as_object()
        .is_some_and(|fields| !fields.is_empty())
    {
        message.set("metadata", json!({ "filter_metadata": metadata }));
    }
    message.into()
}

/// Metadata of `envoy.lb`.
pub(crate) fn lb_metadata(pairs: &[(proxy_core::xds::Name, proxy_core::xds::Name)]) -> Value {
    let pairs = pairs.iter();
    pairs
        .map(|(key, value)| (key.to_string(), json!(**value)))
        .collect()
}

/// `envoy.config.core.v3.Address`.
pub(crate) fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}
