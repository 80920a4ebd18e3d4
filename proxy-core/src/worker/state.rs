//! What a worker keeps for exchanges, attempts, connections and downstream connections.

use crate::contract::{Opened, Protocol};
use crate::head::{RequestHead, ResponseHead};
use crate::ids::{AttemptId, ClusterId, ConnId, DownstreamId, EndpointId, ExchangeId};
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
    /// The end of a fault delay.
    FaultDelay(u32),
    /// The end of a back-off before a retry.
    BackOff(u32),
    /// The per-try timeout of an attempt, or the whole timeout of a mirrored one.
    Attempt(u32),
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
}

/// The endpoints an exchange has tried, as many as the predicate needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tried {
    endpoints: [EndpointId; Tried::CAPACITY],
    len: usize,
}

impl Tried {
    const CAPACITY: usize = 8;
    pub(super) const EMPTY: Tried = Tried {
        endpoints: [EndpointId(NONE); Tried::CAPACITY],
        len: 0,
    };

    /// Remembers `endpoint`; beyond the capacity the oldest is forgotten.
    pub(super) fn push(&mut self, endpoint: EndpointId) {
        if self.len == Tried::CAPACITY {
            self.endpoints.copy_within(1.., 0);
            self.len -= 1;
        }
        self.endpoints[self.len] = endpoint;
        self.len += 1;
    }

    pub(super) fn as_slice(&self) -> &[EndpointId] {
        &self.endpoints[..self.len]
    }
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
    pub(super) buffer_full: bool,
    /// Some attempt's head went out on a connection.
    pub(super) request_sent: bool,
    /// The response head has been forwarded.
    pub(super) responded: bool,
    pub(super) status: u16,
    pub(super) flags: Flags,
    pub(super) details: Details,
    /// The attempt in progress.
    pub(super) attempt: Option<u32>,
    pub(super) attempts: u32,
    pub(super) endpoint: Option<EndpointId>,
    pub(super) tried: Tried,
    pub(super) retries_left: u32,
    /// Retries scheduled so far.
    pub(super) retries: u32,
    /// A slot of the retry circuit breaker is taken.
    pub(super) retry_slot: bool,
    /// The overall timeout.
    pub(super) timeout: TimerId,
    /// A fault delay or a back-off.
    pub(super) pause: TimerId,
    /// Cookies to set, made by a hash policy.
    pub(super) cookies: Vec<String>,
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
            buffer_full: false,
            request_sent: false,
            responded: false,
            status: 0,
            flags: Flags::default(),
            details: Details::DownstreamRemoteDisconnect,
            attempt: None,
            attempts: 0,
            endpoint: None,
            tried: Tried::EMPTY,
            retries_left: 0,
            retries: 0,
            retry_slot: false,
            timeout: TimerId::NONE,
            pause: TimerId::NONE,
            cookies: Vec::new(),
        }
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
    /// The head to send.
    pub(super) head: Option<Arc<RequestHead>>,
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

/// The heads of the proxy's own answers, made once for each status.
#[derive(Debug, Default)]
pub(super) struct LocalHeads {
    plain: Vec<Arc<ResponseHead>>,
    overloaded: Option<Arc<ResponseHead>>,
}

impl LocalHeads {
    pub(super) fn of_status(&mut self, status: u16) -> Arc<ResponseHead> {
        if let Some(head) = self.plain.iter().find(|head| head.status == status) {
            return Arc::clone(head);
        }
        let head = Arc::new(ResponseHead::of_status(status));
        self.plain.push(Arc::clone(&head));
        head
    }

    /// 503 with `x-envoy-overloaded: true`.
    pub(super) fn overloaded(&mut self) -> Arc<ResponseHead> {
        let head = self.overloaded.get_or_insert_with(|| {
            let mut head = ResponseHead::of_status(503);
            head.headers.append("x-envoy-overloaded".into(), b"true");
            Arc::new(head)
        });
        Arc::clone(head)
    }
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
