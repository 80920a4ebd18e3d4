//! The rules of 2017, in the order in which Pilot considered them.
//!
//! | module | holds |
//! |---|---|
//! | this | which rules there are for a host |
//! | `convert` | what they are today |
//! | `check` | what a data plane of 2017 makes nothing of, and rules without effect |

mod check;
mod convert;

pub(crate) use check::check;
pub use convert::Converted;

use crate::config::{
    DataPlane, DestinationPolicy, EgressProtocol, EgressRule, Labels, Named, RouteRule,
    ServiceReference, Subset, VersionPolicy,
};
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::registry::Service;
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All rules of 2017 but those of ingress.
#[derive(Clone, Debug, Default)]
pub(crate) struct RulesOf2017 {
    stated: Option<DataPlane>,
    /// RouteRules by destination: by precedence, then by key.
    routes: BTreeMap<Name, Vec<Arc<Object>>>,
    /// DestinationPolicies by destination, by key.
    policies: BTreeMap<Name, Vec<Arc<Object>>>,
    /// Versions of a host that some rule sends to.
    versions: BTreeMap<Name, BTreeMap<Labels, Subset>>,
    /// What is spoken to the hosts of EgressRules, by host and port.
    egress: BTreeMap<(Name, u16), EgressProtocol>,
}

impl RulesOf2017 {
    pub(crate) fn new(objects: &Objects) -> RulesOf2017 {
        let egress = egress_rules(objects).into_iter().flat_map(|(_, rule)| {
            let host = rule.lower_host();
            let ports = rule.ports.iter();
            ports.map(move |(port, protocol)| ((host.clone(), *port), *protocol))
        });
        let mut rules = RulesOf2017 {
            stated: objects.mesh_config().data_plane,
            egress: egress.collect(),
            ..RulesOf2017::default()
        };
        for object in objects.of_kind("RouteRule") {
            let rule = route_rule(object);
            let host = host_of(&rule.destination);
            rules.add_versions(&host, rule);
            rules
                .routes
                .entry(host)
                .or_default()
                .push(Arc::clone(object));
        }
        for of_host in rules.routes.values_mut() {
            of_host.sort_by_cached_key(|object| {
                (
                    std::cmp::Reverse(route_rule(object).precedence),
                    key(object),
                )
            });
        }
        if rules.data_plane() == DataPlane::Envoy2017 {
            for object in objects.of_kind("DestinationPolicy") {
                let host = host_of(&policy(object).destination);
                rules
                    .policies
                    .entry(host)
                    .or_default()
                    .push(Arc::clone(object));
            }
        }
        for of_host in rules.policies.values_mut() {
            of_host.sort_by_cached_key(|object| key(object));
        }
        rules
    }

    fn add_versions(&mut self, host: &Name, rule: &RouteRule) {
        for share in &rule.route {
            let to = share
                .destination
                .as_ref()
                .map_or_else(|| host.clone(), host_of);
            let mut labels = share.labels.clone();
            labels.sort();
            if labels.is_empty() {
                continue;
            }
            let versions = self.versions.entry(to).or_default();
            versions.entry(labels.clone()).or_insert_with(|| Subset {
                name: Named {
                    text: version_name(&labels),
                    span: share.span.clone(),
                },
                labels,
                policy: None,
            });
        }
    }

    /// By what rules are carried out.
    pub(crate) fn data_plane(&self) -> DataPlane {
        self.stated.unwrap_or(DataPlane::Envoy2017)
    }

    /// The whole mesh has that data plane, hosts without rules too.
    pub(crate) fn stated(&self) -> Option<DataPlane> {
        self.stated
    }

    /// Whether requests to `host` are routed as in 2017.
    pub(crate) fn route(&self, host: &str) -> bool {
        self.stated.is_some() || self.routes.contains_key(host)
    }

    /// Whether the clusters of `host` are such as in 2017.
    pub(crate) fn balance(&self, host: &str) -> bool {
        self.route(host) || self.policies.contains_key(host) || self.versions.contains_key(host)
    }

    /// Every host with RouteRules.
    fn hosts_with_routes(&self) -> Vec<Name> {
        self.routes.keys().cloned().collect()
    }

    /// Every host whose clusters are such as in 2017.
    fn hosts_with_clusters(&self) -> Vec<Name> {
        let hosts = self.routes.keys().chain(self.policies.keys());
        hosts.chain(self.versions.keys()).cloned().collect()
    }

    /// Whether `host` is one that an EgressRule allows.
    fn is_outside(&self, host: &Name) -> bool {
        self.egress.keys().any(|(of, _)| of == host)
    }

    /// The RouteRules for `host`, first one first.
    pub(crate) fn routes_of(&self, host: &str) -> impl Iterator<Item = (&Arc<Object>, &RouteRule)> {
        let of_host = self.routes.get(host).map_or(&[][..], Vec::as_slice);
        of_host.iter().map(|object| (object, route_rule(object)))
    }

    /// The versions of `host` that some rule sends to; they have clusters of their own.
    pub(crate) fn versions_of(&self, host: &str) -> impl Iterator<Item = &Subset> {
        self.versions
            .get(host)
            .into_iter()
            .flat_map(BTreeMap::values)
    }

    /// The first policy for exactly those labels of `host`; `is_from`: whether the proxy is such a
    /// source.
    pub(crate) fn policy_of(
        &self,
        host: &str,
        labels: &[(Name, Name)],
        is_from: impl Fn(&ServiceReference) -> bool,
    ) -> Option<(&Arc<Object>, &VersionPolicy)> {
        let of_host = self.policies.get(host).map_or(&[][..], Vec::as_slice);
        of_host.iter().find_map(|object| {
            let policy = policy(object);
            let mut versions = policy.versions.iter();
            let version = versions.find(|version| version.labels == *labels)?;
            let applies = policy.source.as_ref().is_none_or(&is_from);
            applies.then_some((object, version))
        })
    }

    /// What is spoken at a port of a service that an EgressRule made.
    pub(crate) fn egress_protocol(&self, service: &Service, port: u16) -> Option<EgressProtocol> {
        let made = &*service.origin.kind == "EgressRule";
        let found = self.egress.get(&(service.host.clone(), port)).copied();
        found.filter(|_| made)
    }

    /// Whether some rule is for certain callers.
    pub(crate) fn look_at_source(&self) -> bool {
        let rules = self.routes.values().flatten();
        let of_routes = |object: &Arc<Object>| route_rule(object).condition.source.is_some();
        let policies = self.policies.values().flatten();
        let of_policies = |object: &Arc<Object>| policy(object).source.is_some();
        self.data_plane() == DataPlane::Envoy2017
            && (rules.into_iter().any(of_routes) || policies.into_iter().any(of_policies))
    }
}

/// The hosts outside the mesh that EgressRules allow. Of two rules for one host the first by key
/// counts; Linkerd never asked for them.
pub(crate) fn egress_rules(objects: &Objects) -> Vec<(&Arc<Object>, &EgressRule)> {
    if objects.mesh_config().data_plane == Some(DataPlane::Linkerd111) {
        return Vec::new();
    }
    let mut rules: BTreeMap<String, (&Arc<Object>, &EgressRule)> = BTreeMap::new();
    for object in objects.of_kind("EgressRule") {
        if let Body::EgressRule(rule) = &object.body {
            rules.insert(key(object), (object, rule));
        }
    }
    let mut hosts = BTreeMap::new();
    for (object, rule) in rules.into_values() {
        hosts.entry(rule.lower_host()).or_insert((object, rule));
    }
    hosts.into_values().collect()
}

/// What a version is called in the names of clusters: its labels, as Pilot wrote them.
pub(crate) fn version_name(labels: &[(Name, Name)]) -> Name {
    let texts: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    texts.join(",").into()
}

fn host_of(reference: &ServiceReference) -> Name {
    reference.host.text.to_ascii_lowercase().into()
}

/// Pilot's, without the kind.
fn key(object: &Object) -> String {
    format!("{}/{}", object.reference.name, object.reference.namespace)
}

fn route_rule(object: &Object) -> &RouteRule {
    match &object.body {
        Body::RouteRule(rule) => rule,
        _ => unreachable!("objects of that kind have that body"),
    }
}

fn policy(object: &Object) -> &DestinationPolicy {
    match &object.body {
        Body::DestinationPolicy(policy) => policy,
        _ => unreachable!("objects of that kind have that body"),
    }
}
