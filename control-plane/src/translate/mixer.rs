//! Mixer's filter, where the MeshConfig names a Mixer: servers and gateways ask about requests and
//! report responses, as in Istio 0.1 and 0.2; clients do neither.

use super::inbound_ports::Port;
use crate::config::{MeshConfig, MixerSettings};
use proxy_core::xds::{FilterChain, Mixer, Name, NetworkFilter};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the cluster of Mixer is called.
const CLUSTER: &str = "mixer_server";

/// Of the ports of Services; what else a pod is called at goes by without Mixer.
pub(super) fn ask_at_ports(
    chains: &mut [FilterChain],
    mesh: &MeshConfig,
    ports: &BTreeMap<u16, Port>,
) {
    let Some(settings) = &mesh.mixer else { return };
    for chain in chains {
        let port = chain.matches.destination_port;
        let origin = port
            .and_then(|port| ports.get(&port))
            .map(|port| &port.origin);
        if let Some(origin) = origin.filter(|origin| &*origin.kind == "Service") {
            let (name, namespace) = (&origin.name, &origin.namespace);
            let host = format!("{name}.{namespace}.svc.cluster.local");
            set(chain, &filter(settings, Some(host.into())));
        }
    }
}

/// Where requests go from a gateway follows from their cluster.
pub(super) fn ask_at_gateway(chains: &mut [FilterChain], mesh: &MeshConfig) {
    if let Some(settings) = &mesh.mixer {
        let filter = filter(settings, None);
        for chain in chains {
            set(chain, &filter);
        }
    }
}

fn filter(settings: &MixerSettings, service: Option<Name>) -> Arc<Mixer> {
    let service = service.map(|host| (Name::from("destination.service"), host));
    Arc::new(Mixer {
        check: settings.checks,
        report: true,
        attributes: service.into_iter().collect(),
        ..Mixer::new(CLUSTER.into())
    })
}

fn set(chain: &mut FilterChain, mixer: &Arc<Mixer>) {
    if let NetworkFilter::Http(manager) = &mut chain.filter {
        manager.mixer = Some(Arc::clone(mixer));
    }
}
