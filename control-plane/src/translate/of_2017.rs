//! Routes and clusters of hosts with rules of 2017, as Pilot of Istio 0.1 and 0.2 made them for Envoy,
//! or as Linkerd 1.1.1 took them.

mod clusters;
mod envoy;
mod ingress;
mod linkerd;

pub(super) use clusters::settle;
pub(crate) use clusters::{PANIC_PERCENT, limits, outliers};
pub(super) use ingress::unfolded;

use super::PodIndex;
use super::cluster_name;
use super::endpoints::EndpointSource;
use super::routes::plain_route;
use super::scope::Scope;
use crate::config::{DataPlane, RouteRule, ServiceReference, Share, has_labels};
use crate::of_2017::version_name;
use crate::registry::{Service, ServicePort};
use proxy_core::time::Nanos;
use proxy_core::xds::{ConfigRef, Forward, Name, Route};
use std::sync::Arc;

/// Envoy's, where no rule has one.
pub(crate) const TIMEOUT: Nanos = Nanos::from_secs(15);

/// The routes of `service` at a port, in order; `None`: none as in 2017.
pub(super) fn routes(
    scope: &Scope<'_>,
    service: &Arc<Service>,
    port: &ServicePort,
    pods: &PodIndex,
) -> Option<Vec<Arc<Route>>> {
    let rules = &scope.mesh.rules.of_2017;
    if !rules.route(&service.host) {
        return None;
    }
    let target = Target {
        scope,
        service,
        port,
        pods,
    };
    let mut routes = Vec::new();
    for (object, rule) in rules.routes_of(&service.host) {
        let made = match rules.data_plane() {
            DataPlane::Envoy2017 => target.envoy_route(object, rule),
            DataPlane::Linkerd111 => target.linkerd_route(object, rule),
        };
        let Some(route) = made else {
            continue;
        };
        let ends = super::routes::is_catch_all(&route.matches);
        routes.push(Arc::new(route));
        if ends {
            return Some(routes);
        }
    }
    routes.push(Arc::new(target.default_route()));
    Some(routes)
}

/// Whether the routes of `service` follow its endpoints: Linkerd leaves versions out that have none.
pub(super) fn follow_pods(scope: &Scope<'_>, service: &Service) -> bool {
    let rules = &scope.mesh.rules.of_2017;
    rules.data_plane() == DataPlane::Linkerd111
        && rules
            .routes_of(&service.host)
            .any(|(_, rule)| rule.route.len() > 1)
}

/// Whether the proxy is such a caller.
fn is_from(scope: &Scope<'_>, source: &ServiceReference) -> bool {
    let mut services = scope.mesh.registry.with_host(&source.host.text);
    services.any(|service| scope.is_before(service)) && has_labels(&scope.labels, &source.labels)
}

/// For whom routes are made, and to what.
struct Target<'t, 's> {
    scope: &'t Scope<'s>,
    service: &'t Arc<Service>,
    port: &'t ServicePort,
    pods: &'t PodIndex,
}

impl Target<'_, '_> {
    /// Where one of a rule's shares goes. Hosts outside the mesh have no versions.
    fn cluster(&self, share: &Share) -> Name {
        if self.service.external {
            return self.whole();
        }
        let mut labels = share.labels.clone();
        labels.sort();
        let other = share.destination.as_ref().map(|to| &to.host.text);
        let host = other.unwrap_or(&self.service.host);
        cluster_name(self.port.number, &version_name(&labels), host)
    }

    /// The cluster of all versions.
    fn whole(&self) -> Name {
        cluster_name(self.port.number, "", &self.service.host)
    }

    /// Whether Pilot listed any endpoint for a share.
    fn has_endpoints(&self, share: &Share) -> bool {
        let host = share
            .destination
            .as_ref()
            .map_or(&self.service.host, |to| &to.host.text);
        let Some(service) = self.scope.service(host) else {
            return false;
        };
        let Some(port) = service.port(self.port.number) else {
            return false;
        };
        let mut source = EndpointSource::new(service, port, "");
        source.subset.clone_from(&share.labels);
        source.has_ready(self.pods)
    }

    /// To every version.
    fn default_route(&self) -> Route {
        let timeout = match self.scope.mesh.rules.of_2017.data_plane() {
            DataPlane::Envoy2017 => Some(TIMEOUT),
            DataPlane::Linkerd111 => None,
        };
        let forward = Forward {
            timeout,
            ..Forward::to(self.whole())
        };
        plain_route("default", forward, Some(self.service.origin.clone()))
    }

    fn weighted(&self, rule: &RouteRule) -> Vec<(Name, u32)> {
        match &rule.route[..] {
            [] => vec![(self.whole(), 1)],
            [share] => vec![(self.cluster(share), 1)],
            shares => {
                let weighted = shares.iter().filter(|share| share.weight > 0);
                weighted
                    .map(|share| (self.cluster(share), share.weight))
                    .collect()
            }
        }
    }
}

/// Where a rule stands.
fn origin(object: &crate::object::Object) -> Option<ConfigRef> {
    Some(object.origin())
}
