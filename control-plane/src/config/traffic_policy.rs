//! The policy blocks of a DestinationRule.

use super::load_balancer::read_warmup;
use super::syntax::{host_name, ip_address};
use super::{
    ConnectionPool, ConsistentHash, LoadBalancer, LocalitySetting, choice, count, duration, number,
    port, port_selector, refuse, schema_warning,
};
use proxy_core::xds::{Name, OutlierDetection, RetryBudget, SlowStart};
use source::{Diagnostic, Fields, Node};

/// Istio `TrafficPolicy`, and each of its port-level settings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TrafficPolicy {
    pub(crate) load_balancer: Option<LoadBalancer>,
    pub(crate) connection_pool: Option<ConnectionPool>,
    pub(crate) outlier_detection: Option<Outlier>,
    pub(crate) tls: Option<ClientTls>,
    /// Of the load balancer, as is the next.
    pub(crate) locality: Option<LocalitySetting>,
    pub(crate) warmup: Option<SlowStart>,
    /// Not of port-level settings.
    pub(crate) retry_budget: Option<RetryBudget>,
    pub(crate) port_level: Vec<(u16, TrafficPolicy)>,
}

/// Istio `OutlierDetection`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outlier {
    pub(crate) detection: OutlierDetection,
    pub(crate) min_health_percent: u32,
}

/// Istio `ClientTLSSettings`, as far as it changes what a proxy does here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ClientTls {
    pub(crate) mode: TlsMode,
    pub(crate) sni: Option<Name>,
    /// What it needs to check servers is not there (BackendTLSPolicy): no connection comes about.
    pub(crate) unusable: bool,
}

/// Istio `ClientTLSSettings.TLSmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

const BLOCKS: [&str; 4] = ["loadBalancer", "connectionPool", "outlierDetection", "tls"];
/// Not of port-level settings.
const OTHERS: [&str; 4] = [
    "portLevelSettings",
    "tunnel",
    "proxyProtocol",
    "retryBudget",
];

impl TrafficPolicy {
    /// `namespace`: of the DestinationRule.
    pub(super) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<TrafficPolicy> {
        let mut fields = Fields::of(node, "a traffic policy", diagnostics)?;
        let mut policy = TrafficPolicy::blocks(&mut fields, namespace);
        let all = BLOCKS.into_iter().chain(OTHERS);
        if all.into_iter().all(|key| fields.optional(key).is_none()) {
            let message = "a traffic policy needs at least one setting";
            refuse(fields.diagnostics, &node.span, message, "says nothing");
        }
        for node in fields.list("portLevelSettings") {
            let blocks = read_port_level(node, namespace, fields.diagnostics);
            policy.port_level.extend(blocks);
        }
        if let Some(node) = fields.optional("retryBudget") {
            policy.retry_budget = read_retry_budget(node, fields.diagnostics);
        }
        check_tunnel(&mut fields);
        fields.unsupported(&["tunnel", "proxyProtocol"]);
        fields.finish();
        Some(policy)
    }

    fn blocks(fields: &mut Fields<'_, '_>, namespace: &Name) -> TrafficPolicy {
        let [load_balancer, pool, outlier, tls] = BLOCKS.map(|key| fields.optional(key));
        let fails_over = outlier.is_some();
        let locality = load_balancer.and_then(|node| node.at(&["localityLbSetting"]));
        let diagnostics = &mut *fields.diagnostics;
        TrafficPolicy {
            locality: locality
                .and_then(|node| LocalitySetting::read(node, Some(fails_over), diagnostics)),
            warmup: load_balancer.and_then(|node| read_warmup(node, diagnostics)),
            retry_budget: None,
            load_balancer: load_balancer
                .and_then(|n| LoadBalancer::read(n, fails_over, diagnostics)),
            connection_pool: pool.and_then(|n| ConnectionPool::read(n, diagnostics)),
            outlier_detection: outlier.and_then(|n| Outlier::read(n, diagnostics)),
            tls: tls.and_then(|n| ClientTls::read(n, namespace, diagnostics)),
            port_level: Vec::new(),
        }
    }

    /// What is hashed at `port`, or at all.
    pub(crate) fn hash_at(&self, port: Option<u16>) -> Option<ConsistentHash> {
        let at_port = self
            .port_level
            .iter()
            .find(|(number, _)| Some(*number) == port);
        let own = at_port.and_then(|(_, blocks)| blocks.hash_at(None));
        own.or_else(|| match &self.load_balancer {
            Some(LoadBalancer::ConsistentHash(hash)) => Some(hash.clone()),
            _ => None,
        })
    }

    /// The TLS mode stated for `port`, or at all.
    pub(crate) fn tls_at(&self, port: u16) -> Option<TlsMode> {
        let at_port = self.port_level.iter().find(|(number, _)| *number == port);
        let stated = at_port.and_then(|(_, blocks)| blocks.tls.as_ref());
        stated.or(self.tls.as_ref()).map(|tls| tls.mode)
    }

    /// The blocks that hold at `port`: a port-level entry replaces all of them.
    fn at_port(&self, port: u16) -> (TrafficPolicy, bool) {
        match self.port_level.iter().find(|(number, _)| *number == port) {
            Some((_, blocks)) => (blocks.clone(), true),
            None => (
                TrafficPolicy {
                    port_level: Vec::new(),
                    ..self.clone()
                },
                false,
            ),
        }
    }
}

/// The effective blocks at `port`: a subset overrides block by block, each whole; its entry for the
/// port replaces all.
pub(crate) fn merge_levels(
    rule: Option<&TrafficPolicy>,
    subset: Option<&TrafficPolicy>,
    port: u16,
) -> TrafficPolicy {
    let base = rule
        .map(|policy| policy.at_port(port).0)
        .unwrap_or_default();
    let Some(subset) = subset else {
        return base;
    };
    let (over, whole) = subset.at_port(port);
    let retry_budget = over.retry_budget.or(base.retry_budget);
    if whole {
        return TrafficPolicy {
            retry_budget,
            ..over
        };
    }
    // Parts of the block of the load balancer.
    let (locality, warmup) = match over.load_balancer {
        Some(_) => (over.locality, over.warmup),
        None => (base.locality, base.warmup),
    };
    TrafficPolicy {
        locality,
        warmup,
        retry_budget,
        load_balancer: over.load_balancer.or(base.load_balancer),
        connection_pool: over.connection_pool.or(base.connection_pool),
        outlier_detection: over.outlier_detection.or(base.outlier_detection),
        tls: over.tls.or(base.tls),
        port_level: Vec::new(),
    }
}

fn read_port_level(
    node: &Node,
    namespace: &Name,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(u16, TrafficPolicy)> {
    let mut fields = Fields::of(node, "port-level settings", diagnostics)?;
    fields.required("port");
    let port = port_selector(&mut fields);
    let blocks = TrafficPolicy::blocks(&mut fields, namespace);
    if BLOCKS.into_iter().all(|key| fields.optional(key).is_none()) {
        let message = format!("port-level settings need one of {}", BLOCKS.join(", "));
        refuse(fields.diagnostics, &node.span, message, "say nothing");
    }
    fields.finish();
    Some((port?, blocks))
}

/// Checks `tunnel` and `proxyProtocol`.
fn check_tunnel(fields: &mut Fields<'_, '_>) {
    let tunnel = fields.optional("tunnel");
    if let Some(node) = fields.optional("proxyProtocol") {
        if tunnel.is_some() {
            let message = "`tunnel` and `proxyProtocol` exclude each other";
            refuse(fields.diagnostics, &node.span, message, "beside `tunnel`");
        }
        if let Some(mut inner) = Fields::of(node, "a proxyProtocol", fields.diagnostics) {
            choice(&mut inner, "version", &[("V1", 1), ("V2", 2)]);
            inner.finish();
        }
    }
    let Some(node) = tunnel else { return };
    let Some(mut inner) = Fields::of(node, "a tunnel", fields.diagnostics) else {
        return;
    };
    let methods = [("", ""), ("CONNECT", "CONNECT"), ("POST", "POST")];
    choice(&mut inner, "protocol", &methods);
    let host = inner.required_text("targetHost");
    if let Some(Err(why)) = host.map(|host| ip_address(&host).or_else(|_| host_name(&host))) {
        let message = "the `targetHost` of a tunnel is a host or an IP address";
        refuse(inner.diagnostics, &node.span, message, why);
    }
    inner.required("targetPort");
    port(&mut inner, "targetPort");
    inner.finish();
}

/// Istio `TrafficPolicy.RetryBudget`.
fn read_retry_budget(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RetryBudget> {
    let mut fields = Fields::of(node, "a retry budget", diagnostics)?;
    let percent = number(&mut fields, "percent", 0.0, 100.0);
    let least = count(&mut fields, "minRetryConcurrency").filter(|n| *n > 0);
    fields.unsupported(&["budgetInterval"]);
    fields.finish();
    Some(RetryBudget {
        budget_percent: percent.unwrap_or(20.0),
        min_retry_concurrency: least.unwrap_or(3),
    })
}

impl Outlier {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Outlier> {
        let mut fields = Fields::of(node, "outlier detection", diagnostics)?;
        let mut detection = OutlierDetection::default();
        let enforcing = |n: u32| if n == 0 { 0 } else { 100 };
        let percent = |fields: &mut Fields<'_, '_>, key| {
            fields
                .integer(key, 0..=100)
                .and_then(|n| u32::try_from(n).ok())
        };
        if let Some(n) = count(&mut fields, "consecutive5xxErrors") {
            detection.consecutive_5xx = n;
            detection.enforcing_consecutive_5xx = enforcing(n);
        }
        if let Some(n) = count(&mut fields, "consecutiveGatewayErrors") {
            detection.consecutive_gateway_failure = n;
            detection.enforcing_consecutive_gateway_failure = enforcing(n);
        }
        if let Some(split) = fields.boolean("splitExternalLocalOriginErrors") {
            detection.split_external_local_origin_errors = split;
            if split {
                detection.enforcing_local_origin_success_rate = 0;
            }
        }
        let local = count(&mut fields, "consecutiveLocalOriginFailures");
        if let (Some(1..), false) = (local, detection.split_external_local_origin_errors) {
            let message = "`consecutiveLocalOriginFailures` needs `splitExternalLocalOriginErrors`";
            let label = "without it, such failures count as 5xx";
            refuse(fields.diagnostics, &node.span, message, label);
        }
        if let Some(n) = local {
            detection.consecutive_local_origin_failure = n;
            detection.enforcing_consecutive_local_origin_failure = enforcing(n);
        }
        if let Some(interval) = duration(&mut fields, "interval") {
            detection.interval = interval;
        }
        if let Some(time) = duration(&mut fields, "baseEjectionTime") {
            detection.base_ejection_time = time;
            // Envoy: the maximum is never below the base.
            detection.max_ejection_time = detection.max_ejection_time.max(time);
        }
        if let Some(share) = percent(&mut fields, "maxEjectionPercent").filter(|n| *n > 0) {
            detection.max_ejection_percent = share;
        }
        let min_health_percent = percent(&mut fields, "minHealthPercent").unwrap_or(0);
        if let Some(node) = fields.optional("consecutiveErrors") {
            let message = "`consecutiveErrors` is outdated and has no effect";
            let label = "use `consecutive5xxErrors` or `consecutiveGatewayErrors`";
            fields
                .diagnostics
                .push(schema_warning(message).at(&node.span, label));
        }
        fields.unsupported(&["outlierDetectionHttpErrorCodes"]);
        fields.finish();
        Some(Outlier {
            detection,
            min_health_percent,
        })
    }
}

impl ClientTls {
    fn read(node: &Node, namespace: &Name, diagnostics: &mut Vec<Diagnostic>) -> Option<ClientTls> {
        let mut fields = Fields::of(node, "TLS settings", diagnostics)?;
        let mode = choice(
            &mut fields,
            "mode",
            &[
                ("DISABLE", TlsMode::Disable),
                ("SIMPLE", TlsMode::Simple),
                ("MUTUAL", TlsMode::Mutual),
                ("ISTIO_MUTUAL", TlsMode::IstioMutual),
            ],
        )
        .unwrap_or(TlsMode::Disable);
        let sni = fields.text("sni").map(Name::from);
        check_certificates(&mut fields, mode, namespace);
        // Certificates and their checks: no secrets are modelled.
        fields.ignore(&["subjectAltNames"]);
        fields.finish();
        Some(ClientTls {
            mode,
            sni,
            unusable: false,
        })
    }
}

/// Holds the files and secrets of TLS settings against its mode.
fn check_certificates(fields: &mut Fields<'_, '_>, mode: TlsMode, namespace: &Name) {
    let span = fields.span();
    let mut stated = |key: &'static str| {
        fields
            .text(key)
            .is_some_and(|text: String| !text.is_empty())
    };
    let (certificate, key) = (stated("clientCertificate"), stated("privateKey"));
    let (authority, revoked) = (stated("caCertificates"), stated("caCrl"));
    let secret = fields.text("credentialName").unwrap_or_default();
    let names = fields.optional("subjectAltNames").is_some();
    let unverified = fields.boolean("insecureSkipVerify") == Some(true);
    let from_secret = !secret.is_empty();
    let diagnostics = &mut *fields.diagnostics;
    if let Some(resource) = secret.strip_prefix("configmap://") {
        let of = resource.split_once('/').map(|(of, _)| of);
        if of != Some(&**namespace) {
            let message = "a `configmap://NAMESPACE/NAME` is of the object's own namespace";
            refuse(diagnostics, span, message, format!("found `{secret}`"));
        }
    }
    let one_way = mode == TlsMode::Simple;
    if !one_way && mode != TlsMode::Mutual {
        return;
    }
    if unverified && (authority || names || (one_way && from_secret)) {
        let message = "`insecureSkipVerify` leaves nothing to verify the server by";
        let label = "beside `caCertificates`, `subjectAltNames` or, one way, `credentialName`";
        refuse(diagnostics, span, message, label);
    }
    if from_secret && (certificate || key || authority || revoked) {
        let message = "certificates come from `credentialName` or from files, not from both";
        refuse(diagnostics, span, message, "both are stated");
    }
    if mode == TlsMode::Mutual && !from_secret && !(certificate && key) {
        let message = "mutual TLS needs `credentialName`, or `clientCertificate` and `privateKey`";
        refuse(diagnostics, span, message, "nothing to show to the server");
    }
}
