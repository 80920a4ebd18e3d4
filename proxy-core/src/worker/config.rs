//! What the main machine and the siblings tell a worker.

use super::Worker;
use super::slot::Slot;
use super::state::NONE;
use crate::cluster::ClusterState;
use crate::contract::{Action, EjectionReason, Out};
use crate::ids::{ClusterId, EndpointId};
use crate::messages::{SharedCounter, ToWorker};
use crate::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable};
use std::net::SocketAddr;
use std::sync::Arc;

impl Worker {
    pub(super) fn on_message(&mut self, message: ToWorker, out: &mut Out) {
        if let ToWorker::Cluster { id, cluster } = &message {
            self.know(*id, cluster);
        }
        let Some(message) = self.kept(message) else {
            return;
        };
        if let Some(id) = concerned(&message) {
            self.wake(id, out);
        }
        match message {
            ToWorker::Cluster { id, cluster } => self.take_cluster(id, cluster, out),
            ToWorker::RemoveCluster { id } => self.on_remove_cluster(id, out),
            ToWorker::Endpoints { id, assignment } => self.on_endpoints(id, &assignment, out),
            ToWorker::Listener(listener) => self.on_listener(listener, out),
            ToWorker::RemoveListener { name } => {
                self.epoch += 1;
                self.listeners.retain(|listener| listener.name != name);
                self.drain_downstreams(&name, out);
            }
            ToWorker::Routes(table) => {
                self.epoch += 1;
                self.refill_buckets_of(&table);
                self.tables.insert(Arc::clone(&table.name), table);
            }
            ToWorker::RemoveRoutes { name } => {
                self.epoch += 1;
                self.tables.swap_remove(&name);
                self.buckets.retain(|id, _| !id.owner.is_of_table(&name));
            }
            ToWorker::Health {
                id,
                address,
                health,
            } => {
                let now = self.now;
                let cluster = self.cluster_mut(id);
                if let Some(host) = cluster.member(address) {
                    let state = &mut cluster.hosts[host as usize];
                    state.health = health;
                    state.turned_unhealthy = false;
                    cluster.health_changed(host, now);
                    self.hosts_changed(id);
                }
            }
            ToWorker::Drain { id, address } => {
                if let Some(host) = self.cluster(id).member(address) {
                    let state = &mut self.cluster_mut(id).hosts[host as usize];
                    state.turned_unhealthy = true;
                    self.drain_host(id, host, out);
                }
            }
            ToWorker::ResetCounters { id, address, which } => {
                self.on_reset_counters(id, address, which)
            }
            ToWorker::CollectStatistics { id } => self.hand_over_statistics(id, out),
            ToWorker::Shared { counter, change } => self.on_shared(counter, change),
            ToWorker::TokenTaken { bucket, size } => {
                let now = self.now;
                self.bucket(bucket, size).take(now);
            }
        }
    }

    /// The cluster has a place and can be found by its name.
    fn know(&mut self, id: ClusterId, cluster: &Cluster) {
        self.epoch += 1;
        self.cluster_ids.insert(Arc::clone(&cluster.name), id);
        if self.clusters.len() <= id.0 as usize {
            self.clusters.resize_with(id.0 as usize + 1, || Slot::Empty);
        }
    }

    pub(super) fn take_cluster(&mut self, id: ClusterId, cluster: Arc<Cluster>, out: &mut Out) {
        match &mut self.clusters[id.0 as usize] {
            Slot::Empty | Slot::Asleep(_) => {
                let place = (Arc::clone(&self.locality), self.local_hosts.clone());
                let (number, draws, now) = (self.number, self.draws, self.now);
                let state = ClusterState::new(id, cluster, number, draws, place, now);
                self.clusters[id.0 as usize] = Slot::Awake(Box::new(state));
            }
            Slot::Awake(state) => {
                // A changed cluster starts with new hosts; requests in flight finish on the old.
                state.used = false;
                for host in state.reconfigure(cluster, self.now) {
                    self.host_left(id, host, out);
                }
            }
        }
    }

    fn on_remove_cluster(&mut self, id: ClusterId, out: &mut Out) {
        self.epoch += 1;
        let cluster = self.cluster_mut(id);
        cluster.removed = true;
        for host in cluster.clear() {
            self.host_left(id, host, out);
        }
    }

    pub(super) fn on_endpoints(
        &mut self,
        id: ClusterId,
        assignment: &LoadAssignment,
        out: &mut Out,
    ) {
        let now = self.now;
        let endpoints = &mut self.endpoints;
        let slot = self.clusters.get_mut(id.0 as usize);
        let Some(cluster) = slot.and_then(Slot::awake_mut) else {
            return;
        };
        let gone = cluster.assign(assignment, now, |address| {
            EndpointId(endpoints.insert_full(address).0 as u32)
        });
        for host in gone {
            self.host_left(id, host, out);
        }
        self.hosts_changed(id);
    }

    /// Zone-aware routing looks at the members of the proxy's own cluster.
    fn hosts_changed(&mut self, id: ClusterId) {
        let cluster = self.cluster(id);
        if self.local_cluster.as_ref() != Some(&cluster.config.name) {
            return;
        }
        let local = Arc::new(cluster.local_hosts());
        for cluster in self.clusters.iter_mut().filter_map(Slot::awake_mut) {
            cluster.local_changed(&local);
        }
        self.local_hosts = Some(local);
    }

    fn on_listener(&mut self, listener: Arc<Listener>, out: &mut Out) {
        self.epoch += 1;
        let name = Arc::clone(&listener.name);
        match self.listeners.iter_mut().find(|old| old.name == name) {
            Some(old) if *old == listener => return,
            Some(old) => *old = listener,
            None => self.listeners.push(listener),
        }
        self.buckets
            .retain(|id, _| id.owner.chain().is_none_or(|chain| chain.listener != name));
        self.drain_downstreams(&name, out);
    }

    /// A changed route table has full buckets.
    fn refill_buckets_of(&mut self, table: &Arc<RouteTable>) {
        let name = &table.name;
        if self.buckets.keys().any(|id| id.owner.is_of_table(name))
            && self.tables.get(name).is_none_or(|old| old != table)
        {
            self.buckets.retain(|id, _| !id.owner.is_of_table(name));
        }
    }

    /// Connections accepted by an earlier version of a listener take no further requests.
    fn drain_downstreams(&mut self, listener: &Name, out: &mut Out) {
        for downstream in self.downstreams.iter_mut().flatten() {
            if downstream.open && downstream.chain.listener.name == *listener {
                downstream.open = false;
                out.actions.push(Action::CloseDownstream {
                    downstream: downstream.id,
                });
            }
        }
    }

    fn on_reset_counters(
        &mut self,
        id: ClusterId,
        address: SocketAddr,
        which: Option<EjectionReason>,
    ) {
        let cluster = self.cluster_mut(id);
        let Some(host) = cluster.member(address) else {
            return;
        };
        let host = &mut cluster.hosts[host as usize];
        let all = which.is_none();
        if all || which == Some(EjectionReason::Consecutive5xx) {
            host.consecutive_5xx = 0;
        }
        if all || which == Some(EjectionReason::ConsecutiveGatewayFailure) {
            host.consecutive_gateway = 0;
        }
        if all || which == Some(EjectionReason::ConsecutiveLocalOriginFailure) {
            host.consecutive_local_origin = 0;
        }
    }

    fn on_shared(&mut self, counter: SharedCounter, change: i32) {
        let Some(id) = counter.cluster() else {
            self.active_faults = self.active_faults.saturating_add_signed(change);
            return;
        };
        let cluster = self.cluster_mut(id);
        let mut unlisted = 0;
        let host =
            |cluster: &ClusterState, address| cluster.member(address).unwrap_or(NONE) as usize;
        let count = match counter {
            SharedCounter::Connections(_) => &mut cluster.counts.connections,
            SharedCounter::Pending(_) => &mut cluster.counts.pending,
            SharedCounter::Requests(_) => &mut cluster.counts.requests,
            SharedCounter::Retries(_) => &mut cluster.counts.retries,
            SharedCounter::HostActive(_, address) => {
                let host = host(cluster, address);
                cluster.active.get_mut(host).unwrap_or(&mut unlisted)
            }
            SharedCounter::HostConnections(_, address) => {
                let host = host(cluster, address);
                cluster
                    .hosts
                    .get_mut(host)
                    .map_or(&mut unlisted, |h| &mut h.connections_elsewhere)
            }
            SharedCounter::Consecutive5xx(_, address) => {
                let host = host(cluster, address);
                cluster
                    .hosts
                    .get_mut(host)
                    .map_or(&mut unlisted, |h| &mut h.consecutive_5xx)
            }
            SharedCounter::ConsecutiveGateway(_, address) => {
                let host = host(cluster, address);
                cluster
                    .hosts
                    .get_mut(host)
                    .map_or(&mut unlisted, |h| &mut h.consecutive_gateway)
            }
            SharedCounter::ConsecutiveLocalOrigin(_, address) => {
                let host = host(cluster, address);
                cluster
                    .hosts
                    .get_mut(host)
                    .map_or(&mut unlisted, |h| &mut h.consecutive_local_origin)
            }
            SharedCounter::ActiveFaults => &mut unlisted,
        };
        *count = count.saturating_add_signed(change);
    }
}

/// The cluster whose state a message is about.
fn concerned(message: &ToWorker) -> Option<ClusterId> {
    match message {
        ToWorker::RemoveCluster { id }
        | ToWorker::Health { id, .. }
        | ToWorker::Drain { id, .. }
        | ToWorker::ResetCounters { id, .. }
        | ToWorker::CollectStatistics { id } => Some(*id),
        ToWorker::Shared { counter, .. } => counter.cluster(),
        _ => None,
    }
}
