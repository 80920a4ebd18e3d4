//! Access control in front of a workload.

use super::Mesh;
use crate::ProxyKind;
use crate::authorization::Level;
use crate::config::Labels;
use crate::rules::Rules;
use proxy_core::xds::{FilterChain, JwtAuthentication, NetworkFilter};

/// Puts the filters that guard a workload before what `chains` end in.
pub(super) fn guard(
    chains: &mut [FilterChain],
    mesh: &Mesh,
    kind: ProxyKind,
    (namespace, labels): (&str, &Labels),
) {
    let Rules {
        authentication,
        authorization,
        ..
    } = &*mesh.rules;
    let providers = authentication.jwt(namespace, labels);
    let jwt = providers.map(|providers| JwtAuthentication {
        providers,
        clear_route_cache: kind == ProxyKind::Gateway,
    });
    let of = |level| authorization.filters(namespace, labels, level);
    let (requests, connections) = (of(Level::Request), of(Level::Connection));
    mesh.config.path_normalization.apply(chains);
    for chain in chains {
        match &mut chain.filter {
            NetworkFilter::Http(manager) => {
                manager.jwt.clone_from(&jwt);
                manager.rbac.clone_from(&requests);
            }
            NetworkFilter::Tcp(_) => chain.rbac.clone_from(&connections),
        }
    }
}
