//! Clusters.

use crate::endpoint::{lb_metadata, load_assignment};
use crate::health::{health_check, outlier_detection};
use crate::{Message, Unsupported, duration, typed};
use proxy_core::xds::{
    CircuitBreakers, Cluster, ConsistentHashing, Discovery, HttpProtocol, LbPolicy, LocalityLb,
    RingHashFunction, SlowStart, SubsetFallback, Subsets, ZoneAware,
};
use serde_json::{Value, json};

/// `envoy.config.cluster.v3.Cluster`. Endpoints of EDS clusters are asked of ADS, as Istio has it.
///
/// # Errors
/// The policy is none of Envoy's.
pub fn cluster(cluster: &Cluster) -> Result<Value, Unsupported> {
    let mut message = Message::default();
    message.set("name", &*cluster.name);
    discovery(cluster, &mut message);
    message.set("connect_timeout", duration(cluster.connect_timeout));
    balancing(cluster, &mut message)?;
    message.set("common_lb_config", common_lb_config(cluster));
    if let Some(subsets) = &cluster.subsets {
        message.set("lb_subset_config", subset_config(subsets));
    }
    message.set(
        "circuit_breakers",
        circuit_breakers(&cluster.circuit_breakers),
    );
    let detection = cluster.outlier_detection.as_ref();
    message.set_some("outlier_detection", detection.map(outlier_detection));
    message.set_list(
        "health_checks",
        cluster.health_checks.iter().map(health_check),
    );
    message.set_flag(
        "ignore_health_on_host_removal",
        cluster.ignore_health_on_host_removal,
    );
    message.set_flag(
        "close_connections_on_host_health_failure",
        cluster.close_connections_on_host_health_failure,
    );
    message.set("typed_extension_protocol_options", http_options(cluster));
    Ok(message.into())
}

fn discovery(cluster: &Cluster, message: &mut Message) {
    let ads = json!({
        "ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3",
    });
    match &cluster.discovery {
        Discovery::Eds => {
            message.set("type", "EDS");
            let source = json!({ "eds_config": ads, "service_name": *cluster.name });
            message.set("eds_cluster_config", source);
        }
        Discovery::Static(_) => message.set("type", "STATIC"),
        Discovery::StrictDns { .. } => message.set("type", "STRICT_DNS"),
        Discovery::LogicalDns { .. } => message.set("type", "LOGICAL_DNS"),
        Discovery::OriginalDst { port } => {
            message.set("type", "ORIGINAL_DST");
            if let Some(port) = port {
                let config = json!({ "upstream_port_override": port });
                message.set("original_dst_lb_config", config);
            }
        }
    }
    message.set_some("load_assignment", inline_assignment(cluster));
}

/// The load assignment within a cluster.
pub(crate) fn inline_assignment(cluster: &Cluster) -> Option<Value> {
    match &cluster.discovery {
        Discovery::Static(assignment) => Some(load_assignment(assignment)),
        Discovery::StrictDns { host, port } | Discovery::LogicalDns { host, port } => {
            Some(named(cluster, host, *port))
        }
        Discovery::Eds | Discovery::OriginalDst { .. } => None,
    }
}

/// The assignment of a name that is looked up.
fn named(cluster: &Cluster, host: &str, port: u16) -> Value {
    let address = json!({ "socket_address": { "address": host, "port_value": port } });
    json!({
        "cluster_name": *cluster.name,
        "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address } }] }],
    })
}

fn balancing(cluster: &Cluster, message: &mut Message) -> Result<(), Unsupported> {
    let slow = cluster.slow_start.as_ref().map(slow_start);
    let policy = match &cluster.lb_policy {
        LbPolicy::RoundRobin => {
            if let Some(slow) = slow {
                message.set(
                    "round_robin_lb_config",
                    json!({ "slow_start_config": slow }),
                );
            }
            "ROUND_ROBIN"
        }
        LbPolicy::LeastRequest {
            choice_count,
            active_request_bias,
            full_scan,
        } => {
            let mut config = Message::default();
            config.set("choice_count", *choice_count);
            config.set("active_request_bias", runtime(*active_request_bias));
            config.set_some("slow_start_config", slow);
            if *full_scan {
                message.set("load_balancing_policy", scanning(cluster, config)?);
                return Ok(());
            }
            message.set("least_request_lb_config", config);
            "LEAST_REQUEST"
        }
        LbPolicy::Random => "RANDOM",
        LbPolicy::RingHash {
            minimum_ring_size,
            maximum_ring_size,
            function,
            ..
        } => {
            let function = match function {
                RingHashFunction::XxHash => "XX_HASH",
                RingHashFunction::Murmur2 => "MURMUR_HASH_2",
            };
            let config = json!({
                "minimum_ring_size": minimum_ring_size,
                "maximum_ring_size": maximum_ring_size,
                "hash_function": function,
            });
            message.set("ring_hash_lb_config", config);
            "RING_HASH"
        }
        LbPolicy::Maglev { table_size, .. } => {
            message.set("maglev_lb_config", json!({ "table_size": table_size }));
            "MAGLEV"
        }
        LbPolicy::ClusterProvided => "CLUSTER_PROVIDED",
        LbPolicy::PeakEwma { .. } => {
            return Err(Unsupported {
                resource: format!("cluster {}", cluster.name),
                reason: "peak EWMA is Linkerd's policy; Envoy has none like it",
            });
        }
    };
    message.set("lb_policy", policy);
    Ok(())
}

/// `envoy.config.cluster.v3.LoadBalancingPolicy`: only the extension can look at every host.
fn scanning(cluster: &Cluster, mut config: Message) -> Result<Value, Unsupported> {
    if cluster.subsets.is_some() {
        return Err(Unsupported {
            resource: format!("cluster {}", cluster.name),
            reason: "Envoy looks at every host (FULL_SCAN) only in clusters without subsets",
        });
    }
    config.set("selection_method", "FULL_SCAN");
    let mut locality = Message::default();
    locality_lb(cluster, &mut locality);
    config.set("locality_lb_config", locality);
    let policy = typed(
        "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest",
        config.into(),
    );
    Ok(json!({ "policies": [{ "typed_extension_config": {
        "name": "envoy.load_balancing_policies.least_request",
        "typed_config": policy,
    }}]}))
}

fn slow_start(config: &SlowStart) -> Value {
    json!({
        "slow_start_window": duration(config.window),
        "aggression": runtime(config.aggression),
        "min_weight_percent": { "value": config.min_weight_percent },
    })
}

/// `envoy.config.core.v3.RuntimeDouble`; no runtime has this key.
fn runtime(value: f64) -> Value {
    json!({ "default_value": value, "runtime_key": "meshsim.none" })
}

fn common_lb_config(cluster: &Cluster) -> Value {
    let mut message = Message::default();
    let threshold = json!({ "value": f64::from(cluster.healthy_panic_threshold_percent) });
    message.set("healthy_panic_threshold", threshold);
    message.set("update_merge_window", duration(cluster.update_merge_window));
    message.set_flag(
        "ignore_new_hosts_until_first_hc",
        cluster.ignore_new_hosts_until_first_health_check,
    );
    locality_lb(cluster, &mut message);
    if let LbPolicy::RingHash { hashing, .. } | LbPolicy::Maglev { hashing, .. } =
        &cluster.lb_policy
        && *hashing != ConsistentHashing::default()
    {
        let mut config = Message::default();
        config.set_flag("use_hostname_for_hashing", hashing.use_hostname);
        config.set_some("hash_balance_factor", hashing.hash_balance_factor_percent);
        message.set("consistent_hashing_lb_config", config);
    }
    message.into()
}

fn locality_lb(cluster: &Cluster, message: &mut Message) {
    match &cluster.locality_lb {
        LocalityLb::None if cluster.fail_traffic_on_panic => {
            message.set(
                "zone_aware_lb_config",
                json!({ "fail_traffic_on_panic": true }),
            );
        }
        LocalityLb::None => {}
        LocalityLb::Weighted => message.set("locality_weighted_lb_config", json!({})),
        LocalityLb::ZoneAware(zone) => {
            message.set("zone_aware_lb_config", zone_aware(cluster, zone));
        }
    }
}

fn zone_aware(cluster: &Cluster, zone: &ZoneAware) -> Value {
    let mut message = Message::default();
    let enabled = json!({ "value": f64::from(zone.routing_enabled_percent) });
    message.set("routing_enabled", enabled);
    message.set("min_cluster_size", zone.min_cluster_size);
    message.set_flag("fail_traffic_on_panic", cluster.fail_traffic_on_panic);
    if let Some(size) = zone.force_local_zone_min_size {
        message.set("force_local_zone", json!({ "min_size": size }));
    }
    message.into()
}

fn subset_config(subsets: &Subsets) -> Value {
    let mut message = Message::default();
    let (policy, default) = match &subsets.fallback {
        SubsetFallback::AnyEndpoint => ("ANY_ENDPOINT", None),
        SubsetFallback::DefaultSubset(pairs) => ("DEFAULT_SUBSET", Some(lb_metadata(pairs))),
        SubsetFallback::NoFallback | SubsetFallback::Keys(_) => ("NO_FALLBACK", None),
    };
    message.set("fallback_policy", policy);
    message.set_some("default_subset", default);
    message.set_list(
        "subset_selectors",
        subsets.selectors.iter().map(|selector| {
            let keys: Vec<&str> = selector.keys.iter().map(|key| &**key).collect();
            let mut message = Message::default();
            message.set("keys", keys);
            let fallback = selector.fallback.as_ref();
            let policy = fallback.map(|fallback| match fallback {
                SubsetFallback::NoFallback => "NO_FALLBACK",
                SubsetFallback::AnyEndpoint => "ANY_ENDPOINT",
                SubsetFallback::DefaultSubset(_) => "DEFAULT_SUBSET",
                SubsetFallback::Keys(_) => "KEYS_SUBSET",
            });
            message.set_some("fallback_policy", policy);
            if let Some(SubsetFallback::Keys(keys)) = fallback {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                message.set("fallback_keys_subset", keys);
            }
            message.into()
        }),
    );
    message.set_flag("panic_mode_any", subsets.panic_mode_any);
    message.set_flag("allow_redundant_keys", subsets.allow_redundant_keys);
    message.into()
}

fn circuit_breakers(limits: &CircuitBreakers) -> Value {
    let mut threshold = Message::default();
    threshold.set("max_connections", limits.max_connections);
    threshold.set("max_pending_requests", limits.max_pending_requests);
    threshold.set("max_requests", limits.max_requests);
    threshold.set("max_retries", limits.max_retries);
    if let Some(budget) = &limits.retry_budget {
        let budget = json!({
            "budget_percent": { "value": budget.budget_percent },
            "min_retry_concurrency": budget.min_retry_concurrency,
        });
        threshold.set("retry_budget", budget);
    }
    let mut message = Message::default();
    message.set("thresholds", vec![Value::from(threshold)]);
    if let Some(limit) = limits.max_connections_per_host {
        message.set("per_host_thresholds", json!([{ "max_connections": limit }]));
    }
    message.into()
}

fn http_options(cluster: &Cluster) -> Value {
    let mut common = Message::default();
    // Zero turns it off; left out it would be an hour.
    let idle = cluster.idle_timeout.unwrap_or_default();
    common.set("idle_timeout", duration(idle));
    if cluster.max_requests_per_connection > 0 {
        let limit = cluster.max_requests_per_connection;
        common.set("max_requests_per_connection", limit);
    }
    common.set_some(
        "max_stream_duration",
        cluster.max_stream_duration.map(duration),
    );
    let mut options = Message::default();
    options.set("common_http_protocol_options", common);
    let http2 = json!({ "max_concurrent_streams": cluster.max_concurrent_streams });
    match cluster.http_protocol {
        HttpProtocol::Http1 => {
            options.set(
                "explicit_http_config",
                json!({ "http_protocol_options": {} }),
            );
        }
        HttpProtocol::Http2 => {
            options.set(
                "explicit_http_config",
                json!({ "http2_protocol_options": http2 }),
            );
        }
        HttpProtocol::UseDownstream => options.set(
            "use_downstream_protocol_config",
            json!({ "http_protocol_options": {}, "http2_protocol_options": http2 }),
        ),
    }
    let message = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({ message: typed(message, options.into()) })
}
