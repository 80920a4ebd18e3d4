//! A proxy, a client and some endpoints on turmoil's simulated network.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proxy::preface::Preface;
use proxy::{Accepted, Driver, Environment, Record, Setup};
use proxy_core::Identity;
use proxy_core::contract::{ConnTransport, ConnectFailure, Direction};
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use turmoil::net::{TcpListener, TcpStream};

pub const PROXY_PORT: u16 = 15001;
pub const SERVICE: &str = "10.96.0.1:80";
/// One way, on every link.
pub const LATENCY_MS: u64 = 1;

/// Turmoil's network.
pub struct Net;

impl Environment for Net {
    type Io = TokioIo<TcpStream>;

    fn address(&self) -> IpAddr {
        IpAddr::from([10, 0, 0, 1])
    }

    fn now(&self) -> Nanos {
        let elapsed = turmoil::sim_elapsed().unwrap();
        Nanos(elapsed.as_nanos() as u64)
    }

    async fn sleep_until(&self, deadline: Nanos) {
        tokio::time::sleep(Duration::from_nanos((deadline - self.now()).0)).await;
    }

    async fn connect(
        &self,
        address: SocketAddr,
        _transport: &ConnTransport,
    ) -> Result<Self::Io, ConnectFailure> {
        match TcpStream::connect(address).await {
            Ok(stream) => Ok(TokioIo::new(stream)),
            Err(_) => Err(ConnectFailure::Refused),
        }
    }

    async fn resolve(&self, host: &str) -> Vec<IpAddr> {
        vec![turmoil::lookup(host)]
    }
}

/// What a run leaves behind.
#[derive(Default)]
pub struct Left {
    pub logs: RefCell<Vec<AccessLog>>,
    pub answers: RefCell<Vec<(u64, Option<Name>)>>,
    driver: RefCell<Option<Driver<Net>>>,
    journal: RefCell<Option<Vec<u8>>>,
}

impl Left {
    /// The journal of the proxy, ended.
    pub fn journal(&self) -> String {
        let mut journal = self.journal.borrow_mut();
        let bytes = journal.get_or_insert_with(|| {
            let driver = self.driver.borrow();
            driver.as_ref().unwrap().finish_journal()
        });
        String::from_utf8(bytes.clone()).unwrap()
    }

    /// Every action or input of the journal called `name`, in order, as the JSON of its fields.
    pub fn journaled(&self, name: &str) -> Vec<serde_json::Value> {
        let mut found = Vec::new();
        for line in self.journal().lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            let Some(entry) = line.get("entry") else {
                continue;
            };
            let entry = entry.as_object().unwrap().values().next().unwrap();
            found.extend(entry["input"].get(name).cloned());
            for action in entry["out"]["actions"].as_array().into_iter().flatten() {
                found.extend(action.get(name).cloned());
            }
        }
        found
    }

    /// Status, flags and details of every exchange, in order.
    pub fn ends(&self) -> Vec<String> {
        let line = |log: &AccessLog| format!("{} {} {}", log.status, log.flags, log.details);
        self.logs.borrow().iter().map(line).collect()
    }
}

/// A simulation that is being set up.
pub struct Bench {
    sim: turmoil::Sim<'static>,
    left: Rc<Left>,
}

impl Bench {
    pub fn new(seed: u64) -> Bench {
        let sim = turmoil::Builder::new()
            .rng_seed(seed)
            .epoch(std::time::UNIX_EPOCH)
            .simulation_duration(Duration::from_secs(600))
            .min_message_latency(Duration::from_millis(LATENCY_MS))
            .max_message_latency(Duration::from_millis(LATENCY_MS))
            .build();
        Bench {
            sim,
            left: Rc::default(),
        }
    }

    /// The address that `host` will have.
    pub fn address(&mut self, host: &str, port: u16) -> SocketAddr {
        (self.sim.lookup(host), port).into()
    }

    /// An endpoint on port 80; `handle` is given the number of the request, from 0.
    pub fn endpoint<F, R>(&mut self, host: &str, handle: F)
    where
        F: Fn(u32, Request<Bytes>) -> R + Clone + 'static,
        R: Future<Output = Option<Response<Full<Bytes>>>> + 'static,
    {
        self.sim.host(host, move || serve(handle.clone()));
    }

    /// Something else that listens on port 80: `talk` is given each connection.
    pub fn raw_endpoint<F, R>(&mut self, host: &str, talk: F)
    where
        F: Fn(TcpStream) -> R + Clone + 'static,
        R: Future<Output = ()> + 'static,
    {
        self.sim.host(host, move || {
            let talk = talk.clone();
            async move {
                let listener = TcpListener::bind(("0.0.0.0", 80)).await?;
                loop {
                    tokio::task::spawn_local(talk(listener.accept().await?.0));
                }
            }
        });
    }

    /// The proxy, with `deltas` delivered at once.
    pub fn proxy(&mut self, deltas: Vec<XdsDelta>) {
        let left = Rc::clone(&self.left);
        self.sim
            .host("proxy", move || run_proxy(Rc::clone(&left), deltas.clone()));
    }

    /// Runs until `client` is done.
    pub fn run(mut self, client: impl Future<Output = ()> + 'static) -> Rc<Left> {
        self.sim.client("client", async move {
            client.await;
            Ok(())
        });
        self.sim.run().unwrap();
        self.left
    }
}

async fn run_proxy(left: Rc<Left>, deltas: Vec<XdsDelta>) -> turmoil::Result {
    let sink = {
        let left = Rc::clone(&left);
        Box::new(move |_: &proxy_core::Proxy, record| match record {
            Record::Access { log, .. } => left.logs.borrow_mut().push(log),
            Record::Answered { version, refusal } => {
                left.answers.borrow_mut().push((version, refusal));
            }
            Record::Change(_) => {}
        })
    };
    let identity = Identity::new(1, "proxy".into(), 1);
    let setup = Setup {
        identity,
        keys_of_tries: true,
        journal: true,
        sink,
    };
    let driver = Driver::start(setup, Net);
    *left.driver.borrow_mut() = Some(driver.clone());
    for (version, delta) in (1..).zip(deltas) {
        driver.xds(delta, version);
    }
    let listener = TcpListener::bind(("0.0.0.0", PROXY_PORT)).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let driver = driver.clone();
        tokio::task::spawn_local(async move {
            let Ok(preface) = Preface::read(&mut stream).await else {
                return;
            };
            driver.accept(Accepted {
                io: TokioIo::new(stream),
                peer: preface.source,
                original_dst: preface.destination,
                direction: Direction::Outbound,
                tls: preface.tls,
            });
        });
    }
}

async fn serve<F, R>(handle: F) -> turmoil::Result
where
    F: Fn(u32, Request<Bytes>) -> R + Clone + 'static,
    R: Future<Output = Option<Response<Full<Bytes>>>> + 'static,
{
    let listener = TcpListener::bind(("0.0.0.0", 80)).await?;
    let requests = Rc::new(Cell::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        let (handle, requests) = (handle.clone(), Rc::clone(&requests));
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let handle = handle.clone();
            let number = requests.replace(requests.get() + 1);
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
                let response = handle(number, Request::from_parts(parts, body)).await;
                response.ok_or_else(|| "gone".to_owned())
            }
        });
        tokio::task::spawn_local(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .auto_date_header(false)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A client's connection through the proxy.
pub struct Client(pub SendRequest<Full<Bytes>>);

impl Client {
    pub async fn connect() -> Client {
        let stream = connect_via(SERVICE).await;
        let (sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::task::spawn_local(async move {
            let _ = conn.await;
        });
        Client(sender)
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.try_send(request).await.unwrap()
    }

    pub async fn try_send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, hyper::Error> {
        self.0.ready().await?;
        let (parts, body) = self.0.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    pub async fn get(&mut self, path: &str) -> Response<Bytes> {
        self.send(get(path)).await
    }

    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Response<Bytes> {
        self.send(post(path, body)).await
    }
}

/// A connection to the proxy that was going to `destination`.
pub async fn connect_via(destination: &str) -> TcpStream {
    // The proxy listens as soon as its host has run once.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut stream = TcpStream::connect(("proxy", PROXY_PORT)).await.unwrap();
    let preface = Preface {
        source: stream.local_addr().unwrap(),
        destination: destination.parse().unwrap(),
        tls: None,
    };
    preface.write(&mut stream).await.unwrap();
    stream
}

pub fn get(path: &str) -> Request<Full<Bytes>> {
    let request = Request::get(path).header("host", "reviews");
    request.body(Full::default()).unwrap()
}

pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("host", "reviews");
    request.body(Full::new(body.into())).unwrap()
}

pub fn ok(body: impl Into<Bytes>) -> Option<Response<Full<Bytes>>> {
    Some(Response::new(Full::new(body.into())))
}

pub fn status(status: u16) -> Option<Response<Full<Bytes>>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status.try_into().unwrap();
    Some(response)
}

/// A cluster of fixed endpoints.
pub fn cluster(name: &str, addresses: &[SocketAddr]) -> Cluster {
    let endpoints = addresses.iter().map(|&a| Endpoint::new(a)).collect();
    let locality = LocalityEndpoints {
        locality: "".into(),
        priority: 0,
        weight: 1,
        endpoints,
    };
    let assignment = LoadAssignment::new(name.into(), vec![locality]);
    Cluster {
        connect_timeout: Nanos::from_secs(1),
        lb_policy: LbPolicy::RoundRobin,
        ..Cluster::new(name.into(), Discovery::Static(assignment))
    }
}

/// Everything to `forward`, through a listener whose routes come by RDS.
pub fn config(clusters: Vec<Cluster>, forward: Forward) -> Vec<XdsDelta> {
    let route = Route::new(RouteMatch::default(), RouteAction::Forward(forward));
    let host = VirtualHost {
        name: "reviews:80".into(),
        domains: vec!["reviews".into()],
        routes: vec![Arc::new(route)],
        ..VirtualHost::default()
    };
    let chain = FilterChain {
        name: "".into(),
        matches: FilterChainMatch::default(),
        terminates_tls: false,
        rbac: Vec::new(),
        filter: NetworkFilter::Http(HttpConnectionManager {
            normalize_path: false,
            ..HttpConnectionManager::new(RouteSource::Rds("80".into()))
        }),
    };
    let listener = Listener {
        name: "0.0.0.0_80".into(),
        address: None,
        port: 80,
        filter_chains: vec![],
        default_filter_chain: Some(chain),
        use_original_dst: false,
        tls_inspector: TlsInspector::AllPorts,
    };
    vec![
        XdsDelta::Clusters {
            upsert: clusters.into_iter().map(Arc::new).collect(),
            remove: vec![],
        },
        XdsDelta::Listeners {
            upsert: vec![Arc::new(listener)],
            remove: vec![],
        },
        XdsDelta::Routes {
            upsert: vec![Arc::new(RouteTable::new("80".into(), vec![host], false))],
            remove: vec![],
        },
    ]
}

/// Istio's retries without jitter worth speaking of.
pub fn retry(num_retries: u32) -> RetryPolicy {
    RetryPolicy::on(
        RetryOn::FIVE_XX | RetryOn::CONNECT_FAILURE | RetryOn::RESET,
        num_retries,
    )
}

/// Bytes that tell where they belong.
pub fn pattern(len: usize) -> Bytes {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}
