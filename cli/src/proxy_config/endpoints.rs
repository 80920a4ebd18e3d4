//! Endpoints: those that are delivered on their own, and those within clusters.

use super::lines;
use crate::args::{EndpointFilter, EndpointStatus};
use export::Resources;
use serde_json::Value;

pub(super) fn table(resources: &Resources<'_>, filter: &EndpointFilter) -> String {
    let mut rows = Vec::new();
    for assignment in chosen(resources, filter) {
        let cluster = assignment["cluster_name"].as_str().unwrap_or_default();
        for endpoint in localities(&assignment).flat_map(endpoints) {
            let (host, port) = place(endpoint);
            rows.push((
                host.to_owned(),
                port,
                cluster.to_owned(),
                status(endpoint).to_owned(),
            ));
        }
    }
    rows.sort();
    let rows = rows.into_iter().map(|(host, port, cluster, status)| {
        [format!("{host}:{port}"), status, "OK".to_owned(), cluster]
    });
    let headings = ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"];
    lines(headings, rows.collect())
}

pub(super) fn json(resources: &Resources<'_>, filter: &EndpointFilter) -> Value {
    Value::Array(chosen(resources, filter))
}

/// The load assignments with an endpoint that fits, and of it such endpoints alone.
fn chosen(resources: &Resources<'_>, filter: &EndpointFilter) -> Vec<Value> {
    let delivered = resources
        .endpoints
        .iter()
        .map(|one| export::load_assignment(one));
    let mut chosen: Vec<Value> = delivered.chain(resources.inline_endpoints()).collect();
    for assignment in &mut chosen {
        let cluster = assignment["cluster_name"].as_str().unwrap_or_default();
        let wanted = filter.cluster.as_ref().is_none_or(|name| name == cluster);
        if let Some(localities) = assignment["endpoints"].as_array_mut() {
            for locality in &mut *localities {
                if let Some(endpoints) = locality["lb_endpoints"].as_array_mut() {
                    endpoints.retain(|endpoint| wanted && fits(endpoint, filter));
                }
            }
            localities.retain(|locality| endpoints(locality).next().is_some());
        }
    }
    chosen.retain(|assignment| localities(assignment).next().is_some());
    chosen
}

fn fits(endpoint: &Value, filter: &EndpointFilter) -> bool {
    let (host, port) = place(endpoint);
    let wanted = filter.status.map(|status| match status {
        EndpointStatus::Healthy => "HEALTHY",
        EndpointStatus::Unhealthy => "UNHEALTHY",
        EndpointStatus::Draining => "DRAINING",
        EndpointStatus::Degraded => "DEGRADED",
    });
    let address = filter.address.as_ref();
    address.is_none_or(|address| address.eq_ignore_ascii_case(host))
        && filter.port.is_none_or(|wanted| u64::from(wanted) == port)
        && wanted.is_none_or(|wanted| wanted == status(endpoint))
}

fn localities(assignment: &Value) -> impl Iterator<Item = &Value> {
    assignment["endpoints"].as_array().into_iter().flatten()
}

fn endpoints(locality: &Value) -> impl Iterator<Item = &Value> {
    locality["lb_endpoints"].as_array().into_iter().flatten()
}

/// Address or name, and port.
fn place(endpoint: &Value) -> (&str, u64) {
    let address = &endpoint["endpoint"]["address"]["socket_address"];
    let host = address["address"].as_str().unwrap_or_default();
    (host, address["port_value"].as_u64().unwrap_or_default())
}

/// A name that is looked up has no status of its own: its addresses are taken for healthy.
fn status(endpoint: &Value) -> &str {
    endpoint["health_status"].as_str().unwrap_or("HEALTHY")
}
