//! DestinationRules, and which of them holds for whom.

use crate::config::{
    DestinationRule, ExportTo, Labels, LoadBalancer, MeshConfig, Subset, TrafficPolicy, has_labels,
};
use crate::names::{by_specificity, full_name, is_wildcard, is_within};
use crate::object::{Body, Object};
use crate::registry::Service;
use proxy_core::xds::{ConfigRef, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// DestinationRules of one host and namespace, merged.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Policy {
    pub(crate) policy: Option<TrafficPolicy>,
    pub(crate) subsets: Vec<Subset>,
    pub(crate) export_to: ExportTo,
    pub(crate) selector: Option<Labels>,
    pub(crate) origin: ConfigRef,
}

impl Policy {
    /// The blocks of every level.
    fn blocks(&self) -> impl Iterator<Item = &TrafficPolicy> {
        let subsets = self.subsets.iter().filter_map(|s| s.policy.as_ref());
        let levels = self.policy.iter().chain(subsets);
        levels.flat_map(|level| {
            let at_ports = level.port_level.iter().map(|(_, blocks)| blocks);
            std::iter::once(level).chain(at_ports)
        })
    }

    /// Whether the balancer of some level hashes requests.
    pub(crate) fn hashes(&self) -> bool {
        let hashes = |balancer: &LoadBalancer| matches!(balancer, LoadBalancer::ConsistentHash(_));
        let mut blocks = self.blocks();
        blocks.any(|blocks| blocks.load_balancer.as_ref().is_some_and(hashes))
    }
}

/// All DestinationRules, by namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct Policies {
    /// The root namespace.
    root: Name,
    /// Those that do not say whom they are for are for their own namespace.
    private: bool,
    by_namespace: BTreeMap<Name, Arc<PoliciesOfNamespace>>,
}

#[derive(Clone, Debug, Default)]
struct PoliciesOfNamespace {
    by_host: BTreeMap<Name, Vec<Arc<Policy>>>,
    /// Most specific first.
    wildcards: Vec<Name>,
}

impl Policies {
    pub(crate) fn new(mesh: &MeshConfig) -> Policies {
        Policies {
            root: mesh.root_namespace.clone(),
            // Of the other defaults Istio makes nothing.
            private: mesh.exports.destination_rules.iter().any(|of| &**of == "."),
            by_namespace: BTreeMap::new(),
        }
    }

    /// Adds a rule that is younger than all before.
    pub(crate) fn add(&mut self, object: &Object, rule: &DestinationRule) {
        let namespace = object.reference.namespace.clone();
        let of_namespace = self.by_namespace.entry(namespace).or_default();
        Arc::make_mut(of_namespace).add(object, rule, self.private);
    }

    /// To be done when all are added.
    pub(crate) fn index_wildcards(&mut self) {
        for of_namespace in self.by_namespace.values_mut() {
            Arc::make_mut(of_namespace).index_wildcards();
        }
    }

    /// Takes the rules of `namespace` from `objects`, oldest first. Policies that stay as they are
    /// stay shared.
    pub(crate) fn renew(&mut self, namespace: &Name, objects: &[&Arc<Object>]) {
        let mut renewed = PoliciesOfNamespace::default();
        for object in objects {
            if let Body::DestinationRule(rule) = &object.body {
                renewed.add(object, rule, self.private);
            }
        }
        renewed.index_wildcards();
        if let Some(old) = self.by_namespace.get(namespace) {
            for (host, policies) in &mut renewed.by_host {
                let old = old.by_host.get(host).map_or(&[][..], Vec::as_slice);
                for policy in policies {
                    if let Some(same) = old.iter().find(|old| *old == policy) {
                        *policy = Arc::clone(same);
                    }
                }
            }
        }
        match renewed.by_host.is_empty() {
            true => self.by_namespace.remove(namespace),
            false => self
                .by_namespace
                .insert(namespace.clone(), Arc::new(renewed)),
        };
    }

    /// The policy that holds for clients with `labels` in `namespace` towards `service`: of their
    /// own namespace, else of the service's, else of the root namespace.
    pub(crate) fn of(
        &self,
        namespace: &str,
        labels: &[(Name, Name)],
        service: &Service,
    ) -> Option<&Arc<Policy>> {
        let exported = |policy: &Policy| policy.export_to.shows(namespace);
        let others = |policy: &Policy| exported(policy) && policy.selector.is_none();
        if *namespace != *self.root
            && let Some(found) = self.policies_in(namespace, &service.host, exported)
        {
            // The most specific host decides, even if its rules are for other pods only.
            let selected = found.iter().find(|policy| {
                let wanted = policy.selector.as_ref();
                exported(policy) && wanted.is_some_and(|wanted| has_labels(labels, wanted))
            });
            return selected.or_else(|| found.iter().rev().find(|policy| others(policy)));
        }
        [&*service.namespace, &*self.root]
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
        let of_namespace = self.by_namespace.get(namespace)?;
        let wildcards = of_namespace.wildcards.iter();
        let wildcards = wildcards.filter(|pattern| is_within(host, pattern));
        std::iter::once(host)
            .chain(wildcards)
            .filter_map(|host| of_namespace.by_host.get(host))
            .find(|list| list.iter().any(|policy| visible(policy)))
            .map(Vec::as_slice)
    }

    /// Whether the blocks of any level of any policy are such.
    pub(crate) fn any_blocks(&self, such: impl Fn(&TrafficPolicy) -> bool) -> bool {
        self.iter().any(|policy| policy.blocks().any(&such))
    }

    /// Whether some rule is for pods with certain labels.
    pub(crate) fn any_selects(&self) -> bool {
        self.iter().any(|policy| policy.selector.is_some())
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Policy>> {
        let namespaces = self.by_namespace.values();
        namespaces.flat_map(|of_namespace| of_namespace.by_host.values().flatten())
    }
}

impl PoliciesOfNamespace {
    fn add(&mut self, object: &Object, rule: &DestinationRule, private: bool) {
        let namespace = &object.reference.namespace;
        let default = match private {
            true => &[".".into()][..],
            false => &[],
        };
        let export_to = rule.export_to.or(default, namespace);
        let host = full_name(&rule.host.text, namespace);
        let list = self.by_host.entry(host).or_default();
        let same = list.iter_mut().find(|older| {
            older.selector == rule.workload_selector && includes(&export_to, &older.export_to)
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
                export_to,
                selector: rule.workload_selector.clone(),
                origin: object.origin(),
            })),
        }
    }

    fn index_wildcards(&mut self) {
        let hosts = self.by_host.keys().filter(|host| is_wildcard(host));
        self.wildcards = hosts.cloned().collect();
        self.wildcards.sort_by(|a, b| by_specificity(a, b));
    }
}

/// Whether `newer` shows an object to everybody that `older` shows it to.
fn includes(newer: &ExportTo, older: &ExportTo) -> bool {
    match (newer, older) {
        (ExportTo::Unstated, ExportTo::Unstated) | (ExportTo::Everyone, ExportTo::Everyone) => true,
        (ExportTo::Namespaces(newer), ExportTo::Namespaces(older)) => {
            older.iter().all(|name| newer.contains(name))
        }
        _ => false,
    }
}
