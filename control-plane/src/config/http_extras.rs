//! Faults, retries and header changes of an HTTP rule.

use super::syntax::{changed_header, demand, header_value, is_authority};
use super::{count, duration, entries, percent_ppm, schema_warning, written};
use crate::rpc_code;
use proxy_core::time::Nanos;
use proxy_core::xds::{Fault, FaultAbort, FaultDelay, HeaderMutations, HeaderValue, Name};
use source::{Diagnostic, Fields, Node};

/// Istio `HTTPRetry`; what is `None` has Istio's default.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    pub(crate) per_try_timeout: Option<Nanos>,
    pub(crate) retry_on: Option<String>,
    pub(crate) back_off: Option<Nanos>,
    /// Retries leave the priorities that were tried.
    pub(crate) remote_localities: bool,
    pub(crate) ignore_previous_hosts: Option<bool>,
}

/// Istio `Headers`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct HeaderChanges {
    pub(crate) request: HeaderMutations,
    pub(crate) response: HeaderMutations,
    /// `host` or `:authority` among the request headers set.
    pub(crate) authority: Option<Name>,
}

impl Retries {
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Retries> {
        let mut fields = Fields::of(node, "a retry policy", diagnostics)?;
        let stated = fields.optional("attempts").is_some();
        let attempts = count(&mut fields, "attempts");
        let off = attempts == Some(0) || !stated;
        let attempts = attempts.unwrap_or(0);
        let retry_on_node = fields.optional("retryOn");
        let remote = fields.boolean("retryRemoteLocalities");
        let retries = Retries {
            attempts,
            per_try_timeout: duration(&mut fields, "perTryTimeout"),
            retry_on: fields.text("retryOn").filter(|text| !text.is_empty()),
            back_off: duration(&mut fields, "backoff"),
            remote_localities: remote == Some(true),
            ignore_previous_hosts: fields.boolean("retryIgnorePreviousHosts"),
        };
        if let (Some(text), Some(node)) = (&retries.retry_on, retry_on_node) {
            check_retry_on(text, node, fields.diagnostics);
        }
        let others = fields.optional("perTryTimeout").is_some()
            || retries.retry_on.is_some()
            || remote.is_some();
        if off && others {
            fields.diagnostics.push(
                Diagnostic::error(
                    "`attempts` is 0, so no other field of the retry policy can be set",
                )
                .at(&node.span, "retries are off"),
            );
        }
        fields.finish();
        Some(retries)
    }
}

const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

fn check_retry_on(text: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    for token in text.split(',') {
        let status = token.parse().is_ok_and(is_known_status);
        if !status && !RETRY_ON.contains(&token) {
            diagnostics.push(
                Diagnostic::error(format!("`{token}` is not a condition to retry on"))
                    .at(
                        &node.span,
                        "conditions and status codes, separated by commas",
                    )
                    .nearest(token, RETRY_ON),
            );
        }
    }
}

/// Whether a status has a name in HTTP, without which Istio does not take it for one.
fn is_known_status(code: u16) -> bool {
    matches!(
        code,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429
            | 431 | 451 | 500..=508 | 510 | 511
    )
}

impl HeaderChanges {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> HeaderChanges {
        let mut changes = HeaderChanges::default();
        let Some(node) = fields.optional("headers") else {
            return changes;
        };
        let Some(mut inner) = Fields::of(node, "header changes", fields.diagnostics) else {
            return changes;
        };
        if let Some(node) = inner.optional("request") {
            (changes.request, changes.authority) = operations(node, true, inner.diagnostics);
        }
        if let Some(node) = inner.optional("response") {
            changes.response = operations(node, false, inner.diagnostics).0;
        }
        inner.finish();
        changes
    }
}

/// `set` before `add`, each by name; and the authority, if it is among them. `request`: of those.
fn operations(
    node: &Node,
    request: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> (HeaderMutations, Option<Name>) {
    let mut mutations = HeaderMutations::default();
    let mut authority = None;
    let Some(mut fields) = Fields::of(node, "header operations", diagnostics) else {
        return (mutations, None);
    };
    check_operations(&mut fields, request);
    mutations.remove = fields
        .texts("remove")
        .into_iter()
        .map(|name| name.to_ascii_lowercase().into())
        .collect();
    for (key, append) in [("set", false), ("add", true)] {
        let mut pairs = fields.text_map(key);
        pairs.sort();
        for (name, value) in pairs {
            let name = name.to_ascii_lowercase();
            if is_authority(&name) {
                authority = Some(value.into());
            } else if !name.starts_with(':') {
                mutations.add.push(HeaderValue {
                    name: name.into(),
                    value: value.into(),
                    append,
                });
            }
        }
    }
    fields.finish();
    (mutations, authority)
}

fn check_operations(fields: &mut Fields<'_, '_>, request: bool) {
    let what = "a header to change";
    for key in ["set", "add"] {
        for entry in entries(fields, key) {
            let name = (entry.key.as_str(), &entry.key_span);
            let verdict = changed_header(&entry.key, request);
            demand(fields.diagnostics, name, what, verdict);
            if let Some(value) = entry.value.as_scalar() {
                let (value, what) = ((value, &entry.value.span), "the value of a header");
                demand(fields.diagnostics, value, what, header_value(value.0));
            }
        }
    }
    for node in fields.list("remove") {
        if let Some(name) = node.as_scalar() {
            let verdict = changed_header(name, false);
            demand(fields.diagnostics, (name, &node.span), what, verdict);
        }
    }
}

/// Istio `HTTPFaultInjection`; without a percentage nothing is hit.
pub(super) fn read_fault(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Fault> {
    let mut fields = Fields::of(node, "a fault", diagnostics)?;
    let (delay, abort) = (fields.optional("delay"), fields.optional("abort"));
    if delay.is_none() && abort.is_none() {
        let message = "a fault needs `delay` or `abort`";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "does nothing"));
    }
    let delay = delay.and_then(|node| read_delay(node, fields.diagnostics));
    let abort = abort.and_then(|node| read_abort(node, fields.diagnostics));
    fields.finish();
    (delay.is_some() || abort.is_some()).then_some(Fault {
        delay,
        abort,
        max_active_faults: None,
    })
}

/// The share of the requests that a fault hits: none, or one in a million at least.
fn fault_share(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u32> {
    let share = percent_ppm(fields, key)?;
    let node = fields.optional(key)?;
    let number = node.at(&["value"]).unwrap_or(node);
    if share == 0
        && written(number)
            .bytes()
            .any(|digit| (b'1'..=b'9').contains(&digit))
    {
        let message = format!("`{key}` is 0 or at least 0.0001");
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&number.span, "less than one in a million"));
    }
    Some(share)
}

fn read_delay(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<FaultDelay> {
    let mut fields = Fields::of(node, "a delay", diagnostics)?;
    let fixed = duration(&mut fields, "fixedDelay");
    if let Some(node) = fields.optional("exponentialDelay") {
        let message = "Istio does not support `exponentialDelay`";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "use `fixedDelay`"));
    }
    let percent = percent_ppm(&mut fields, "percent");
    let share = fault_share(&mut fields, "percentage").or(percent);
    fields.finish();
    Some(FaultDelay {
        fixed: fixed?,
        fraction_ppm: share.unwrap_or(0),
    })
}

fn read_abort(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<FaultAbort> {
    let mut fields = Fields::of(node, "an abort", diagnostics)?;
    let kinds = ["httpStatus", "grpcStatus", "http2Error"];
    let stated: Vec<&Node> = kinds
        .into_iter()
        .filter_map(|key| fields.optional(key))
        .collect();
    match stated[..] {
        [] => fields.diagnostics.push(
            schema_warning("an abort without `httpStatus` or `grpcStatus`")
                .at(&node.span, "does nothing"),
        ),
        [_] => {}
        [_, second, ..] => {
            let message = "an abort has either `httpStatus` or `grpcStatus`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&second.span, "a second one"));
        }
    }
    if let Some(node) = fields.optional("http2Error") {
        let message = "Istio does not support `http2Error`";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "use `httpStatus`"));
    }
    let status = fields.integer("httpStatus", 200..=600);
    let name = fields.text("grpcStatus");
    let grpc_status = name.as_deref().and_then(rpc_code::of_name);
    if let (Some(name), Some(node), None) = (&name, fields.optional("grpcStatus"), grpc_status) {
        fields.diagnostics.push(
            Diagnostic::error(format!("`{name}` is not a gRPC status"))
                .at(&node.span, "a name such as UNAVAILABLE")
                .nearest(name, rpc_code::NAMES),
        );
    }
    let fraction_ppm = fault_share(&mut fields, "percentage").unwrap_or(0);
    fields.finish();
    let status = status.and_then(|s| u16::try_from(s).ok());
    (status.is_some() || grpc_status.is_some()).then_some(FaultAbort {
        status: status.unwrap_or(200),
        grpc_status,
        fraction_ppm,
    })
}
