//! Upstreams that note what they are asked and answer as the request says.

use crate::Failure;
use crate::seen::{Hit, ID, SCRIPT, Script};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinSet, spawn_local};

/// What reached the upstreams.
#[derive(Default)]
pub(crate) struct Notes {
    /// By the request's id.
    pub(crate) hits: BTreeMap<String, Vec<Hit>>,
    /// Of samples, whose requests are too many to keep.
    pub(crate) counts: BTreeMap<(String, SocketAddr), u64>,
}

/// All upstreams; end with their owner.
#[derive(Default)]
pub(crate) struct Upstreams {
    pub(crate) notes: Rc<RefCell<Notes>>,
    servers: JoinSet<()>,
}

impl Upstreams {
    /// Takes requests on a listener.
    pub(crate) fn serve(&mut self, listener: StdListener) -> Result<(), Failure> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let listener = TcpListener::from_std(listener)?;
        let notes = Rc::clone(&self.notes);
        self.servers.spawn_local(accept(listener, address, notes));
        Ok(())
    }
}

async fn accept(listener: TcpListener, address: SocketAddr, notes: Rc<RefCell<Notes>>) {
    let mut connections = JoinSet::new();
    loop {
        // An error of one accept concerns a connection that is gone already.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn_local(connection(stream, address, Rc::clone(&notes)));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, address: SocketAddr, notes: Rc<RefCell<Notes>>) {
    // Answers are small and alone on their way.
    let _ = stream.set_nodelay(true);
    let used = Cell::new(0);
    let service = service_fn(move |request| {
        let before = used.replace(used.get() + 1);
        answer(request, address, before, Rc::clone(&notes))
    });
    // A proxy that closes its connection does not concern the upstream; nor does one it breaks off.
    let _ = auto::Builder::new(LocalExecutor)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Runs HTTP/2's streams on this thread.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        spawn_local(future);
    }
}

async fn answer(
    request: Request<Incoming>,
    address: SocketAddr,
    before: u32,
    notes: Rc<RefCell<Notes>>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    let text = |name: &str| text(&head.headers, name);
    let authority = head.uri.authority().map(ToString::to_string);
    let hit = Hit {
        endpoint: address,
        before,
        method: head.method.to_string(),
        authority: authority.or_else(|| text("host")).unwrap_or_default(),
        path: head
            .uri
            .path_and_query()
            .map(ToString::to_string)
            .unwrap_or_default(),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = value.as_bytes().iter().map(|&byte| char::from(byte));
                (name.to_string(), value.collect())
            })
            .collect(),
    };
    let id = hit.header(ID).unwrap_or_default().to_owned();
    let script = Script::parse(text(SCRIPT).as_deref());
    let step = {
        let notes = &mut *notes.borrow_mut();
        if id.starts_with(crate::seen::SAMPLE) {
            *notes.counts.entry((id, address)).or_default() += 1;
            script.step([]).clone()
        } else {
            let hits = notes.hits.entry(id).or_default();
            let step = script.step(&*hits).clone();
            hits.push(hit);
            step
        }
    };
    let _ = body.collect().await;
    tokio::time::sleep(Duration::from_nanos(step.after.0)).await;
    if step.reset {
        return Err(std::io::Error::other("as the script says"));
    }
    let body: &'static [u8] = match step.has_body() {
        true => b"upstream",
        false => b"",
    };
    let mut response = Response::builder().status(step.status);
    for (name, value) in &step.headers {
        response = response.header(name, value);
    }
    response
        .body(Full::new(Bytes::from_static(body)))
        .map_err(std::io::Error::other)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
