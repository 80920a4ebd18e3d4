//! The rules of a configuration, in the order in which Istio considers them, and which of them hold
//! for whom.

use crate::authentication::Authentication;
use crate::authorization::Authorization;
use crate::config::{
    DestinationRule, ExportTo, Gateway, HttpAction, HttpRoute, Labels, Semantics, Sidecar, Subset,
    TrafficPolicy, VirtualService, delegated, has_labels,
};
use crate::ingress;
use crate::names::{by_specificity, full_name, gateway_name, is_wildcard, is_within};
use crate::object::{Age, Body, Object};
use crate::objects::Objects;
use crate::registry::Service;
use proxy_core::xds::{ConfigRef, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where rules for everybody live.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// A VirtualService with its names resolved.
#[derive(Clone, Debug)]
pub(crate) struct VirtualServiceRule {
    object: Arc<Object>,
    /// Its HTTP rules with those it delegates to, if it does.
    delegated: Option<Vec<HttpRoute>>,
    pub(crate) hosts: Vec<Name>,
    /// `mesh`, `NAMESPACE/NAME`.
    pub(crate) gateways: Vec<Name>,
}

/// A Gateway.
#[derive(Clone, Debug)]
pub(crate) struct GatewayRule {
    object: Arc<Object>,
    /// `NAMESPACE/NAME`.
    pub(crate) id: Name,
}

/// DestinationRules of one host and namespace, merged.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) policy: Option<TrafficPolicy>,
    pub(crate) subsets: Vec<Subset>,
    pub(crate) export_to: ExportTo,
    pub(crate) selector: Option<Labels>,
    pub(crate) origin: ConfigRef,
}

/// All rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// Oldest first.
    pub(crate) virtual_services: Vec<Arc<VirtualServiceRule>>,
    pub(crate) gateways: Vec<GatewayRule>,
    pub(crate) authentication: Authentication,
    /// With a selector first, oldest first in each part.
    sidecars: Vec<Arc<Object>>,
    pub(crate) authorization: Authorization,
    /// By namespace, then host.
    policies: BTreeMap<Name, PoliciesOfNamespace>,
}

#[derive(Clone, Debug, Default)]
struct PoliciesOfNamespace {
    by_host: BTreeMap<Name, Vec<Arc<Policy>>>,
    /// Most specific first.
    wildcards: Vec<Name>,
}

impl VirtualServiceRule {
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

    pub(crate) fn namespace(&self) -> &Name {
        &self.object.reference.namespace
    }

    /// Made from a route of the Gateway API.
    pub(crate) fn of_gateway_api(&self) -> bool {
        self.spec().semantics != Semantics::Istio
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
        let mut rules = Rules::default();
        for object in sorted {
            let namespace = &object.reference.namespace;
            match &object.body {
                Body::VirtualService(spec) => {
                    let gateway = |name: &Name| gateway_name(name, namespace);
                    let gateways: Vec<Name> = spec
                        .gateways
                        .iter()
                        .map(|name| gateway(&name.text))
                        .collect();
                    rules.virtual_services.push(Arc::new(VirtualServiceRule {
                        delegated: with_delegates(objects, spec, namespace),
                        object: Arc::clone(object),
                        hosts: spec
                            .hosts
                            .iter()
                            .map(|host| full_name(&host.text, namespace))
                            .collect(),
                        gateways: match gateways.is_empty() {
                            true => vec!["mesh".into()],
                            false => gateways,
                        },
                    }));
                }
                Body::Gateway(_) => rules.gateways.push(GatewayRule {
                    object: Arc::clone(object),
                    id: format!("{namespace}/{}", object.reference.name).into(),
                }),
                Body::PeerAuthentication(policy) => rules.authentication.add(namespace, policy),
                Body::AuthorizationPolicy(_) => rules.authorization.add(object),
                Body::RequestAuthentication(_) => rules.authentication.add_tokens(object),
                Body::DestinationRule(rule) => rules.add_policy(object, rule),
                Body::Sidecar(_) => rules.sidecars.push(Arc::clone(object)),
                _ => {}
            }
        }
        rules
            .sidecars
            .sort_by_key(|object| spec_of(object).selector.is_none());
        for policies in rules.policies.values_mut() {
            let hosts = policies.by_host.keys().filter(|host| is_wildcard(host));
            policies.wildcards = hosts.cloned().collect();
            policies.wildcards.sort_by(|a, b| by_specificity(a, b));
        }
        rules
    }

    fn add_policy(&mut self, object: &Object, rule: &DestinationRule) {
        let namespace = &object.reference.namespace;
        let host = full_name(&rule.host.text, namespace);
        let of_namespace = self.policies.entry(namespace.clone()).or_default();
        let list = of_namespace.by_host.entry(host).or_default();
        let same = list.iter_mut().find(|older| {
            older.selector == rule.workload_selector && includes(&rule.export_to, &older.export_to)
        });
        match same {
            Some(older) => {
                let older = Arc::make_mut(older);
                if older.policy.is_none() {
                    older.policy.clone_from(&rule.policy);
                }
                for subset in &rule.subsets {
                    if !older.subsets.iter().any(|s| s.name == subset.name) {
                        older.subsets.push(subset.clone());
                    }
                }
            }
            None => list.push(Arc::new(Policy {
                policy: rule.policy.clone(),
                subsets: rule.subsets.clone(),
                export_to: rule.export_to.clone(),
                selector: rule.workload_selector.clone(),
                origin: object.origin(),
            })),
        }
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
        of(namespace, false).or_else(|| of(ROOT_NAMESPACE, true))
    }

    /// The one that [`Rules::sidecar_for`] found.
    pub(crate) fn sidecar(&self, at: usize) -> &Sidecar {
        spec_of(&self.sidecars[at])
    }

    /// Where that one stands.
    pub(crate) fn sidecar_origin(&self, at: usize) -> ConfigRef {
        self.sidecars[at].origin()
    }

    /// The VirtualServices visible in `namespace`: private ones, those exported to it by name, those
    /// of everybody, among which its own of the Gateway API come first; oldest first in each part.
    pub(crate) fn virtual_services_for(&self, namespace: &str) -> Vec<&Arc<VirtualServiceRule>> {
        let part = |rule: &VirtualServiceRule| match &rule.spec().export_to {
            ExportTo::Everyone if rule.of_gateway_api() && **rule.namespace() == *namespace => 2,
            ExportTo::Everyone => 3,
            ExportTo::Namespaces(names) => {
                let private = *names == [rule.namespace().clone()];
                u8::from(!(private && **rule.namespace() == *namespace))
            }
        };
        let mut visible: Vec<&Arc<VirtualServiceRule>> = self
            .virtual_services
            .iter()
            .filter(|rule| rule.spec().export_to.shows(namespace))
            .collect();
        visible.sort_by_key(|rule| part(rule));
        visible
    }

    /// The policy that holds for clients with `labels` in `namespace` towards `service`: of their
    /// own namespace, else of the service's, else of the root namespace.
    pub(crate) fn policy_for(
        &self,
        namespace: &str,
        labels: &[(Name, Name)],
        service: &Service,
    ) -> Option<&Arc<Policy>> {
        let exported = |policy: &Policy| policy.export_to.shows(namespace);
        let others = |policy: &Policy| exported(policy) && policy.selector.is_none();
        if namespace != ROOT_NAMESPACE
            && let Some(found) = self.policies_in(namespace, &service.host, exported)
        {
            // The most specific host decides, even if its rules are for other pods only.
            let selected = found.iter().find(|policy| {
                let wanted = policy.selector.as_ref();
                exported(policy) && wanted.is_some_and(|wanted| has_labels(labels, wanted))
            });
            return selected.or_else(|| found.iter().rev().find(|policy| others(policy)));
        }
        [&*service.namespace, ROOT_NAMESPACE]
            .into_iter()
            .find_map(|of| self.policies_in(of, &service.host, others))
            .and_then(|found| found.iter().rev().find(|policy| others(policy)))
    }

    /// The policies of the most specific host of a namespace that has a visible one.
    fn policies_in(
        &self,
        namespace: &str,
        host: &Name,
        visible: impl Fn(&Policy) -> bool,
    ) -> Option<&[Arc<Policy>]> {
        let of_namespace = self.policies.get(namespace)?;
        let wildcards = of_namespace.wildcards.iter();
        let wildcards = wildcards.filter(|pattern| is_within(host, pattern));
        std::iter::once(host)
            .chain(wildcards)
            .filter_map(|host| of_namespace.by_host.get(host))
            .find(|list| list.iter().any(|policy| visible(policy)))
            .map(Vec::as_slice)
    }

    /// Whether endpoints can have priorities by their distance from the proxy: only where outliers
    /// are detected.
    pub(crate) fn look_at_locality(&self) -> bool {
        self.any_blocks(|blocks| blocks.outlier_detection.is_some() || blocks.locality.is_some())
    }

    /// Whether the blocks of any level of any policy are such.
    fn any_blocks(&self, such: impl Fn(&TrafficPolicy) -> bool) -> bool {
        let policies = self.policies.values();
        let mut policies =
            policies.flat_map(|of_namespace| of_namespace.by_host.values().flatten());
        policies.any(|rule| {
            let subsets = rule.subsets.iter().filter_map(|s| s.policy.as_ref());
            rule.policy.iter().chain(subsets).any(|policy| {
                let at_ports = policy.port_level.iter().map(|(_, blocks)| blocks);
                std::iter::once(policy).chain(at_ports).any(&such)
            })
        })
    }

    /// Whether what a sidecar is told can depend on the labels of its pod.
    pub(crate) fn look_at_labels(&self) -> bool {
        let selects = self.policies.values().any(|of_namespace| {
            let mut policies = of_namespace.by_host.values().flatten();
            policies.any(|policy| policy.selector.is_some())
        });
        let fails_over_by_label = |blocks: &TrafficPolicy| {
            let setting = blocks.locality.as_ref();
            setting.is_some_and(|setting| !setting.failover_priority.is_empty())
        };
        selects
            || self.any_blocks(fails_over_by_label)
            || self.virtual_services.iter().any(|rule| {
                let spec = rule.spec();
                let http = rule.http().iter().flat_map(|http| &http.matches);
                let l4 = spec.tls.iter().chain(&spec.tcp);
                http.map(|m| &m.statics)
                    .chain(l4.flat_map(|l4| l4.matches.iter().map(|m| &m.statics)))
                    .any(|statics| !statics.source_labels.is_empty())
            })
    }
}

/// The rules of `spec` with each delegation carried out; `None` if there is none. What cannot be
/// found, has hosts of its own or is not exported to `namespace` drops the rule.
fn with_delegates(
    objects: &Objects,
    spec: &VirtualService,
    namespace: &Name,
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
            && child.export_to.shows(namespace)
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

fn order(object: &Object) -> (Age, Name, Name) {
    let reference = &object.reference;
    (
        object.age.clone(),
        reference.name.clone(),
        reference.namespace.clone(),
    )
}

/// Whether `newer` shows an object to everybody that `older` shows it to.
fn includes(newer: &ExportTo, older: &ExportTo) -> bool {
    match (newer, older) {
        (ExportTo::Everyone, ExportTo::Everyone) => true,
        (ExportTo::Namespaces(newer), ExportTo::Namespaces(older)) => {
            older.iter().all(|name| newer.contains(name))
        }
        _ => false,
    }
}
