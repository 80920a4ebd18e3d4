//! The rules of a configuration, in the order in which Istio considers them, and which of them hold
//! for whom.

use crate::authentication::Authentication;
use crate::authorization::Authorization;
use crate::config::{
    DefaultExports, EnvoyFilter, ExportTo, Gateway, HttpAction, HttpRoute, Labels, Patch,
    Semantics, Sidecar, Target, TrafficPolicy, VirtualService, delegated, has_labels,
};
use crate::ingress;
use crate::names::{full_name, gateway_name};
use crate::object::{Age, Body, Object};
use crate::objects::{ObjectRef, Objects};
use crate::of_2017::RulesOf2017;
use crate::policies::Policies;
use crate::store::Difference;
use proxy_core::xds::{ConfigRef, Name};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A VirtualService with its names resolved.
#[derive(Clone, Debug)]
pub(crate) struct VirtualServiceRule {
    object: Arc<Object>,
    /// Its HTTP rules with those it delegates to, if it does.
    delegated: Option<Vec<HttpRoute>>,
    pub(crate) hosts: Vec<Name>,
    /// `mesh`, `NAMESPACE/NAME`.
    pub(crate) gateways: Vec<Name>,
    pub(crate) export_to: ExportTo,
}

/// A Gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayRule {
    object: Arc<Object>,
    /// `NAMESPACE/NAME`.
    pub(crate) id: Name,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Where rules for everybody live.
    root: Name,
    exports: DefaultExports,
    /// Oldest first.
    pub(crate) virtual_services: Vec<Arc<VirtualServiceRule>>,
    pub(crate) gateways: Vec<GatewayRule>,
    pub(crate) authentication: Authentication,
    /// With a selector first, oldest first in each part.
    sidecars: Vec<Arc<Object>>,
    /// In the order in which their patches are applied.
    envoy_filters: Vec<Arc<Object>>,
    pub(crate) authorization: Authorization,
    pub(crate) policies: Policies,
    pub(crate) of_2017: RulesOf2017,
    /// See [`Rules::look_at_locality`].
    look_at_locality: bool,
    /// See [`Rules::look_at_labels`].
    look_at_labels: bool,
}

impl VirtualServiceRule {
    /// `None` for any other kind.
    fn new(
        objects: &Objects,
        object: &Arc<Object>,
        exports: &DefaultExports,
    ) -> Option<VirtualServiceRule> {
        let Body::VirtualService(spec) = &object.body else {
            return None;
        };
        let namespace = &object.reference.namespace;
        let gateways = spec.gateways.iter();
        let gateways: Vec<Name> = gateways
            .map(|name| gateway_name(&name.text, namespace))
            .collect();
        let hosts = spec.hosts.iter();
        Some(VirtualServiceRule {
            delegated: with_delegates(objects, spec, namespace, exports),
            export_to: spec.export_to.or(&exports.virtual_services, namespace),
            object: Arc::clone(object),
            hosts: hosts.map(|host| full_name(&host.text, namespace)).collect(),
            gateways: match gateways.is_empty() {
                true => vec!["mesh".into()],
                false => gateways,
            },
        })
    }

    /// Whether `other` differs in no more than the HTTP rules and where these send, without a
    /// destination that clients in `namespace` would know by this rule alone.
    pub(crate) fn is_for_the_same(&self, other: &VirtualServiceRule, namespace: &Name) -> bool {
        let destinations = |rule: &VirtualServiceRule| -> BTreeSet<(Name, Option<u16>)> {
            rule.destinations_from(namespace).collect()
        };
        let (own, others) = (self.spec(), other.spec());
        order(&self.object) == order(&other.object)
            && self.hosts == other.hosts
            && self.gateways == other.gateways
            && self.export_to == other.export_to
            && own.semantics == others.semantics
            && own.tls == others.tls
            && own.tcp == others.tcp
            && destinations(self) == destinations(other)
    }

    /// Whether some rule is for pods with certain labels.
    fn selects_by_label(&self) -> bool {
        let spec = self.spec();
        let http = self.http().iter().flat_map(|http| &http.matches);
        let l4 = spec.tls.iter().chain(&spec.tcp);
        let l4 = l4.flat_map(|l4| l4.matches.iter().map(|m| &m.statics));
        let mut statics = http.map(|m| &m.statics).chain(l4);
        statics.any(|statics| !statics.source_labels.is_empty())
    }

    pub(crate) fn spec(&self) -> &VirtualService {
        match &self.object.body {
            Body::VirtualService(spec) => spec,
            _ => unreachable!("made from VirtualServices only"),
        }
    }

    /// Its HTTP rules, in order.
    pub(crate) fn http(&self) -> &[HttpRoute] {
        self.delegated.as_ref().unwrap_or(&self.spec().http)
    }

    /// Host and port of every destination of the rules that are not for other namespaces only.
    pub(crate) fn destinations_from<'r>(
        &'r self,
        namespace: &'r Name,
    ) -> impl Iterator<Item = (Name, Option<u16>)> + 'r {
        let meant = move |rule: &&HttpRoute| {
            let sources = rule.matches.iter().map(|one| &one.statics.source_namespace);
            let mut stated = sources.flatten().peekable();
            stated.peek().is_none() || stated.any(|source| source == namespace)
        };
        let spec = self.spec();
        let l4 = spec.tls.iter().chain(&spec.tcp);
        self.http()
            .iter()
            .filter(meant)
            .flat_map(HttpRoute::destinations)
            .chain(l4.flat_map(|rule| rule.route.iter().map(|(to, _)| to)))
            .map(|to| (full_name(&to.host.text, self.namespace()), to.port))
    }

    pub(crate) fn reference(&self) -> &ObjectRef {
        &self.object.reference
    }

    pub(crate) fn namespace(&self) -> &Name {
        &self.object.reference.namespace
    }

    /// Made from a route of the Gateway API.
    pub(crate) fn of_gateway_api(&self) -> bool {
        matches!(
            self.spec().semantics,
            Semantics::GatewayApi | Semantics::TlsRoute
        )
    }

    pub(crate) fn origin(&self) -> ConfigRef {
        self.object.origin()
    }
}

impl GatewayRule {
    pub(crate) fn spec(&self) -> &Gateway {
        match &self.object.body {
            Body::Gateway(spec) => spec,
            _ => unreachable!("made from Gateways only"),
        }
    }

    pub(crate) fn namespace(&self) -> &Name {
        &self.object.reference.namespace
    }

    pub(crate) fn name(&self) -> &Name {
        &self.object.reference.name
    }
}

impl Rules {
    pub(crate) fn new(objects: &Objects) -> Rules {
        let translated = &objects.gateway_api().objects;
        let of_ingresses = ingress::derived(objects);
        let mut sorted: Vec<&Arc<Object>> = objects
            .iter()
            .chain(translated)
            .chain(&of_ingresses)
            .collect();
        sorted.sort_by_key(|object| order(object));
        let mesh = objects.mesh_config();
        let mut rules = Rules {
            authentication: Authentication::new(&mesh),
            authorization: Authorization::new(&mesh),
            policies: Policies::new(&mesh),
            of_2017: RulesOf2017::new(objects),
            root: mesh.root_namespace,
            exports: mesh.exports,
            ..Rules::default()
        };
        for object in sorted {
            let namespace = &object.reference.namespace;
            match &object.body {
                Body::VirtualService(_) => {
                    let rule = VirtualServiceRule::new(objects, object, &rules.exports);
                    rules.virtual_services.extend(rule.map(Arc::new));
                }
                Body::Gateway(_) => rules.gateways.push(GatewayRule {
                    object: Arc::clone(object),
                    id: format!("{namespace}/{}", object.reference.name).into(),
                }),
                Body::PeerAuthentication(policy) => rules.authentication.add(object, policy),
                Body::AuthorizationPolicy(_) => rules.authorization.add(object),
                Body::RequestAuthentication(_) => rules.authentication.add_tokens(object),
                Body::DestinationRule(rule) => rules.policies.add(object, rule),
                Body::Sidecar(_) => rules.sidecars.push(Arc::clone(object)),
                Body::EnvoyFilter(filter) if !filter.patches.is_empty() => {
                    rules.envoy_filters.push(Arc::clone(object));
                }
                _ => {}
            }
        }
        rules
            .sidecars
            .sort_by_key(|object| spec_of(object).selector.is_none());
        let root = &rules.root;
        rules.envoy_filters.sort_by_key(|object| {
            let elsewhere = object.reference.namespace != *root;
            (filter_of(object).priority, elsewhere)
        });
        rules.policies.index_wildcards();
        rules.look();
        rules
    }

    /// The same after `differences`; `None` if they are not of VirtualServices and DestinationRules
    /// alone.
    pub(crate) fn updated(
        &self,
        objects: &Objects,
        differences: &[Difference<'_>],
    ) -> Option<Rules> {
        let mut rules = self.clone();
        let mut namespaces = BTreeSet::new();
        let mut delegates = false;
        for difference in differences {
            for object in difference.old.into_iter().chain(difference.new) {
                match &object.body {
                    Body::VirtualService(spec) => delegates |= spec.hosts.is_empty(),
                    Body::DestinationRule(_) => {
                        namespaces.insert(object.reference.namespace.clone());
                    }
                    _ => return None,
                }
            }
            let rule = |object: &&Arc<Object>| matches!(object.body, Body::VirtualService(_));
            if let Some(old) = difference.old.filter(rule) {
                rules
                    .virtual_services
                    .retain(|rule| !Arc::ptr_eq(&rule.object, old));
            }
            if let Some(new) = difference.new.filter(rule) {
                let rule = VirtualServiceRule::new(objects, new, &self.exports)?;
                let all = &mut rules.virtual_services;
                let at = all.binary_search_by_key(&order(new), |rule| order(&rule.object));
                all.insert(at.unwrap_or_else(|at| at), Arc::new(rule));
            }
        }
        if delegates {
            for rule in &mut rules.virtual_services {
                if rule.delegated.is_some() {
                    let new = VirtualServiceRule::new(objects, &rule.object, &self.exports)?;
                    *rule = Arc::new(new);
                }
            }
        }
        for namespace in &namespaces {
            let made = objects.gateway_api().objects.iter();
            let made = made.filter(|object| object.reference.namespace == *namespace);
            let stored = objects.of_namespace("DestinationRule", namespace);
            let mut all: Vec<&Arc<Object>> = stored.chain(made).collect();
            all.sort_by_key(|object| order(object));
            rules.policies.renew(namespace, &all);
        }
        rules.look();
        Some(rules)
    }

    fn look(&mut self) {
        self.look_at_locality = self
            .policies
            .any_blocks(|blocks| blocks.outlier_detection.is_some() || blocks.locality.is_some());
        let fails_over_by_label = |blocks: &TrafficPolicy| {
            let setting = blocks.locality.as_ref();
            setting.is_some_and(|setting| !setting.failover_priority.is_empty())
        };
        self.look_at_labels = self.policies.any_selects()
            || self.of_2017.look_at_source()
            || self.policies.any_blocks(fails_over_by_label)
            || self
                .virtual_services
                .iter()
                .any(|rule| rule.selects_by_label())
            || self.envoy_filters.iter().any(|object| {
                let everybody = Target::Workloads(Vec::new());
                filter_of(object).target != everybody
            });
    }

    /// The patches for pods with `labels`, in the order in which they are applied.
    pub(crate) fn patches_for<'r>(
        &'r self,
        namespace: &'r str,
        labels: &'r Labels,
    ) -> impl Iterator<Item = &'r Patch> {
        let covers = move |object: &&Arc<Object>| {
            let of = &object.reference.namespace;
            let target = &filter_of(object).target;
            target.covers(of, &self.root, (namespace, labels))
        };
        let filters = self.envoy_filters.iter().filter(covers);
        filters.flat_map(|object| &filter_of(object).patches)
    }

    /// The Sidecar that applies to pods with `labels`: one that selects them, else that of their
    /// namespace, else that of the root namespace.
    pub(crate) fn sidecar_for(&self, namespace: &str, labels: &[(Name, Name)]) -> Option<usize> {
        let of = |namespace: &str, whole: bool| {
            self.sidecars.iter().position(|object| {
                let selector = &spec_of(object).selector;
                let selects = match selector {
                    Some(wanted) => !whole && has_labels(labels, wanted),
                    None => true,
                };
                *object.reference.namespace == *namespace && selects
            })
        };
        of(namespace, false).or_else(|| of(&self.root, true))
    }

    /// The one that [`Rules::sidecar_for`] found.
    pub(crate) fn sidecar(&self, at: usize) -> &Sidecar {
        spec_of(&self.sidecars[at])
    }

    /// Where that one stands.
    pub(crate) fn sidecar_origin(&self, at: usize) -> ConfigRef {
        self.sidecars[at].origin()
    }

    /// The VirtualServices visible in `namespace`: its own with a list of namespaces, others exported
    /// to it by name, those of everybody, among which its own of the Gateway API come first; oldest
    /// first in each part.
    pub(crate) fn virtual_services_for(&self, namespace: &str) -> Vec<&Arc<VirtualServiceRule>> {
        let part = |rule: &VirtualServiceRule| {
            let own = **rule.namespace() == *namespace;
            match (rule.export_to.is_everyone(), own) {
                (false, true) => 0,
                (false, false) => 1,
                (true, true) if rule.of_gateway_api() => 2,
                (true, _) => 3,
            }
        };
        let mut visible: Vec<&Arc<VirtualServiceRule>> = self
            .virtual_services
            .iter()
            .filter(|rule| rule.export_to.shows(namespace))
            .collect();
        visible.sort_by_key(|rule| part(rule));
        visible
    }

    /// Whether endpoints can have priorities by their distance from the proxy: only where outliers
    /// are detected.
    pub(crate) fn look_at_locality(&self) -> bool {
        self.look_at_locality
    }

    /// Whether what a sidecar is told can depend on the labels of its pod.
    pub(crate) fn look_at_labels(&self) -> bool {
        self.look_at_labels
    }
}

/// The rules of `spec` with each delegation carried out; `None` if there is none. What cannot be
/// found, has hosts of its own or is not exported to `namespace` drops the rule.
fn with_delegates(
    objects: &Objects,
    spec: &VirtualService,
    namespace: &Name,
    exports: &DefaultExports,
) -> Option<Vec<HttpRoute>> {
    let delegates = |rule: &HttpRoute| matches!(rule.action, HttpAction::Delegate { .. });
    if !spec.http.iter().any(delegates) {
        return None;
    }
    let mut rules = Vec::new();
    for rule in &spec.http {
        let HttpAction::Delegate {
            name,
            namespace: of,
        } = &rule.action
        else {
            rules.push(rule.clone());
            continue;
        };
        let of = of.as_ref().unwrap_or(namespace);
        if let Some(Body::VirtualService(child)) = objects.virtual_service(of, &name.text)
            && child.hosts.is_empty()
            && child
                .export_to
                .or(&exports.virtual_services, of)
                .shows(namespace)
        {
            rules.extend(delegated(rule, child, of));
        }
    }
    Some(rules)
}

fn spec_of(sidecar: &Object) -> &Sidecar {
    match &sidecar.body {
        Body::Sidecar(spec) => spec,
        _ => unreachable!("only Sidecars are among them"),
    }
}

fn filter_of(object: &Object) -> &EnvoyFilter {
    match &object.body {
        Body::EnvoyFilter(filter) => filter,
        _ => unreachable!("only EnvoyFilters are among them"),
    }
}

fn order(object: &Object) -> (Age, Name, Name) {
    let reference = &object.reference;
    (
        object.age.clone(),
        reference.name.clone(),
        reference.namespace.clone(),
    )
}
