//! Connection pools of a DestinationRule or Sidecar.

use super::{any_duration, choice, count, duration, refuse};
use proxy_core::time::Nanos;
use source::{Diagnostic, Fields, Node};

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
    /// `None`: as the mesh says.
    pub(crate) h2_upgrade: Option<bool>,
    pub(crate) use_client_protocol: bool,
}

impl ConnectionPool {
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ConnectionPool> {
        let mut fields = Fields::of(node, "a connection pool", diagnostics)?;
        let mut pool = ConnectionPool::default();
        let limit = |fields: &mut Fields<'_, '_>, key| count(fields, key).filter(|n| *n > 0);
        if fields.optional("tcp").is_none() && fields.optional("http").is_none() {
            let message = "a connection pool needs `tcp` or `http`";
            refuse(fields.diagnostics, &node.span, message, "says nothing");
        }
        if let Some(node) = fields.optional("tcp") {
            let mut tcp = Fields::of(node, "TCP settings", fields.diagnostics)?;
            pool.max_connections = limit(&mut tcp, "maxConnections");
            pool.connect_timeout = duration(&mut tcp, "connectTimeout");
            // 0 turns it off.
            pool.idle_timeout = any_duration(&mut tcp, "idleTimeout");
            if pool
                .idle_timeout
                .is_some_and(|time| time >= Nanos::from_millis(1))
            {
                pool.idle_timeout = duration(&mut tcp, "idleTimeout");
            }
            duration(&mut tcp, "maxConnectionDuration");
            if let Some(node) = tcp.optional("tcpKeepalive") {
                let mut inner = Fields::of(node, "a TCP keepalive", tcp.diagnostics)?;
                duration(&mut inner, "time");
                duration(&mut inner, "interval");
                count(&mut inner, "probes");
                inner.finish();
            }
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
                    ("DEFAULT", None),
                    ("DO_NOT_UPGRADE", Some(false)),
                    ("UPGRADE", Some(true)),
                ],
            )
            .flatten();
            pool.max_concurrent_streams = limit(&mut http, "maxConcurrentStreams");
            if pool.h2_upgrade == Some(true) && pool.use_client_protocol {
                let message = "`useClientProtocol` excludes `h2UpgradePolicy: UPGRADE`";
                refuse(http.diagnostics, &node.span, message, "which protocol?");
            }
            if let Some(node) = http.optional("http2KeepAlive") {
                let mut inner = Fields::of(node, "an HTTP/2 keepalive", http.diagnostics)?;
                for key in ["interval", "timeout"] {
                    inner.required(key);
                    duration(&mut inner, key);
                }
                inner.finish();
            }
            http.unsupported(&["http2KeepAlive"]);
            http.finish();
        }
        fields.finish();
        Some(pool)
    }
}
