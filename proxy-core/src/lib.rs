//! The data plane of a service mesh without I/O: routing, load balancing, connection pools and
//! resilience as Envoy does them, as two state machines that are handed time and events.
//!
//! | module | holds |
//! |---|---|
//! | [`xds`] | the resources a proxy is configured with |
//! | [`contract`] | what a driver tells a machine and what it is asked to do |
//! | [`router`] | host to virtual host to route, rewrites, header changes, hash policies |
//! | [`telemetry`] | response flags, details and the access-log record |

mod balancer;
mod cluster;
pub mod contract;
pub mod head;
pub mod ids;
pub mod journal;
mod main_thread;
pub mod messages;
pub mod proxy;
pub mod random;
mod resilience;
pub mod router;
pub mod slab;
pub mod telemetry;
pub mod time;
pub(crate) mod timers;
mod worker;
pub mod xds;

pub use main_thread::Main;
pub use proxy::Proxy;
pub use worker::{Identity, Worker};
