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
    /// PeerAuthentications, oldest first, each with its namespace.
    policies: Vec<(Name, PeerAuthentication)>,
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

    pub(crate) fn add(&mut self, namespace: &Name, policy: &PeerAuthentication) {
        self.policies.push((namespace.clone(), policy.clone()));
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
        let of = |namespace: &str| {
            let mut policies = self.policies.iter();
            let whole = policies.find(|(of, p)| **of == *namespace && p.selector.is_empty());
            whole.and_then(|(_, policy)| policy.mode)
        };
        of(namespace)
            .or_else(|| of(&self.root))
            .unwrap_or(MutualTls::Permissive)
    }

    /// The policy that selects a workload.
    fn of_workload(&self, namespace: &str, labels: &Labels) -> Option<&PeerAuthentication> {
        let mut policies = self.policies.iter();
        let found = policies.find(|(of, policy)| {
            **of == *namespace
                && *namespace != *self.root
                && !policy.selector.is_empty()
                && has_labels(labels, &policy.selector)
        });
        found.map(|(_, policy)| policy)
    }

    /// Of one port of a workload; `None` is any port without settings of its own.
    pub(crate) fn of_port(&self, namespace: &str, labels: &Labels, port: Option<u16>) -> MutualTls {
        let policy = self.of_workload(namespace, labels);
        let of_port = policy.and_then(|policy| {
            let mut ports = policy.ports.iter();
            ports.find(|(number, _)| Some(*number) == port)?.1
        });
        of_port
            .or_else(|| policy.and_then(|policy| policy.mode))
            .unwrap_or_else(|| self.of_namespace(namespace))
    }

    /// The ports of a workload with settings of their own.
    pub(crate) fn ports(&self, namespace: &str, labels: &Labels) -> Vec<u16> {
        let policy = self.of_workload(namespace, labels);
        let ports = policy.iter().flat_map(|policy| &policy.ports);
        ports.map(|(port, _)| *port).collect()
    }
}
