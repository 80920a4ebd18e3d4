//! What analyzers look at, and where they say what they find.

use super::{Selection, Settings};
use crate::documents::{
    CONFIG_MAP, DAEMON_SET, DEPLOYMENT, Document, Documents, Kind, POD, STATEFUL_SET,
};
use crate::read::{entries, text, value_of};
use source::node::Entry;
use source::{Diagnostic, Dialect, Node, SourceFile, parse};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Namespaces that Istio does not look into.
const IGNORED_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// The namespace that Istio is installed in.
pub(super) const ISTIO_NAMESPACE: &str = "istio-system";

/// The ingress gateway that Istio is installed with: files are not expected to hold it.
const INGRESS_GATEWAY: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: ingress-gateway
  namespace: istio-system
  labels: {istio: ingressgateway}
spec:
  containers: [{name: istio-proxy}]
---
apiVersion: v1
kind: Service
metadata:
  name: ingress-gateway
  namespace: istio-system
spec:
  selector: {istio: ingressgateway}
  ports:
  - {name: http2, port: 80, protocol: TCP, targetPort: 80}
  - {name: https, port: 443, protocol: TCP, targetPort: 443}
  - {name: tcp, port: 31400, protocol: TCP, targetPort: 31400}
  - {name: tls, port: 15443, protocol: TCP, targetPort: 15443}
";

/// Objects and settings of the mesh.
pub(super) struct Input<'a> {
    documents: &'a Documents,
    /// What Istio is installed with.
    installed: Documents,
    mesh_config: Option<Cow<'a, Node>>,
    pub(super) mesh_networks: Option<Cow<'a, Node>>,
    /// Whether what is not among the objects is nowhere.
    complete: bool,
}

/// A pod, or the pods that a workload makes.
#[derive(Clone, Copy)]
pub(super) struct Pods<'n> {
    pub(super) namespace: &'n str,
    pub(super) labels: &'n [Entry],
    /// The pod, or the template of the workload.
    pub(super) node: &'n Node,
}

/// Kinds of workloads that make pods.
const WORKLOADS: [Kind; 3] = [DEPLOYMENT, STATEFUL_SET, DAEMON_SET];

impl<'a> Input<'a> {
    pub(super) fn new(documents: &'a Documents, settings: &Settings<'a>) -> Input<'a> {
        let of_map = |key| of_config_map(documents, key).map(Cow::Owned);
        let given = settings.mesh_config.map(Cow::Borrowed);
        let networks = settings.mesh_networks.map(Cow::Borrowed);
        let mut input = Input {
            documents,
            installed: Documents::default(),
            mesh_config: given.or_else(|| of_map("mesh")),
            mesh_networks: networks.or_else(|| of_map("meshNetworks")),
            complete: settings.analyzers != Selection::Automatic,
        };
        if input.mesh_text(&["ingressControllerMode"]) != "OFF" {
            let service = match input.mesh_text(&["ingressService"]) {
                "" => "istio-ingressgateway",
                name => name,
            };
            let written = INGRESS_GATEWAY.replace("ingress-gateway", service);
            let file = SourceFile::new("Istio's own ingress gateway", &written);
            input.installed = Documents::read(&file, &mut Vec::new());
        }
        input
    }

    /// The objects of a kind, by namespace and name.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Document> {
        let installed = self.installed.of(kind).filter(move |document| {
            let own = self
                .documents
                .find(kind, &document.namespace, &document.name);
            own.is_none()
        });
        let all = self.documents.of(kind).chain(installed);
        all.filter(|document| is_looked_at(document))
    }

    /// The object of that name.
    pub(super) fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Document> {
        let own = self.documents.find(kind, namespace, name);
        own.or_else(|| self.installed.find(kind, namespace, name))
            .filter(|document| is_looked_at(document))
    }

    /// The pods that there are, and those that workloads will make.
    pub(super) fn pods(&self) -> impl Iterator<Item = Pods<'_>> {
        let made = WORKLOADS.into_iter().flat_map(|kind| self.of(kind));
        let made = made.filter_map(|workload| {
            let template = workload.node.at(&["spec", "template"])?;
            Some((workload, template))
        });
        let there = self.of(POD).map(|pod| (pod, &pod.node));
        there.chain(made).map(|(document, node)| Pods {
            namespace: &document.namespace,
            labels: entries(node, &["metadata", "labels"]),
            node,
        })
    }

    /// Whether the objects tell if one of this kind is missing.
    pub(super) fn knows(&self, kind: Kind) -> bool {
        self.complete || self.documents.has(kind)
    }

    /// Whether the objects tell if pods are missing.
    pub(super) fn knows_pods(&self) -> bool {
        self.knows(POD) || WORKLOADS.into_iter().any(|kind| self.knows(kind))
    }

    /// Whether the objects were taken from a running cluster.
    pub(super) fn is_of_cluster(&self) -> bool {
        let mut pods = self.documents.of(POD);
        pods.any(|pod| !text(&pod.node, &["status", "podIP"]).is_empty())
    }

    /// A scalar of the MeshConfig; empty if it is not set.
    pub(super) fn mesh_text(&self, path: &[&str]) -> &str {
        self.mesh_config
            .as_ref()
            .map_or("", |mesh| text(mesh, path))
    }

    /// The items of a list of the MeshConfig.
    pub(super) fn mesh_items(&self, path: &[&str]) -> &[Node] {
        let mesh = self.mesh_config.as_ref();
        mesh.map_or(&[], |mesh| crate::read::items(mesh, path))
    }

    /// The entries of a map of the MeshConfig.
    pub(super) fn mesh_entries(&self, path: &[&str]) -> &[Entry] {
        let mesh = self.mesh_config.as_ref();
        mesh.map_or(&[], |mesh| entries(mesh, path))
    }

    /// The namespace whose policies are the mesh's.
    pub(super) fn root_namespace(&self) -> &str {
        match self.mesh_text(&["rootNamespace"]) {
            "" => ISTIO_NAMESPACE,
            namespace => namespace,
        }
    }
}

fn is_looked_at(document: &Document) -> bool {
    let namespace = match document.namespace.as_str() {
        "" => &document.name,
        namespace => namespace,
    };
    !IGNORED_NAMESPACES.contains(&namespace)
}

/// A document of the ConfigMap that istiod reads.
fn of_config_map(documents: &Documents, key: &str) -> Option<Node> {
    let map = documents.find(CONFIG_MAP, ISTIO_NAMESPACE, "istio")?;
    let written = value_of(entries(&map.node, &["data"]), key)?;
    let name = format!("{} (data.{key})", map.node.span.file.name);
    let (read, _) = parse(&SourceFile::new(&name, written), Dialect::Kubernetes);
    read.into_iter().next()
}

/// Where messages go.
pub(super) struct Report<'d> {
    diagnostics: &'d mut Vec<Diagnostic>,
    /// Object, message, file and line.
    said: BTreeSet<(String, String, (String, u32))>,
}

impl<'d> Report<'d> {
    pub(super) fn new(diagnostics: &'d mut Vec<Diagnostic>) -> Report<'d> {
        Report {
            diagnostics,
            said: BTreeSet::new(),
        }
    }

    /// Says something about an object, once for each line that it points at.
    pub(super) fn say(&mut self, about: &Document, diagnostic: Diagnostic) {
        let place = diagnostic.span.as_ref();
        let place = place.map_or((String::new(), 0), |span| {
            (span.file.name.to_string(), span.line())
        });
        self.add(about.resource(), place, diagnostic);
    }

    /// The same, once wherever it points.
    pub(super) fn say_once(&mut self, about: &Document, diagnostic: Diagnostic) {
        self.say_once_of(about.resource(), diagnostic);
    }

    /// The same of what is no object of the input.
    pub(super) fn say_once_of(&mut self, resource: String, diagnostic: Diagnostic) {
        self.add(resource, (String::new(), 0), diagnostic);
    }

    fn add(&mut self, resource: String, place: (String, u32), mut diagnostic: Diagnostic) {
        let message = diagnostic.message.clone();
        if self.said.insert((resource.clone(), message, place)) {
            diagnostic.resource = Some(resource);
            self.diagnostics.push(diagnostic);
        }
    }
}
