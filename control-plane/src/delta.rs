//! What changed between two sets of resources.

use crate::model::Resources;
use proxy_core::xds::{Cluster, Listener, LoadAssignment, Name, RouteTable, XdsDelta};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A resource of any type, as far as deltas are concerned.
trait Resource: PartialEq {
    fn name(&self) -> &Name;
}

impl Resource for Cluster {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl Resource for LoadAssignment {
    fn name(&self) -> &Name {
        &self.cluster
    }
}

impl Resource for Listener {
    fn name(&self) -> &Name {
        &self.name
    }
}

impl Resource for RouteTable {
    fn name(&self) -> &Name {
        &self.name
    }
}

/// From `old` to `new`, in the order CDS, EDS, LDS, RDS.
pub(crate) fn deltas(old: &Resources, new: &Resources) -> Vec<XdsDelta> {
    let mut deltas = Vec::new();
    let (upsert, remove) = difference(&old.clusters, &new.clusters);
    if !upsert.is_empty() || !remove.is_empty() {
        deltas.push(XdsDelta::Clusters { upsert, remove });
    }
    let (upsert, _) = difference(&old.endpoints, &new.endpoints);
    if !upsert.is_empty() {
        deltas.push(XdsDelta::Endpoints { upsert });
    }
    let (upsert, remove) = difference(&old.listeners, &new.listeners);
    if !upsert.is_empty() || !remove.is_empty() {
        deltas.push(XdsDelta::Listeners { upsert, remove });
    }
    let (upsert, remove) = difference(&old.routes, &new.routes);
    if !upsert.is_empty() || !remove.is_empty() {
        deltas.push(XdsDelta::Routes { upsert, remove });
    }
    deltas
}

fn difference<T: Resource>(old: &[Arc<T>], new: &[Arc<T>]) -> (Vec<Arc<T>>, Vec<Name>) {
    let same = old.len() == new.len() && old.iter().zip(new).all(|(a, b)| Arc::ptr_eq(a, b));
    if same {
        return (Vec::new(), Vec::new());
    }
    // Usually the same names are in the same places.
    let in_place = || old.iter().zip(new);
    if old.len() == new.len() && in_place().all(|(a, b)| a.name() == b.name()) {
        let changed = in_place().filter(|(a, b)| !Arc::ptr_eq(a, b) && a != b);
        return (changed.map(|(_, b)| Arc::clone(b)).collect(), Vec::new());
    }
    let mut gone: BTreeMap<&Name, &Arc<T>> = old.iter().map(|r| (r.name(), r)).collect();
    let mut upsert = Vec::new();
    for resource in new {
        let before = gone.remove(resource.name());
        if !before.is_some_and(|before| Arc::ptr_eq(before, resource) || before == resource) {
            upsert.push(Arc::clone(resource));
        }
    }
    (upsert, gone.into_keys().cloned().collect())
}
