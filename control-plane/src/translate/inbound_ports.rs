//! The ports of an application: those that a Sidecar lists, else those of the Services that select its
//! pod.

use super::Mesh;
use super::endpoints::PodIndex;
use super::scope::Imported;
use crate::config::{ConnectionPool, Sidecar, merge_levels};
use crate::kubernetes::Target;
use crate::model::{Pod, ProxyIdentity};
use crate::policies::Policy;
use crate::protocol::Protocol;
use crate::registry::{Service, ServicePort, target_port};
use proxy_core::xds::{ConfigRef, Name};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A port of the application.
pub(super) struct Port {
    pub(super) protocol: Protocol,
    pub(super) service_port: u16,
    pub(super) origin: ConfigRef,
    /// The DestinationRule whose policy the server has too.
    pub(super) rule: Option<ConfigRef>,
    pub(super) pool: Option<ConnectionPool>,
    /// `ADDRESS_PORT`.
    pub(super) listener: Name,
    /// Where connections go; `None`: where they were going.
    pub(super) endpoint: Option<SocketAddr>,
}

/// By the number at which the application is called.
pub(super) fn of(
    mesh: &Mesh,
    imported: &Imported,
    proxy: &ProxyIdentity,
    pods: &PodIndex,
) -> BTreeMap<u16, Port> {
    let pod = pods.of(proxy).map(|pod| &**pod);
    let found = mesh.rules.sidecar_for(&proxy.namespace, &proxy.labels);
    let sidecar = found.map(|at| mesh.rules.sidecar(at));
    match sidecar {
        Some(sidecar) if !sidecar.ingress.is_empty() => {
            let origin = found.map(|at| mesh.rules.sidecar_origin(at));
            of_sidecar((mesh, imported), proxy, pod, sidecar, origin)
        }
        _ => of_services((mesh, imported), proxy, pod, sidecar),
    }
}

/// The Services that select the pod, each port of theirs with that of the pod. The oldest comes
/// first.
fn selecting<'m>(
    mesh: &'m Mesh,
    proxy: &'m ProxyIdentity,
    pod: Option<&'m Pod>,
) -> impl Iterator<Item = (&'m Service, &'m ServicePort, u16)> {
    let services = mesh.registry.services.iter();
    let listed = mesh.registry.listed(proxy.ip);
    let services =
        services.filter(move |service| service.is_of(&proxy.namespace, &proxy.labels, listed));
    let ports = services.flat_map(|service| service.ports.iter().map(move |p| (&**service, p)));
    ports
        .filter(|(_, port)| port.protocol != Protocol::Udp)
        .filter_map(move |(service, port)| {
            let target = match &port.target {
                Target::Number(number) => *number,
                Target::Name(_) => target_port(&port.target, pod?)?,
            };
            Some((service, port, target))
        })
}

fn of_services(
    (mesh, imported): (&Mesh, &Imported),
    proxy: &ProxyIdentity,
    pod: Option<&Pod>,
    sidecar: Option<&Sidecar>,
) -> BTreeMap<u16, Port> {
    let mut ports = BTreeMap::new();
    for (service, port, target) in selecting(mesh, proxy, pod) {
        ports.entry(target).or_insert_with(|| {
            let stated = sidecar.and_then(|sidecar| sidecar.pool_of(target));
            let policy = policy((mesh, imported), service, proxy);
            Port {
                protocol: port.protocol,
                service_port: port.number,
                origin: service.origin.clone(),
                rule: policy.map(|policy| policy.origin.clone()),
                pool: stated.cloned().or_else(|| pool(policy?, port.number)),
                listener: format!("0.0.0.0_{target}").into(),
                endpoint: None,
            }
        });
    }
    ports
}

fn of_sidecar(
    (mesh, imported): (&Mesh, &Imported),
    proxy: &ProxyIdentity,
    pod: Option<&Pod>,
    sidecar: &Sidecar,
    origin: Option<ConfigRef>,
) -> BTreeMap<u16, Port> {
    let mut ports = BTreeMap::new();
    for listener in &sidecar.ingress {
        let number = listener.port.number;
        let mut services = selecting(mesh, proxy, pod);
        let service = services.find(|(_, _, target)| *target == number);
        let Some(origin) = origin.clone() else {
            continue;
        };
        let policy = service.and_then(|(service, _, _)| policy((mesh, imported), service, proxy));
        ports.entry(number).or_insert_with(|| Port {
            protocol: listener.port.protocol,
            service_port: number,
            origin,
            rule: policy.map(|policy| policy.origin.clone()),
            pool: sidecar
                .pool_of(number)
                .cloned()
                .or_else(|| pool(policy?, number)),
            listener: match listener.bind {
                None => format!("0.0.0.0_{number}").into(),
                Some(bind) => format!("{bind}_{number}").into(),
            },
            endpoint: listener.default_endpoint.map(|endpoint| {
                match endpoint.ip().is_unspecified() {
                    true => SocketAddr::new(proxy.ip, endpoint.port()),
                    false => endpoint,
                }
            }),
        });
    }
    ports
}

/// The DestinationRule for all clients of `service`, if it has a policy. Of services that the proxy
/// does not see itself, its own included, it knows none.
fn policy<'m>(
    (mesh, imported): (&'m Mesh, &Imported),
    service: &Service,
    proxy: &ProxyIdentity,
) -> Option<&'m Policy> {
    imported.by_host.get(&service.host)?;
    let policy = mesh.rules.policies.of(&proxy.namespace, &[], service)?;
    policy.policy.is_some().then_some(policy)
}

fn pool(policy: &Policy, port: u16) -> Option<ConnectionPool> {
    merge_levels(policy.policy.as_ref(), None, port).connection_pool
}
