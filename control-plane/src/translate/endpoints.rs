//! Load assignments.

use super::localities::{Labelled, prefer};
use super::{ScopeKey, cluster_name};
use crate::authentication::Authentication;
use crate::config::{Labels, LocalitySetting, MutualTls, has_labels};
use crate::kubernetes::{ListedAddress, Target};
use crate::model::{Pod, ProxyIdentity};
use crate::registry::{Service, ServicePort, named_port, target_port};
use proxy_core::xds::{Endpoint, EndpointHealth, LoadAssignment, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// The pods, found by label.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodIndex {
    pods: BTreeMap<(Name, Name), Arc<Pod>>,
    /// By namespace and label, each ordered by name.
    by_label: BTreeMap<(Name, Name, Name), BTreeMap<Name, Arc<Pod>>>,
    /// Names, by namespace and address.
    by_address: BTreeMap<(Name, IpAddr), BTreeSet<Name>>,
}

impl PodIndex {
    pub(crate) fn new(pods: Vec<Pod>) -> PodIndex {
        let mut index = PodIndex::default();
        for pod in pods {
            index.set(pod);
        }
        index
    }

    /// Adds or replaces; returns the pod that was there.
    pub(crate) fn set(&mut self, pod: Pod) -> Option<Arc<Pod>> {
        let old = self.remove(&pod.namespace, &pod.name);
        let pod = Arc::new(pod);
        for (key, value) in &pod.labels {
            let label = (pod.namespace.clone(), key.clone(), value.clone());
            let with_label = self.by_label.entry(label).or_default();
            with_label.insert(pod.name.clone(), Arc::clone(&pod));
        }
        let at_address = self.by_address.entry((pod.namespace.clone(), pod.ip));
        at_address.or_default().insert(pod.name.clone());
        let key = (pod.namespace.clone(), pod.name.clone());
        self.pods.insert(key, pod);
        old
    }

    pub(crate) fn remove(&mut self, namespace: &Name, name: &Name) -> Option<Arc<Pod>> {
        let old = self.pods.remove(&(namespace.clone(), name.clone()))?;
        for (key, value) in &old.labels {
            let label = (namespace.clone(), key.clone(), value.clone());
            if let Some(with_label) = self.by_label.get_mut(&label) {
                with_label.remove(name);
            }
        }
        if let Some(names) = self.by_address.get_mut(&(namespace.clone(), old.ip)) {
            names.remove(name);
        }
        Some(old)
    }

    /// All of them, by namespace and name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.pods.values()
    }

    /// The pod that is listed in `namespace`: the one that is named, else the first at the address.
    fn listed(&self, namespace: &Name, address: &ListedAddress) -> Option<&Arc<Pod>> {
        if let Some(named) = &address.pod {
            return self.pods.get(named);
        }
        let names = self.by_address.get(&(namespace.clone(), address.ip))?;
        self.pods.get(&(namespace.clone(), names.first()?.clone()))
    }

    /// The pod that `proxy` is in: by its name, else the only one with its address.
    pub(crate) fn of(&self, proxy: &ProxyIdentity) -> Option<&Arc<Pod>> {
        let name = proxy.name.strip_suffix(&*proxy.namespace);
        let name = name.and_then(|name| name.strip_suffix('.'));
        let named = name.and_then(|name| self.pods.get(&(proxy.namespace.clone(), name.into())));
        named.or_else(|| {
            let mut alike = self.pods.values().filter(|pod| pod.ip == proxy.ip);
            alike.next().filter(|_| alike.next().is_none())
        })
    }

    /// The container ports with a name in the pod that `proxy` is in.
    pub(crate) fn container_ports(&self, proxy: &ProxyIdentity) -> Vec<(Name, u16)> {
        let pod = self.of(proxy);
        pod.map(|pod| pod.container_ports.clone())
            .unwrap_or_default()
    }

    /// The pods behind `service`, by name.
    pub(crate) fn behind(&self, service: &Service) -> Vec<&Arc<Pod>> {
        let Some(selector) = service.selector.as_ref() else {
            return Vec::new();
        };
        let sets = selector.iter().map(|(key, value)| {
            self.by_label
                .get(&(service.namespace.clone(), key.clone(), value.clone()))
        });
        let Some(sets) = sets.collect::<Option<Vec<_>>>() else {
            return Vec::new();
        };
        let Some(smallest) = sets.into_iter().min_by_key(|set| set.len()) else {
            return Vec::new();
        };
        let pods = smallest.values();
        pods.filter(|pod| has_labels(&pod.labels, selector))
            .collect()
    }
}

/// Where the endpoints of one EDS cluster come from.
#[derive(Clone, Debug)]
pub(crate) struct EndpointSource {
    pub(crate) cluster: Name,
    pub(crate) service: Arc<Service>,
    pub(crate) port: ServicePort,
    pub(crate) subset: Labels,
    /// `false`: unready endpoints are left out instead of being sent as unhealthy.
    pub(crate) send_unhealthy: bool,
    /// The cluster speaks TLS that is not turned off.
    pub(crate) mutual_tls: bool,
    /// `None`: turned off.
    pub(crate) locality: Option<LocalitySetting>,
    /// The cluster detects outliers, without which nothing fails over.
    pub(crate) fails_over: bool,
}

/// One address behind a port of a service.
struct Instance {
    address: SocketAddr,
    locality: Name,
    ready: bool,
    weight: u32,
    mutual_tls: bool,
    labels: Labels,
}

impl EndpointSource {
    pub(crate) fn new(service: &Arc<Service>, port: &ServicePort, subset: &str) -> EndpointSource {
        EndpointSource {
            cluster: cluster_name(port.number, subset, &service.host),
            service: Arc::clone(service),
            port: port.clone(),
            subset: Vec::new(),
            send_unhealthy: true,
            mutual_tls: true,
            locality: None,
            fails_over: false,
        }
    }

    /// Whether there is an endpoint that is ready.
    pub(crate) fn has_ready(&self, pods: &PodIndex) -> bool {
        self.instances(pods, None)
            .iter()
            .any(|instance| instance.ready)
    }

    /// The endpoints as they are, by locality, for proxies with key `from`.
    pub(crate) fn assignment(
        &self,
        pods: &PodIndex,
        authentication: &Authentication,
        from: &ScopeKey,
    ) -> LoadAssignment {
        let mut by_locality: BTreeMap<Name, Vec<Labelled>> = BTreeMap::new();
        for instance in self.instances(pods, Some(authentication)) {
            if !instance.ready && !self.send_unhealthy {
                continue;
            }
            let endpoint = Endpoint {
                health: match instance.ready {
                    true => EndpointHealth::Healthy,
                    false => EndpointHealth::Unhealthy,
                },
                weight: instance.weight,
                mutual_tls: instance.mutual_tls && self.mutual_tls,
                ..Endpoint::new(instance.address)
            };
            let in_locality = by_locality.entry(instance.locality).or_default();
            in_locality.push((endpoint, instance.labels));
        }
        let localities = prefer(by_locality, self.locality.as_ref(), self.fails_over, from);
        LoadAssignment::new(self.cluster.clone(), localities)
    }

    fn instances(&self, pods: &PodIndex, authentication: Option<&Authentication>) -> Vec<Instance> {
        let service = &self.service;
        let accepts = |namespace: &Name, labels: &Labels, port| {
            authentication
                .is_none_or(|all| all.of_port(namespace, labels, Some(port)) != MutualTls::Disable)
        };
        let mut found: Vec<Instance> = pods
            .behind(service)
            .into_iter()
            .filter(|pod| service.publishes_unready || !pod.terminating)
            .filter(|pod| has_labels(&pod.labels, &self.subset))
            .filter_map(|pod| {
                let port = target_port(&self.port.target, pod)?;
                Some(Instance {
                    address: SocketAddr::new(pod.ip, port),
                    locality: pod.locality.clone(),
                    ready: pod.ready || service.publishes_unready,
                    weight: 1,
                    mutual_tls: pod.mutual_tls() && accepts(&pod.namespace, &pod.labels, port),
                    labels: pod.labels.clone(),
                })
            })
            .collect();
        let own = service.listed.iter();
        let own = own.map(|entry| (entry, self.entry_port(&entry.ports)));
        let pooled = service.pooled.iter();
        let pooled = pooled.map(|entry| (entry, named_port(&entry.ports, &self.port.name)));
        for (entry, port) in own.chain(pooled) {
            let Ok(ip) = entry.address.text.parse::<IpAddr>() else {
                continue;
            };
            if let (Some(port), true) = (port, has_labels(&entry.labels, &self.subset)) {
                found.push(Instance {
                    address: SocketAddr::new(ip, port),
                    locality: entry.locality.clone(),
                    ready: true,
                    weight: entry.weight,
                    mutual_tls: entry.mutual_tls
                        && accepts(&service.namespace, &entry.labels, port),
                    labels: entry.labels.clone(),
                });
            }
        }
        // Of an address that is listed twice the first counts.
        let mut seen = BTreeSet::new();
        for subset in &service.endpoint_objects {
            let Some(port) = named_port(&subset.ports, &self.port.name) else {
                continue;
            };
            for address in subset.addresses.iter().filter(|a| seen.insert(a.ip)) {
                // Bare addresses have no labels.
                let pod = pods.listed(&service.namespace, address);
                let labels = pod.map(|pod| pod.labels.clone()).unwrap_or_default();
                if !has_labels(&labels, &self.subset) {
                    continue;
                }
                found.push(Instance {
                    address: SocketAddr::new(address.ip, port),
                    locality: pod.map_or("".into(), |pod| pod.locality.clone()),
                    ready: address.ready,
                    weight: 1,
                    mutual_tls: pod.is_some_and(|pod| {
                        pod.mutual_tls() && accepts(&pod.namespace, &labels, port)
                    }),
                    labels,
                });
            }
        }
        found
    }

    /// Whether there are endpoints, whatever their subset, and each takes Istio's mutual TLS.
    pub(crate) fn all_speak_mutual_tls(&self, pods: &PodIndex) -> bool {
        let whole = EndpointSource::new(&self.service, &self.port, "");
        let instances = whole.instances(pods, None);
        !instances.is_empty() && instances.iter().all(|instance| instance.mutual_tls)
    }

    /// The port of a workload that names its ports: by the name of the service's port or, if that
    /// points to a named port, by that.
    fn entry_port(&self, ports: &[(Name, u16)]) -> Option<u16> {
        match &self.port.target {
            Target::Number(number) => named_port(ports, &self.port.name).or(Some(*number)),
            Target::Name(name) => named_port(ports, name),
        }
    }

    /// The distinct addresses, ready or not.
    pub(crate) fn addresses(&self, pods: &PodIndex) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self
            .instances(pods, None)
            .iter()
            .map(|instance| instance.address.ip())
            .collect();
        addresses.sort();
        addresses.dedup();
        addresses
    }
}
