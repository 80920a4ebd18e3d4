//! What the engine schedules, and what it keeps for requests on their way.

use proxy_core::head::{RequestHead, ResponseHead};
use proxy_core::ids::{AttemptId, ConnId, DownstreamId};
use std::sync::Arc;

/// Something that happens at a point in time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// The next request of an open-loop source, unless its rate has changed since.
    Arrival {
        source: u32,
        epoch: u32,
    },
    /// A user of a closed-loop source asks again.
    UserWakes {
        source: u32,
        user: u32,
    },
    /// A request reaches where it was sent.
    Request {
        flight: u32,
    },
    /// A response reaches who asked.
    Response {
        answer: u32,
    },
    /// The work for a job is done.
    WorkDone {
        job: u32,
        generation: u32,
    },
    /// The next job of a processor-sharing station is done, unless others have come or gone.
    SharedWorkDone {
        station: u32,
        epoch: u32,
    },
    /// A client has waited long enough.
    CallTimeout {
        call: u32,
        generation: u32,
        tried: u32,
    },
    /// A connection that a proxy asked for is up, or is not.
    Dialed {
        proxy: u32,
        worker: u16,
        conn: ConnId,
    },
    /// A proxy hears that an upstream connection broke.
    ConnClosed {
        proxy: u32,
        worker: u16,
        conn: ConnId,
    },
    /// A proxy hears that its peer will take no further requests on an upstream connection.
    HungUp {
        proxy: u32,
        worker: u16,
        conn: ConnId,
    },
    /// A proxy hears that a downstream connection is gone.
    DownstreamClosed {
        proxy: u32,
        worker: u16,
        downstream: DownstreamId,
    },
    /// A proxy hears that a client gave up one stream of an HTTP/2 connection.
    StreamReset {
        proxy: u32,
        worker: u16,
        from: Requester,
    },
    /// A health check reaches an endpoint.
    ProbeArrives {
        probe: u32,
    },
    /// Its answer reaches the proxy.
    ProbeAnswered {
        probe: u32,
    },
    /// A verdict of Mixer's reaches the proxy that asked.
    MixerAnswers {
        answer: u32,
    },
    ProxyTimer {
        proxy: u32,
    },
    ControlPlaneTimer,
    /// A push reaches a proxy.
    Push {
        push: u32,
    },
    Timeline {
        number: u32,
    },
    /// The control plane sees that a crashed pod is gone.
    Noticed {
        pod: u32,
        life: u32,
    },
    Restart {
        pod: u32,
        life: u32,
    },
    /// The end of a pod that was scaled away.
    Terminated {
        pod: u32,
        life: u32,
    },
}

/// Who waits for a response.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Requester {
    Attempt {
        proxy: u32,
        worker: u16,
        attempt: AttemptId,
    },
    /// A try of a client's call.
    Call {
        call: u32,
        generation: u32,
        tried: u32,
    },
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Destination {
    Proxy {
        proxy: u32,
        worker: u16,
        downstream: DownstreamId,
    },
    /// A client's connection, which may have to be accepted first.
    Line {
        line: u32,
        generation: u32,
    },
    Station {
        station: u32,
    },
    /// A proxy that will not have the connection, and closes it when it has read of it.
    Closing {
        pod: u32,
    },
}

/// A request on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) from: Requester,
    pub(super) to: Destination,
    pub(super) key: u64,
    pub(super) head: Arc<RequestHead>,
}

/// A response on its way; without a head, the news that none will come.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) to: Requester,
    pub(super) head: Option<Arc<ResponseHead>>,
}
