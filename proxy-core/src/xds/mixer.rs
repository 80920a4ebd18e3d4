//! The Mixer filter of Istio's proxies of 2017 (`mixer` of istio/proxy 0.1 and 0.2), which asks a
//! service beside the data path about requests, and tells it of responses.

use super::Name;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};

/// The `mixer` HTTP filter, first in its chain. It acts on requests that a route forwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixer {
    /// Whom to ask: the name of Mixer's cluster (`mixer_server`).
    pub service: Name,
    /// Each request waits for Mixer's verdict (`mixer_check`).
    pub check: bool,
    /// Each response is reported (`mixer_report`).
    pub report: bool,
    /// What Mixer is told with each request (`mixer_attributes`).
    pub attributes: Vec<(Name, Name)>,
    /// Until a check has failed; 5 s in istio/proxy.
    pub timeout: Nanos,
    /// A request goes on where its check failed (`network_fail_policy`; default: it does).
    pub fail_open: bool,
}

impl Mixer {
    /// With the defaults of istio/proxy, where both calls are off.
    pub fn new(service: Name) -> Mixer {
        Mixer {
            service,
            check: false,
            report: false,
            attributes: Vec::new(),
            timeout: Nanos::from_secs(5),
            fail_open: true,
        }
    }

    /// The value of an attribute.
    pub fn attribute(&self, name: &str) -> Option<&Name> {
        let mut attributes = self.attributes.iter();
        attributes
            .find(|(key, _)| **key == *name)
            .map(|(_, value)| value)
    }
}
