//! How a cluster is used, as settings that can be compared; in Istio's names where it has one.

use crate::labels::{json, pairs};
use crate::report::Kind;
use crate::settings::{Settings, limit, span};
use control_plane::Pod;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CircuitBreakers, Cluster, ConsistentHashing, Discovery, Endpoint, EndpointHealth, HttpProtocol,
    LbPolicy, LoadAssignment, LocalityLb, OutlierDetection, RingHashFunction, SlowStart, Transport,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// The pods of a configuration by their addresses.
pub(crate) type PodsByAddress = BTreeMap<IpAddr, String>;

pub(crate) fn pods_by_address(pods: &[Pod]) -> PodsByAddress {
    let name = |pod: &Pod| format!("{}/{}", pod.namespace, pod.workload);
    pods.iter().map(|pod| (pod.ip, name(pod))).collect()
}

/// Everything but the cluster's name and origin. `assignment`: where its endpoints arrive on their own.
pub(crate) fn of_cluster(
    cluster: &Cluster,
    assignment: Option<&LoadAssignment>,
    pods: &PodsByAddress,
) -> Settings {
    let Cluster {
        name: _,
        discovery,
        connect_timeout,
        lb_policy,
        slow_start,
        locality_lb,
        subsets,
        circuit_breakers,
        outlier_detection,
        health_checks,
        ignore_new_hosts_until_first_health_check,
        ignore_health_on_host_removal,
        close_connections_on_host_health_failure,
        update_merge_window,
        http_protocol,
        max_concurrent_streams,
        max_requests_per_connection,
        max_stream_duration,
        idle_timeout,
        healthy_panic_threshold_percent,
        fail_traffic_on_panic,
        transport,
        origin: _,
    } = cluster;
    let mut settings = Settings::default();
    let mut set = |name: &str, value: String| settings.set(Kind::Policy, name, value);
    set("discovery", discovered(discovery));
    set("connectionPool.tcp.connectTimeout", span(*connect_timeout));
    set("loadBalancer", balanced(lb_policy));
    set("protocol", spoken(*http_protocol));
    set("tls", secured(transport));
    if let Some(time) = limit(*idle_timeout) {
        set("connectionPool.idleTimeout", time);
    }
    if let Some(time) = limit(*max_stream_duration) {
        set("maxStreamDuration", time);
    }
    if *http_protocol != HttpProtocol::Http1 {
        let streams = max_concurrent_streams.to_string();
        set("connectionPool.http.maxConcurrentStreams", streams);
    }
    if *max_requests_per_connection > 0 {
        let most = max_requests_per_connection.to_string();
        set("connectionPool.http.maxRequestsPerConnection", most);
    }
    if let Some(SlowStart {
        window,
        aggression,
        min_weight_percent,
    }) = slow_start
    {
        let told = format!(
            "{} from {min_weight_percent} %, aggression {aggression}",
            span(*window)
        );
        set("warmup", told);
    }
    if *locality_lb != LocalityLb::None {
        set("localityLbSetting", json(locality_lb));
    }
    if let Some(subsets) = subsets {
        set("subset selectors", json(subsets));
    }
    if !health_checks.is_empty() {
        set("health checks", json(health_checks));
    }
    let detects = outlier_detection.is_some();
    if detects || *healthy_panic_threshold_percent > 0 {
        let percent = healthy_panic_threshold_percent.to_string();
        set("outlierDetection.minHealthPercent", percent);
    }
    if *update_merge_window != Nanos::from_secs(1) {
        set("updateMergeWindow", span(*update_merge_window));
    }
    for (name, flag) in [
        (
            "ignoreNewHostsUntilFirstHealthCheck",
            ignore_new_hosts_until_first_health_check,
        ),
        ("ignoreHealthOnHostRemoval", ignore_health_on_host_removal),
        (
            "closeConnectionsOnHostHealthFailure",
            close_connections_on_host_health_failure,
        ),
        ("failTrafficOnPanic", fail_traffic_on_panic),
    ] {
        settings.set_flag(Kind::Policy, name, *flag);
    }
    of_limits(circuit_breakers, &mut settings);
    if let Some(outlier) = outlier_detection {
        of_outlier(outlier, &mut settings);
    }
    let fixed = match discovery {
        Discovery::Static(assignment) => Some(assignment),
        _ => assignment,
    };
    if let Some(assignment) = fixed {
        of_endpoints(cluster, assignment, pods, &mut settings);
    }
    settings
}

fn discovered(discovery: &Discovery) -> String {
    match discovery {
        Discovery::Eds | Discovery::Static(_) => "endpoints".to_owned(),
        Discovery::StrictDns { host, port } => format!("all addresses of {host}:{port}"),
        Discovery::LogicalDns { host, port } => format!("first address of {host}:{port}"),
        Discovery::OriginalDst { port: None } => "where the client was going".to_owned(),
        Discovery::OriginalDst { port: Some(port) } => {
            format!("where the client was going, at port {port}")
        }
    }
}

fn balanced(policy: &LbPolicy) -> String {
    let hashed = |hashing: &ConsistentHashing| {
        let ConsistentHashing {
            use_hostname,
            hash_balance_factor_percent,
        } = hashing;
        let bound = hash_balance_factor_percent.map(|bound| format!(", bound {bound} %"));
        let by = if *use_hostname { ", by host name" } else { "" };
        format!("{}{by}", bound.unwrap_or_default())
    };
    match policy {
        LbPolicy::RoundRobin => "ROUND_ROBIN".to_owned(),
        LbPolicy::Random => "RANDOM".to_owned(),
        LbPolicy::ClusterProvided => "PASSTHROUGH".to_owned(),
        LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan: false,
        } => "LEAST_REQUEST".to_owned(),
        LbPolicy::LeastRequest { .. } | LbPolicy::PeakEwma { .. } => json(policy),
        LbPolicy::RingHash {
            minimum_ring_size,
            maximum_ring_size,
            function,
            hashing,
        } => {
            let function = match function {
                RingHashFunction::XxHash => "",
                RingHashFunction::Murmur2 => ", murmur2",
            };
            let of = hashed(hashing);
            format!("ring hash of {minimum_ring_size} to {maximum_ring_size}{function}{of}")
        }
        LbPolicy::Maglev {
            table_size,
            hashing,
        } => format!("Maglev of {table_size}{}", hashed(hashing)),
    }
}

fn spoken(protocol: HttpProtocol) -> String {
    match protocol {
        HttpProtocol::Http1 => "HTTP/1.1".to_owned(),
        HttpProtocol::Http2 => "HTTP/2".to_owned(),
        HttpProtocol::UseDownstream => "the client's".to_owned(),
    }
}

fn secured(transport: &Transport) -> String {
    match transport {
        Transport::Plaintext => "DISABLE".to_owned(),
        Transport::AutoMutualTls => "mutual where endpoints speak it".to_owned(),
        Transport::IstioMutualTls => "ISTIO_MUTUAL".to_owned(),
        Transport::Tls { sni: None } => "SIMPLE".to_owned(),
        Transport::Tls { sni: Some(sni) } => format!("SIMPLE, SNI {sni}"),
    }
}

fn of_limits(limits: &CircuitBreakers, settings: &mut Settings) {
    let CircuitBreakers {
        max_connections,
        max_pending_requests,
        max_requests,
        max_retries,
        retry_budget,
        max_connections_per_host,
    } = limits;
    for (name, most) in [
        ("connectionPool.tcp.maxConnections", max_connections),
        (
            "connectionPool.http.http1MaxPendingRequests",
            max_pending_requests,
        ),
        ("connectionPool.http.http2MaxRequests", max_requests),
        ("connectionPool.http.maxRetries", max_retries),
    ] {
        settings.set_some(
            Kind::Policy,
            name,
            Some(most).filter(|most| **most != u32::MAX),
        );
    }
    let budget = retry_budget.as_ref().map(json);
    settings.set_some(Kind::Policy, "retryBudget", budget);
    settings.set_some(
        Kind::Policy,
        "maxConnectionsPerHost",
        *max_connections_per_host,
    );
}

fn of_outlier(outlier: &OutlierDetection, settings: &mut Settings) {
    let OutlierDetection {
        interval,
        base_ejection_time,
        max_ejection_time,
        max_ejection_time_jitter,
        max_ejection_percent,
        always_eject_one_host,
        consecutive_5xx,
        enforcing_consecutive_5xx,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        success_rate,
        enforcing_local_origin_success_rate,
        failure_percentage,
        enforcing_failure_percentage_local_origin,
        successful_active_health_check_uneject_host,
        detect_degraded_hosts,
    } = outlier;
    let mut set = |name: &str, value: String| {
        settings.set(Kind::Policy, &format!("outlierDetection.{name}"), value);
    };
    set("interval", span(*interval));
    set("baseEjectionTime", span(*base_ejection_time));
    set("maxEjectionTime", span(*max_ejection_time));
    set("maxEjectionPercent", max_ejection_percent.to_string());
    let split = *split_external_local_origin_errors;
    for (name, failures, enforced, counts) in [
        (
            "consecutive5xxErrors",
            consecutive_5xx,
            enforcing_consecutive_5xx,
            true,
        ),
        (
            "consecutiveGatewayErrors",
            consecutive_gateway_failure,
            enforcing_consecutive_gateway_failure,
            true,
        ),
        (
            "consecutiveLocalOriginFailures",
            consecutive_local_origin_failure,
            enforcing_consecutive_local_origin_failure,
            split,
        ),
    ] {
        match (counts, enforced) {
            (false, _) | (true, 0) => {}
            (true, 100) => set(name, failures.to_string()),
            (true, percent) => set(name, format!("{failures}, enforced for {percent} %")),
        }
    }
    if success_rate.enforcing > 0 {
        set("success rate", json(success_rate));
    }
    if failure_percentage.enforcing > 0 {
        set("failure percentage", json(failure_percentage));
    }
    if split {
        for (name, percent) in [
            ("local success rate", enforcing_local_origin_success_rate),
            (
                "local failure percentage",
                enforcing_failure_percentage_local_origin,
            ),
        ] {
            if *percent > 0 {
                set(name, format!("enforced for {percent} %"));
            }
        }
    }
    if *max_ejection_time_jitter != Nanos::ZERO {
        set("maxEjectionTimeJitter", span(*max_ejection_time_jitter));
    }
    for (name, flag) in [
        ("alwaysEjectOneHost", *always_eject_one_host),
        ("splitExternalLocalOriginErrors", split),
        (
            "keeps hosts ejected that pass health checks",
            !successful_active_health_check_uneject_host,
        ),
        ("detectDegradedHosts", *detect_degraded_hosts),
    ] {
        if flag {
            set(name, "true".to_owned());
        }
    }
}

/// The workloads behind the cluster, and addresses that are of none: how many pods a workload has does
/// not count, nor what they are called.
fn of_endpoints(
    cluster: &Cluster,
    assignment: &LoadAssignment,
    pods: &PodsByAddress,
    settings: &mut Settings,
) {
    let LoadAssignment {
        cluster: _,
        localities,
        overprovisioning_factor_percent,
        weighted_priority_health,
        drop_overload_ppm,
    } = assignment;
    let mut behind: BTreeSet<String> = BTreeSet::new();
    let mut weights: BTreeSet<String> = BTreeSet::new();
    for group in localities {
        if cluster.locality_lb == LocalityLb::Weighted {
            let (locality, priority, weight) = (&group.locality, group.priority, group.weight);
            weights.insert(format!("{locality} priority {priority}: {weight}"));
        }
        for endpoint in &group.endpoints {
            let place = match group.priority {
                0 => String::new(),
                priority => format!(" (priority {priority})"),
            };
            let mut label = endpoint_label(endpoint, pods);
            if endpoint.mutual_tls && cluster.transport == Transport::AutoMutualTls {
                label += " by mutual TLS";
            }
            behind.insert(label + &place);
        }
    }
    let all = |texts: BTreeSet<String>| texts.into_iter().collect::<Vec<_>>().join(", ");
    if !behind.is_empty() {
        settings.set(Kind::Policy, "endpoints", all(behind));
    }
    if !weights.is_empty() {
        settings.set(Kind::Policy, "locality weights", all(weights));
    }
    if *overprovisioning_factor_percent != 140 {
        let percent = overprovisioning_factor_percent;
        settings.set(Kind::Policy, "overprovisioning", format!("{percent} %"));
    }
    settings.set_flag(
        Kind::Policy,
        "weightedPriorityHealth",
        *weighted_priority_health,
    );
    if *drop_overload_ppm > 0 {
        let dropped = format!("{drop_overload_ppm} ppm");
        settings.set(Kind::Policy, "dropped", dropped);
    }
}

fn endpoint_label(endpoint: &Endpoint, pods: &PodsByAddress) -> String {
    let Endpoint {
        address,
        health,
        weight,
        mutual_tls: _,
        hostname: _,
        lb_metadata,
    } = endpoint;
    let mut label = match pods.get(&address.ip()) {
        Some(workload) => format!("{workload} at port {}", address.port()),
        None => address.to_string(),
    };
    if *weight != 1 {
        label += &format!(" weight {weight}");
    }
    if !lb_metadata.is_empty() {
        label += &format!(" {}", pairs(lb_metadata));
    }
    match health {
        EndpointHealth::Healthy => label,
        EndpointHealth::Unhealthy => label + " (unhealthy)",
        EndpointHealth::Draining => label + " (draining)",
        EndpointHealth::Degraded => label + " (degraded)",
    }
}
