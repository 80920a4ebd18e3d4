//! Faults, retries and header changes of an HTTP rule.

use super::{count, duration, percent_ppm};
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
        let others = retries.per_try_timeout.is_some()
            || retries.retry_on.is_some()
            || retries.back_off.is_some()
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
        let status = token
            .parse::<u16>()
            .is_ok_and(|code| (100..600).contains(&code));
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
            (changes.request, changes.authority) = operations(node, inner.diagnostics);
        }
        if let Some(node) = inner.optional("response") {
            changes.response = operations(node, inner.diagnostics).0;
        }
        inner.finish();
        changes
    }
}

/// `set` before `add`, each by name; and the authority, if it is among them.
fn operations(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> (HeaderMutations, Option<Name>) {
    let mut mutations = HeaderMutations::default();
    let mut authority = None;
    let Some(mut fields) = Fields::of(node, "header operations", diagnostics) else {
        return (mutations, None);
    };
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
            if name == "host" || name == ":authority" {
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

/// Istio `HTTPFaultInjection`; without a percentage nothing is hit.
pub(super) fn read_fault(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Fault> {
    let mut fields = Fields::of(node, "a fault", diagnostics)?;
    let delay = fields.optional("delay").and_then(|node| {
        let mut inner = Fields::of(node, "a delay", fields.diagnostics)?;
        inner.required("fixedDelay");
        let fixed = duration(&mut inner, "fixedDelay");
        let percent = percent_ppm(&mut inner, "percent");
        let fraction_ppm = percent_ppm(&mut inner, "percentage")
            .or(percent)
            .unwrap_or(0);
        inner.finish();
        Some(FaultDelay {
            fixed: fixed?,
            fraction_ppm,
        })
    });
    let abort = fields.optional("abort").and_then(|node| {
        let mut inner = Fields::of(node, "an abort", fields.diagnostics)?;
        let status = inner.integer("httpStatus", 200..=599);
        let grpc = inner.text("grpcStatus");
        let grpc_node = inner.optional("grpcStatus");
        let fraction_ppm = percent_ppm(&mut inner, "percentage").unwrap_or(0);
        inner.unsupported(&["http2Error"]);
        inner.finish();
        let grpc_status = match (grpc, grpc_node) {
            (Some(text), Some(node)) => Some(grpc_code(&text).or_else(|| {
                fields.diagnostics.push(
                    Diagnostic::error(format!("`{text}` is not a gRPC status"))
                        .at(&node.span, "a name such as UNAVAILABLE")
                        .nearest(&text, GRPC_CODES),
                );
                None
            })?),
            _ => None,
        };
        if status.is_none() && grpc_status.is_none() {
            let message = "an abort needs `httpStatus` or `grpcStatus`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, "does nothing"));
            return None;
        }
        Some(FaultAbort {
            status: status.and_then(|s| u16::try_from(s).ok()).unwrap_or(200),
            grpc_status,
            fraction_ppm,
        })
    });
    fields.finish();
    (delay.is_some() || abort.is_some()).then_some(Fault {
        delay,
        abort,
        max_active_faults: None,
    })
}

const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

fn grpc_code(name: &str) -> Option<u32> {
    let at = GRPC_CODES.iter().position(|code| *code == name);
    at.and_then(|at| u32::try_from(at).ok())
}
