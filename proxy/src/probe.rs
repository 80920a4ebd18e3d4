//! Active health checks, each on a connection of its own.

use crate::Environment;
use crate::driver::Driver;
use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use proxy_core::contract::{ConnTransport, MainInput, ProbeOutcome};
use proxy_core::ids::ProbeId;
use proxy_core::xds::Probe;

/// Asks, and tells the core what came of it. The core does not wait for ever, and takes no notice of
/// what comes too late.
pub(crate) async fn run<E: Environment>(
    driver: Driver<E>,
    probe: ProbeId,
    transport: ConnTransport,
    request: Probe,
) {
    let outcome = match driver
        .environment()
        .connect(probe.address, &transport)
        .await
    {
        Err(_) => ProbeOutcome::Failed,
        Ok(io) => match &request {
            Probe::Tcp => ProbeOutcome::Connected,
            Probe::Http { host, path, .. } => get(io, host, path).await,
        },
    };
    driver.tell_main(MainInput::Probed { probe, outcome });
}

async fn get(
    io: impl hyper::rt::Read + hyper::rt::Write + Unpin,
    host: &str,
    path: &str,
) -> ProbeOutcome {
    let request = http::Request::get(path)
        .header(http::header::HOST, host)
        .body(Empty::<Bytes>::new());
    let (Ok(request), Ok((mut sender, connection))) = (request, http1::handshake(io).await) else {
        return ProbeOutcome::Failed;
    };
    let answered = async move { sender.send_request(request).await };
    tokio::select! {
        biased;
        Ok(response) = answered => ProbeOutcome::Status(response.status().as_u16()),
        _ = connection => ProbeOutcome::Failed,
    }
}
