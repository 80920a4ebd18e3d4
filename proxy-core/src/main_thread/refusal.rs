//! Resources that a proxy refuses, as Envoy does; the others of an update are taken over.

use crate::router;
use crate::xds::{
    Cluster, HttpConnectionManager, LbPolicy, Listener, NetworkFilter, RouteAction, RouteSource,
    RouteTable, XdsDelta,
};
use indexmap::IndexSet;
use rustc_hash::FxBuildHasher;
use std::sync::Arc;

/// Envoy's own limits.
const MAXIMUM_RING_SIZE: u64 = 8 * 1024 * 1024;
const MAXIMUM_MAGLEV_SIZE: u64 = 5_000_011;

/// Takes out of an update what cannot be taken over; says why, if anything.
pub(super) fn refuse(delta: &mut XdsDelta) -> Option<String> {
    let reasons = match delta {
        XdsDelta::Clusters { upsert, .. } => take_out(upsert, cluster_refusal),
        XdsDelta::Listeners { upsert, .. } => take_out(upsert, listener_refusal),
        XdsDelta::Routes { upsert, .. } => take_out(upsert, table_refusal),
        XdsDelta::Endpoints { .. } => Vec::new(),
    };
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

fn take_out<T>(upsert: &mut Vec<Arc<T>>, refusal: impl Fn(&T) -> Option<String>) -> Vec<String> {
    let mut reasons = Vec::new();
    upsert.retain(|one| {
        let reason = refusal(one);
        let taken_over = reason.is_none();
        reasons.extend(reason);
        taken_over
    });
    reasons
}

fn cluster_refusal(cluster: &Cluster) -> Option<String> {
    match cluster.lb_policy {
        LbPolicy::RingHash {
            minimum_ring_size: min,
            maximum_ring_size: max,
            ..
        } if min > max => Some(format!(
            "cluster {}: minimum ring size {min} exceeds the maximum {max}",
            cluster.name
        )),
        LbPolicy::RingHash {
            maximum_ring_size: max,
            ..
        } if max > MAXIMUM_RING_SIZE => Some(format!(
            "cluster {}: ring size {max} exceeds {MAXIMUM_RING_SIZE}",
            cluster.name
        )),
        LbPolicy::Maglev { table_size, .. } if !is_maglev_size(table_size) => Some(format!(
            "cluster {}: maglev table size {table_size} is not a prime up to {MAXIMUM_MAGLEV_SIZE}",
            cluster.name
        )),
        _ => None,
    }
}

fn listener_refusal(listener: &Listener) -> Option<String> {
    if router::has_overlapping_chains(listener) {
        return Some(format!(
            "listener {}: multiple filter chains with overlapping matching rules",
            listener.name
        ));
    }
    managers(listener).find_map(|manager| {
        let of_table = match &manager.routes {
            RouteSource::Inline(table) => router::refusal(table),
            RouteSource::Rds(_) => None,
        };
        of_table.or_else(|| router::refusal_of_manager(manager))
    })
}

fn managers(listener: &Listener) -> impl Iterator<Item = &HttpConnectionManager> {
    listener.chains().filter_map(|chain| match &chain.filter {
        NetworkFilter::Http(manager) => Some(manager),
        NetworkFilter::Tcp(_) => None,
    })
}

/// A walk by any step visits every slot of a table only if its size is prime.
fn is_maglev_size(size: u64) -> bool {
    (2..=MAXIMUM_MAGLEV_SIZE).contains(&size)
        && (2..)
            .take_while(|n| n * n <= size)
            .all(|n| !size.is_multiple_of(n))
}

fn table_refusal(table: &RouteTable) -> Option<String> {
    if let Some(why) = router::refusal(table) {
        return Some(format!("route table {}: {why}", table.name));
    }
    let mut domains: IndexSet<String, FxBuildHasher> = IndexSet::default();
    for host in &table.virtual_hosts {
        for domain in &host.domains {
            if !domains.insert(domain.to_ascii_lowercase()) {
                return Some(format!(
                    "route table {}: domain {domain} stands in two virtual hosts",
                    table.name
                ));
            }
        }
        for route in &host.routes {
            if let RouteAction::Forward(forward) = &route.action {
                let total: u64 = forward
                    .clusters
                    .iter()
                    .map(|entry| u64::from(entry.weight))
                    .sum();
                if forward.clusters.is_empty() || (forward.clusters.len() > 1 && total == 0) {
                    return Some(format!(
                        "route {} of {}: no cluster has a weight",
                        route.name, host.name
                    ));
                }
            }
        }
    }
    None
}
