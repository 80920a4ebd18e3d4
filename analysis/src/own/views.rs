//! What proxies are told, as far as it shows what rules come to: of one client in each namespace that
//! has rules, of the clients that a DestinationRule selects, and of the gateways.

use super::read::text;
use crate::documents::{DESTINATION_RULE, Documents, VIRTUAL_SERVICE};
use control_plane::{
    ControlPlane, Objects, Pod, ProxyIdentity, ProxyKind, PushSettings, Resources,
};
use proxy_core::xds::{
    Cluster, Discovery, LoadAssignment, Name, NetworkFilter, Route, RouteAction,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What one proxy is told.
pub(super) struct View {
    pub(super) resources: Resources,
    clusters: BTreeMap<Name, Arc<Cluster>>,
    /// Those that some route or TCP listener sends to.
    used: BTreeSet<Name>,
    endpoints: BTreeMap<Name, Arc<LoadAssignment>>,
}

impl View {
    pub(super) fn new(resources: Resources) -> View {
        let mut used = BTreeSet::new();
        for route in routes(&resources) {
            if let RouteAction::Forward(forward) = &route.action {
                used.extend(forward.clusters.iter().map(|to| to.cluster.clone()));
            }
        }
        let chains = resources
            .listeners
            .iter()
            .flat_map(|listener| listener.chains());
        for chain in chains {
            if let NetworkFilter::Tcp(tcp) = &chain.filter {
                used.extend(tcp.clusters.iter().map(|(name, _)| name.clone()));
            }
        }
        let by_name = |one: &Arc<LoadAssignment>| (one.cluster.clone(), Arc::clone(one));
        let named = |one: &Arc<Cluster>| (one.name.clone(), Arc::clone(one));
        View {
            clusters: resources.clusters.iter().map(named).collect(),
            endpoints: resources.endpoints.iter().map(by_name).collect(),
            used,
            resources,
        }
    }

    /// The clusters that requests are sent to.
    pub(super) fn used(&self) -> impl Iterator<Item = &Cluster> {
        let names = self.used.iter();
        names.filter_map(|name| self.clusters.get(name).map(|cluster| &**cluster))
    }

    /// The cluster of that name.
    pub(super) fn cluster(&self, name: &str) -> Option<&Arc<Cluster>> {
        self.clusters.get(name)
    }

    /// The addresses of its endpoints; `None` where they are known at run time only.
    pub(super) fn addresses(&self, cluster: &Cluster) -> Option<Vec<IpAddr>> {
        let assignment = match &cluster.discovery {
            Discovery::Eds => self.endpoints.get(&cluster.name)?,
            Discovery::Static(assignment) => assignment,
            _ => return None,
        };
        let endpoints = assignment
            .localities
            .iter()
            .flat_map(|locality| &locality.endpoints);
        Some(endpoints.map(|endpoint| endpoint.address.ip()).collect())
    }

    /// How many endpoints it has; `None` where that is known at run time only.
    pub(super) fn endpoints(&self, cluster: &Cluster) -> Option<usize> {
        self.addresses(cluster).map(|addresses| addresses.len())
    }
}

/// Every route of every table.
pub(super) fn routes(resources: &Resources) -> impl Iterator<Item = &Arc<Route>> {
    let tables = resources.routes.iter();
    let hosts = tables.flat_map(|table| &table.virtual_hosts);
    hosts.flat_map(|host| &host.routes)
}

/// The service, port and subset of a cluster that Istio named `outbound|PORT|SUBSET|HOST`.
pub(super) struct Outbound<'n> {
    pub(super) port: u16,
    /// Empty: the whole service.
    pub(super) subset: &'n str,
    pub(super) host: &'n str,
}

impl<'n> Outbound<'n> {
    pub(super) fn of(cluster: &'n str) -> Option<Outbound<'n>> {
        let mut parts = cluster.strip_prefix("outbound|")?.splitn(3, '|');
        let (port, subset, host) = (parts.next()?, parts.next()?, parts.next()?);
        let port = port.parse().ok()?;
        Some(Outbound { port, subset, host })
    }
}

/// The views of a configuration.
pub(super) fn all(documents: &Documents, objects: &Objects, pods: &[Pod]) -> Vec<View> {
    let mut proxies = clients(documents);
    let gateways = pods
        .iter()
        .filter(|pod| pod.proxy == ProxyKind::Gateway && pod.ordinal == 0);
    proxies.extend(gateways.map(Pod::identity));
    let mut control_plane =
        ControlPlane::new(PushSettings::default(), objects.clone(), pods.to_vec());
    let views = proxies
        .iter()
        .map(|proxy| View::new(control_plane.resources(proxy)));
    views.collect()
}

fn clients(documents: &Documents) -> Vec<ProxyIdentity> {
    let rules = documents
        .of(VIRTUAL_SERVICE)
        .chain(documents.of(DESTINATION_RULE));
    let namespaces: BTreeSet<&str> = rules.map(|rule| rule.namespace.as_str()).collect();
    let mut clients: Vec<ProxyIdentity> = namespaces
        .into_iter()
        .map(|of| client(of, Vec::new()))
        .collect();
    for rule in documents.of(DESTINATION_RULE) {
        let wanted = rule.node.at(&["spec", "workloadSelector", "matchLabels"]);
        let Some(wanted) = wanted.and_then(source::Node::as_map) else {
            continue;
        };
        let labels = wanted.entries.iter().filter_map(|entry| {
            let value = text(&entry.value, &[])?;
            Some((entry.key.as_str().into(), value.into()))
        });
        clients.push(client(&rule.namespace, labels.collect()));
    }
    clients
}

/// A sidecar that no rule is for in particular.
fn client(namespace: &str, labels: Vec<(Name, Name)>) -> ProxyIdentity {
    ProxyIdentity {
        name: format!("client.{namespace}").into(),
        kind: ProxyKind::Sidecar,
        namespace: namespace.into(),
        labels,
        ip: IpAddr::from([10, 0, 0, 1]),
        locality: "".into(),
    }
}
