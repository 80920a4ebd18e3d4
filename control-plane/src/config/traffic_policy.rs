//! The policy blocks of a DestinationRule.

use super::{
    LocalitySetting, choice, count, duration, duration_from, port_selector, required_named,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{Name, OutlierDetection, RetryBudget, SlowStart};
use source::{Fields, Node};

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

/// Istio `LoadBalancerSettings`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum LoadBalancer {
    Simple(Simple),
    ConsistentHash(ConsistentHash),
}

/// Istio `LoadBalancerSettings.SimpleLB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Simple {
    LeastRequest,
    RoundRobin,
    Random,
    Passthrough,
}

/// Istio `LoadBalancerSettings.ConsistentHashLB`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConsistentHash {
    pub(crate) key: HashKey,
    pub(crate) table: HashTable,
}

/// What is hashed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HashKey {
    Header(Name),
    Cookie {
        name: Name,
        path: Name,
        ttl: Option<Nanos>,
    },
    SourceIp,
    Query(Name),
}

/// How the hash picks an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HashTable {
    Ring { minimum: u64 },
    Maglev { size: u64 },
}

/// Istio `ConnectionPoolSettings`; 0 and absent are both `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ConnectionPool {
    pub(crate) max_connections: Option<u32>,
    pub(crate) connect_timeout: Option<Nanos>,
    pub(crate) idle_timeout: Option<Nanos>,
    pub(crate) max_pending_requests: Option<u32>,
    pub(crate) max_requests: Option<u32>,
    pub(crate) max_retries: Option<u32>,
    pub(crate) max_requests_per_connection: Option<u32>,
    pub(crate) max_concurrent_streams: Option<u32>,
    pub(crate) h2_upgrade: bool,
    pub(crate) use_client_protocol: bool,
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

impl TrafficPolicy {
    pub(super) fn read(
        node: &Node,
        diagnostics: &mut Vec<source::Diagnostic>,
    ) -> Option<TrafficPolicy> {
        let mut fields = Fields::of(node, "a traffic policy", diagnostics)?;
        let mut policy = TrafficPolicy::blocks(&mut fields);
        for node in fields.list("portLevelSettings") {
            let Some(mut inner) = Fields::of(node, "port-level settings", fields.diagnostics)
            else {
                continue;
            };
            inner.required("port");
            let port = port_selector(&mut inner);
            let blocks = TrafficPolicy::blocks(&mut inner);
            inner.finish();
            policy.port_level.extend(port.map(|port| (port, blocks)));
        }
        if let Some(node) = fields.optional("retryBudget") {
            policy.retry_budget = read_retry_budget(node, fields.diagnostics);
        }
        fields.unsupported(&["tunnel", "proxyProtocol"]);
        fields.finish();
        Some(policy)
    }

    fn blocks(fields: &mut Fields<'_, '_>) -> TrafficPolicy {
        let load_balancer = fields.optional("loadBalancer");
        let pool = fields.optional("connectionPool");
        let outlier = fields.optional("outlierDetection");
        let tls = fields.optional("tls");
        TrafficPolicy {
            locality: load_balancer
                .and_then(|node| node.at(&["localityLbSetting"]))
                .and_then(|node| LocalitySetting::read(node, fields.diagnostics)),
            warmup: load_balancer.and_then(|node| read_warmup(node, fields.diagnostics)),
            retry_budget: None,
            load_balancer: load_balancer.and_then(|n| LoadBalancer::read(n, fields.diagnostics)),
            connection_pool: pool.and_then(|n| ConnectionPool::read(n, fields.diagnostics)),
            outlier_detection: outlier.and_then(|n| Outlier::read(n, fields.diagnostics)),
            tls: tls.and_then(|n| ClientTls::read(n, fields.diagnostics)),
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

impl LoadBalancer {
    fn read(node: &Node, diagnostics: &mut Vec<source::Diagnostic>) -> Option<LoadBalancer> {
        let mut fields = Fields::of(node, "a load balancer", diagnostics)?;
        let simple = choice(
            &mut fields,
            "simple",
            &[
                ("UNSPECIFIED", Simple::LeastRequest),
                ("LEAST_REQUEST", Simple::LeastRequest),
                ("LEAST_CONN", Simple::LeastRequest),
                ("ROUND_ROBIN", Simple::RoundRobin),
                ("RANDOM", Simple::Random),
                ("PASSTHROUGH", Simple::Passthrough),
            ],
        );
        let hash_node = fields.optional("consistentHash");
        if let (Some(node), true) = (hash_node, simple.is_some()) {
            let message = "`simple` and `consistentHash` exclude each other";
            fields
                .diagnostics
                .push(source::Diagnostic::error(message).at(&node.span, "beside `simple`"));
        }
        let hash = hash_node.and_then(|node| ConsistentHash::read(node, fields.diagnostics));
        // Read beside this.
        fields.ignore(&["localityLbSetting", "warmup", "warmupDurationSecs"]);
        fields.finish();
        let simple = simple.unwrap_or(Simple::LeastRequest);
        Some(hash.map_or(LoadBalancer::Simple(simple), LoadBalancer::ConsistentHash))
    }
}

/// Istio `LoadBalancerSettings.warmup`, or its predecessor, which states the duration alone.
fn read_warmup(node: &Node, diagnostics: &mut Vec<source::Diagnostic>) -> Option<SlowStart> {
    let mut slow_start = SlowStart {
        window: Nanos::ZERO,
        aggression: 1.0,
        min_weight_percent: 10.0,
    };
    let Some(warmup) = node.at(&["warmup"]) else {
        node.at(&["warmupDurationSecs"])?;
        // The other keys are read with the load balancer.
        let mut fields = Fields::of(node, "a load balancer", diagnostics)?;
        slow_start.window = duration(&mut fields, "warmupDurationSecs")?;
        return Some(slow_start);
    };
    let mut fields = Fields::of(warmup, "a warmup", diagnostics)?;
    fields.required("duration");
    let window = duration(&mut fields, "duration");
    let least = number(&mut fields, "minimumPercent", 0.0, 100.0);
    let aggression = number(&mut fields, "aggression", 1.0, f64::MAX);
    fields.finish();
    slow_start.window = window?;
    slow_start.min_weight_percent = least.unwrap_or(slow_start.min_weight_percent);
    slow_start.aggression = aggression.unwrap_or(slow_start.aggression);
    Some(slow_start)
}

/// Istio `TrafficPolicy.RetryBudget`.
fn read_retry_budget(
    node: &Node,
    diagnostics: &mut Vec<source::Diagnostic>,
) -> Option<RetryBudget> {
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

/// A number from `least` to `most`.
fn number(fields: &mut Fields<'_, '_>, key: &'static str, least: f64, most: f64) -> Option<f64> {
    let node = fields.optional(key)?;
    // Wrapped numbers may be written as the wrapper.
    let node = node.at(&["value"]).unwrap_or(node);
    let found = match node.value {
        source::Value::Int(value) => value as f64,
        source::Value::Float(value) => value,
        _ => f64::NAN,
    };
    if (least..=most).contains(&found) {
        return Some(found);
    }
    let want = match most {
        f64::MAX => format!("`{key}` is a number of at least {least}"),
        _ => format!("`{key}` is a number from {least} to {most}"),
    };
    fields
        .diagnostics
        .push(source::fields::expected(node, &want));
    None
}

impl ConsistentHash {
    fn read(node: &Node, diagnostics: &mut Vec<source::Diagnostic>) -> Option<ConsistentHash> {
        let mut fields = Fields::of(node, "a consistent hash", diagnostics)?;
        let header = fields.text("httpHeaderName");
        let cookie = fields.optional("httpCookie");
        let source_ip = fields.boolean("useSourceIp");
        let query = fields.text("httpQueryParameterName");
        let key = if let Some(name) = header {
            Some(HashKey::Header(name.to_ascii_lowercase().into()))
        } else if let Some(node) = cookie {
            let mut inner = Fields::of(node, "a cookie", fields.diagnostics)?;
            let name = required_named(&mut inner, "name");
            let path = inner.text("path").unwrap_or_default();
            let ttl = duration_from(&mut inner, "ttl", Nanos::ZERO);
            inner.finish();
            name.map(|name| HashKey::Cookie {
                name: name.text,
                path: path.into(),
                ttl,
            })
        } else if let Some(name) = query {
            Some(HashKey::Query(name.into()))
        } else if source_ip == Some(true) {
            Some(HashKey::SourceIp)
        } else {
            let message = "a consistent hash needs `httpHeaderName`, `httpCookie`, `useSourceIp` or `httpQueryParameterName`";
            fields
                .diagnostics
                .push(source::Diagnostic::error(message).at(fields.span(), "nothing to hash"));
            None
        };
        let size = |fields: &mut Fields<'_, '_>, key| {
            fields
                .integer(key, 1..=8_388_608)
                .and_then(|n| u64::try_from(n).ok())
        };
        let minimum = size(&mut fields, "minimumRingSize");
        let mut table = HashTable::Ring {
            minimum: minimum.unwrap_or(1024),
        };
        if let Some(node) = fields.optional("ringHash") {
            let mut inner = Fields::of(node, "a ring hash", fields.diagnostics)?;
            let minimum = size(&mut inner, "minimumRingSize").unwrap_or(1024);
            inner.finish();
            table = HashTable::Ring { minimum };
        } else if let Some(node) = fields.optional("maglev") {
            let mut inner = Fields::of(node, "a maglev table", fields.diagnostics)?;
            let size = size(&mut inner, "tableSize").unwrap_or(65_537);
            inner.finish();
            table = HashTable::Maglev { size };
        }
        fields.optional("maglev");
        fields.finish();
        Some(ConsistentHash { key: key?, table })
    }
}

impl ConnectionPool {
    pub(super) fn read(
        node: &Node,
        diagnostics: &mut Vec<source::Diagnostic>,
    ) -> Option<ConnectionPool> {
        let mut fields = Fields::of(node, "a connection pool", diagnostics)?;
        let mut pool = ConnectionPool::default();
        let limit = |fields: &mut Fields<'_, '_>, key| count(fields, key).filter(|n| *n > 0);
        if let Some(node) = fields.optional("tcp") {
            let mut tcp = Fields::of(node, "TCP settings", fields.diagnostics)?;
            pool.max_connections = limit(&mut tcp, "maxConnections");
            pool.connect_timeout = duration(&mut tcp, "connectTimeout");
            pool.idle_timeout = duration(&mut tcp, "idleTimeout");
            tcp.unsupported(&["tcpKeepalive", "maxConnectionDuration"]);
            tcp.finish();
        }
        if let Some(node) = fields.optional("http") {
            let mut http = Fields::of(node, "HTTP settings", fields.diagnostics)?;
            pool.max_pending_requests = limit(&mut http, "http1MaxPendingRequests");
            pool.max_requests = limit(&mut http, "http2MaxRequests");
            pool.max_retries = limit(&mut http, "maxRetries");
            pool.max_requests_per_connection = limit(&mut http, "maxRequestsPerConnection");
            let idle = duration(&mut http, "idleTimeout");
            pool.idle_timeout = idle.or(pool.idle_timeout);
            pool.use_client_protocol = http.boolean("useClientProtocol").unwrap_or(false);
            pool.h2_upgrade = choice(
                &mut http,
                "h2UpgradePolicy",
                &[
                    ("DEFAULT", false),
                    ("DO_NOT_UPGRADE", false),
                    ("UPGRADE", true),
                ],
            )
            .unwrap_or(false);
            pool.max_concurrent_streams = limit(&mut http, "maxConcurrentStreams");
            http.finish();
        }
        fields.finish();
        Some(pool)
    }
}

impl Outlier {
    fn read(node: &Node, diagnostics: &mut Vec<source::Diagnostic>) -> Option<Outlier> {
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
        if let Some(n) = count(&mut fields, "consecutiveLocalOriginFailures") {
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
        fields.unsupported(&["consecutiveErrors"]);
        fields.finish();
        Some(Outlier {
            detection,
            min_health_percent,
        })
    }
}

impl ClientTls {
    fn read(node: &Node, diagnostics: &mut Vec<source::Diagnostic>) -> Option<ClientTls> {
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
        );
        let sni = fields.text("sni").map(Name::from);
        // Certificates and their checks: no secrets are modelled.
        fields.ignore(&[
            "clientCertificate",
            "privateKey",
            "caCertificates",
            "credentialName",
            "subjectAltNames",
            "insecureSkipVerify",
            "caCrl",
        ]);
        fields.finish();
        Some(ClientTls {
            mode: mode.unwrap_or(TlsMode::Disable),
            sni,
            unusable: false,
        })
    }
}
