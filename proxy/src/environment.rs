//! What a proxy needs of the machine it runs on.

use proxy_core::contract::{ConnTransport, ConnectFailure};
use proxy_core::time::Nanos;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};

/// A clock, connections and names.
pub trait Environment: 'static {
    /// A connection to an endpoint, or from a client.
    type Io: hyper::rt::Read + hyper::rt::Write + Unpin + 'static;

    /// The proxy's own address, which it adds to the `x-forwarded-for` of mirrored requests.
    fn address(&self) -> IpAddr;

    /// The time since the start of the run.
    fn now(&self) -> Nanos;

    /// Waits until `now()` is at least `deadline`.
    fn sleep_until(&self, deadline: Nanos) -> impl Future<Output = ()>;

    /// Opens a connection. The core sets the time limit: the future is dropped when it is reached.
    fn connect(
        &self,
        address: SocketAddr,
        transport: &ConnTransport,
    ) -> impl Future<Output = Result<Self::Io, ConnectFailure>>;

    /// The addresses of a name; none if it does not exist.
    fn resolve(&self, host: &str) -> impl Future<Output = Vec<IpAddr>>;
}
