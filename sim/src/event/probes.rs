//! Active health checks of proxies.

use super::World;
use super::links::Locality;
use super::schedule::Event;
use crate::plan::Place;
use proxy_core::contract::{MainInput, ProbeOutcome};
use proxy_core::ids::ProbeId;
use proxy_core::xds::Probe;

/// A health check on its way, there or back.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingProbe {
    proxy: u32,
    id: ProbeId,
    /// Asks for a status, and not just for a connection.
    http: bool,
    place: Place,
    locality: Locality,
    outcome: ProbeOutcome,
}

impl World<'_, '_> {
    /// Sends a health check. Where nobody is, nobody answers: the core gives up after its timeout.
    pub(super) fn probe(&mut self, proxy: u32, id: ProbeId, request: &Probe) {
        let Some(&place) = self.places.get(&id.address.ip()) else {
            return;
        };
        let locality = match place {
            Place::Pod(pod) => self.pods[pod as usize].locality,
            Place::Service(_) | Place::External(_) => super::Links::OUTSIDE,
        };
        let pending = PendingProbe {
            proxy,
            id,
            http: matches!(request, Probe::Http { .. }),
            place,
            locality,
            outcome: ProbeOutcome::Failed,
        };
        let (probe, _) = self.probes.insert(pending);
        let own = self.pods[self.proxies[proxy as usize].pod as usize].locality;
        let (latency, constant) = self.links.latency(own, locality, id.number, 7);
        // A request follows the handshake, which takes a round trip.
        let ways = if pending.http { 3 } else { 1 };
        self.schedule(latency * ways, constant, Event::ProbeArrives { probe });
    }

    /// The endpoint answers as its readiness is: 200, or 503 while it does not want requests.
    pub(super) fn probe_arrives(&mut self, probe: u32) {
        let pending = &mut self.probes[probe];
        let status = match pending.place {
            Place::Pod(pod) => {
                let pod = &self.pods[pod as usize];
                pod.up.then_some(if pod.ready { 200 } else { 503 })
            }
            Place::External(_) => Some(200),
            Place::Service(_) => None,
        };
        pending.outcome = match status {
            None => ProbeOutcome::Failed,
            Some(status) if pending.http => ProbeOutcome::Status(status),
            Some(_) => ProbeOutcome::Connected,
        };
        let (proxy, from, number) = (pending.proxy, pending.locality, pending.id.number);
        let own = self.pods[self.proxies[proxy as usize].pod as usize].locality;
        let (latency, constant) = self.links.latency(from, own, number, 8);
        self.schedule(latency, constant, Event::ProbeAnswered { probe });
    }

    pub(super) fn probe_answered(&mut self, probe: u32) {
        self.probes.remove(probe);
        let PendingProbe {
            proxy, id, outcome, ..
        } = self.probes[probe];
        self.feed_main(proxy, MainInput::Probed { probe: id, outcome });
    }
}
