//! What stands behind the ids of one worker, and the actions that only concern it.

use crate::heads;
use crate::request_body::{Outgoing, Recipient, RequestBody};
use crate::response_body::{Relay, ResponseBody};
use crate::table::Table;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use proxy_core::contract::{Body, BodySource};
use proxy_core::head::ResponseHead;
use proxy_core::ids::{AttemptId, ConnId, DownstreamId, ExchangeId};
use proxy_core::telemetry::AccessLog;
use proxy_core::xds::RouteAction;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Bodies kept for mirrors that are sent after their exchange has ended.
const LATE_MIRRORS: usize = 16;

/// What stands behind the ids of one worker.
pub(crate) struct Tables {
    pub(crate) downstreams: Table<Downstream>,
    pub(crate) exchanges: Table<Exchange>,
    pub(crate) conns: Table<Conn>,
    pub(crate) attempts: Table<Attempt>,
    /// Requests of exchanges that are over but may have a mirror to be sent.
    late: VecDeque<(ExchangeId, u64, Option<RequestBody>)>,
}

/// A downstream connection.
pub(crate) struct Downstream {
    /// Tells its task to take no further requests; `None` once told.
    pub(crate) drain: Option<oneshot::Sender<()>>,
}

/// An exchange in progress.
pub(crate) struct Exchange {
    pub(crate) key: u64,
    /// `None`: the request has no body.
    pub(crate) body: Option<RequestBody>,
    /// Waits for the head of the response.
    pub(crate) respond: Option<oneshot::Sender<http::Response<ResponseBody>>>,
    /// Breaks off a response that is being relayed.
    pub(crate) abort: Option<oneshot::Sender<()>>,
}

/// An upstream connection; dropping it closes it.
pub(crate) struct Conn {
    pub(crate) _close: oneshot::Sender<()>,
    /// `None` until connected.
    pub(crate) sender: Option<SendRequest<Outgoing>>,
    /// An attempt is on the connection, and its task will tell what becomes of both.
    pub(crate) busy: bool,
    /// The peer is gone; the core is told when the attempt is over.
    pub(crate) closed: bool,
}

/// An attempt that was sent; dropping it gives it up.
pub(crate) struct Attempt {
    pub(crate) _cancel: oneshot::Sender<()>,
    /// The response's body, until somebody takes it.
    pub(crate) response: Option<Response>,
}

pub(crate) struct Response {
    pub(crate) body: Incoming,
    pub(crate) ended: oneshot::Sender<Result<(), hyper::Error>>,
}

impl Tables {
    pub(crate) fn new() -> Tables {
        Tables {
            downstreams: Table::new(),
            exchanges: Table::new(),
            conns: Table::new(),
            attempts: Table::new(),
            late: VecDeque::new(),
        }
    }

    fn exchange(&mut self, id: ExchangeId) -> Option<&mut Exchange> {
        self.exchanges.get_mut(id.index, id.generation)
    }

    pub(crate) fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.index, id.generation)
    }

    pub(crate) fn attempt(&mut self, id: AttemptId) -> Option<&mut Attempt> {
        self.attempts.get_mut(id.index, id.generation)
    }

    pub(crate) fn add_conn(&mut self, id: ConnId) -> oneshot::Receiver<()> {
        let (close, closing) = oneshot::channel();
        let conn = Conn {
            _close: close,
            sender: None,
            busy: false,
            closed: false,
        };
        self.conns.put(id.index, id.generation, conn);
        closing
    }

    pub(crate) fn add_attempt(&mut self, id: AttemptId, conn: ConnId) -> oneshot::Receiver<()> {
        let (cancel, cancelled) = oneshot::channel();
        let attempt = Attempt {
            _cancel: cancel,
            response: None,
        };
        self.attempts.put(id.index, id.generation, attempt);
        if let Some(conn) = self.conn(conn) {
            conn.busy = true;
        }
        cancelled
    }

    /// The key of an exchange and the body an attempt of it carries; `None` if its start is gone.
    pub(crate) fn outgoing(&mut self, source: BodySource) -> Option<(u64, Outgoing)> {
        let (id, recipient) = match source {
            BodySource::Exchange(id) => (id, Recipient::Endpoint),
            BodySource::Mirror(id) => (id, Recipient::Mirror),
        };
        let (key, body) = match self.exchanges.get_mut(id.index, id.generation) {
            Some(exchange) => (exchange.key, &exchange.body),
            None => {
                let (_, key, body) = self.late.iter().find(|(late, _, _)| *late == id)?;
                (*key, body)
            }
        };
        let body = match body {
            None => Outgoing::EMPTY,
            Some(body) => body.send_to(recipient)?,
        };
        Some((key, body))
    }

    pub(crate) fn drain(&mut self, id: DownstreamId) {
        let downstream = self.downstreams.get_mut(id.index, id.generation);
        if let Some(drain) = downstream.and_then(|downstream| downstream.drain.take()) {
            // Nobody listens if the client has just left.
            let _ = drain.send(());
        }
    }

    pub(crate) fn respond(&mut self, id: ExchangeId, head: &ResponseHead, body: Body) {
        let body = match body {
            Body::Empty => ResponseBody::local(""),
            Body::Local(text) => ResponseBody::local(&text),
            Body::Relay(attempt) => {
                let response = self.attempt(attempt).and_then(|a| a.response.take());
                let (abort, aborted) = oneshot::channel();
                let (Some(response), Some(exchange)) = (response, self.exchange(id)) else {
                    return;
                };
                exchange.abort = Some(abort);
                ResponseBody::Relay(Relay {
                    body: response.body,
                    ended: Some(response.ended),
                    abort: Some(aborted),
                    broken: false,
                })
            }
        };
        if let Some(respond) = self.exchange(id).and_then(|x| x.respond.take()) {
            // Nobody listens if the client has just left.
            let _ = respond.send(heads::to_response(head, body));
        }
    }

    pub(crate) fn abort(&mut self, id: ExchangeId) {
        if let Some(abort) = self.exchange(id).and_then(|x| x.abort.take()) {
            // Nobody listens if the client has just left.
            let _ = abort.send(());
        }
    }

    pub(crate) fn keep(&mut self, id: ExchangeId, limit: u64) {
        if let Some(body) = self.exchange(id).and_then(|x| x.body.as_ref()) {
            body.keep(limit);
        }
    }

    pub(crate) fn end_exchange(&mut self, log: &AccessLog) {
        let id = log.exchange;
        let Some(exchange) = self.exchanges.release(id.index, id.generation) else {
            return;
        };
        if let Some(body) = &exchange.body {
            body.close();
        }
        let route = log.decision.as_ref().and_then(|decision| decision.route());
        if let Some(RouteAction::Forward(forward)) = route.map(|route| &route.action)
            && !forward.mirrors.is_empty()
        {
            self.late.truncate(LATE_MIRRORS - 1);
            self.late.push_front((id, exchange.key, exchange.body));
        }
    }
}
