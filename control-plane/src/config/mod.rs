//! Istio's objects as typed values, read strictly: one file for each kind.

mod attribute;
mod authorization_policy;
mod connection_pool;
mod cors;
mod delegate;
mod destination_rule;
mod envoy_filter;
mod envoy_filter_check;
mod envoy_filter_match;
mod export;
mod extensions;
mod gateway;
mod http_action;
mod http_extras;
mod http_match;
mod http_route;
mod l4_route;
mod label_selector;
mod load_balancer;
mod local_rate_limit;
mod locality;
mod mesh;
mod observability;
mod peer_authentication;
mod rate_limit_actions;
mod request_authentication;
mod selection;
mod server_tls;
mod service_entry;
mod sidecar;
mod syntax;
mod target;
mod traffic_policy;
mod unreachable;
mod v1alpha2;
mod virtual_service;
mod workload_entry;

pub(crate) use attribute::{Attribute, AttributeKey, parse_range};
pub(crate) use authorization_policy::{AccessRule, AuthorizationAction, AuthorizationPolicy};
pub(crate) use connection_pool::ConnectionPool;
pub(crate) use delegate::delegated;
pub(crate) use destination_rule::{DestinationRule, Subset};
pub(crate) use envoy_filter::{Change, EnvoyFilter, HttpFilter, Insertion, Merged, Patch};
pub(crate) use envoy_filter_match::{ActionMatch, ListenerMatch, PatchContext, TableMatch};
pub(crate) use export::{ExportTo, Exporter};
pub(crate) use extensions::{check_traffic_extension, check_wasm_plugin};
pub(crate) use gateway::{BoundTo, Gateway, Server};
pub(crate) use http_action::{HttpAction, RedirectPort};
pub(crate) use http_extras::{HeaderChanges, Retries};
pub(crate) use http_match::{HttpMatch, Static};
pub(crate) use http_route::{Destination, HttpRoute, MirrorTo, RouteDestination};
pub(crate) use l4_route::{L4Match, L4Route, parse_cidr};
pub(crate) use label_selector::LabelSelector;
pub(crate) use load_balancer::{ConsistentHash, HashTable, LoadBalancer, Simple};
pub(crate) use locality::{LocalitySetting, PriorityLabel, is_within_locality};
pub(crate) use mesh::{DefaultExports, IngressMode};
pub use mesh::{MeshConfig, OutboundTrafficMode};
pub(crate) use observability::{check_proxy_config, check_telemetry};
pub(crate) use peer_authentication::{MutualTls, PeerAuthentication};
pub(crate) use request_authentication::RequestAuthentication;
pub(crate) use selection::{has_labels, label, labels};
pub(crate) use server_tls::ServerTls;
pub(crate) use service_entry::{Location, Resolution, ServiceEntry};
pub(crate) use sidecar::{EgressHost, EgressListener, Sidecar, SidecarPort};
pub(crate) use syntax::is_dns_label;
pub(crate) use target::{GATEWAY_NAME, Target};
pub(crate) use traffic_policy::{ClientTls, TlsMode, TrafficPolicy, merge_levels};
pub use v1alpha2::DataPlane;
pub(crate) use v1alpha2::{
    Condition, DestinationPolicy, EgressProtocol, EgressRule, Envelope, IngressRule, RouteRule,
    RulePort, ServiceReference, Share, SimpleBreaker, Spelling, VersionPolicy,
};
pub(crate) use virtual_service::{Semantics, VirtualService};
pub(crate) use workload_entry::{WorkloadEntry, check_workload_group};

use crate::codes::SCHEMA_WARNING;
use proxy_core::time::Nanos;
use proxy_core::xds::{Name, Regex, StringMatch};
use source::fields::expected_text;
use source::node::Entry;
use source::{Diagnostic, Fields, Node, Span};

/// A scalar as written; empty for anything else.
fn written(node: &Node) -> &str {
    node.as_scalar().unwrap_or_default()
}

/// What is in the map `key`, if there is one.
fn entries<'n>(fields: &mut Fields<'n, '_>, key: &'static str) -> &'n [Entry] {
    let map = fields.optional(key).and_then(Node::as_map);
    map.map_or(&[], |map| &map.entries)
}

/// A name as written, and where.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) text: Name,
    pub(crate) span: Span,
}

/// Reports an error at `span`; `label` stands under the snippet.
fn refuse(
    diagnostics: &mut Vec<Diagnostic>,
    span: &Span,
    message: impl Into<String>,
    label: impl Into<String>,
) {
    diagnostics.push(Diagnostic::error(message).at(span, label));
}

/// Something that Istio's validation warns of.
fn schema_warning(message: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(message).code(SCHEMA_WARNING)
}

/// A label selector or a set of labels.
pub(crate) type Labels = Vec<(Name, Name)>;

pub(crate) fn named_node(
    node: &Node,
    key: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Named> {
    match node.as_str() {
        Some(text) => Some(Named {
            text: text.into(),
            span: node.span.clone(),
        }),
        None => {
            diagnostics.push(expected_text(node, &format!("`{key}` is text")));
            None
        }
    }
}

pub(crate) fn named(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Named> {
    let node = fields.optional(key)?;
    named_node(node, key, fields.diagnostics)
}

pub(crate) fn required_named(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Named> {
    let node = fields.required(key)?;
    named_node(node, key, fields.diagnostics)
}

pub(crate) fn named_list(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<Named> {
    fields
        .list(key)
        .iter()
        .filter_map(|node| named_node(node, key, fields.diagnostics))
        .collect()
}

/// The protocol of a port, as written; one that Istio does not know is reported.
fn protocol(fields: &mut Fields<'_, '_>) -> Option<String> {
    let node = fields.optional("protocol")?;
    let text = fields.text("protocol")?;
    if text.is_empty() || syntax::is_protocol(&text) {
        return Some(text);
    }
    let known: Vec<String> = syntax::PROTOCOLS.iter().map(|p| p.to_uppercase()).collect();
    let message = format!("`{text}` is not a protocol");
    let label = format!("one of {}", known.join(", "));
    fields.diagnostics.push(
        Diagnostic::error(message)
            .at(&node.span, label)
            .nearest(&text, known.iter().map(String::as_str)),
    );
    None
}

/// A port number, 1 to 65535.
pub(crate) fn port(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u16> {
    fields
        .integer(key, 1..=65535)
        .and_then(|n| u16::try_from(n).ok())
}

/// The number in a `port: {number: N}`.
fn port_selector(fields: &mut Fields<'_, '_>) -> Option<u16> {
    let node = fields.optional("port")?;
    let mut inner = Fields::of(node, "a port", fields.diagnostics)?;
    inner.required("number")?;
    let number = port(&mut inner, "number");
    inner.finish();
    number
}

/// A whole number of 32 bits.
pub(crate) fn count(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u32> {
    fields
        .integer(key, 0..=i64::from(i32::MAX))
        .and_then(|n| u32::try_from(n).ok())
}

/// A percentage as parts per million, truncated, from a number or `{value: NUMBER}`.
fn percent_ppm(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u32> {
    let node = fields.optional(key)?;
    let number = match node.as_map() {
        None => node,
        Some(_) => {
            let mut inner = Fields::of(node, "a percentage", fields.diagnostics)?;
            let value = inner.optional("value");
            inner.finish();
            match value {
                Some(value) => value,
                None => return Some(0),
            }
        }
    };
    let value = match number.value {
        source::Value::Int(value) => value as f64,
        source::Value::Float(value) => value,
        _ => f64::NAN,
    };
    if !(0.0..=100.0).contains(&value) {
        let want = format!("`{key}` is a number from 0 to 100");
        fields.diagnostics.push(
            Diagnostic::error(want).at(&number.span, format!("found {}", number.span.text())),
        );
        return None;
    }
    Some((value * 10_000.0) as u32)
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

/// A duration of Go's syntax (`1.5s`, `1m30s`).
pub fn parse_duration(text: &str) -> Option<Nanos> {
    let mut rest = text;
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        let unit_end = rest[end..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| end + at);
        let unit = match &rest[end..unit_end] {
            "h" => 3600e9,
            "m" => 60e9,
            "s" => 1e9,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[unit_end..];
    }
    (total <= 1e18).then(|| Nanos(libm::round(total) as u64))
}

/// A duration, as short as may be.
fn any_duration(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Nanos> {
    let node = fields.optional(key)?;
    let found = node.as_str().and_then(parse_duration);
    if found.is_none() {
        let message = format!("`{key}` is a duration such as `1.5s` or `100ms`");
        let label = match node.as_scalar() {
            Some(text) => format!("found `{text}`"),
            None => format!("found {}", node.kind()),
        };
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, label));
    }
    found
}

/// A duration of a whole number of milliseconds, one at least.
fn duration(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Nanos> {
    let found = any_duration(fields, key)?;
    let node = fields.optional(key)?;
    let complaint = match found {
        _ if found < Nanos::from_millis(1) => Some(("is 1 ms at least", "too short")),
        _ if found.0 % 1_000_000 != 0 => Some(("has whole milliseconds", "too precise")),
        _ => None,
    };
    match complaint {
        None => Some(found),
        Some((rule, label)) => {
            let message = format!("`{key}` {rule}");
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, label));
            None
        }
    }
}

/// One of the `choices`, as written there.
pub(crate) fn choice<T: Copy>(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    choices: &[(&'static str, T)],
) -> Option<T> {
    let node = fields.optional(key)?;
    let text = node.as_scalar().unwrap_or_default();
    let found = choices.iter().find(|(name, _)| *name == text);
    if found.is_none() {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let message = format!("`{key}` is one of {}", names.join(", "));
        let label = match node.as_scalar() {
            Some(text) => format!("found `{text}`"),
            None => format!("found {}", node.kind()),
        };
        fields.diagnostics.push(
            Diagnostic::error(message)
                .at(&node.span, label)
                .nearest(text, names),
        );
    }
    found.map(|(_, value)| *value)
}

/// In bytes: Istio's limit, which stands for Envoy's of the size of the program.
const REGEX_LENGTH_MAX: usize = 1024;

/// Compiles an expression; the engine's explanation is reported at its place.
pub(crate) fn regex(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Regex> {
    let Some(text) = node.as_str() else {
        diagnostics.push(expected_text(node, "a regular expression is text"));
        return None;
    };
    let problem = match text.len() {
        1..=REGEX_LENGTH_MAX => match Regex::new(text) {
            Ok(regex) => return Some(regex),
            Err(why) => {
                // The engine shows the pattern first.
                let last = why.lines().last().unwrap_or_default();
                let why = last.trim_start_matches("error: ");
                Diagnostic::error("not a regular expression that Envoy takes").at(&node.span, why)
            }
        },
        0 => Diagnostic::error("a regular expression is not empty").at(&node.span, "empty"),
        length => {
            let label = format!("{length} characters, {REGEX_LENGTH_MAX} are the most");
            Diagnostic::error("a regular expression is too long").at(&node.span, label)
        }
    };
    diagnostics.push(problem);
    None
}

/// Istio's `StringMatch`; `Ok(None)` if it is empty (`{}`), which stands for presence.
fn string_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<StringMatch>> {
    let mut fields = Fields::of(node, "a string match", diagnostics)?;
    let found = [
        fields.optional("exact").map(|n| ("exact", n)),
        fields.optional("prefix").map(|n| ("prefix", n)),
        fields.optional("regex").map(|n| ("regex", n)),
    ];
    let (diagnostics_ok, found) = {
        let before = fields.diagnostics.len();
        let found: Vec<_> = found.into_iter().flatten().collect();
        if let [_, (_, second), ..] = found[..] {
            fields.diagnostics.push(
                Diagnostic::error("a string match has only one of `exact`, `prefix`, `regex`")
                    .at(&second.span, "one too many"),
            );
        }
        (fields.diagnostics.len() == before, found)
    };
    let result = match found.first() {
        _ if !diagnostics_ok => None,
        None => Some(None),
        Some(("regex", node)) => {
            regex(node, fields.diagnostics).map(|r| Some(StringMatch::Regex(r)))
        }
        Some((how, node)) => named_node(node, how, fields.diagnostics).map(|value| {
            Some(match *how {
                "exact" => StringMatch::Exact(value.text),
                _ => StringMatch::Prefix(value.text),
            })
        }),
    };
    fields.finish();
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("7s", Some(7_000_000_000)),
            ("0.5s", Some(500_000_000)),
            ("1m30s", Some(90_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("5 s", None),
        ] {
            assert_eq!(parse_duration(text), want.map(Nanos), "{text}");
        }
    }
}
