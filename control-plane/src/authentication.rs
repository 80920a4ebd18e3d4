//! Which mutual TLS and whose tokens a workload accepts (Istio
//! `pilot/pkg/security/authn/policy_applier.go`).

use crate::config::{Labels, MeshConfig, MutualTls, PeerAuthentication, has_labels};
use crate::object::{Body, Object};
use proxy_core::xds::{ConfigRef, JwtProvider, Name};
use std::sync::Arc;

/// All authentication policies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Authentication {
    /// The root namespace.
    root: Name,
    /// PeerAuthentications, oldest first, each with its place.
    policies: Vec<(ConfigRef, PeerAuthentication)>,
    /// RequestAuthentications, oldest first.
    tokens: Vec<Arc<Object>>,
}

impl Authentication {
    pub(crate) fn new(mesh: &MeshConfig) -> Authentication {
        Authentication {
            root: mesh.root_namespace.clone(),
            ..Authentication::default()
        }
    }

    pub(crate) fn add(&mut self, object: &Object, policy: &PeerAuthentication) {
        self.policies.push((object.origin(), policy.clone()));
    }

    pub(crate) fn add_tokens(&mut self, object: &Arc<Object>) {
        self.tokens.push(Arc::clone(object));
    }

    /// The JWT filter before a workload, of all policies for it; sorted by issuer. `None`: nobody
    /// looks at tokens.
    pub(crate) fn jwt(&self, namespace: &str, labels: &Labels) -> Option<Vec<JwtProvider>> {
        let mut providers = Vec::new();
        for object in &self.tokens {
            let Body::RequestAuthentication(policy) = &object.body else {
                continue;
            };
            if policy
                .target
                .covers(&object.reference.namespace, &self.root, (namespace, labels))
            {
                providers.extend(policy.providers.iter().map(|(provider, line)| JwtProvider {
                    origin: Some(ConfigRef {
                        line: *line,
                        ..object.origin()
                    }),
                    ..provider.clone()
                }));
            }
        }
        providers.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        (!providers.is_empty()).then_some(providers)
    }

    /// Of a namespace as a whole: its own policy, else that of the root namespace.
    pub(crate) fn of_namespace(&self, namespace: &str) -> MutualTls {
        let stated = self.stated_for_namespace(namespace);
        stated.map_or(MutualTls::Permissive, |(mode, _)| mode)
    }

    fn stated_for_namespace(&self, namespace: &str) -> Option<(MutualTls, &ConfigRef)> {
        let of = |namespace: &str| {
            let mut policies = self.policies.iter();
            let whole =
                policies.find(|(of, p)| *of.namespace == *namespace && p.selector.is_empty());
            whole.and_then(|(origin, policy)| Some((policy.mode?, origin)))
        };
        of(namespace).or_else(|| of(&self.root))
    }

    /// The policy that selects a workload.
    fn of_workload(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Option<&(ConfigRef, PeerAuthentication)> {
        let mut policies = self.policies.iter();
        policies.find(|(origin, policy)| {
            *origin.namespace == *namespace
                && *namespace != *self.root
                && !policy.selector.is_empty()
                && has_labels(labels, &policy.selector)
        })
    }

    /// Of one port of a workload; `None` is any port without settings of its own.
    pub(crate) fn of_port(&self, namespace: &str, labels: &Labels, port: Option<u16>) -> MutualTls {
        let stated = self.stated_for_port(namespace, labels, port);
        stated.map_or(MutualTls::Permissive, |(mode, _)| mode)
    }

    /// The mode that a policy states for one port, and the policy.
    pub(crate) fn stated_for_port(
        &self,
        namespace: &str,
        labels: &Labels,
        port: Option<u16>,
    ) -> Option<(MutualTls, &ConfigRef)> {
        let own = self.of_workload(namespace, labels);
        let mode = own.and_then(|(_, policy)| {
            let mut ports = policy.ports.iter();
            let of_port = ports.find(|(number, _)| Some(*number) == port);
            of_port.and_then(|(_, mode)| *mode).or(policy.mode)
        });
        match (mode, own) {
            (Some(mode), Some((origin, _))) => Some((mode, origin)),
            _ => self.stated_for_namespace(namespace),
        }
    }

    /// The ports of a workload with settings of their own.
    pub(crate) fn ports(&self, namespace: &str, labels: &Labels) -> Vec<u16> {
        let policy = self.of_workload(namespace, labels);
        let ports = policy.iter().flat_map(|(_, policy)| &policy.ports);
        ports.map(|(port, _)| *port).collect()
    }
}
