//! Our resources beside those that a control plane really sent a proxy: its `config_dump`.

use crate::normal::normal;
use crate::{Resources, cluster, listener, load_assignment, route_table};
use proxy_core::xds::Transport;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What of a control plane's resources has no part in how requests go here, and why.
///
/// A path ends there; everything below it is left out of the comparison, and counted.
const NOT_MODELLED: &[(&str, &str)] = &[
    ("cluster.metadata", "labels for telemetry"),
    ("cluster.alt_stat_name", "names of statistics"),
    ("cluster.filters", "peer metadata for telemetry"),
    (
        "cluster.upstream_bind_config",
        "source address of inbound connections",
    ),
    (
        "cluster.cleanup_interval",
        "hosts of original destinations are kept",
    ),
    (
        "cluster.eds_cluster_config",
        "where endpoints are asked for",
    ),
    ("cluster.dns_jitter", "DNS refresh"),
    ("cluster.dns_lookup_family", "DNS refresh"),
    ("cluster.dns_refresh_rate", "DNS refresh"),
    ("cluster.respect_dns_ttl", "DNS refresh"),
    ("cluster.typed_dns_resolver_config", "DNS refresh"),
    (
        "cluster.load_assignment.endpoints.load_balancing_weight",
        "one locality",
    ),
    (
        "cluster.load_assignment.endpoints.lb_endpoints.metadata",
        "labels for telemetry",
    ),
    ("HttpProtocolOptions.@type", "type"),
    (
        "HttpProtocolOptions.upstream_http_protocol_options",
        "TLS contexts",
    ),
    (
        "HttpProtocolOptions.explicit_http_config.http_protocol_options",
        "the default",
    ),
    (
        "use_downstream_protocol_config.http_protocol_options",
        "the default",
    ),
    (
        "lb_endpoints.metadata.filter_metadata.istio",
        "labels for telemetry",
    ),
    ("endpoint_config.@type", "type"),
    ("cluster.@type", "type"),
    ("route_config.@type", "type"),
    ("routes.metadata", "labels for telemetry"),
    ("routes.decorator", "names of spans"),
    ("typed_config.@type", "type"),
    ("envoy.filters.http.fault.@type", "type"),
    ("envoy.filters.http.cors.@type", "type"),
    (
        "slow_start_config.aggression.runtime_key",
        "runtime keys nobody sets",
    ),
];

/// One difference.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// `cluster`, `endpoints`, `routes`, `listener`.
    pub kind: &'static str,
    /// Name of the resource.
    pub resource: String,
    /// Where in it; empty if one side lacks it whole.
    pub path: String,
    pub theirs: Value,
    pub ours: Value,
    /// Why it is expected; `None`: it is not.
    pub class: Option<&'static str>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Resources looked at, and those without a difference, by kind.
    pub resources: BTreeMap<&'static str, (usize, usize)>,
    pub differences: Vec<Difference>,
}

impl Comparison {
    /// Differences that nothing explains.
    pub fn unexplained(&self) -> impl Iterator<Item = &Difference> {
        self.differences.iter().filter(|one| one.class.is_none())
    }

    /// Expected differences by class.
    pub fn classes(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for class in self.differences.iter().filter_map(|one| one.class) {
            *counts.entry(class).or_default() += 1;
        }
        counts
    }

    /// Takes over the result for another proxy.
    pub fn add(&mut self, other: Comparison) {
        for (kind, (seen, same)) in other.resources {
            let counts = self.resources.entry(kind).or_default();
            counts.0 += seen;
            counts.1 += same;
        }
        self.differences.extend(other.differences);
    }

    fn compare(
        &mut self,
        kind: &'static str,
        theirs: &BTreeMap<String, Value>,
        ours: &BTreeMap<String, Value>,
    ) {
        let names: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
        for name in names {
            let (theirs, ours) = (theirs.get(name), ours.get(name));
            let before = self.differences.len();
            let mut differ = |path: &str, theirs: &Value, ours: &Value| {
                self.differences.push(Difference {
                    kind,
                    resource: name.clone(),
                    path: path.to_owned(),
                    theirs: theirs.clone(),
                    ours: ours.clone(),
                    class: None,
                });
            };
            match (theirs, ours) {
                (Some(theirs), Some(ours)) => walk(kind, theirs, ours, &mut differ),
                (theirs, ours) => {
                    let named = |side: Option<&Value>| json!(side.map(|_| "present"));
                    differ("", &named(theirs), &named(ours));
                }
            }
            let counts = self.resources.entry(kind).or_default();
            counts.0 += 1;
            counts.1 += usize::from(self.differences.len() == before);
        }
    }
}

/// Finds the differences below `path`.
fn walk(path: &str, theirs: &Value, ours: &Value, differ: &mut impl FnMut(&str, &Value, &Value)) {
    match (theirs, ours) {
        (Value::Object(_), Value::Null) => walk(path, theirs, &json!({}), differ),
        (Value::Null, Value::Object(_)) => walk(path, &json!({}), ours, differ),
        (Value::Object(theirs), Value::Object(ours)) => {
            let keys: BTreeSet<&String> = theirs.keys().chain(ours.keys()).collect();
            for key in keys {
                let side = |fields: &Map<String, Value>| fields.get(key).cloned();
                let (theirs, ours) = (side(theirs), side(ours));
                let below = format!("{path}.{key}");
                walk(
                    &below,
                    &theirs.unwrap_or_default(),
                    &ours.unwrap_or_default(),
                    differ,
                );
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                walk(&format!("{path}[{at}]"), theirs, ours, differ);
            }
        }
        _ if theirs == ours => {}
        _ => differ(path, theirs, ours),
    }
}

/// Compares what a proxy would be told with what `dump` says it was told.
pub fn against(resources: &Resources<'_>, dump: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let section = |list: &str, inner: &[&str]| -> Vec<&Value> {
        let configs = dump["configs"].as_array().into_iter().flatten();
        let entries = configs
            .filter_map(|config| config[list].as_array())
            .flatten();
        entries
            .map(|entry| inner.iter().fold(entry, |value, key| &value[*key]))
            .collect()
    };
    let theirs = section("dynamic_active_clusters", &["cluster"]);
    let ours = resources.clusters.iter().filter_map(|one| {
        let mut value = cluster(one).ok()?;
        value["transport"] = json!(transport(&one.transport));
        Some(value)
    });
    let theirs = theirs.into_iter().map(|one| {
        let mut one = one.clone();
        one["transport"] = json!(recorded_transport(&one));
        one
    });
    comparison.compare(
        "cluster",
        &by_name("cluster", "name", theirs),
        &by_name("cluster", "name", ours),
    );
    let theirs = section("dynamic_endpoint_configs", &["endpoint_config"]);
    let ours = resources.endpoints.iter().map(|one| load_assignment(one));
    comparison.compare(
        "endpoints",
        &by_name(
            "endpoint_config",
            "cluster_name",
            theirs.into_iter().cloned(),
        ),
        &by_name("endpoint_config", "cluster_name", ours),
    );
    let theirs = section("dynamic_route_configs", &["route_config"]);
    let ours = resources.routes.iter().map(|one| route_table(one));
    comparison.compare(
        "routes",
        &by_name("route_config", "name", theirs.into_iter().cloned()),
        &by_name("route_config", "name", ours),
    );
    let theirs = section("dynamic_listeners", &["active_state", "listener"]);
    let ours = resources.listeners.iter().map(|one| listener(one, true));
    comparison.compare(
        "listener",
        &chains(theirs.into_iter().cloned()),
        &chains(ours),
    );
    comparison
}

fn by_name(kind: &str, key: &str, values: impl Iterator<Item = Value>) -> BTreeMap<String, Value> {
    let named = values.map(|mut value| {
        strip(kind, &mut value);
        leave_out_idle_balancing(&mut value);
        let name = value[key].as_str().unwrap_or_default().to_owned();
        (name, normal(kind, &value).unwrap_or_default())
    });
    named.collect()
}

/// How a host would be chosen says nothing where there is none to choose, or only one.
fn leave_out_idle_balancing(cluster: &mut Value) {
    let endpoints = &cluster["load_assignment"]["endpoints"];
    let hostless = cluster["type"] == "STATIC" && endpoints.is_null();
    let Value::Object(fields) = cluster else {
        return;
    };
    if fields.get("type") == Some(&json!("ORIGINAL_DST")) {
        fields.remove("common_lb_config");
    }
    if hostless {
        for idle in [
            "circuit_breakers",
            "common_lb_config",
            "lb_policy",
            "least_request_lb_config",
        ] {
            fields.remove(idle);
        }
        fields.remove("load_assignment");
    }
}

/// Listeners by name, reduced to how they tell connections apart: each chain's conditions and where
/// it leads. The order of chains decides nothing.
fn chains(listeners: impl Iterator<Item = Value>) -> BTreeMap<String, Value> {
    let reduced = listeners.map(|listener| {
        let chains = listener["filter_chains"].as_array().into_iter().flatten();
        let default = &listener["default_filter_chain"];
        let default = (!default.is_null()).then(|| leads(default)).flatten();
        let value = json!({
            "chains": chains.filter_map(leads).collect::<Vec<_>>(),
            "default": default,
            "use_original_dst": listener["use_original_dst"],
        });
        let name = listener["name"].as_str().unwrap_or_default().to_owned();
        (name, normal("listener", &value).unwrap_or_default())
    });
    reduced.collect()
}

fn leads(chain: &Value) -> Option<Value> {
    let filters = chain["filters"].as_array()?;
    let last = &filters.last()?["typed_config"];
    let clusters = last["weighted_clusters"]["clusters"].as_array();
    let weighted = clusters.map(|list| {
        let pairs = list.iter().map(|one| json!([one["name"], one["weight"]]));
        pairs.collect::<Vec<_>>()
    });
    Some(json!({
        "match": chain["filter_chain_match"],
        "rds": last["rds"]["route_config_name"],
        "route_config": last["route_config"]["name"],
        "cluster": last["cluster"],
        "weighted": weighted,
    }))
}

/// Takes out what is not modelled.
fn strip(path: &str, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, _| {
                let below = format!("{path}.{key}");
                !NOT_MODELLED.iter().any(|(end, _)| below.ends_with(end))
            });
            for (key, value) in fields {
                strip(&format!("{path}.{key}"), value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| strip(path, item)),
        _ => {}
    }
    if let Value::Object(fields) = value {
        fields.retain(|key, _| {
            !matches!(
                key.as_str(),
                "transport_socket" | "transport_socket_matches"
            )
        });
    }
}

fn transport(transport: &Transport) -> &'static str {
    match transport {
        Transport::Plaintext => "plaintext",
        Transport::AutoMutualTls => "mutual TLS where the endpoint speaks it",
        Transport::IstioMutualTls => "Istio's mutual TLS",
        Transport::Tls { .. } => "TLS",
    }
}

fn recorded_transport(cluster: &Value) -> &'static str {
    let socket = &cluster["transport_socket"];
    let istio = |socket: &Value| {
        let contexts = &socket["typed_config"]["common_tls_context"];
        let protocols = contexts["alpn_protocols"].as_array().into_iter().flatten();
        let mut protocols = protocols.filter_map(Value::as_str);
        protocols.any(|one| one.starts_with("istio"))
    };
    if cluster["transport_socket_matches"].is_array() {
        "mutual TLS where the endpoint speaks it"
    } else if socket.is_null() {
        "plaintext"
    } else if istio(socket) {
        "Istio's mutual TLS"
    } else {
        "TLS"
    }
}
