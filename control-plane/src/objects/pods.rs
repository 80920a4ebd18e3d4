//! The pods of a cluster: those that are listed, and those that its workloads have.

use super::{ObjectRef, Objects};
use crate::injection::{Injector, NamespaceFacts};
use crate::kubernetes::{PodObject, Replicas};
use crate::model::{Pod, Workload, pod_address, says_mutual_tls, stated_locality};
use crate::object::Body;
use proxy_core::xds::Name;
use std::collections::BTreeSet;

impl Objects {
    /// What a namespace says of injection.
    fn injection(&self, namespace: &str) -> NamespaceFacts {
        let known = self.find("Namespace", "", namespace);
        let labels = known.map_or(&[][..], |object| &object.labels[..]);
        NamespaceFacts::of(namespace, labels)
    }

    /// Where each Node that is listed is.
    pub fn nodes(&self) -> Vec<Name> {
        let nodes = self.of_kind("Node");
        let locality = |body: &Body| match body {
            Body::Node(locality) => Some(locality.clone()),
            _ => None,
        };
        nodes.filter_map(|object| locality(&object.body)).collect()
    }

    /// The Deployments, StatefulSets and DaemonSets, by kind, namespace and name.
    pub fn deployments(&self) -> Vec<Workload> {
        let nodes = self.nodes();
        let trust_domain = self.mesh_config().trust_domain;
        let injector = Injector::of_rehearsals();
        let mut workloads: Vec<Workload> = self
            .iter()
            .filter_map(|object| match &object.body {
                Body::Deployment(deployment) => Some((&object.reference, deployment)),
                _ => None,
            })
            .map(|(reference, deployment)| {
                let template = &deployment.template;
                let (replicas, node_localities) = match deployment.replicas {
                    Replicas::Stated(replicas) => (replicas, Vec::new()),
                    Replicas::PerNode => (nodes.len().max(1) as u32, nodes.clone()),
                };
                Workload {
                    namespace: reference.namespace.clone(),
                    name: reference.name.clone(),
                    replicas,
                    labels: template.labels.clone(),
                    service_account: template.service_account.clone(),
                    trust_domain: trust_domain.clone(),
                    proxy: injector
                        .decide(&template.facts, &self.injection(&reference.namespace))
                        .0,
                    container_ports: template.container_ports.clone(),
                    locality: template.locality.clone(),
                    node_localities,
                }
            })
            .collect();
        workloads.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        workloads
    }

    /// The pods listed, and those of the Deployments none of whose pods are, by namespace and name; no
    /// two have the same address.
    pub fn pods(&self) -> Vec<Pod> {
        let mut pods: Vec<Pod> = Vec::new();
        let trust_domain = self.mesh_config().trust_domain;
        let mut taken = BTreeSet::new();
        let mut owners = BTreeSet::new();
        for object in self.iter() {
            if let Body::Pod(pod) = &object.body {
                let reference = &object.reference;
                let owner = pod.owner.clone();
                owners.extend(owner.map(|owner| (reference.namespace.clone(), owner)));
                if pod.finished {
                    continue;
                }
                pods.push(self.listed_pod(reference, pod, &trust_domain));
                taken.extend(pod.ip);
            }
        }
        let listed = pods.len();
        let named = |workload: &Workload| (workload.namespace.clone(), workload.name.clone());
        let unlisted = |workload: &Workload| !owners.contains(&named(workload));
        for workload in self.deployments().into_iter().filter(unlisted) {
            pods.extend((0..workload.replicas).map(|ordinal| workload.pod(ordinal)));
        }
        for pod in &mut pods[listed..] {
            let seed = format!("{}/{}/{}", pod.namespace, pod.workload, pod.ordinal);
            let mut attempt = 0;
            while !taken.insert(pod.ip) {
                attempt += 1;
                pod.ip = pod_address(&seed, attempt);
            }
        }
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        pods
    }

    fn listed_pod(&self, reference: &ObjectRef, pod: &PodObject, trust_domain: &Name) -> Pod {
        let template = &pod.template;
        let (workload, ordinal) = match (&pod.owner, reference.name.rsplit_once('-')) {
            (Some(owner), None) => (owner.clone(), 0),
            (Some(owner), Some((_, ordinal))) => (owner.clone(), ordinal.parse().unwrap_or(0)),
            (None, Some((workload, ordinal))) => match ordinal.parse() {
                Ok(ordinal) => (workload.into(), ordinal),
                Err(_) => (reference.name.clone(), 0),
            },
            (None, None) => (reference.name.clone(), 0),
        };
        let found = || match &template.node {
            Some(node) => self.node_locality(node),
            None => template.locality.clone(),
        };
        // An injected pod says so; without that, what its template says is what the cluster did.
        let injected = says_mutual_tls(&template.labels);
        let namespace = NamespaceFacts {
            injection: Some(if injected { "enabled" } else { "disabled" }.into()),
            ..NamespaceFacts::default()
        };
        let injector = Injector::of_rehearsals();
        let proxy = match injector.decide(&template.facts, &namespace).0 {
            crate::ProxyKind::None if injected => crate::ProxyKind::Sidecar,
            proxy => proxy,
        };
        let seed = format!("{}/{}", reference.namespace, reference.name);
        Pod {
            namespace: reference.namespace.clone(),
            name: reference.name.clone(),
            workload,
            ordinal,
            labels: template.labels.clone(),
            ip: pod.ip.unwrap_or_else(|| pod_address(&seed, 0)),
            container_ports: template.container_ports.clone(),
            locality: stated_locality(&template.labels).unwrap_or_else(found),
            service_account: template.service_account.clone(),
            trust_domain: trust_domain.clone(),
            proxy,
            node_proxy: None,
            ready: pod.ready,
            terminating: pod.terminating,
        }
    }

    /// The locality of a node; empty if unknown.
    pub(crate) fn node_locality(&self, node: &Name) -> Name {
        match self.find("Node", "", node).map(|object| &object.body) {
            Some(Body::Node(locality)) => locality.clone(),
            _ => "".into(),
        }
    }
}
