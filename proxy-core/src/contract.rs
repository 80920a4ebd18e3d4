//! The contract between a driver and the two machines of a proxy.
//!
//! A driver owns clocks, sockets and bodies. It hands each machine `(now, Input)` and carries out
//! the [`Action`]s appended to [`Out`], in order. A machine never calls back, never waits, and
//! `handle` is never re-entered. Times handed to one machine never decrease.
//!
//! Bodies never enter: [`Action::Respond`] with [`Body::Relay`] makes the driver stream an
//! upstream response downstream, [`Action::Buffer`] tells it how much of a request to keep for a
//! retry.

use crate::head::{RequestHead, ResponseHead};
use crate::ids::{AttemptId, ClusterId, ConnId, DownstreamId, EndpointId, ExchangeId, ProbeId};
use crate::messages::{ToMain, ToWorker};
use crate::telemetry::AccessLog;
use crate::time::Nanos;
use crate::xds::{Mixer, Name, Probe, Transport, XdsDelta};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;

/// What [`crate::Worker::handle`] is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A downstream connection was accepted.
    Opened(Opened),
    /// A downstream connection is gone. Its unfinished exchanges end as `DC`.
    DownstreamClosed { downstream: DownstreamId },
    /// The head of a request is complete. With `ends` the request has no body.
    Request {
        exchange: ExchangeId,
        downstream: DownstreamId,
        /// hash(source, ordinal, call path): what every draw for this exchange is keyed by.
        key: u64,
        head: Arc<RequestHead>,
        ends: bool,
    },
    /// The request body has been received in full.
    RequestEnd { exchange: ExchangeId },
    /// The request body outgrew the replay buffer that [`Action::Buffer`] allowed: no retry.
    BufferFull { exchange: ExchangeId },
    /// The client gave up on one exchange.
    Cancelled { exchange: ExchangeId },
    /// A connection asked for by [`Action::Connect`] is usable.
    Connected { conn: ConnId },
    /// A connection asked for by [`Action::Connect`] could not be made.
    ConnectFailed {
        conn: ConnId,
        reason: ConnectFailure,
    },
    /// A connection that was up is gone; the attempts on it that have no full response are reset.
    ConnClosed { conn: ConnId },
    /// The peer takes no further request on a connection (HTTP/1 `connection: close`, HTTP/2
    /// `GOAWAY`): it is closed once the attempts it carries are over. Those that the peer will not
    /// answer are `Reset` one by one.
    GoAway { conn: ConnId },
    /// The peer of an HTTP/2 connection allows this many requests at once. May come before
    /// `Connected`, from drivers that cannot do more.
    Settings {
        conn: ConnId,
        max_concurrent_streams: u32,
    },
    /// The head of an attempt's response. With `ends` the response has no body.
    ResponseHead {
        attempt: AttemptId,
        head: Arc<ResponseHead>,
        ends: bool,
    },
    /// The body of an attempt's response has been received in full.
    ResponseEnd { attempt: AttemptId },
    /// The endpoint ended one attempt without ending the connection's others.
    Reset {
        attempt: AttemptId,
        reason: ResetReason,
    },
    /// The answer to [`Action::Ask`]; one that comes too late changes nothing.
    Answered {
        exchange: ExchangeId,
        verdict: Verdict,
    },
    /// A message from the proxy's main machine or a sibling worker.
    Message(ToWorker),
    /// The driver's one timer for this machine went off.
    Tick,
}

/// What [`crate::Main::handle`] is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MainInput {
    /// An update from the control plane.
    Xds { delta: XdsDelta, version: u64 },
    /// The answer to [`Action::Resolve`]; empty when the name does not exist.
    Resolved {
        host: Name,
        addresses: Vec<std::net::IpAddr>,
    },
    /// The answer to [`Action::Probe`].
    Probed {
        probe: ProbeId,
        outcome: ProbeOutcome,
    },
    /// A message from worker `worker`.
    Message { worker: u32, message: ToMain },
    /// The driver's one timer for this machine went off.
    Tick,
}

/// A downstream connection as the listener sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opened {
    pub downstream: DownstreamId,
    /// The client's address and port.
    pub peer: SocketAddr,
    /// Where the client was connecting to (before any redirection).
    pub original_dst: SocketAddr,
    pub direction: Direction,
    /// `None`: plain text.
    pub tls: Option<DownstreamTls>,
    #[serde(default)]
    pub protocol: Protocol,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// One request at a time.
    #[default]
    Http1,
    /// Many at once.
    Http2,
}

/// What came of an active health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// The connection came up: all that a TCP check asks for.
    Connected,
    Status(u16),
    /// No connection, or it broke before an answer.
    Failed,
}

/// Which way a connection goes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// From the application beside the proxy.
    Outbound,
    /// To the application beside the proxy.
    Inbound,
    /// At a gateway.
    Gateway,
}

/// What the client offered in its TLS handshake.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DownstreamTls {
    pub sni: Option<Name>,
    /// Istio's mutual TLS (ALPN `istio...`).
    pub mutual: bool,
    /// The URI SAN of the client's certificate: `spiffe://cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
    #[serde(default)]
    pub principal: Option<Name>,
}

/// Why a connection could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConnectFailure {
    /// The peer refused.
    Refused,
    /// The attempt failed before it left this machine.
    Local,
}

/// Why an attempt ended without a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetReason {
    RemoteReset,
    RefusedStream,
    ConnectionTermination,
    ProtocolError,
}

/// What a machine asks of its driver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Action {
    /// Open a connection; answer with `Connected` or `ConnectFailed`. The core times it out itself,
    /// by `CloseConn`.
    Connect {
        conn: ConnId,
        endpoint: EndpointId,
        address: SocketAddr,
        transport: ConnTransport,
        protocol: Protocol,
    },
    /// Close a connection, usable or not yet; no answer.
    CloseConn { conn: ConnId },
    /// Send an attempt: `head`, then the request's body (from its buffer on a retry). Of a mirror
    /// bytes drivers say `x-envoy-internal: true`, and add the proxy's address to its
    /// `x-forwarded-for`.
    Send {
        attempt: AttemptId,
        conn: ConnId,
        source: BodySource,
        head: Arc<RequestHead>,
        /// 1 for the first try of an exchange. Bytes drivers send it as `x-envoy-attempt-count`
        /// where `announce_ordinal`.
        ordinal: u32,
        announce_ordinal: bool,
        /// Bytes drivers send it as `x-envoy-expected-rq-timeout-ms` unless it is 0.
        expected_timeout_ms: u64,
        /// Bytes drivers send it as `grpc-timeout` unless it is 0.
        grpc_timeout_ms: u64,
    },
    /// Give up an attempt that was sent: an HTTP/2 stream is reset; an HTTP/1 connection is closed by
    /// a `CloseConn` of its own.
    Cancel { attempt: AttemptId, conn: ConnId },
    /// Answer the client.
    Respond {
        exchange: ExchangeId,
        head: Arc<ResponseHead>,
        body: Body,
    },
    /// Break off a response that has already begun.
    Abort { exchange: ExchangeId },
    /// Keep up to `limit` bytes of the request for a retry.
    Buffer { exchange: ExchangeId, limit: u64 },
    /// Ask Mixer about the request of an exchange, which waits; answer with `Answered`, or not at
    /// all: the core times it out itself. Once the exchange has ended nobody waits any more.
    Ask {
        exchange: ExchangeId,
        mixer: Arc<Mixer>,
        head: Arc<RequestHead>,
        /// The client's address and port.
        peer: SocketAddr,
        /// Who the client is by its certificate.
        principal: Option<Name>,
        /// The cluster chosen.
        cluster: Option<ClusterId>,
    },
    /// Tell Mixer how an exchange ended; no answer.
    Report {
        exchange: ExchangeId,
        mixer: Arc<Mixer>,
        head: Arc<RequestHead>,
        peer: SocketAddr,
        /// The cluster chosen.
        cluster: Option<ClusterId>,
        /// 500 where the client had no response.
        status: u16,
        /// Until the response was complete.
        duration: Nanos,
    },
    /// Take no further requests on a downstream connection, and close it when those in progress are
    /// over: no filter chain takes it, or its listener has changed.
    CloseDownstream { downstream: DownstreamId },
    /// Check an endpoint's health on a connection of its own; answer with `Probed`, or not at all:
    /// the core times it out itself.
    Probe {
        probe: ProbeId,
        transport: ConnTransport,
        request: Probe,
    },
    /// Look up a name; answer with `Resolved`.
    Resolve { host: Name },
    /// The update was taken over.
    Ack { version: u64 },
    /// Some of the update's resources were refused; of those, what was before stays.
    Nack { version: u64, reason: Name },
}

/// Whose body an attempt carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BodySource {
    /// The exchange's own request.
    Exchange(ExchangeId),
    /// A copy of the exchange's request (a mirror); its response is thrown away. The exchange may
    /// end first: the copy goes on.
    Mirror(ExchangeId),
}

/// The body of a response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Body {
    Empty,
    /// Written by the proxy.
    Local(Name),
    /// Streamed from an attempt; the core is told of its end by `ResponseEnd`.
    Relay(AttemptId),
}

/// How a connection is secured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ConnTransport {
    Plaintext,
    MutualTls,
    Tls { sni: Option<Name> },
}

impl ConnTransport {
    /// Of a connection to an endpoint that speaks Istio's mutual TLS, or does not.
    pub(crate) fn of(transport: &Transport, mutual_tls: bool) -> ConnTransport {
        match transport {
            Transport::Plaintext => ConnTransport::Plaintext,
            Transport::AutoMutualTls if !mutual_tls => ConnTransport::Plaintext,
            Transport::AutoMutualTls | Transport::IstioMutualTls => ConnTransport::MutualTls,
            Transport::Tls { sni } => ConnTransport::Tls { sni: sni.clone() },
        }
    }
}

/// What Mixer says of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    Allowed,
    Denied {
        /// `google.rpc.Code`; not 0.
        code: u32,
        /// The client's text: `PERMISSION_DENIED:Not allowed`.
        message: Name,
    },
    /// None: Mixer could not be reached, or failed itself.
    Failed,
}

/// What a machine appends to while handling an input; it is never cleared by the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Out {
    pub actions: Vec<Action>,
    /// One for each exchange that ended.
    pub logs: Vec<AccessLog>,
    pub to_main: Vec<ToMain>,
    /// To one worker, or to all but the sender.
    pub to_workers: Vec<(WorkerSet, ToWorker)>,
    /// Changes of state worth a line in a report.
    pub changes: Vec<StateChange>,
}

impl Out {
    /// Adds what `other` holds at the end.
    pub fn append(&mut self, mut other: Out) {
        self.actions.append(&mut other.actions);
        self.logs.append(&mut other.logs);
        self.to_main.append(&mut other.to_main);
        self.to_workers.append(&mut other.to_workers);
        self.changes.append(&mut other.changes);
    }

    pub(crate) fn overflow(&mut self, cluster: ClusterId) {
        self.changes.push(StateChange::Overflow { cluster });
    }
}

/// The receivers of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkerSet {
    All,
    /// From a worker: all but itself.
    Others,
}

/// A change of a proxy's state that is not an exchange.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StateChange {
    Ejected {
        cluster: ClusterId,
        address: SocketAddr,
        reason: EjectionReason,
        until_at_least: Nanos,
    },
    EjectionOverflow {
        cluster: ClusterId,
        address: SocketAddr,
    },
    Unejected {
        cluster: ClusterId,
        address: SocketAddr,
    },
    /// An endpoint's active health checks now agree that it is healthy, or no longer do.
    HealthChecked {
        cluster: ClusterId,
        address: SocketAddr,
        healthy: bool,
    },
    /// An endpoint said that it is degraded, or has not for long enough.
    Degraded {
        cluster: ClusterId,
        address: SocketAddr,
        degraded: bool,
    },
    /// A circuit breaker refused a request or a retry.
    Overflow { cluster: ClusterId },
    /// A cluster has all it needs and is used from now on.
    Warmed { cluster: ClusterId },
}

/// Which outlier detector fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EjectionReason {
    Consecutive5xx,
    ConsecutiveGatewayFailure,
    ConsecutiveLocalOriginFailure,
    SuccessRate,
    FailurePercentage,
    LocalOriginSuccessRate,
    LocalOriginFailurePercentage,
}
