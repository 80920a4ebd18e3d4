//! DestinationPolicy.

use super::{ServiceReference, Spelling};
use crate::config::{Labels, any_duration, choice, count, duration, refuse, selection};
use proxy_core::time::Nanos;
use proxy_core::xds::LbPolicy;
use source::{Diagnostic, Fields, Node, Span};

/// Istio `DestinationPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DestinationPolicy {
    pub(crate) destination: ServiceReference,
    /// For such callers only.
    pub(crate) source: Option<ServiceReference>,
    /// Several in 0.1.
    pub(crate) versions: Vec<VersionPolicy>,
}

/// What holds for requests that a rule sends to exactly those labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct VersionPolicy {
    pub(crate) labels: Labels,
    /// `None`: it says nothing of them.
    pub(crate) lb_policy: Option<LbPolicy>,
    pub(crate) breaker: Option<SimpleBreaker>,
    pub(crate) span: Span,
}

/// Istio `CircuitBreaker.SimpleCircuitBreakerPolicy`; 0 is Envoy's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SimpleBreaker {
    pub(crate) max_connections: u32,
    pub(crate) max_pending_requests: u32,
    pub(crate) max_requests: u32,
    /// 0: no limit.
    pub(crate) max_requests_per_connection: u32,
    pub(crate) consecutive_errors: u32,
    pub(crate) detection_interval: Nanos,
    pub(crate) sleep_window: Nanos,
    pub(crate) max_ejection_percent: u32,
}

impl DestinationPolicy {
    pub(crate) fn read(
        node: &Node,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<DestinationPolicy> {
        let mut fields = Fields::of(node, "a DestinationPolicy", diagnostics)?;
        fields.required("destination");
        let destination = ServiceReference::read(&mut fields, "destination", spelling, namespace);
        let (source, versions) = match spelling {
            Spelling::V01 => {
                let list = fields.list("policy").iter();
                let versions = list.filter_map(|node| read_version(node, fields.diagnostics));
                (None, versions.collect())
            }
            Spelling::V02 => {
                let source = ServiceReference::read(&mut fields, "source", spelling, namespace);
                let labels = destination.as_ref().map(|to| to.labels.clone());
                let version = read_policies(&mut fields, labels.unwrap_or_default());
                (source, vec![version])
            }
        };
        fields.finish();
        Some(DestinationPolicy {
            destination: destination?,
            source,
            versions,
        })
    }
}

fn read_version(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<VersionPolicy> {
    let mut fields = Fields::of(node, "a policy of a version", diagnostics)?;
    let labels = selection::valid_labels(&mut fields, "tags");
    let version = read_policies(&mut fields, labels);
    fields.finish();
    Some(version)
}

fn read_policies(fields: &mut Fields<'_, '_>, mut labels: Labels) -> VersionPolicy {
    labels.sort();
    let balancing = fields.optional("loadBalancing");
    let lb_policy = balancing.and_then(|node| read_balancing(node, fields.diagnostics));
    let breaker = fields.optional("circuitBreaker");
    let breaker = breaker.and_then(|node| read_breaker(node, fields.diagnostics));
    VersionPolicy {
        labels,
        lb_policy,
        breaker,
        span: fields.span().clone(),
    }
}

fn read_balancing(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<LbPolicy> {
    let mut fields = Fields::of(node, "a load balancing", diagnostics)?;
    let names = [("ROUND_ROBIN", 0), ("LEAST_CONN", 1), ("RANDOM", 2)];
    let found = choice(&mut fields, "name", &names);
    fields.unsupported(&["custom"]);
    fields.finish();
    Some(match found.unwrap_or(0) {
        1 => LbPolicy::LeastRequest {
            choice_count: 2,
            active_request_bias: 1.0,
            full_scan: false,
        },
        2 => LbPolicy::Random,
        _ => LbPolicy::RoundRobin,
    })
}

fn read_breaker(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<SimpleBreaker> {
    let mut outer = Fields::of(node, "a circuit breaker", diagnostics)?;
    let simple = outer.optional("simpleCb");
    outer.unsupported(&["custom"]);
    outer.finish();
    let mut fields = Fields::of(simple?, "a simple circuit breaker", diagnostics)?;
    for key in ["sleepWindow", "httpDetectionInterval"] {
        fields.required(key);
    }
    let breaker = SimpleBreaker {
        max_connections: count(&mut fields, "maxConnections").unwrap_or(0),
        max_pending_requests: count(&mut fields, "httpMaxPendingRequests").unwrap_or(0),
        max_requests: count(&mut fields, "httpMaxRequests").unwrap_or(0),
        max_requests_per_connection: count(&mut fields, "httpMaxRequestsPerConnection")
            .unwrap_or(0),
        consecutive_errors: count(&mut fields, "httpConsecutiveErrors").unwrap_or(0),
        detection_interval: span_of_time(&mut fields, "httpDetectionInterval"),
        sleep_window: span_of_time(&mut fields, "sleepWindow"),
        max_ejection_percent: read_percent(&mut fields),
    };
    // Of later releases.
    fields.unsupported(&["httpMaxRetries"]);
    fields.finish();
    Some(breaker)
}

/// Pilot used it only from a second on.
fn span_of_time(fields: &mut Fields<'_, '_>, key: &'static str) -> Nanos {
    let found = duration(fields, key).unwrap_or(Nanos::ZERO);
    if found >= Nanos::from_secs(1) || any_duration(fields, key).is_none() {
        return found;
    }
    if let Some(node) = fields.optional(key) {
        fields.diagnostics.push(
            Diagnostic::warning(format!("`{key}` under a second is not used"))
                .at(&node.span, "Pilot left Envoy's default"),
        );
    }
    Nanos::ZERO
}

fn read_percent(fields: &mut Fields<'_, '_>) -> u32 {
    let key = "httpMaxEjectionPercent";
    let found = count(fields, key).unwrap_or(0);
    if let (true, Some(node)) = (found > 100, fields.optional(key)) {
        let message = format!("`{key}` is from 0 to 100");
        refuse(fields.diagnostics, &node.span, message, "too much");
    }
    found
}
