//! What the core reports: access-log records and changes of state.

use super::World;
use super::proxies::{Endpoint, Exchange};
use super::schedule::Requester;
use crate::observe::LogLine;
use crate::plan::{Caller, Place};
use crate::tally::{Ended, address_hash, cluster_meant};
use control_plane::Router;
use proxy_core::contract::StateChange;
use proxy_core::ids::{ClusterId, EndpointId};
use proxy_core::random::hash_text;
use proxy_core::telemetry::AccessLog;
use proxy_core::xds::Name;
use std::sync::Arc;

/// What a cluster of a proxy means to the record.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClusterNames {
    hash: u64,
    /// Its place in the tally.
    tally: u32,
    /// The Service behind it; `None` for inbound and passthrough clusters.
    service: Option<u32>,
    /// The place of the calls that go to it, where all come from one workload.
    calls: Option<u32>,
}

impl World<'_, '_> {
    /// An exchange is over: its slot is free, and it counts.
    #[inline]
    pub(super) fn exchange_ended(&mut self, proxy: u32, worker: u16, log: AccessLog) {
        let now = self.queue.now();
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let Exchange {
            from,
            attempt,
            served_by,
            ..
        } = state.exchanges[log.exchange.index];
        state.exchanges.remove(log.exchange.index);
        if let Some(attempt) = attempt {
            state.attempts.remove(&attempt);
        }
        let downstream = &mut state.downstreams[log.downstream.index];
        downstream.active -= 1;
        if downstream.draining && downstream.active == 0 {
            self.hang_up(proxy, worker, log.downstream);
        }
        let router = self.proxies[proxy as usize].router;
        let mut caller = None;
        if let Requester::Call {
            call,
            generation,
            tried,
        } = from
        {
            self.call_logged(call, generation, tried, log.flags);
            if router == Some(Router::Outgoing) && self.calls.holds(call, generation) {
                caller = self.calls[call].pod;
            }
        }
        let cluster = log
            .cluster
            .and_then(|id| self.cluster_names(proxy, worker, id));
        let endpoint = log.endpoint.map(|id| self.endpoint(proxy, worker, id));
        let hash = cluster.map_or(0, |cluster| cluster.hash);
        let endpoint_hash = endpoint.map_or(0, |endpoint| endpoint.hash);
        self.tally.logged(now, proxy, &log, hash, endpoint_hash);
        if let Some(cluster) = cluster {
            self.tally
                .cluster_used(cluster.tally, log.started_at, log.attempts);
        }
        let mut pod = endpoint.and_then(|endpoint| endpoint.pod);
        // Ended before a cluster was chosen: it counts for the one it was meant for.
        let meant = || cluster_meant(&log);
        let calls = match (router, cluster) {
            (None, Some(cluster)) => cluster.calls,
            (None, None) => meant().and_then(|name| self.calls_of_cluster(proxy, &name)),
            (Some(Router::Outgoing), _) => {
                pod = served_by.or(pod.filter(|&pod| self.pods[pod as usize].incoming.is_none()));
                let service = match cluster {
                    Some(cluster) => cluster.service,
                    None => meant().and_then(|name| self.plan.service_behind(&name)),
                };
                self.calls_through_router(caller, service)
            }
            // The outgoing router counts it.
            (Some(Router::Incoming), _) => {
                self.tell_who_serves(from, pod);
                None
            }
        };
        if let Some(calls) = calls {
            let ended = Ended {
                started_at: log.started_at,
                duration: log.duration,
                status: log.status,
                flags: log.flags,
                attempts: log.attempts,
                pod,
            };
            self.tally.call_ended(calls, &ended);
        }
        if self.observers.access_log.is_some() {
            self.observe(proxy, worker, &log);
        }
    }

    fn observe(&mut self, proxy: u32, worker: u16, log: &AccessLog) {
        let core = self.core(proxy).map(|core| core.worker(u32::from(worker)));
        let endpoint = log.endpoint.and_then(|id| core?.endpoint_address(id));
        let cluster = log
            .cluster
            .and_then(|id| self.cluster_name(proxy, worker, id));
        let line = LogLine {
            at: self.queue.now(),
            proxy: &self.proxies[proxy as usize].name,
            log,
            cluster: cluster.as_deref(),
            endpoint,
        };
        if let Some(access_log) = &mut self.observers.access_log {
            access_log(&line);
        }
    }

    pub(super) fn state_changed(&mut self, proxy: u32, change: &StateChange) {
        let (StateChange::Ejected { cluster, .. }
        | StateChange::EjectionOverflow { cluster, .. }
        | StateChange::Unejected { cluster, .. }
        | StateChange::HealthChecked { cluster, .. }
        | StateChange::Degraded { cluster, .. }
        | StateChange::Overflow { cluster }
        | StateChange::Warmed { cluster }) = change;
        let Some(name) = self.cluster_name(proxy, 0, *cluster) else {
            return;
        };
        let own = Arc::clone(&self.proxies[proxy as usize].name);
        self.tally
            .changed(self.queue.now(), (proxy, &own), change, &name);
    }

    fn cluster_name(&self, proxy: u32, worker: u16, id: ClusterId) -> Option<Name> {
        self.core(proxy)?
            .worker(u32::from(worker))
            .cluster_name(id)
            .cloned()
    }

    #[inline]
    fn cluster_names(&mut self, proxy: u32, worker: u16, id: ClusterId) -> Option<ClusterNames> {
        let known = self.proxies[proxy as usize].clusters.get(id.0 as usize);
        if let Some(Some(names)) = known {
            return Some(*names);
        }
        let name = self.cluster_name(proxy, worker, id)?;
        let names = ClusterNames {
            hash: hash_text(&name),
            tally: self.tally.cluster(&name),
            service: self.plan.service_behind(&name),
            calls: match self.proxies[proxy as usize].router {
                None => self.calls_of_cluster(proxy, &name),
                Some(_) => None,
            },
        };
        let clusters = &mut self.proxies[proxy as usize].clusters;
        if clusters.len() <= id.0 as usize {
            clusters.resize(id.0 as usize + 1, None);
        }
        clusters[id.0 as usize] = Some(names);
        Some(names)
    }

    /// The place of a pod's calls to a Service through the proxy of its node.
    fn calls_through_router(&mut self, caller: Option<u32>, service: Option<u32>) -> Option<u32> {
        let workload = self.plan.pods[caller? as usize].workload;
        Some(
            self.tally
                .calls_between(Caller::Workload(workload), service?),
        )
    }

    /// An outgoing router knows the node only; the record wants the pod.
    fn tell_who_serves(&mut self, from: Requester, pod: Option<u32>) {
        let Requester::Attempt {
            proxy,
            worker,
            attempt,
        } = from
        else {
            return;
        };
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if let Some(&exchange) = state.attempts.get(&attempt) {
            state.exchanges[exchange].served_by = pod;
        }
    }

    /// The place of calls through a cluster.
    fn calls_of_cluster(&mut self, proxy: u32, cluster: &str) -> Option<u32> {
        let service = self.plan.service_behind(cluster)?;
        let pod = self.proxies[proxy as usize].pod;
        let caller = Caller::Workload(self.plan.pods[pod as usize].workload);
        Some(self.tally.calls_between(caller, service))
    }

    /// What an endpoint means to the record.
    #[inline]
    fn endpoint(&mut self, proxy: u32, worker: u16, id: EndpointId) -> Endpoint {
        let state = &self.proxies[proxy as usize].workers[worker as usize];
        if let Some(endpoint) = state.endpoints.get(id.0 as usize) {
            return *endpoint;
        }
        // Endpoints are numbered as they come, so all up to this one are known to the core.
        for number in state.endpoints.len() as u32..=id.0 {
            let core = self.core(proxy).map(|core| core.worker(u32::from(worker)));
            let address = core.and_then(|core| core.endpoint_address(EndpointId(number)));
            let pod = match address.and_then(|address| self.places.get(&address.ip())) {
                Some(Place::Pod(pod)) => Some(*pod),
                _ => None,
            };
            let hash = address.map_or(0, address_hash);
            let state = &mut self.proxies[proxy as usize].workers[worker as usize];
            state.endpoints.push(Endpoint { pod, hash });
        }
        self.proxies[proxy as usize].workers[worker as usize].endpoints[id.0 as usize]
    }
}
