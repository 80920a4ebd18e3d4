//! Access control in front of a workload.

use super::Mesh;
use crate::authorization::Level;
use crate::config::Labels;
use proxy_core::xds::{FilterChain, NetworkFilter};

/// Puts the RBAC filters for a workload before what `chains` end in.
pub(super) fn guard(chains: &mut [FilterChain], mesh: &Mesh, namespace: &str, labels: &Labels) {
    let authorization = &mesh.rules.authorization;
    let of = |level| authorization.filters(namespace, labels, level);
    let (requests, connections) = (of(Level::Request), of(Level::Connection));
    for chain in chains {
        match &mut chain.filter {
            NetworkFilter::Http(manager) => manager.rbac.clone_from(&requests),
            NetworkFilter::Tcp(_) => chain.rbac.clone_from(&connections),
        }
    }
}
