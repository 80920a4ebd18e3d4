//! What proxies with one key share, and what of it changes with the configuration or the pods.

use super::clusters::{self, OfService};
use super::scope::{Imported, Scope, View};
use super::{Mesh, PodIndex, ScopeKey, gateway, of_2017, outbound, routes};
use crate::config::{Change, Labels};
use crate::model::{Pod, ProxyIdentity, ProxyKind, Resources};
use crate::object::Body;
use crate::registry::Service;
use crate::rules::VirtualServiceRule;
use crate::store::Difference;
use proxy_core::xds::{Cluster, Listener, Name, RouteTable, VirtualHost};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What proxies with the same key share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    view: Arc<View>,
    /// Of each service of the view, in order.
    services: Arc<Vec<Arc<OfService>>>,
    /// Of no service.
    built_in: Vec<Arc<Cluster>>,
    listeners: Vec<Arc<Listener>>,
    routes: Vec<Arc<RouteTable>>,
    /// Some listeners follow from the endpoints of headless services.
    pub(crate) listens_on_endpoints: bool,
}

impl Shared {
    pub(crate) fn new(mesh: &Mesh, key: &ScopeKey, pods: &PodIndex) -> Shared {
        let scope = Scope::new(mesh, key);
        let services = scope.view.imported.services.iter();
        let services = services.map(|service| Arc::new(clusters::of(&scope, service, pods, key)));
        let services = Arc::new(services.collect());
        let (listeners, routes) = listeners(&scope, pods);
        Shared {
            services,
            built_in: clusters::built_in(&scope),
            listeners,
            routes,
            listens_on_endpoints: scope.kind != ProxyKind::Gateway
                && scope.view.services().any(|service| listens(service)),
            view: scope.view,
        }
    }

    /// The labels of the pods behind each cluster that gets its endpoints by EDS.
    pub(crate) fn selected_labels(&self) -> impl Iterator<Item = (Name, Labels)> {
        let services = self.services.iter();
        services.flat_map(|service| service.selected_labels())
    }

    pub(crate) fn imported(&self) -> &Imported {
        &self.view.imported
    }

    /// After `differences` of VirtualServices and DestinationRules, from `old` to `mesh`. Only what
    /// they touch is made anew.
    pub(crate) fn after_rules(
        &self,
        (old, mesh): (&Mesh, &Mesh),
        key: &ScopeKey,
        pods: &PodIndex,
        differences: &[Difference<'_>],
    ) -> Shared {
        let mut shared = self.clone();
        let mut tables_differ = false;
        let is_policy = |body: &Body| matches!(body, Body::DestinationRule(_));
        if differences
            .iter()
            .any(|difference| difference.is_of(is_policy))
        {
            let before = Scope::of(old, key, Arc::clone(&self.view));
            let after = Scope::of(mesh, key, Arc::clone(&self.view));
            let services = Arc::make_mut(&mut shared.services);
            for (of, service) in services.iter_mut().zip(&self.view.imported.services) {
                let (was, is) = (before.policy(service), after.policy(service));
                let same = match (was, is) {
                    (Some(was), Some(is)) => Arc::ptr_eq(was, is),
                    (was, is) => was.is_none() && is.is_none(),
                };
                if !same {
                    tables_differ |= [was, is].into_iter().flatten().any(|of| of.hashes());
                    *of = Arc::new(clusters::of(&after, service, pods, key));
                }
            }
        }
        // A route table that is patched is made anew as a whole.
        let mut patches = mesh.rules.patches_for(&key.namespace, &key.labels);
        tables_differ |= patches.any(|patch| matches!(patch.change, Change::Table { .. }));
        match self.replaced(old, mesh, key, differences) {
            Some(replaced) if !tables_differ => {
                for (was, is) in replaced {
                    shared.replace_rule(mesh, key, &was, &is);
                }
                shared
            }
            _ => shared.with_view(Scope::new(mesh, key), key, pods),
        }
    }

    /// The rules that changed without a change to whom they are for; `None` if some did otherwise.
    fn replaced(
        &self,
        old: &Mesh,
        mesh: &Mesh,
        key: &ScopeKey,
        differences: &[Difference<'_>],
    ) -> Option<Vec<(Arc<VirtualServiceRule>, Arc<VirtualServiceRule>)>> {
        let is_rule = |body: &Body| matches!(body, Body::VirtualService(_));
        if !differences
            .iter()
            .any(|difference| difference.is_of(is_rule))
        {
            return Some(Vec::new());
        }
        // Those of delegates change with them.
        let pairs = old.rules.virtual_services.iter();
        let pairs = pairs.zip(&mesh.rules.virtual_services);
        if old.rules.virtual_services.len() != mesh.rules.virtual_services.len() {
            return None;
        }
        let changed: Vec<_> = pairs.filter(|(was, is)| !Arc::ptr_eq(was, is)).collect();
        let mut replaced = Vec::new();
        for (was, is) in changed {
            let seen = |rule: &VirtualServiceRule| rule.export_to.shows(&key.namespace);
            if !seen(was) && !seen(is) {
                continue;
            }
            let alike = key.kind != ProxyKind::Gateway
                && was.is_for_the_same(is, &key.namespace)
                && self.acts_at_the_same(old, mesh, key, was, is);
            if !alike {
                return None;
            }
            replaced.push((Arc::clone(was), Arc::clone(is)));
        }
        Some(replaced)
    }

    /// Whether both rules have routes at the same ports.
    fn acts_at_the_same(
        &self,
        old: &Mesh,
        mesh: &Mesh,
        key: &ScopeKey,
        was: &VirtualServiceRule,
        is: &VirtualServiceRule,
    ) -> bool {
        let before = Scope::of(old, key, Arc::clone(&self.view));
        let after = Scope::of(mesh, key, Arc::clone(&self.view));
        let mut ports = self.routes.iter().filter_map(|table| port_of(table));
        ports.all(|port| {
            let (was, is) = (
                routes::in_mesh(&before, port, was),
                routes::in_mesh(&after, port, is),
            );
            was.is_empty() == is.is_empty()
        })
    }

    /// Puts the routes of `is` where those of `was` are.
    fn replace_rule(
        &mut self,
        mesh: &Mesh,
        key: &ScopeKey,
        was: &Arc<VirtualServiceRule>,
        is: &Arc<VirtualServiceRule>,
    ) {
        self.view = Arc::new(self.view.with_rule(was, is));
        let scope = Scope::of(mesh, key, Arc::clone(&self.view));
        let origin = was.origin();
        let of_rule = |host: &VirtualHost| {
            let first = host.routes.first().and_then(|route| route.origin.as_ref());
            first.is_some_and(|first| {
                first.name == origin.name
                    && first.namespace == origin.namespace
                    && first.kind == origin.kind
            })
        };
        for table in &mut self.routes {
            let (Some(port), true) = (
                port_of(table),
                table.virtual_hosts.iter().any(|host| of_rule(host)),
            ) else {
                continue;
            };
            let made = routes::in_mesh(&scope, port, is);
            let changed = |host: &VirtualHost| of_rule(host).then(|| made.clone());
            *table = Arc::new(table.with_routes(changed));
        }
    }

    /// With listeners and tables made anew, and clusters if the services are others.
    fn with_view(mut self, scope: Scope<'_>, key: &ScopeKey, pods: &PodIndex) -> Shared {
        let (was, is) = (&self.view.imported.services, &scope.view.imported.services);
        let alike = |a: &Arc<Service>, b: &Arc<Service>| Arc::ptr_eq(a, b) || a == b;
        if was.len() != is.len() || !was.iter().zip(is).all(|(a, b)| alike(a, b)) {
            let mut known: BTreeMap<&Name, Vec<usize>> = BTreeMap::new();
            for (at, service) in was.iter().enumerate() {
                known.entry(&service.host).or_default().push(at);
            }
            let made = is.iter().map(|service| {
                let of_host = known.get(&service.host).map_or(&[][..], Vec::as_slice);
                match of_host.iter().find(|at| alike(&was[**at], service)) {
                    Some(at) => Arc::clone(&self.services[*at]),
                    None => Arc::new(clusters::of(&scope, service, pods, key)),
                }
            });
            self.services = Arc::new(made.collect());
        }
        (self.listeners, self.routes) = listeners(&scope, pods);
        self.view = scope.view;
        self
    }

    /// After changes of pods, as they were and as they are.
    pub(crate) fn after_pods(
        &self,
        mesh: &Mesh,
        key: &ScopeKey,
        pods: &PodIndex,
        changed: &[Arc<Pod>],
    ) -> Shared {
        let mut shared = self.clone();
        let scope = Scope::of(mesh, key, Arc::clone(&self.view));
        let concerned = |service: &Service| {
            let mut changed = changed.iter();
            changed.any(|pod| service.selects(&pod.namespace, &pod.labels) || service.lists(pod))
        };
        let mut listeners_differ = false;
        let services = Arc::make_mut(&mut shared.services);
        for (of, service) in services.iter_mut().zip(&self.view.imported.services) {
            if !concerned(service) {
                continue;
            }
            listeners_differ |= self.listens_on_endpoints && listens(service);
            listeners_differ |= of_2017::follow_pods(&scope, service);
            match of.follows_pods {
                true => *of = Arc::new(clusters::of(&scope, service, pods, key)),
                false => Arc::make_mut(of).renew_endpoints(mesh, key, pods),
            }
        }
        if listeners_differ {
            (shared.listeners, shared.routes) = listeners(&scope, pods);
        }
        shared
    }

    /// Whether clusters and endpoints are shared with `other`.
    pub(crate) fn has_clusters_of(&self, other: &Shared) -> bool {
        Arc::ptr_eq(&self.services, &other.services)
    }

    /// Everything `proxy` is told: this and what concerns its own application.
    pub(crate) fn assemble(&self, inbound: &Resources, proxy: &ProxyIdentity) -> Resources {
        let clusters = self.services.iter().flat_map(|of| &of.clusters);
        let endpoints = self.services.iter().flat_map(|of| &of.endpoints);
        Resources {
            clusters: clusters
                .chain(&self.built_in)
                .chain(&inbound.clusters)
                .cloned()
                .collect(),
            endpoints: endpoints.cloned().collect(),
            ..self.assemble_listening(inbound, proxy)
        }
    }

    /// Only the listeners and route tables of that.
    pub(crate) fn assemble_listening(
        &self,
        inbound: &Resources,
        proxy: &ProxyIdentity,
    ) -> Resources {
        let own = |listener: &&Arc<Listener>| listener.address != Some(proxy.ip);
        let headless = self.listens_on_endpoints;
        let listeners = self.listeners.iter();
        Resources {
            listeners: listeners
                .filter(|listener| !headless || own(listener))
                .chain(&inbound.listeners)
                .cloned()
                .collect(),
            routes: [&self.routes[..], &inbound.routes].concat(),
            ..Resources::default()
        }
    }
}

fn listeners(scope: &Scope<'_>, pods: &PodIndex) -> (Vec<Arc<Listener>>, Vec<Arc<RouteTable>>) {
    match scope.kind {
        ProxyKind::Gateway => gateway::listeners(scope, pods),
        _ => outbound::listeners(scope, pods),
    }
}

/// `PORT` or `HOST:PORT`.
fn port_of(table: &RouteTable) -> Option<u16> {
    table.name.rsplit(':').next()?.parse().ok()
}

/// Whether sidecars listen at the addresses of its endpoints.
fn listens(service: &Service) -> bool {
    service.is_at_its_endpoints() && service.ports.iter().any(|port| !port.protocol.is_http())
}
