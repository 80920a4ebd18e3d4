//! What a client from outside may say in a request head.

use super::Stream;
use crate::contract::Protocol;
use crate::head::RequestHead;
use crate::xds::HttpConnectionManager;
use std::sync::Arc;

const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What only internal clients may say, and no address counts as internal.
const INTERNAL_HEADERS: [&str; 16] = [
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-upstream-stream-duration-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-internal",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-force-trace",
];

/// The head as of a client from outside: without the headers that are Envoy's own, and with
/// `x-forwarded-proto`, which tells HTTP/1 the scheme.
pub(super) fn external(
    manager: &HttpConnectionManager,
    head: &Arc<RequestHead>,
    stream: Stream<'_>,
) -> Arc<RequestHead> {
    let connection: &[u8] = if stream.secure { b"https" } else { b"http" };
    let mut told = head.headers.all(FORWARDED_PROTO);
    let (first, more) = (told.next(), told.next().is_some());
    let proto = match first {
        Some(told) if !manager.use_remote_address => told,
        _ => connection,
    };
    let known = ["http", "https"]
        .into_iter()
        .find(|scheme| proto.eq_ignore_ascii_case(scheme.as_bytes()) && !more);
    let scheme = match stream.opened.protocol {
        Protocol::Http2 if !manager.use_remote_address => None,
        _ => known.filter(|scheme| **scheme != *head.scheme),
    };
    let internal = |name: &str| name.starts_with("x-envoy-") && INTERNAL_HEADERS.contains(&name);
    let forwarded = first == Some(proto);
    if scheme.is_none() && forwarded && !head.headers.0.iter().any(|(name, _)| internal(name)) {
        return Arc::clone(head);
    }
    let mut changed = RequestHead {
        id: None,
        ..(**head).clone()
    };
    changed.headers.0.retain(|(name, _)| !internal(name));
    if !forwarded {
        changed.headers.set(FORWARDED_PROTO.into(), proto);
    }
    if let Some(scheme) = scheme {
        changed.scheme = scheme.into();
    }
    Arc::new(changed)
}

/// What [`external`] left.
pub(crate) fn forwarded_proto(head: &RequestHead) -> &[u8] {
    head.headers.get(FORWARDED_PROTO).unwrap_or_default()
}
