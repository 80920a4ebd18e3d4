//! Runs the proxy core on bytes: HTTP/1.1 through hyper, on whatever an [`Environment`] offers as
//! clock and connections (a simulated network, or tokio's sockets).
//!
//! A proxy lives on one thread. Tasks (one for each downstream connection, upstream connection and
//! attempt) tell the core what happened and carry out at once what it asks for; pools, retries,
//! timeouts and routes are the core's. Whoever owns the listeners accepts connections, finds out
//! where they were going ([`preface`] or the operating system) and hands them to [`Driver::accept`].
//!
//! Not done on bytes: TLS (connections are plain, and the preface tells what the client would have
//! offered), HTTP/2, TCP proxying, upgrades (the header is ignored, as HTTP allows) and `CONNECT`.

mod downstream;
mod driver;
mod environment;
mod heads;
pub mod preface;
mod probe;
mod request_body;
mod response_body;
mod table;
mod tables;
mod upstream;

pub use downstream::Accepted;
pub use driver::{Driver, Record, Setup, Sink};
pub use environment::Environment;
