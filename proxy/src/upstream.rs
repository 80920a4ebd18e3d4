//! The endpoints' side: connections, and the attempts on them.
//!
//! A connection that the peer closes may still have a whole response in it. So while an attempt is
//! on it, the attempt's task tells the core how both ended.

use crate::Environment;
use crate::driver::Driver;
use crate::heads;
use crate::request_body::Outgoing;
use crate::tables::Response;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use proxy_core::contract::{ConnTransport, ConnectFailure, Input, Protocol, ResetReason};
use proxy_core::ids::{AttemptId, ConnId};
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::sync::oneshot;

/// An upstream connection and the worker it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) worker: u32,
    pub(crate) conn: ConnId,
}

/// Runs `task` until the other end of `cancelled` is dropped.
pub(crate) async fn unless_cancelled(
    cancelled: oneshot::Receiver<()>,
    task: impl Future<Output = ()>,
) {
    tokio::select! {
        biased;
        _ = cancelled => {}
        () = task => {}
    }
}

/// Runs an attempt until it is given up. One request's end is the connection's end here, which the
/// core knows of HTTP/1 connections, but not of those it takes for HTTP/2.
pub(crate) async fn unless_given_up<E: Environment>(
    driver: Driver<E>,
    place: Place,
    cancelled: oneshot::Receiver<()>,
    attempt: impl Future<Output = ()>,
) {
    tokio::select! {
        biased;
        _ = cancelled => break_off(&driver, place),
        () = attempt => {}
    }
}

/// Opens a connection and runs it until one of the two sides closes it. It speaks HTTP/1.1 whatever
/// was asked for: HTTP/2 is stood in for by connections that carry one request at a time.
pub(crate) async fn run_conn<E: Environment>(
    driver: Driver<E>,
    place: Place,
    (address, protocol): (SocketAddr, Protocol),
    transport: ConnTransport,
    closing: oneshot::Receiver<()>,
) {
    let connected = async {
        let io = match driver.environment().connect(address, &transport).await {
            Ok(io) => io,
            Err(reason) => return connect_failed(&driver, place, reason),
        };
        let Ok((sender, connection)) = http1::handshake(io).await else {
            return connect_failed(&driver, place, ConnectFailure::Local);
        };
        driver.with_tables(place.worker, |tables| {
            if let Some(conn) = tables.conn(place.conn) {
                conn.sender = Some(sender);
            }
        });
        let conn = place.conn;
        if protocol == Protocol::Http2 {
            let max_concurrent_streams = 1;
            let settings = Input::Settings {
                conn,
                max_concurrent_streams,
            };
            driver.tell(place.worker, settings);
        }
        driver.tell(place.worker, Input::Connected { conn });
        // Whatever is wrong is told by the attempt, if there is one.
        let _ = connection.await;
        closed(&driver, place);
    };
    unless_cancelled(closing, connected).await;
}

fn connect_failed<E: Environment>(driver: &Driver<E>, place: Place, reason: ConnectFailure) {
    let conn = place.conn;
    driver.with_tables(place.worker, |tables| {
        tables.conns.take(conn.index, conn.generation)
    });
    driver.tell(place.worker, Input::ConnectFailed { conn, reason });
}

/// The peer is gone.
fn closed<E: Environment>(driver: &Driver<E>, place: Place) {
    let busy = driver.with_tables(place.worker, |tables| match tables.conn(place.conn) {
        Some(conn) => {
            conn.closed = true;
            conn.busy
        }
        None => true,
    });
    if !busy {
        lost(driver, place);
    }
}

/// A connection is gone, and the attempt on it with it.
fn lost<E: Environment>(driver: &Driver<E>, place: Place) {
    let conn = place.conn;
    driver.with_tables(place.worker, |tables| {
        tables.conns.take(conn.index, conn.generation)
    });
    driver.tell(place.worker, Input::ConnClosed { conn });
}

/// Sends an attempt and follows it to its end.
pub(crate) async fn run_attempt<E: Environment>(
    driver: Driver<E>,
    place: Place,
    attempt: AttemptId,
    request: Option<http::Request<Outgoing>>,
) {
    let Some(request) = request else {
        // HTTP/1 cannot carry it, or the start of its body is gone.
        return reset(&driver, place, attempt, ResetReason::ProtocolError);
    };
    let response = match send(&driver, place, request).await {
        Ok(response) => response,
        Err(error) => return failed(&driver, place, attempt, error.as_ref()),
    };
    let (parts, body) = response.into_parts();
    let closes = heads::closes(&parts);
    let head = Arc::new(heads::response_head(&parts));
    let ends = body.is_end_stream();
    if ends {
        free(&driver, place, attempt, closes);
        return driver.tell(
            place.worker,
            Input::ResponseHead {
                attempt,
                head,
                ends,
            },
        );
    }
    let (ended, relayed) = oneshot::channel();
    driver.with_tables(place.worker, |tables| {
        if let Some(attempt) = tables.attempt(attempt) {
            attempt.response = Some(Response { body, ended });
        }
    });
    driver.tell(
        place.worker,
        Input::ResponseHead {
            attempt,
            head,
            ends,
        },
    );
    // Nobody took the body: it is a mirror's.
    let unread = driver.with_tables(place.worker, |tables| {
        tables.attempt(attempt).and_then(|a| a.response.take())
    });
    let result = match unread {
        Some(response) => drain(response.body).await,
        // The end of an exchange whose client leaves is told by the client's side.
        None => match relayed.await {
            Ok(result) => result,
            Err(_) => return,
        },
    };
    match result {
        Ok(()) => {
            free(&driver, place, attempt, closes);
            driver.tell(place.worker, Input::ResponseEnd { attempt });
        }
        Err(error) => failed(&driver, place, attempt, Some(&error)),
    }
}

/// The response to a request; `Err(None)` if the connection is not there any more.
async fn send<E: Environment>(
    driver: &Driver<E>,
    place: Place,
    request: http::Request<Outgoing>,
) -> Result<http::Response<Incoming>, Option<hyper::Error>> {
    // hyper is ready a moment after the end of the response before.
    let ready = |cx: &mut Context<'_>| {
        driver.with_tables(place.worker, |tables| {
            match tables.conn(place.conn).and_then(|c| c.sender.as_mut()) {
                Some(sender) => sender.poll_ready(cx).map_err(Some),
                None => Poll::Ready(Err(None)),
            }
        })
    };
    std::future::poll_fn(ready).await?;
    let sent = driver.with_tables(place.worker, |tables| {
        let conn = tables.conn(place.conn)?;
        Some(conn.sender.as_mut()?.send_request(request))
    });
    match sent {
        Some(response) => response.await.map_err(Some),
        None => Err(None),
    }
}

async fn drain(mut body: Incoming) -> Result<(), hyper::Error> {
    while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        frame?;
    }
    Ok(())
}

/// An attempt came to nothing.
fn failed<E: Environment>(
    driver: &Driver<E>,
    place: Place,
    attempt: AttemptId,
    error: Option<&hyper::Error>,
) {
    if error.is_some_and(hyper::Error::is_parse) {
        return reset(driver, place, attempt, ResetReason::ProtocolError);
    }
    driver.with_tables(place.worker, |tables| {
        tables.attempts.take(attempt.index, attempt.generation)
    });
    lost(driver, place);
}

fn reset<E: Environment>(
    driver: &Driver<E>,
    place: Place,
    attempt: AttemptId,
    reason: ResetReason,
) {
    driver.with_tables(place.worker, |tables| {
        tables.attempts.take(attempt.index, attempt.generation)
    });
    driver.tell(place.worker, Input::Reset { attempt, reason });
    break_off(driver, place);
}

/// Ends a connection whose last request has come to nothing, unless the core has closed it.
fn break_off<E: Environment>(driver: &Driver<E>, place: Place) {
    let open = driver.with_tables(place.worker, |tables| tables.conn(place.conn).is_some());
    if open {
        lost(driver, place);
    }
}

/// An attempt is over and its response complete: the connection can take the next one, unless the
/// peer said that it closes it, or has done so.
fn free<E: Environment>(driver: &Driver<E>, place: Place, attempt: AttemptId, closes: bool) {
    let closed = driver.with_tables(place.worker, |tables| {
        tables.attempts.take(attempt.index, attempt.generation);
        tables.conn(place.conn).is_some_and(|conn| {
            conn.busy = false;
            conn.closed
        })
    });
    if closes || closed {
        driver.tell(place.worker, Input::GoAway { conn: place.conn });
    }
}
