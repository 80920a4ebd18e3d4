//! Dense identifiers. Those that are reused carry a generation, so that a late event about a
//! finished exchange or a closed connection is told from one about its successor.

use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

macro_rules! generational_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name {
            pub index: u32,
            pub generation: u32,
        }
    };
}

generational_id! {
    /// One request and its response through one worker. Chosen by the driver: the index of a free
    /// slot, and one more than the slot's last generation. Free again after its access-log record.
    ExchangeId
}
generational_id! {
    /// One downstream connection of a worker. Chosen by the driver, like [`ExchangeId`].
    DownstreamId
}
generational_id! {
    /// One upstream connection of a worker. Chosen by the core.
    ConnId
}
generational_id! {
    /// One try of an exchange (or of its mirror) at an endpoint. Chosen by the core.
    AttemptId
}

/// A cluster of a proxy, in order of first delivery; never reused for another name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u32);

/// An endpoint address as one worker numbers it; never reused for another address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointId(pub u32);

/// A head that the driver has interned: the same number always stands for the same content, which
/// lets a worker remember what it decided about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HeadId(pub u32);

/// One active health check of one endpoint. Chosen by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProbeId {
    pub cluster: ClusterId,
    pub address: SocketAddr,
    /// Which of the cluster's health checks.
    pub check: u32,
    /// Never used again.
    pub number: u64,
}
