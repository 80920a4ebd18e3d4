//! Outlier detection and active health checks.

use super::Name;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};

/// Envoy `OutlierDetection`; percentages are whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutlierDetection {
    pub interval: Nanos,
    pub base_ejection_time: Nanos,
    pub max_ejection_time: Nanos,
    /// Added to an ejection: a random part of it, whole milliseconds.
    pub max_ejection_time_jitter: Nanos,
    pub max_ejection_percent: u32,
    /// One host may be ejected whatever `max_ejection_percent` says.
    pub always_eject_one_host: bool,
    pub consecutive_5xx: u32,
    pub enforcing_consecutive_5xx: u32,
    pub consecutive_gateway_failure: u32,
    pub enforcing_consecutive_gateway_failure: u32,
    pub split_external_local_origin_errors: bool,
    pub consecutive_local_origin_failure: u32,
    pub enforcing_consecutive_local_origin_failure: u32,
    pub success_rate: SuccessRate,
    /// Of local-origin events, when split.
    pub enforcing_local_origin_success_rate: u32,
    pub failure_percentage: FailurePercentage,
    /// Of local-origin events, when split.
    pub enforcing_failure_percentage_local_origin: u32,
    /// A passing active health check ends an ejection.
    pub successful_active_health_check_uneject_host: bool,
    /// Answers with `x-envoy-degraded` mark a host as degraded.
    pub detect_degraded_hosts: bool,
}

/// The statistical detector: hosts far below the mean success rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessRate {
    pub enforcing: u32,
    /// Hosts with enough requests, at least.
    pub minimum_hosts: u32,
    /// Requests in an interval, at least.
    pub request_volume: u32,
    /// Thousandths of a standard deviation.
    pub stdev_factor: u32,
}

/// The detector of hosts that fail a share of their requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailurePercentage {
    pub enforcing: u32,
    pub threshold: u32,
    pub minimum_hosts: u32,
    pub request_volume: u32,
}

impl Default for OutlierDetection {
    /// Envoy's defaults, with success-rate ejection off as Istio sends it.
    fn default() -> OutlierDetection {
        OutlierDetection {
            interval: Nanos::from_secs(10),
            base_ejection_time: Nanos::from_secs(30),
            max_ejection_time: Nanos::from_secs(300),
            max_ejection_time_jitter: Nanos::ZERO,
            max_ejection_percent: 10,
            always_eject_one_host: false,
            consecutive_5xx: 5,
            enforcing_consecutive_5xx: 100,
            consecutive_gateway_failure: 5,
            enforcing_consecutive_gateway_failure: 0,
            split_external_local_origin_errors: false,
            consecutive_local_origin_failure: 5,
            enforcing_consecutive_local_origin_failure: 100,
            success_rate: SuccessRate {
                enforcing: 0,
                minimum_hosts: 5,
                request_volume: 100,
                stdev_factor: 1900,
            },
            enforcing_local_origin_success_rate: 100,
            failure_percentage: FailurePercentage {
                enforcing: 0,
                threshold: 85,
                minimum_hosts: 5,
                request_volume: 50,
            },
            enforcing_failure_percentage_local_origin: 0,
            successful_active_health_check_uneject_host: true,
            detect_degraded_hosts: false,
        }
    }
}

/// Envoy `core.v3.HealthCheck`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealthCheck {
    pub probe: Probe,
    pub timeout: Nanos,
    pub interval: Nanos,
    pub unhealthy_interval: Option<Nanos>,
    pub unhealthy_edge_interval: Option<Nanos>,
    pub healthy_edge_interval: Option<Nanos>,
    /// Until the cluster has had a connection of its own.
    pub no_traffic_interval: Nanos,
    pub no_traffic_healthy_interval: Option<Nanos>,
    pub initial_jitter: Nanos,
    pub interval_jitter: Nanos,
    pub interval_jitter_percent: u32,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}

/// What a health check sends, and what it takes for healthy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Probe {
    /// A connection that succeeds.
    Tcp,
    Http {
        host: Name,
        path: Name,
        /// Half-open ranges.
        expected_statuses: Vec<(u16, u16)>,
        /// Failures that count towards the threshold instead of failing at once.
        retriable_statuses: Vec<(u16, u16)>,
    },
}
