//! What holds for a request on its way, and who says so: a field of the configuration, or a default.

use super::Setting;
use crate::config::DataPlane;
use crate::names::full_name;
use crate::objects::Objects;
use crate::of_2017::RulesOf2017;
use crate::translate::Mesh;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    CircuitBreakers, Cluster, ConfigRef, Forward, LbPolicy, OutlierDetection, RetryOn, RetryPolicy,
    Route, Transport,
};
use source::Node;

/// Who says what a setting is.
pub(super) struct Stated<'m> {
    pub(super) objects: &'m Objects,
    pub(super) mesh: &'m Mesh,
}

impl Stated<'_> {
    /// Of the route itself.
    pub(super) fn of_route(&self, route: &Route, forward: &Forward) -> Vec<Setting> {
        let rule = route.origin.as_ref().and_then(|origin| self.rule(origin));
        let at = |keys: &[&str]| keys.iter().find_map(|key| rule?.at(&[key]));
        let cluster = forward.clusters.first().map(|share| &*share.cluster);
        let of_2017 = self.default_of_2017(cluster, RulesOf2017::route);
        let retries = match (of_2017, &self.mesh.config.default_http_retry_policy) {
            (Some(default), _) => default,
            (None, Some(_)) => "MeshConfig's defaultHttpRetryPolicy",
            (None, None) => "Istio's, where neither the rule nor MeshConfig has retries",
        };
        vec![
            setting(
                "timeout",
                forward.timeout.map_or_else(|| "none".to_owned(), span),
                at(&["timeout", "timeouts", "httpReqTimeout"]),
                of_2017.unwrap_or("Istio's, where the rule has none"),
            ),
            setting(
                "retries",
                forward
                    .retry
                    .as_ref()
                    .map_or_else(|| "none".to_owned(), retry),
                at(&["retries", "retry", "httpReqRetries"]),
                retries,
            ),
        ]
    }

    /// Of a cluster that it may go to.
    pub(super) fn of_cluster(&self, cluster: &Cluster) -> Vec<Setting> {
        let levels = self.levels(cluster);
        let at = |key: &str| levels.iter().find_map(|level| level.at(&[key]));
        let breaker = at("circuitBreaker");
        let pool = at("connectionPool").or(breaker);
        let of_2017 = self.default_of_2017(Some(&cluster.name), RulesOf2017::balance);
        let connect_timeout = pool.and_then(|pool| pool.at(&["tcp", "connectTimeout"]));
        let limits = limits(&cluster.circuit_breakers);
        let outlier = cluster.outlier_detection.as_ref();
        let mut settings = vec![
            setting(
                "balancing",
                balancing(&cluster.lb_policy).to_owned(),
                at("loadBalancer").or(at("loadBalancing")),
                of_2017.unwrap_or("Istio's"),
            ),
            setting(
                "connect timeout",
                span(cluster.connect_timeout),
                connect_timeout,
                "MeshConfig's connectTimeout, which is 10s unless set",
            ),
            setting(
                "limits",
                limits.clone().unwrap_or_else(|| "none".to_owned()),
                pool.filter(|_| limits.is_some()),
                of_2017.unwrap_or("Istio's, which lifts those of Envoy"),
            ),
            setting(
                "outlier detection",
                outlier.map_or_else(|| "off".to_owned(), ejects),
                at("outlierDetection").or(breaker),
                of_2017.unwrap_or("Istio's"),
            ),
            setting(
                "TLS",
                transport(&cluster.transport).to_owned(),
                at("tls"),
                match cluster.transport {
                    Transport::Plaintext => "where not all endpoints are known to take mutual TLS",
                    _ => "MeshConfig's enableAutoMtls, which is on unless set",
                },
            ),
        ];
        if let LbPolicy::ClusterProvided = cluster.lb_policy {
            settings.retain(|setting| setting.name != "balancing");
        }
        settings
    }

    /// Who has a default for a host that is as in 2017; `is_so`: whether it is.
    fn default_of_2017(
        &self,
        cluster: Option<&str>,
        is_so: impl Fn(&RulesOf2017, &str) -> bool,
    ) -> Option<&'static str> {
        let rules = &self.mesh.rules.of_2017;
        let host = cluster?.rsplit('|').next()?;
        is_so(rules, host).then_some(match rules.data_plane() {
            DataPlane::Envoy2017 => "Envoy's of 2017",
            DataPlane::Linkerd111 => "Linkerd 1.1.1's",
        })
    }

    /// The rule that stands there.
    fn rule(&self, origin: &ConfigRef) -> Option<&Node> {
        let object = self
            .objects
            .find(&origin.kind, &origin.namespace, &origin.name)?;
        let spec = object.document.at(&["spec"])?;
        if &*origin.kind == "RouteRule" {
            let envoy = self.mesh.rules.of_2017.data_plane() == DataPlane::Envoy2017;
            return envoy.then_some(spec);
        }
        let rules = spec.at(&["http"]).or_else(|| spec.at(&["rules"]))?;
        let mut rules = rules.as_seq()?.iter();
        rules.find(|rule| rule.span.line() == origin.line)
    }

    /// Where the DestinationRule of a cluster may set something, the place that counts first. Settings
    /// of a port replace all others of their level.
    fn levels(&self, cluster: &Cluster) -> Vec<&Node> {
        let parts: Vec<&str> = cluster.name.split('|').collect();
        let (Some(origin), [_, port, subset, host]) = (&cluster.origin, &parts[..]) else {
            return Vec::new();
        };
        if &*origin.kind == "DestinationPolicy" {
            let object = self
                .objects
                .find(&origin.kind, &origin.namespace, &origin.name);
            let spec = object.and_then(|object| object.document.at(&["spec"]));
            // Of 0.1 it has several, each for its tags.
            let several = spec.and_then(|spec| spec.at(&["policy"])?.as_seq());
            return several.map_or_else(|| spec.into_iter().collect(), |all| all.iter().collect());
        }
        let of_namespace = self
            .objects
            .of_namespace("DestinationRule", &origin.namespace);
        let rules: Vec<&Node> = of_namespace.map(|object| &object.document).collect();
        let text = |node: &Node, path: &[&str]| {
            let found = node.at(path).and_then(Node::as_scalar);
            found.unwrap_or_default().to_owned()
        };
        let named = |node: &&&Node| text(node, &["metadata", "name"]) == *origin.name;
        // Rules for one host are merged: a subset may stand in any of them.
        let of_host =
            |node: &&&Node| *full_name(&text(node, &["spec", "host"]), &origin.namespace) == **host;
        let subsets = rules.iter().filter(|node| of_host(node) || named(node));
        let subsets = subsets.filter_map(|node| node.at(&["spec", "subsets"])?.as_seq());
        let mut subsets = subsets.flatten().filter(|_| !subset.is_empty());
        let subset = subsets.find(|node| text(node, &["name"]) == **subset);
        let of_subset = subset.and_then(|subset| subset.at(&["trafficPolicy"]));
        let rule = rules.iter().find(named);
        let of_rule = rule.and_then(|rule| rule.at(&["spec", "trafficPolicy"]));
        let mut levels = Vec::new();
        for level in [of_subset, of_rule].into_iter().flatten() {
            let ports = level.at(&["portLevelSettings"]).and_then(Node::as_seq);
            let mut ports = ports.into_iter().flatten();
            let of_port = ports.find(|entry| text(entry, &["port", "number"]) == **port);
            levels.push(of_port.unwrap_or(level));
            if of_port.is_some() {
                break;
            }
        }
        levels
    }
}

fn setting(
    name: &'static str,
    value: String,
    stated: Option<&Node>,
    default: &'static str,
) -> Setting {
    Setting {
        name,
        value,
        cluster: None,
        file: stated.map(|node| node.span.file.name.clone()),
        line: stated.map(|node| node.span.line()),
        default: stated.is_none().then_some(default),
    }
}

fn retry(retry: &RetryPolicy) -> String {
    let mut text = format!("{} more tries on {}", retry.num_retries, retry.retry_on);
    if retry.retry_on.any(RetryOn::RETRIABLE_STATUS_CODES) {
        let codes = retry.retriable_status_codes.iter().map(u16::to_string);
        let codes = codes.collect::<Vec<_>>().join(", ");
        text += &match codes.is_empty() {
            true => " (of which there are none)".to_owned(),
            false => format!(" ({codes})"),
        };
    }
    if let Some(limit) = retry.per_try_timeout {
        text += &format!(", {} for each try", span(limit));
    }
    text
}

pub(super) fn balancing(policy: &LbPolicy) -> &'static str {
    match policy {
        LbPolicy::RoundRobin => "round robin",
        LbPolicy::LeastRequest { .. } => "least request, of two drawn",
        LbPolicy::Random => "random",
        LbPolicy::RingHash { .. } => "ring hash",
        LbPolicy::Maglev { .. } => "Maglev",
        LbPolicy::PeakEwma { .. } => "peak EWMA, of two drawn",
        LbPolicy::ClusterProvided => "none",
    }
}

/// Those that are set; `None`: none is.
fn limits(breakers: &CircuitBreakers) -> Option<String> {
    let all = [
        ("connections", breakers.max_connections),
        ("waiting requests", breakers.max_pending_requests),
        ("requests", breakers.max_requests),
        ("retries", breakers.max_retries),
    ];
    let set = all.into_iter().filter(|(_, most)| *most != u32::MAX);
    let set: Vec<String> = set.map(|(what, most)| format!("{most} {what}")).collect();
    (!set.is_empty()).then(|| set.join(", "))
}

fn ejects(outlier: &OutlierDetection) -> String {
    let counts = [
        (
            "5xx",
            outlier.consecutive_5xx,
            outlier.enforcing_consecutive_5xx,
        ),
        (
            "gateway errors",
            outlier.consecutive_gateway_failure,
            outlier.enforcing_consecutive_gateway_failure,
        ),
    ];
    let enforced = counts
        .into_iter()
        .filter(|(_, _, enforcing)| *enforcing > 0);
    let enforced: Vec<String> = enforced.map(|(what, n, _)| format!("{n} {what}")).collect();
    format!(
        "out for {} after {} in a row, at most {} % of the endpoints",
        span(outlier.base_ejection_time),
        enforced.join(" or "),
        outlier.max_ejection_percent
    )
}

fn transport(transport: &Transport) -> &'static str {
    match transport {
        Transport::Plaintext => "none is added",
        Transport::AutoMutualTls => "mutual TLS to endpoints with a sidecar",
        Transport::IstioMutualTls => "mutual TLS",
        Transport::Tls { .. } => "TLS begins here",
    }
}

fn span(span: Nanos) -> String {
    let seconds = span.as_secs_f64();
    match span.as_millis() % 1000 {
        0 => format!("{seconds}s"),
        _ => format!("{}ms", span.as_millis_f64()),
    }
}
