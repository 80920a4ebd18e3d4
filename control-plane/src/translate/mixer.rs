//! Mixer's filter, where the MeshConfig names a Mixer. Envoys of Istio 0.1 and 0.2 asked about requests
//! and reported responses at servers and gateways; a Linkerd 1.1.1 reported what it sent.

use super::inbound_ports::Port;
use crate::config::{DataPlane, MeshConfig};
use crate::names::service_host;
use proxy_core::xds::{FilterChain, Listener, Mixer, Name, NetworkFilter};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the cluster of Mixer is called.
const CLUSTER: &str = "mixer_server";
/// What Linkerd says where it does not know better.
const UNKNOWN: &str = "unknown";

/// Of the ports of Services; what else a pod is called at goes by without Mixer.
pub(super) fn ask_at_ports(
    chains: &mut [FilterChain],
    mesh: &MeshConfig,
    ports: &BTreeMap<u16, Port>,
) {
    if is_linkerd(mesh) {
        return;
    }
    for chain in chains {
        let port = chain.matches.destination_port;
        let origin = port
            .and_then(|port| ports.get(&port))
            .map(|port| &port.origin);
        if let Some(origin) = origin.filter(|origin| &*origin.kind == "Service") {
            let (name, namespace) = (&origin.name, &origin.namespace);
            let host = service_host(name, namespace);
            let attributes = vec![("destination.service".into(), host)];
            set(chain, filter(mesh, attributes).as_ref());
        }
    }
}

/// Where requests go from an Envoy follows from their cluster; the ingress of a Linkerd said nothing of
/// it.
pub(super) fn ask_at_gateway(chains: &mut [FilterChain], mesh: &MeshConfig) {
    let attributes = match is_linkerd(mesh) {
        true => vec![of_linkerd(), ("destination.service".into(), UNKNOWN.into())],
        false => Vec::new(),
    };
    let filter = filter(mesh, attributes);
    for chain in chains {
        set(chain, filter.as_ref());
    }
}

/// The outgoing router of a Linkerd.
pub(super) fn report_at_client(listener: &mut Listener, mesh: &MeshConfig) {
    if is_linkerd(mesh) {
        let filter = filter(mesh, vec![of_linkerd()]);
        for chain in listener.chains_mut() {
            set(chain, filter.as_ref());
        }
    }
}

/// That of some listener.
pub(super) fn of_any(listeners: &[Arc<Listener>]) -> Option<Arc<Mixer>> {
    let mut chains = listeners.iter().flat_map(|listener| listener.chains());
    chains.find_map(|chain| match &chain.filter {
        NetworkFilter::Http(manager) => manager.mixer.clone(),
        NetworkFilter::Tcp(_) => None,
    })
}

fn is_linkerd(mesh: &MeshConfig) -> bool {
    mesh.data_plane == Some(DataPlane::Linkerd111)
}

/// Whose request it is a Linkerd did not know.
fn of_linkerd() -> (Name, Name) {
    ("source.labels.app".into(), UNKNOWN.into())
}

fn filter(mesh: &MeshConfig, attributes: Vec<(Name, Name)>) -> Option<Arc<Mixer>> {
    let settings = mesh.mixer.as_ref()?;
    Some(Arc::new(Mixer {
        check: settings.checks && !is_linkerd(mesh),
        report: true,
        attributes,
        ..Mixer::new(CLUSTER.into())
    }))
}

fn set(chain: &mut FilterChain, mixer: Option<&Arc<Mixer>>) {
    if let NetworkFilter::Http(manager) = &mut chain.filter {
        manager.mixer = mixer.cloned();
    }
}
