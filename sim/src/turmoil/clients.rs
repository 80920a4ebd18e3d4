//! Calls of sources and applications, and the connections these go over.

use super::application::REQUEST_ID;
use super::duration;
use super::network::{Io, dial, ephemeral_port, pipe};
use super::reports::Report;
use super::world::World;
use crate::plan::{Caller, Entry, Place, PlanCall, Target};
use crate::random::{Purpose, pick};
use crate::tally::Ended;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use proxy::Accepted;
use proxy::preface::Preface;
use proxy_core::contract::{Direction, DownstreamTls};
use proxy_core::head::RequestHead;
use proxy_core::random::mix;
use proxy_core::telemetry::Flags;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use tokio::task::spawn_local;
use tokio::time::timeout;

/// Where a client's connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// To the proxy beside it.
    OwnProxy { address: SocketAddr },
    /// To a pod (`None`: a service outside).
    Host {
        pod: Option<u32>,
        address: SocketAddr,
    },
}

/// Connections of one client: idle ones by where they go, most recently used last.
pub(super) struct Lines {
    pub(super) world: Rc<World>,
    /// `None`: outside.
    pod: Option<u32>,
    ip: IpAddr,
    ways: RefCell<BTreeMap<Way, OfWay>>,
    /// Of an application without a proxy: the pods that its idle connections to a Service and port lead
    /// to, as kube-proxy chose them.
    direct: RefCell<BTreeMap<(u32, u16), Vec<u32>>>,
}

#[derive(Default)]
struct OfWay {
    idle: Vec<SendRequest<String>>,
    /// Ever opened.
    opened: u32,
}

/// A try that failed before an answer.
enum Lost {
    /// A connection that was open before turned out to be closed.
    Stale,
    Failed,
}

/// Counts a call as open while it lives.
struct Open<'w>(&'w World);

impl<'w> Open<'w> {
    fn new(world: &'w World) -> Open<'w> {
        world.open_calls.set(world.open_calls.get() + 1);
        Open(world)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open_calls.set(self.0.open_calls.get() - 1);
    }
}

/// A request as its client sees it, up to now.
struct Call<'a> {
    lines: &'a Lines,
    head: &'a RequestHead,
    tls: bool,
    timeout: Option<Nanos>,
    started_at: Nanos,
    flags: Flags,
    /// Where a client without a proxy went: the Service and the pod.
    direct: Option<(u32, u32)>,
}

/// A request of a source, with the retries of its client.
pub(super) async fn ask(lines: &Lines, source: u32, key: u64, head: Arc<RequestHead>) {
    let world = &lines.world;
    let _open = Open::new(world);
    let traffic = &world.plan.traffic[source as usize];
    let mut call = Call::new(lines, &head, traffic.tls, traffic.timeout);
    let mut status = 0;
    for tried in 0..=traffic.retries {
        let key = match tried {
            0 => key,
            tried => mix(key ^ mix(u64::from(tried) << 32)),
        };
        status = match &traffic.entry {
            Entry::Gateway { pods, port } => call.try_gateway(source, pods, *port, key).await,
            Entry::Workload { target, .. } | Entry::Direct { target } => {
                call.try_target(target, key).await
            }
        };
        if (1..500).contains(&status) {
            break;
        }
    }
    let ended = call.end(status, Some(Caller::Traffic(source)));
    world.report(Report::Traffic { source, ended });
}

/// A call of an application; true if it succeeded.
pub(super) async fn call_from_job(
    lines: &Lines,
    planned: &PlanCall,
    key: u64,
    head: Arc<RequestHead>,
) -> bool {
    let _open = Open::new(&lines.world);
    let mut call = Call::new(lines, &head, false, planned.timeout);
    let status = call.try_target(&planned.target, key).await;
    call.end(status, None).succeeded()
}

impl<'a> Call<'a> {
    fn new(lines: &'a Lines, head: &'a RequestHead, tls: bool, timeout: Option<Nanos>) -> Call<'a> {
        Call {
            lines,
            head,
            tls,
            timeout,
            started_at: lines.world.now(),
            flags: Flags::default(),
            direct: None,
        }
    }

    fn end(&self, status: u16, caller: Option<Caller>) -> Ended {
        let world = &self.lines.world;
        let ended = Ended {
            started_at: self.started_at,
            duration: world.now() - self.started_at,
            status,
            flags: self.flags,
            attempts: 1,
            pod: self.direct.map(|(_, pod)| pod),
        };
        let of_pod = |pod: u32| Caller::Workload(world.plan.pods[pod as usize].workload);
        let caller = self.lines.pod.map(of_pod).or(caller);
        if let (Some((service, _)), Some(caller)) = (self.direct, caller) {
            world.report(Report::Direct {
                caller,
                service,
                ended,
            });
        }
        ended
    }

    /// The status of a try at a gateway; 0: no answer.
    async fn try_gateway(&mut self, source: u32, pods: &[u32], port: u16, key: u64) -> u16 {
        let world = &self.lines.world;
        let value = world.sources[source as usize]
            .draws
            .bits(key, Purpose::Endpoint, 0);
        let chosen = {
            let states = world.pods.borrow();
            pick(pods, value, |pod| {
                states[pod as usize].up && states[pod as usize].ready
            })
        };
        let Some(pod) = chosen else { return 0 };
        let address = SocketAddr::new(world.ip_of(pod), port);
        let pod = Some(pod);
        self.try_way(Way::Host { pod, address }, key).await
    }

    /// The status of a try at a Service or an outside service; 0: no answer.
    async fn try_target(&mut self, target: &Target, key: u64) -> u16 {
        let world = &self.lines.world;
        let has_proxy = self.lines.pod.is_some_and(|p| world.driver_of(p).is_some());
        self.direct = None;
        if has_proxy {
            let mut address = target.address;
            if target.headless {
                let chosen = target.service.and_then(|s| world.ready_pod(s, key));
                let Some(chosen) = chosen else { return 0 };
                address.set_ip(world.ip_of(chosen));
            }
            return self.try_way(Way::OwnProxy { address }, key).await;
        }
        let address = target.address;
        if let Some(Place::External(_)) = world.place(address.ip()) {
            return self.try_way(Way::Host { pod: None, address }, key).await;
        }
        let found = target.service.and_then(|service| {
            let kept = self.lines.idle_direct((service, address.port()));
            Some((service, kept.or_else(|| world.ready_pod(service, key))?))
        });
        let Some((service, pod)) = found else {
            return 0;
        };
        self.direct = Some((service, pod));
        let to = (service, address.port());
        let address = SocketAddr::new(world.ip_of(pod), target.target_port);
        let way = Way::Host {
            pod: Some(pod),
            address,
        };
        let status = self.try_way(way, key).await;
        if status != 0 {
            self.lines.keep_direct(to, pod);
        }
        status
    }

    async fn try_way(&mut self, way: Way, key: u64) -> u16 {
        let world = &self.lines.world;
        let first_proxy = match &way {
            Way::OwnProxy { .. } => self.lines.pod,
            Way::Host { pod, .. } => *pod,
        };
        let watched = (first_proxy.unwrap_or(u32::MAX), key);
        world.watched.borrow_mut().insert(watched, Flags::default());
        let sent = self.lines.send(&way, self.head, self.tls, key);
        let status = match self.timeout {
            None => sent.await,
            Some(limit) => timeout(duration(limit), sent).await.unwrap_or(0),
        };
        let flags = world.watched.borrow_mut().remove(&watched);
        self.flags = flags.unwrap_or_default();
        status
    }
}

impl Lines {
    /// Those of the application of a pod, or outside.
    pub(super) fn of_application(world: Rc<World>, station: u32) -> Lines {
        let outside = station.checked_sub(world.plan.pods.len() as u32);
        let (pod, ip) = match outside {
            Some(outside) => (None, world.plan.externals[outside as usize].address),
            None => (Some(station), world.ip_of(station)),
        };
        Lines {
            pod,
            ip,
            ways: RefCell::default(),
            direct: RefCell::default(),
            world,
        }
    }

    /// Those of the clients of a source that has no pods.
    pub(super) fn of_source(world: Rc<World>, source: u32) -> Lines {
        Lines {
            pod: None,
            ip: world.sources[source as usize].ip,
            ways: RefCell::default(),
            direct: RefCell::default(),
            world,
        }
    }

    /// The pod that an idle connection of an application to a Service and port leads to. Those of
    /// sources are always new: a source is many clients.
    fn idle_direct(&self, to: (u32, u16)) -> Option<u32> {
        self.pod?;
        let mut kept = self.direct.borrow_mut();
        let idle = kept.get_mut(&to)?;
        idle.retain(|pod| self.world.is_up(*pod));
        idle.pop()
    }

    fn keep_direct(&self, to: (u32, u16), pod: u32) {
        if self.pod.is_some() {
            self.direct.borrow_mut().entry(to).or_default().push(pod);
        }
    }

    /// Sends a request and gives the status of its answer; 0: none came. Like every HTTP client,
    /// sends it once more if an idle connection turns out to be closed.
    async fn send(&self, way: &Way, head: &RequestHead, tls: bool, key: u64) -> u16 {
        while let Some(line) = self.idle(way) {
            match self.send_on(line, way, head, key).await {
                Ok(status) => return status,
                Err(Lost::Failed) => return 0,
                Err(Lost::Stale) => {}
            }
        }
        let host = head.authority.split(':').next().unwrap_or_default();
        let Some(line) = self.open(way, tls.then(|| host.into())).await else {
            return 0;
        };
        self.send_on(line, way, head, key).await.unwrap_or(0)
    }

    fn idle(&self, way: &Way) -> Option<SendRequest<String>> {
        let mut ways = self.ways.borrow_mut();
        ways.get_mut(way)?.idle.pop()
    }

    async fn send_on(
        &self,
        mut line: SendRequest<String>,
        way: &Way,
        head: &RequestHead,
        key: u64,
    ) -> Result<u16, Lost> {
        let Some(request) = request(head, key) else {
            return Err(Lost::Failed);
        };
        line.ready().await.map_err(|_| Lost::Stale)?;
        let response = line.send_request(request).await.map_err(|error| {
            match error.is_canceled() || error.is_closed() {
                true => Lost::Stale,
                false => Lost::Failed,
            }
        })?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await;
        body.map_err(|_| Lost::Failed)?;
        let mut ways = self.ways.borrow_mut();
        ways.entry(way.clone()).or_default().idle.push(line);
        Ok(status)
    }

    /// A new connection.
    async fn open(&self, way: &Way, sni: Option<Name>) -> Option<SendRequest<String>> {
        let number = {
            let mut ways = self.ways.borrow_mut();
            let of_way = ways.entry(way.clone()).or_default();
            of_way.opened = of_way.opened.wrapping_add(1);
            of_way.opened - 1
        };
        let source = SocketAddr::new(self.ip, ephemeral_port(number));
        let io: Io = match way {
            Way::OwnProxy { address } => {
                let driver = self.world.driver_of(self.pod?)?;
                let (near, far) = pipe();
                driver.accept(Accepted {
                    io: far,
                    peer: source,
                    original_dst: *address,
                    direction: Direction::Outbound,
                    tls: None,
                });
                near
            }
            Way::Host { pod, address } => {
                if pod.is_some_and(|pod| !self.world.is_up(pod)) {
                    return None;
                }
                let tls = sni.map(|sni| DownstreamTls {
                    sni: Some(sni),
                    mutual: false,
                    principal: None,
                });
                let preface = Preface {
                    source,
                    destination: *address,
                    tls,
                };
                let latency = self.world.latency(self.pod, *pod);
                dial(address.ip(), preface, latency).await.ok()?
            }
        };
        let (line, connection) = handshake(io).await.ok()?;
        spawn_local(async move {
            // Whatever is wrong is seen by the request on it.
            let _ = connection.await;
        });
        Some(line)
    }
}

/// `None` if HTTP/1 cannot carry it.
fn request(head: &RequestHead, key: u64) -> Option<Request<String>> {
    let mut request = Request::new(String::new());
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::try_from(&*head.path).ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&head.authority).ok()?);
    for (name, value) in &head.headers.0 {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
    }
    let id = HeaderValue::from_str(&format!("{key:016x}")).ok()?;
    headers.insert(REQUEST_ID, id);
    Some(request)
}
