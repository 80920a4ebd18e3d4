//! What the clusters of 2017 have for balancing and breaking.

use super::super::scope::Scope;
use super::is_from;
use crate::config::{DataPlane, EgressProtocol, SimpleBreaker};
use crate::of_2017::RulesOf2017;
use crate::registry::{Service, ServicePort};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CircuitBreakers, Cluster, Discovery, HttpProtocol, LbPolicy, Name, OutlierDetection,
    SuccessRate, Transport,
};

/// Envoy's, where no policy says otherwise.
const LIMITS: CircuitBreakers = CircuitBreakers {
    max_connections: 1024,
    max_pending_requests: 1024,
    max_requests: 1024,
    max_retries: 3,
    ..CircuitBreakers::UNLIMITED
};

/// Envoy's; it tells only where some endpoint can be unhealthy.
pub(crate) const PANIC_PERCENT: u32 = 50;

/// Makes the cluster of `labels` of a service such as it was in 2017, if the host has rules of then;
/// false: it has none.
pub(in super::super) fn settle(
    scope: &Scope<'_>,
    (service, port): (&Service, &ServicePort),
    labels: &[(Name, Name)],
    cluster: &mut Cluster,
) -> bool {
    let rules = &scope.mesh.rules.of_2017;
    if let Some(protocol) = rules.egress_protocol(service, port.number) {
        speak(cluster, protocol);
    }
    if !rules.balance(&service.host) {
        return false;
    }
    cluster.circuit_breakers = CircuitBreakers::UNLIMITED;
    cluster.outlier_detection = None;
    match rules.data_plane() {
        // Two picks, the one with less to do.
        DataPlane::Linkerd111 => balance(cluster, least_request()),
        DataPlane::Envoy2017 => settle_envoy(scope, rules, service, labels, cluster),
    }
    true
}

fn settle_envoy(
    scope: &Scope<'_>,
    rules: &RulesOf2017,
    service: &Service,
    labels: &[(Name, Name)],
    cluster: &mut Cluster,
) {
    balance(cluster, LbPolicy::RoundRobin);
    cluster.circuit_breakers = limits(None);
    let found = rules.policy_of(&service.host, labels, |source| is_from(scope, source));
    let Some((object, policy)) = found else {
        return;
    };
    cluster.origin = Some(object.origin());
    if let Some(lb_policy) = &policy.lb_policy {
        balance(cluster, lb_policy.clone());
    }
    if let Some(breaker) = &policy.breaker {
        cluster.circuit_breakers = limits(Some(breaker));
        cluster.max_requests_per_connection = breaker.max_requests_per_connection;
        cluster.outlier_detection = Some(outliers(breaker));
        cluster.healthy_panic_threshold_percent = PANIC_PERCENT;
    }
}

/// Where the client chose the address there is nothing to balance.
fn balance(cluster: &mut Cluster, lb_policy: LbPolicy) {
    if !matches!(cluster.discovery, Discovery::OriginalDst { .. }) {
        cluster.lb_policy = lb_policy;
    }
}

fn least_request() -> LbPolicy {
    LbPolicy::LeastRequest {
        choice_count: 2,
        active_request_bias: 1.0,
        full_scan: false,
    }
}

/// Envoy's where nothing is said.
pub(crate) fn limits(breaker: Option<&SimpleBreaker>) -> CircuitBreakers {
    let Some(breaker) = breaker else {
        return LIMITS;
    };
    let or = |stated: u32, default: u32| if stated > 0 { stated } else { default };
    CircuitBreakers {
        max_connections: or(breaker.max_connections, LIMITS.max_connections),
        max_pending_requests: or(breaker.max_pending_requests, LIMITS.max_pending_requests),
        max_requests: or(breaker.max_requests, LIMITS.max_requests),
        ..LIMITS
    }
}

/// Envoy of 2017 compared success rates too, and ejected one host whatever the percentage.
pub(crate) fn outliers(breaker: &SimpleBreaker) -> OutlierDetection {
    let default = OutlierDetection::default();
    let time = |stated: Nanos, default: Nanos| match stated {
        Nanos::ZERO => default,
        stated => stated,
    };
    let base_ejection_time = time(breaker.sleep_window, default.base_ejection_time);
    OutlierDetection {
        interval: time(breaker.detection_interval, default.interval),
        base_ejection_time,
        max_ejection_percent: match breaker.max_ejection_percent {
            0 => 10,
            percent => percent,
        },
        always_eject_one_host: true,
        consecutive_5xx: match breaker.consecutive_errors {
            0 => 5,
            errors => errors,
        },
        success_rate: SuccessRate {
            enforcing: 100,
            ..default.success_rate
        },
        ..default
    }
}

/// How a host of an EgressRule is spoken to at a port.
fn speak(cluster: &mut Cluster, protocol: EgressProtocol) {
    cluster.http_protocol = match protocol {
        EgressProtocol::Http2 => HttpProtocol::Http2,
        EgressProtocol::Http | EgressProtocol::Https => HttpProtocol::Http1,
    };
    cluster.transport = match protocol {
        EgressProtocol::Https => Transport::Tls { sni: None },
        EgressProtocol::Http | EgressProtocol::Http2 => Transport::Plaintext,
    };
}
