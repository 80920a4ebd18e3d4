//! How the traffic policy of a DestinationRule balances load.

use super::locality::{check_failover, is_topology};
use super::{any_duration, choice, duration, number, refuse, required_named, schema_warning};
use proxy_core::time::Nanos;
use proxy_core::xds::{HashInput, SlowStart};
use source::{Diagnostic, Fields, Node};

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
    /// What is hashed; `None`: nothing, so that endpoints are picked at random.
    pub(crate) input: Option<HashInput>,
    pub(crate) table: HashTable,
}

/// How the hash picks an endpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum HashTable {
    Ring { minimum: u64 },
    Maglev { size: u64 },
}

impl LoadBalancer {
    /// `fails_over`: outliers are detected beside it.
    pub(super) fn read(
        node: &Node,
        fails_over: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<LoadBalancer> {
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
        exclude(
            &mut fields,
            &["simple", "consistentHash", "backendUtilization"],
        );
        exclude(&mut fields, &["localityLbSetting", "zoneAwareLbSetting"]);
        let hash_node = fields.optional("consistentHash");
        let hash = hash_node.and_then(|node| ConsistentHash::read(node, fields.diagnostics));
        if let Some(node) = fields.optional("zoneAwareLbSetting") {
            check_zone_aware(node, fails_over, fields.diagnostics);
        }
        fields.unsupported(&["zoneAwareLbSetting", "backendUtilization"]);
        // Read beside this.
        fields.ignore(&["localityLbSetting", "warmup", "warmupDurationSecs"]);
        fields.finish();
        let simple = simple.unwrap_or(Simple::LeastRequest);
        Some(hash.map_or(LoadBalancer::Simple(simple), LoadBalancer::ConsistentHash))
    }
}

/// Refuses more than one of `keys`.
fn exclude(fields: &mut Fields<'_, '_>, keys: &[&'static str]) {
    let stated = keys
        .iter()
        .filter_map(|key| Some((key, fields.optional(key)?)));
    if let [(first, _), (key, node), ..] = stated.collect::<Vec<_>>()[..] {
        let message = format!("`{first}` and `{key}` exclude each other");
        let label = format!("beside `{first}`");
        refuse(fields.diagnostics, &node.span, message, label);
    }
}

/// Istio `LoadBalancerSettings.warmup`, or its predecessor, which states the duration alone.
pub(super) fn read_warmup(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<SlowStart> {
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
    let aggression = number(&mut fields, "aggression", 0.0, f64::MAX);
    if let (Some(node), Some(0.0)) = (fields.optional("aggression"), aggression) {
        let message = "`aggression` is above 0";
        refuse(fields.diagnostics, &node.span, message, "never warms up");
    }
    fields.finish();
    slow_start.window = window?;
    slow_start.min_weight_percent = least.unwrap_or(slow_start.min_weight_percent);
    slow_start.aggression = aggression.unwrap_or(slow_start.aggression);
    Some(slow_start)
}

/// The keys of a consistent hash that say what is hashed.
const HASHED: [&str; 4] = [
    "httpHeaderName",
    "httpCookie",
    "useSourceIp",
    "httpQueryParameterName",
];

impl ConsistentHash {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ConsistentHash> {
        let mut fields = Fields::of(node, "a consistent hash", diagnostics)?;
        exclude(&mut fields, &HASHED);
        exclude(&mut fields, &["minimumRingSize", "ringHash", "maglev"]);
        let header = fields.text("httpHeaderName");
        let cookie = fields.optional("httpCookie");
        let source_ip = fields.boolean("useSourceIp");
        let query = fields.text("httpQueryParameterName");
        let input = if let Some(name) = header {
            Some(HashInput::Header(name.to_ascii_lowercase().into()))
        } else if let Some(node) = cookie {
            read_cookie(node, fields.diagnostics)
        } else if let Some(name) = query {
            Some(HashInput::Query(name.into()))
        } else {
            (source_ip == Some(true)).then_some(HashInput::SourceIp)
        };
        if input.is_none() && cookie.is_none() {
            let message = format!("a consistent hash without any of {}", HASHED.join(", "));
            let label = "endpoints are picked at random";
            fields
                .diagnostics
                .push(Diagnostic::warning(message).at(&node.span, label));
        }
        let table = read_table(&mut fields);
        fields.finish();
        Some(ConsistentHash { input, table })
    }
}

fn read_cookie(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HashInput> {
    let mut fields = Fields::of(node, "a cookie", diagnostics)?;
    let name = required_named(&mut fields, "name");
    if name.as_ref().is_some_and(|name| name.text.is_empty()) {
        refuse(
            fields.diagnostics,
            &node.span,
            "a cookie has a name",
            "`name` is empty",
        );
    }
    let path = fields.text("path").unwrap_or_default();
    let ttl = any_duration(&mut fields, "ttl");
    let mut attributes: Vec<String> = Vec::new();
    for node in fields.list("attributes") {
        let mut inner = Fields::of(node, "an attribute of a cookie", fields.diagnostics)?;
        let name = inner.required_text("name").unwrap_or_default();
        // What clients do with it is theirs.
        inner.ignore(&["value"]);
        inner.finish();
        if name.is_empty() {
            let message = "an attribute of a cookie has a name";
            refuse(fields.diagnostics, &node.span, message, "`name` is empty");
        } else if attributes.contains(&name) {
            let message = format!("attribute `{name}` of a cookie is there twice");
            refuse(fields.diagnostics, &node.span, message, "the second one");
        }
        attributes.push(name);
    }
    fields.finish();
    Some(HashInput::Cookie {
        name: name?.text,
        path: path.into(),
        ttl,
    })
}

/// Istio's limit of a maglev table, which is Envoy's.
const MAGLEV_MAX: i64 = 5_000_011;

fn read_table(fields: &mut Fields<'_, '_>) -> HashTable {
    let size = |fields: &mut Fields<'_, '_>, key, least, most| {
        fields
            .integer(key, least..=most)
            .and_then(|n| u64::try_from(n).ok())
    };
    const RING_MAX: i64 = 8_388_608;
    let minimum = size(fields, "minimumRingSize", 0, RING_MAX).filter(|n| *n > 0);
    if let (Some(node), Some(_)) = (fields.optional("minimumRingSize"), minimum) {
        let message = "`minimumRingSize` of a consistent hash is outdated";
        let label = "use that of `ringHash`";
        fields
            .diagnostics
            .push(schema_warning(message).at(&node.span, label));
    }
    let ring = |minimum: Option<u64>| HashTable::Ring {
        minimum: minimum.unwrap_or(1024),
    };
    if let Some(node) = fields.optional("ringHash")
        && let Some(mut inner) = Fields::of(node, "a ring hash", fields.diagnostics)
    {
        let minimum = size(&mut inner, "minimumRingSize", 0, RING_MAX);
        inner.finish();
        return ring(minimum.filter(|n| *n > 0));
    }
    if let Some(node) = fields.optional("maglev")
        && let Some(mut inner) = Fields::of(node, "a maglev table", fields.diagnostics)
    {
        inner.required("tableSize");
        let size = size(&mut inner, "tableSize", 1, MAGLEV_MAX - 1);
        if let (Some(size), Some(node)) =
            (size.filter(|n| !is_prime(*n)), inner.optional("tableSize"))
        {
            let message = "the size of a maglev table is a prime number";
            refuse(
                inner.diagnostics,
                &node.span,
                message,
                format!("{size} is not"),
            );
        }
        inner.finish();
        return HashTable::Maglev {
            size: size.unwrap_or(65_537),
        };
    }
    ring(minimum)
}

fn is_prime(n: u64) -> bool {
    let mut odd = (3..).step_by(2).take_while(|factor| factor * factor <= n);
    n > 1 && (n < 4 || (!n.is_multiple_of(2) && odd.all(|factor| !n.is_multiple_of(factor))))
}

/// Checks a `zoneAwareLbSetting`.
fn check_zone_aware(node: &Node, fails_over: bool, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a zone-aware setting", diagnostics) else {
        return;
    };
    for label in fields.list("failoverPriority") {
        if label.as_scalar().is_some_and(is_topology) {
            let message = "zone-aware balancing looks at region and zone by itself";
            refuse(
                fields.diagnostics,
                &label.span,
                message,
                "a label of the topology",
            );
        }
    }
    check_failover(&mut fields, Some(fails_over));
    fields.ignore(&["enabled", "minClusterSize"]);
    fields.finish();
}
