//! Connections: between hosts, and within one.

use super::application;
use super::duration;
use super::world::World;
use crate::plan::{Place, is_localhost};
use hyper_util::rt::TokioIo;
use proxy::Environment;
use proxy::preface::Preface;
use proxy_core::contract::{ConnTransport, ConnectFailure, DownstreamTls};
use proxy_core::random::mix;
use proxy_core::time::Nanos;
use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until};
use turmoil::net::TcpStream;

/// The one port of every host.
pub(super) const PORT: u16 = 15_006;
/// What a pipe within a host holds.
const PIPE_BYTES: usize = 1 << 16;
const FIRST_EPHEMERAL_PORT: u32 = 32_768;
const EPHEMERAL_PORTS: u32 = 28_232;

/// What a server says at the end of a TLS handshake.
pub(super) const HANDSHAKE: &[u8] = b"!";

/// Both ways of bytes.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection, wherever it leads.
pub(super) type Io = TokioIo<Box<dyn Stream>>;

pub(super) fn io(stream: impl Stream + 'static) -> Io {
    TokioIo::new(Box::new(stream))
}

/// Two ends of a connection within a host.
pub(super) fn pipe() -> (Io, Io) {
    let (a, b) = tokio::io::duplex(PIPE_BYTES);
    (io(a), io(b))
}

/// A port that connection number `n` of a client comes from.
pub(super) fn ephemeral_port(n: u32) -> u16 {
    (FIRST_EPHEMERAL_PORT + n % EPHEMERAL_PORTS) as u16
}

/// Connects to a host that is `latency` away. The handshake of TCP takes one round trip, that of
/// TLS 1.3 one more, in which the other side may hang up.
pub(super) async fn dial(host: IpAddr, preface: Preface, latency: Nanos) -> io::Result<Io> {
    let begun = Instant::now();
    let round_trip = duration(latency * 2);
    let mut stream = TcpStream::connect((host, PORT)).await?;
    sleep_until(begun + round_trip).await;
    preface.write(&mut stream).await?;
    if preface.tls.is_some() {
        stream.read_exact(&mut [0; HANDSHAKE.len()]).await?;
        sleep_until(begun + round_trip * 2).await;
    }
    Ok(io(stream))
}

/// What the proxy of a pod runs on.
pub(super) struct Net {
    world: Rc<World>,
    pod: u32,
    dialed: Cell<u32>,
}

impl Net {
    pub(super) fn new(world: Rc<World>, pod: u32) -> Net {
        Net {
            world,
            pod,
            dialed: Cell::new(0),
        }
    }

    /// What a connection to `address` reaches: a host, and the pod if it is one.
    fn behind(&self, address: SocketAddr, number: u32) -> Option<(IpAddr, Option<u32>)> {
        let pod = match self.world.place(address.ip())? {
            Place::Pod(pod) => pod,
            // A Service's own address leads to one of its ready pods.
            Place::Service(service) => self.world.ready_pod(service, mix(u64::from(number)))?,
            Place::External(_) => return Some((address.ip(), None)),
        };
        Some((self.world.ip_of(pod), Some(pod)))
    }
}

impl Environment for Net {
    type Io = Io;

    fn address(&self) -> IpAddr {
        self.world.ip_of(self.pod)
    }

    fn now(&self) -> Nanos {
        self.world.now()
    }

    async fn sleep_until(&self, deadline: Nanos) {
        sleep(duration(deadline - self.now())).await;
    }

    async fn connect(
        &self,
        address: SocketAddr,
        transport: &ConnTransport,
    ) -> Result<Io, ConnectFailure> {
        let own = self.world.ip_of(self.pod);
        if address.ip() == own || is_localhost(address.ip()) {
            let (near, far) = pipe();
            tokio::task::spawn_local(application::serve(Rc::clone(&self.world), self.pod, far));
            return Ok(near);
        }
        if self.world.place(address.ip()).is_none() {
            // Nobody is there to refuse: the core gives up after its connect timeout.
            return std::future::pending().await;
        }
        let number = self.dialed.replace(self.dialed.get().wrapping_add(1));
        let Some((host, pod)) = self.behind(address, number) else {
            return Err(ConnectFailure::Refused);
        };
        let latency = self.world.latency(Some(self.pod), pod);
        if pod.is_some_and(|pod| !self.world.is_up(pod)) {
            sleep(duration(latency * 2)).await;
            return Err(ConnectFailure::Refused);
        }
        let tls = match transport {
            ConnTransport::Plaintext => None,
            ConnTransport::MutualTls => Some(DownstreamTls {
                sni: None,
                mutual: true,
                principal: Some(self.world.plan.pods[self.pod as usize].pod.principal()),
            }),
            ConnTransport::Tls { sni } => Some(DownstreamTls {
                sni: sni.clone(),
                mutual: false,
                principal: None,
            }),
        };
        let preface = Preface {
            source: SocketAddr::new(own, ephemeral_port(number)),
            destination: address,
            tls,
        };
        let dialed = dial(host, preface, latency).await;
        dialed.map_err(|_| ConnectFailure::Refused)
    }

    async fn resolve(&self, host: &str) -> Vec<IpAddr> {
        let outside = self.world.plan.externals.iter();
        let found = outside.filter(|external| external.host == host);
        found.map(|external| external.address).collect()
    }
}
