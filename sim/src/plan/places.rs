//! What answers at which address.

use super::Plan;
use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether a pod means itself. Pods that are rehearsed beside a real proxy have other addresses of
/// loopback.
pub(crate) fn is_localhost(ip: IpAddr) -> bool {
    ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
}

/// What answers at an address, by its index in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Pod(u32),
    /// A Service's own address.
    Service(u32),
    External(u32),
}

impl Plan {
    /// Everything that answers, by its address.
    pub(crate) fn places(&self) -> IndexMap<IpAddr, Place, FxBuildHasher> {
        let mut places = IndexMap::default();
        for (number, service) in (0u32..).zip(&self.services) {
            if let Some(address) = service.info.address {
                places.insert(address, Place::Service(number));
            }
        }
        for (number, external) in (0u32..).zip(&self.externals) {
            places.insert(external.address, Place::External(number));
        }
        for (number, pod) in (0u32..).zip(&self.pods) {
            places.insert(pod.pod.ip, Place::Pod(number));
        }
        places
    }
}
