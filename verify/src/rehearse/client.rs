//! The proxy's clients: every arrival of a script as a request to a real proxy, in its time.

use super::REQUEST;
use super::clock::Clock;
use super::script::Arrival;
use http::header::HOST;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use proxy_core::time::Nanos;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::timeout;

type Line = SendRequest<Empty<Bytes>>;

/// The clients' idle connections, by where they lead.
#[derive(Default)]
struct Clients {
    idle: RefCell<BTreeMap<SocketAddr, Vec<Line>>>,
    /// How late the latest request was.
    late: Cell<Nanos>,
}

/// Asks everything, each request `to` where its connection leads, and waits for the last answer for
/// at most `grace`. Gives how late the latest request was sent.
pub(super) async fn ask(
    arrivals: &[Arc<Arrival>],
    to: impl Fn(&Arrival) -> Option<SocketAddr>,
    grace: Duration,
    clock: Clock,
) -> Nanos {
    let clients = Rc::new(Clients::default());
    let mut asked = JoinSet::new();
    for (number, arrival) in arrivals.iter().enumerate() {
        clock.wait_until(arrival.at).await;
        let (clients, arrival) = (Rc::clone(&clients), Arc::clone(arrival));
        let late = Nanos(clock.now().0.saturating_sub(arrival.at.0));
        clients.late.set(clients.late.get().max(late));
        let Some(to) = to(&arrival) else { continue };
        asked.spawn_local(async move {
            let limit = arrival
                .timeout
                .map_or(Duration::MAX, |t| Duration::from_nanos(t.0));
            // What became of it is in the proxy's access log; a client that gives up hangs up.
            let _ = timeout(limit, clients.request(number, &arrival, to)).await;
        });
        while asked.try_join_next().is_some() {}
    }
    let _ = timeout(grace, async { while asked.join_next().await.is_some() {} }).await;
    clients.late.get()
}

impl Clients {
    async fn request(&self, number: usize, arrival: &Arrival, to: SocketAddr) -> Option<()> {
        let mut line = self.line(to).await?;
        let answer = line.send_request(request(number, arrival)?).await.ok()?;
        answer.into_body().collect().await.ok()?;
        line.ready().await.ok()?;
        self.idle.borrow_mut().entry(to).or_default().push(line);
        Some(())
    }

    /// The connection used last, or a new one.
    async fn line(&self, to: SocketAddr) -> Option<Line> {
        loop {
            let idle = self.idle.borrow_mut().get_mut(&to).and_then(Vec::pop);
            match idle {
                Some(line) if line.is_ready() => return Some(line),
                Some(_) => {}
                None => break,
            }
        }
        let stream = TcpStream::connect(to).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let (line, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
        spawn_local(connection);
        Some(line)
    }
}

fn request(number: usize, arrival: &Arrival) -> Option<Request<Empty<Bytes>>> {
    let head = &arrival.head;
    let mut request = Request::builder()
        .method(&*head.method)
        .uri(&*head.path)
        .header(HOST, &*head.authority);
    for (name, value) in &head.headers.0 {
        request = request.header(&**name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    request.header(REQUEST, number).body(Empty::new()).ok()
}
