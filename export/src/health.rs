//! Outlier detection and active health checks.

use crate::{Message, duration};
use proxy_core::xds::{HealthCheck, OutlierDetection, Probe};
use serde_json::{Value, json};

/// `envoy.config.cluster.v3.OutlierDetection`, every field written out.
pub(crate) fn outlier_detection(detection: &OutlierDetection) -> Value {
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
    } = detection;
    json!({
        "interval": duration(*interval),
        "base_ejection_time": duration(*base_ejection_time),
        "max_ejection_time": duration(*max_ejection_time),
        "max_ejection_time_jitter": duration(*max_ejection_time_jitter),
        "max_ejection_percent": max_ejection_percent,
        "always_eject_one_host": always_eject_one_host,
        "consecutive_5xx": consecutive_5xx,
        "enforcing_consecutive_5xx": enforcing_consecutive_5xx,
        "consecutive_gateway_failure": consecutive_gateway_failure,
        "enforcing_consecutive_gateway_failure": enforcing_consecutive_gateway_failure,
        "split_external_local_origin_errors": split_external_local_origin_errors,
        "consecutive_local_origin_failure": consecutive_local_origin_failure,
        "enforcing_consecutive_local_origin_failure": enforcing_consecutive_local_origin_failure,
        "success_rate_minimum_hosts": success_rate.minimum_hosts,
        "success_rate_request_volume": success_rate.request_volume,
        "success_rate_stdev_factor": success_rate.stdev_factor,
        "enforcing_success_rate": success_rate.enforcing,
        "enforcing_local_origin_success_rate": enforcing_local_origin_success_rate,
        "failure_percentage_threshold": failure_percentage.threshold,
        "failure_percentage_minimum_hosts": failure_percentage.minimum_hosts,
        "failure_percentage_request_volume": failure_percentage.request_volume,
        "enforcing_failure_percentage": failure_percentage.enforcing,
        "enforcing_failure_percentage_local_origin": enforcing_failure_percentage_local_origin,
        "successful_active_health_check_uneject_host": successful_active_health_check_uneject_host,
        "detect_degraded_hosts": detect_degraded_hosts,
    })
}

/// `envoy.config.core.v3.HealthCheck`.
pub(crate) fn health_check(check: &HealthCheck) -> Value {
    let mut message = Message::default();
    message.set("timeout", duration(check.timeout));
    message.set("interval", duration(check.interval));
    message.set("no_traffic_interval", duration(check.no_traffic_interval));
    for (name, span) in [
        ("unhealthy_interval", check.unhealthy_interval),
        ("unhealthy_edge_interval", check.unhealthy_edge_interval),
        ("healthy_edge_interval", check.healthy_edge_interval),
        (
            "no_traffic_healthy_interval",
            check.no_traffic_healthy_interval,
        ),
    ] {
        message.set_some(name, span.map(duration));
    }
    message.set("initial_jitter", duration(check.initial_jitter));
    message.set("interval_jitter", duration(check.interval_jitter));
    message.set("interval_jitter_percent", check.interval_jitter_percent);
    message.set("unhealthy_threshold", check.unhealthy_threshold);
    message.set("healthy_threshold", check.healthy_threshold);
    match &check.probe {
        Probe::Tcp => message.set("tcp_health_check", json!({})),
        Probe::Http {
            host,
            path,
            expected_statuses,
            retriable_statuses,
        } => {
            let mut http = Message::default();
            http.set("host", &**host);
            http.set("path", &**path);
            http.set_list("expected_statuses", expected_statuses.iter().map(range));
            http.set_list("retriable_statuses", retriable_statuses.iter().map(range));
            message.set("http_health_check", http);
        }
    }
    message.into()
}

fn range((start, end): &(u16, u16)) -> Value {
    json!({ "start": start, "end": end })
}
