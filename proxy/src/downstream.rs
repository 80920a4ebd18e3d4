//! The client's side: connections, and the requests on them.

use crate::Environment;
use crate::driver::Driver;
use crate::heads;
use crate::request_body::{Received, RequestBody};
use crate::response_body::ResponseBody;
use crate::tables::{Downstream, Exchange};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use proxy_core::contract::{Direction, DownstreamTls, Input, Opened, Protocol};
use proxy_core::ids::{DownstreamId, ExchangeId};
use proxy_core::random::{hash_text, mix};
use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::spawn_local;

/// A connection from a client.
#[derive(Clone, Debug)]
pub struct Accepted<Io> {
    pub io: Io,
    /// The client's address and port.
    pub peer: SocketAddr,
    /// Where the client was connecting to (before any redirection).
    pub original_dst: SocketAddr,
    pub direction: Direction,
    /// What the client offered, or would have offered, in its TLS handshake; `None`: plain text.
    pub tls: Option<DownstreamTls>,
}

/// A downstream connection and the worker it belongs to.
#[derive(Clone, Copy)]
struct Place {
    worker: u32,
    downstream: DownstreamId,
    tls: bool,
    /// What requests that bring no key are numbered from.
    base: u64,
}

impl<E: Environment> Driver<E> {
    /// Serves a connection until one of the two sides ends it. One that no filter chain takes is
    /// closed at once.
    pub fn accept(&self, accepted: Accepted<E::Io>) {
        let worker = self.next_worker();
        let (drain, draining) = oneshot::channel();
        let drain = Some(drain);
        let (index, generation) = self.with_tables(worker, |tables| {
            tables.downstreams.claim(Downstream { drain })
        });
        let downstream = DownstreamId { index, generation };
        let place = Place {
            worker,
            downstream,
            tls: accepted.tls.is_some(),
            base: hash_text(&format!("{} {}", accepted.peer, accepted.original_dst)),
        };
        self.tell(
            worker,
            Input::Opened(Opened {
                downstream,
                peer: accepted.peer,
                original_dst: accepted.original_dst,
                direction: accepted.direction,
                tls: accepted.tls,
                protocol: Protocol::Http1,
            }),
        );
        let refused = self.with_tables(worker, |tables| {
            let state = tables.downstreams.get_mut(index, generation);
            let refused = state.is_some_and(|state| state.drain.is_none());
            if refused {
                tables.downstreams.release(index, generation);
            }
            refused
        });
        if !refused {
            spawn_local(serve(self.clone(), place, accepted.io, draining));
        }
    }
}

async fn serve<E: Environment>(
    driver: Driver<E>,
    place: Place,
    io: E::Io,
    draining: oneshot::Receiver<()>,
) {
    let requests = Cell::new(0);
    let service = service_fn(|request| {
        let ordinal = requests.replace(requests.get() + 1);
        respond(driver.clone(), place, ordinal, request)
    });
    let connection = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(io, service);
    let mut connection = pin!(connection);
    // How it ended is for the core to say, from what was in progress.
    tokio::select! {
        biased;
        Ok(()) = draining => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        _ = &mut connection => {}
    }
    let downstream = place.downstream;
    driver.tell(place.worker, Input::DownstreamClosed { downstream });
    driver.with_tables(place.worker, |tables| {
        tables
            .downstreams
            .release(downstream.index, downstream.generation)
    });
}

/// One exchange, up to the head of its response.
async fn respond<E: Environment>(
    driver: Driver<E>,
    place: Place,
    ordinal: u64,
    request: http::Request<Incoming>,
) -> Result<http::Response<ResponseBody>, Abandoned> {
    let (parts, incoming) = request.into_parts();
    let Some(mut head) = heads::request_head(&parts, place.tls) else {
        let mut refused = http::Response::new(ResponseBody::local(""));
        *refused.status_mut() = http::StatusCode::BAD_REQUEST;
        return Ok(refused);
    };
    let key = heads::key(&mut head, mix(place.base ^ mix(ordinal)));
    let ends = incoming.is_end_stream();
    let body = (!ends).then(RequestBody::new);
    let (respond, response) = oneshot::channel();
    let (index, generation) = driver.with_tables(place.worker, |tables| {
        tables.exchanges.claim(Exchange {
            key,
            body: body.clone(),
            respond: Some(respond),
            abort: None,
        })
    });
    let exchange = ExchangeId { index, generation };
    driver.tell(
        place.worker,
        Input::Request {
            exchange,
            downstream: place.downstream,
            key,
            head: Arc::new(head),
            ends,
        },
    );
    if let Some(body) = body {
        spawn_local(receive(driver, place.worker, exchange, body, incoming));
    }
    response.await.map_err(|_| Abandoned)
}

/// Takes in the body of a request.
async fn receive<E: Environment>(
    driver: Driver<E>,
    worker: u32,
    exchange: ExchangeId,
    body: RequestBody,
    mut incoming: Incoming,
) {
    loop {
        match body.receive(&mut incoming).await {
            Received::Full => driver.tell(worker, Input::BufferFull { exchange }),
            Received::All => return driver.tell(worker, Input::RequestEnd { exchange }),
            Received::Broken => return driver.tell(worker, Input::Cancelled { exchange }),
            Received::Unwanted => return,
        }
    }
}

/// The exchange ended without a response: its client is gone.
#[derive(Debug)]
struct Abandoned;

impl fmt::Display for Abandoned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the exchange ended without a response")
    }
}

impl std::error::Error for Abandoned {}
