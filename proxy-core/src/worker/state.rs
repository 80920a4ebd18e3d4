//! What a worker keeps for exchanges, attempts, connections and downstream connections.

use super::limits::Shown;
use crate::cluster::Tried;
use crate::contract::{Opened, Protocol};
use crate::head::{RequestHead, ResponseHead};
use crate::ids::{AttemptId, ClusterId, ConnId, DownstreamId, EndpointId, ExchangeId};
use crate::resilience::rate_limit::Bucket;
use crate::router::{ChainChoice, Decision};
use crate::telemetry::{Details, Flags, UpstreamReset};
use crate::time::Nanos;
use crate::timers::TimerId;
use crate::xds::Name;
use std::sync::Arc;

pub(super) const NONE: u32 = u32::MAX;

/// What a timer is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Expiry {
    /// The route timeout of an exchange.
    Route(u32),
    /// An exchange has made no progress.
    StreamIdle(u32),
    /// An exchange has lasted as long as it may.
    StreamDuration(u32),
    /// A check of Mixer's has no answer.
    Check(u32),
    /// The end of a fault delay.
    FaultDelay(u32),
    /// The end of a back-off before a retry.
    BackOff(u32),
    /// The per-try timeout of an attempt, or the whole timeout of a mirrored one.
    Attempt(u32),
    /// An attempt has made no progress.
    AttemptIdle(u32),
    /// An attempt has lasted as long as its cluster allows.
    AttemptDuration(u32),
    /// The connect timeout of a connection, or its idle timeout once it is up.
    Conn(u32),
}

/// A downstream connection.
#[derive(Debug)]
pub(super) struct Downstream {
    pub(super) id: DownstreamId,
    pub(super) opened: Opened,
    pub(super) chain: ChainChoice,
    /// What routing depends on besides the head: index into the worker's scopes.
    pub(super) scope: u32,
    pub(super) open: bool,
    /// Exchanges in progress.
    pub(super) exchanges: u32,
    /// Of local rate limits that have some for each connection, by descriptor: the first to come
    /// shapes them.
    pub(super) buckets: Vec<(Option<u32>, Bucket)>,
}

/// One request and its response.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) id: ExchangeId,
    pub(super) live: bool,
    pub(super) downstream: DownstreamId,
    pub(super) key: u64,
    pub(super) started_at: Nanos,
    pub(super) decision: Option<Arc<Decision>>,
    pub(super) weighted_choice: u32,
    pub(super) cluster: Option<ClusterId>,
    /// Envoy's one random value per stream.
    pub(super) stream_value: u64,
    pub(super) hash: Option<u64>,
    pub(super) request_complete: bool,
    /// When the router had all of the request.
    pub(super) completed_at: Nanos,
    pub(super) buffer_full: bool,
    /// Some attempt's head went out on a connection.
    pub(super) request_sent: bool,
    /// The response head has been forwarded.
    pub(super) responded: bool,
    pub(super) status: u16,
    pub(super) flags: Flags,
    pub(super) details: Details,
    /// The attempt in progress that may still be tried again.
    pub(super) attempt: Option<u32>,
    /// First of the attempts that ran out of time and go on beside their retry.
    pub(super) hedged: u32,
    pub(super) attempts: u32,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) tried: Tried,
    pub(super) retries_left: u32,
    /// Retries scheduled so far.
    pub(super) retries: u32,
    /// Those of them after an exponential back-off.
    pub(super) back_offs: u32,
    /// A slot of the retry circuit breaker is taken.
    pub(super) retry_slot: bool,
    /// The overall timeout.
    pub(super) timeout: TimerId,
    /// A check of Mixer's, a fault delay or a back-off.
    pub(super) pause: TimerId,
    /// The pause is a check.
    pub(super) asking: bool,
    /// The pause is a fault delay, counted among the active faults.
    pub(super) delayed: bool,
    /// Of the stream's progress.
    pub(super) idle: TimerId,
    /// Of the whole stream.
    pub(super) duration: TimerId,
    /// Cookies to set, made by a hash policy.
    pub(super) cookies: Vec<String>,
    pub(super) shown: Vec<Shown>,
    /// Refused by a local rate limit, before the CORS filter saw the request.
    pub(super) limited_before_cors: bool,
}

impl Exchange {
    /// An exchange that has just begun.
    pub(super) fn begin(
        id: ExchangeId,
        downstream: DownstreamId,
        key: u64,
        started_at: Nanos,
        request_complete: bool,
    ) -> Exchange {
        Exchange {
            id,
            live: true,
            downstream,
            key,
            started_at,
            decision: None,
            weighted_choice: 0,
            cluster: None,
            stream_value: 0,
            hash: None,
            request_complete,
            completed_at: started_at,
            buffer_full: false,
            request_sent: false,
            responded: false,
            status: 0,
            flags: Flags::default(),
            details: Details::DownstreamRemoteDisconnect,
            attempt: None,
            hedged: NONE,
            attempts: 0,
            endpoint: None,
            tried: Tried::EMPTY,
            retries_left: 0,
            retries: 0,
            back_offs: 0,
            retry_slot: false,
            timeout: TimerId::NONE,
            pause: TimerId::NONE,
            asking: false,
            delayed: false,
            idle: TimerId::NONE,
            duration: TimerId::NONE,
            cookies: Vec::new(),
            shown: Vec::new(),
            limited_before_cors: false,
        }
    }
}

impl Exchange {
    /// A retry waits for the end of its back-off.
    pub(super) fn retry_waits(&self) -> bool {
        self.pause != TimerId::NONE && self.attempts > 0
    }
}

/// Whose attempt it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Exchange(u32),
    /// A copy of the request of that exchange, which may be over by now.
    Mirror(ExchangeId),
}

/// How far an attempt is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// In the pool's queue.
    Pending,
    /// On a connection, waiting for the response head.
    Sent,
    /// The response head has arrived.
    Responding,
}

/// One try at one host.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) owner: Owner,
    pub(super) cluster: ClusterId,
    pub(super) host: u32,
    pub(super) stage: Stage,
    pub(super) protocol: Protocol,
    pub(super) conn: u32,
    pub(super) sent_at: Nanos,
    pub(super) timer: TimerId,
    /// Of its progress.
    pub(super) idle: TimerId,
    /// Of the whole attempt.
    pub(super) duration: TimerId,
    /// The head to send.
    pub(super) head: Option<Arc<RequestHead>>,
    /// `x-envoy-expected-rq-timeout-ms`; 0: none.
    pub(super) expected_timeout_ms: u64,
    /// `grpc-timeout`; 0: none.
    pub(super) grpc_timeout_ms: u64,
    /// Of the virtual host.
    pub(super) include_attempt_count: bool,
    /// Its time ran out once, which was held against the host; a hedged retry was made or refused.
    pub(super) timed_out: bool,
    /// The next attempt of the exchange that goes on beside its retry.
    pub(super) next_hedged: u32,
    /// Links of the pool's queue; then of the streams on the connection.
    pub(super) previous: u32,
    pub(super) next: u32,
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnStage {
    Connecting,
    /// Can take a request.
    Ready,
    /// Cannot, at present or for good.
    Busy,
    /// Gone; its streams are being reset.
    Closed,
}

/// One upstream connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) cluster: ClusterId,
    pub(super) host: u32,
    pub(super) protocol: Protocol,
    pub(super) stage: ConnStage,
    /// The attempts it carries, newest first, and their number.
    pub(super) streams: u32,
    pub(super) active: u32,
    /// At once; 1 on HTTP/1.
    pub(super) max_streams: u32,
    /// Requests it may still carry; `u32::MAX`: no limit.
    pub(super) requests_left: u32,
    /// Takes no further requests, and is closed with the last one.
    pub(super) draining: bool,
    /// When it last became idle.
    pub(super) idle_since: Nanos,
    /// Of the connect timeout; then of the idle timeout, from some time at which it was idle.
    pub(super) timer: TimerId,
    /// Links of the pool's list of ready connections.
    pub(super) previous: u32,
    pub(super) next: u32,
}

impl Conn {
    /// Requests it can take now.
    #[inline]
    pub(super) fn capacity(&self) -> u32 {
        if self.draining {
            return 0;
        }
        self.max_streams
            .saturating_sub(self.active)
            .min(self.requests_left)
    }
}

/// The heads of the proxy's own answers, made once each.
#[derive(Debug, Default)]
pub(super) struct LocalHeads(Vec<LocalHead>);

#[derive(Debug)]
struct LocalHead {
    marker: Option<&'static str>,
    form: Form,
    head: Arc<ResponseHead>,
}

/// What a client gets of an answer's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// There is none.
    Empty,
    Text,
    /// Status and message; no body.
    Grpc(u32, Name),
}

impl LocalHeads {
    pub(super) fn of_status(&mut self, status: u16) -> Arc<ResponseHead> {
        self.of(status, None, &Form::Empty)
    }

    /// With a header `marker: true`, and those of the form.
    pub(super) fn of(
        &mut self,
        status: u16,
        marker: Option<&'static str>,
        form: &Form,
    ) -> Arc<ResponseHead> {
        let same = |known: &&LocalHead| {
            known.head.status == status && known.marker == marker && known.form == *form
        };
        if let Some(known) = self.0.iter().find(same) {
            return Arc::clone(&known.head);
        }
        let mut head = ResponseHead::of_status(status);
        let mut add = |name: &str, value: &[u8]| head.headers.append(name.into(), value);
        if let Some(name) = marker {
            add(name, b"true");
        }
        match form {
            Form::Empty => {}
            Form::Text => add("content-type", b"text/plain"),
            Form::Grpc(code, message) => {
                add("content-type", b"application/grpc");
                add("grpc-status", code.to_string().as_bytes());
                if !message.is_empty() {
                    add("grpc-message", grpc_message(message).as_bytes());
                }
            }
        }
        let head = Arc::new(head);
        self.0.push(LocalHead {
            marker,
            form: form.clone(),
            head: Arc::clone(&head),
        });
        head
    }
}

/// Percent-encoded, as gRPC wants it.
fn grpc_message(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The bodies of the proxy's own answers, made once each.
#[derive(Debug, Default)]
pub(super) struct LocalTexts {
    plain: Vec<Name>,
    resets: Vec<(UpstreamReset, bool, Name)>,
}

impl LocalTexts {
    pub(super) fn of(&mut self, text: &str) -> Name {
        if let Some(known) = self.plain.iter().find(|known| ***known == *text) {
            return Arc::clone(known);
        }
        let made = Name::from(text);
        self.plain.push(Arc::clone(&made));
        made
    }

    /// Envoy's text for a reset before any response.
    pub(super) fn of_reset(&mut self, reset: UpstreamReset, retried: bool) -> Name {
        let same = |known: &&(UpstreamReset, bool, Name)| known.0 == reset && known.1 == retried;
        if let Some((_, _, known)) = self.resets.iter().find(same) {
            return Arc::clone(known);
        }
        let again = if retried {
            "retried and the latest "
        } else {
            ""
        };
        let made = Name::from(format!(
            "upstream connect error or disconnect/reset before headers. {again}reset reason: {}",
            reset.as_str()
        ));
        self.resets.push((reset, retried, Arc::clone(&made)));
        made
    }
}

pub(super) fn attempt_id(index: u32, generation: u32) -> AttemptId {
    AttemptId { index, generation }
}

pub(super) fn conn_id(index: u32, generation: u32) -> ConnId {
    ConnId { index, generation }
}
