//! Every object of the input as it was written: analyzers look at invalid objects, and at kinds that
//! do not run.

use crate::read::{entries, value_of};
use source::node::Entry;
use source::{Diagnostic, Dialect, Node, SourceFile, Span, each_document};
use std::collections::BTreeMap;
use std::sync::Arc;

/// API group and kind; the version does not matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// Empty for Kubernetes' core.
    pub group: &'static str,
    pub name: &'static str,
}

macro_rules! kinds {
    ($($constant:ident = $group:literal $name:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "` of `", $group, "`.")]
            pub const $constant: Kind = Kind { group: $group, name: $name };
        )*
        /// The kinds that analyzers look at.
        pub const KINDS: &[Kind] = &[$($constant),*];
    };
}

kinds! {
    VIRTUAL_SERVICE = "networking.istio.io" "VirtualService";
    DESTINATION_RULE = "networking.istio.io" "DestinationRule";
    GATEWAY = "networking.istio.io" "Gateway";
    SERVICE_ENTRY = "networking.istio.io" "ServiceEntry";
    SIDECAR = "networking.istio.io" "Sidecar";
    ENVOY_FILTER = "networking.istio.io" "EnvoyFilter";
    PROXY_CONFIG = "networking.istio.io" "ProxyConfig";
    WORKLOAD_ENTRY = "networking.istio.io" "WorkloadEntry";
    WORKLOAD_GROUP = "networking.istio.io" "WorkloadGroup";
    AUTHORIZATION_POLICY = "security.istio.io" "AuthorizationPolicy";
    PEER_AUTHENTICATION = "security.istio.io" "PeerAuthentication";
    REQUEST_AUTHENTICATION = "security.istio.io" "RequestAuthentication";
    TELEMETRY = "telemetry.istio.io" "Telemetry";
    WASM_PLUGIN = "extensions.istio.io" "WasmPlugin";
    TRAFFIC_EXTENSION = "extensions.istio.io" "TrafficExtension";
    KUBERNETES_GATEWAY = "gateway.networking.k8s.io" "Gateway";
    HTTP_ROUTE = "gateway.networking.k8s.io" "HTTPRoute";
    GRPC_ROUTE = "gateway.networking.k8s.io" "GRPCRoute";
    SERVICE = "" "Service";
    POD = "" "Pod";
    NAMESPACE = "" "Namespace";
    NODE = "" "Node";
    SECRET = "" "Secret";
    CONFIG_MAP = "" "ConfigMap";
    DEPLOYMENT = "apps" "Deployment";
    STATEFUL_SET = "apps" "StatefulSet";
    DAEMON_SET = "apps" "DaemonSet";
    MUTATING_WEBHOOK = "admissionregistration.k8s.io" "MutatingWebhookConfiguration";
    VALIDATING_WEBHOOK = "admissionregistration.k8s.io" "ValidatingWebhookConfiguration";
    CUSTOM_RESOURCE_DEFINITION = "apiextensions.k8s.io" "CustomResourceDefinition";
}

/// Kinds whose objects are in no namespace.
const CLUSTER_KINDS: [Kind; 5] = [
    NAMESPACE,
    NODE,
    MUTATING_WEBHOOK,
    VALIDATING_WEBHOOK,
    CUSTOM_RESOURCE_DEFINITION,
];

/// One object as it was written.
#[derive(Clone, Debug)]
pub struct Document {
    pub kind: Kind,
    /// `networking.istio.io/v1`.
    pub api_version: String,
    /// `default` where none is written; empty for kinds that are in none.
    pub namespace: String,
    pub name: String,
    pub node: Node,
}

impl Document {
    /// `Kind namespace/name`, or `Kind name`.
    pub fn resource(&self) -> String {
        match self.namespace.as_str() {
            "" => format!("{} {}", self.kind.name, self.name),
            namespace => format!("{} {namespace}/{}", self.kind.name, self.name),
        }
    }

    /// `namespace/name`, or `name`.
    pub fn full_name(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    /// The labels, as written.
    pub fn labels(&self) -> &[Entry] {
        entries(&self.node, &["metadata", "labels"])
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        value_of(self.labels(), key)
    }

    /// The annotations, as written.
    pub fn annotations(&self) -> &[Entry] {
        entries(&self.node, &["metadata", "annotations"])
    }

    /// The value of an annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        value_of(self.annotations(), key)
    }

    /// Where messages about the whole object point: its name.
    pub fn place(&self) -> &Span {
        let name = self.node.at(&["metadata", "name"]);
        &name.unwrap_or(&self.node).span
    }
}

/// All objects of the input, by kind; of objects with one name the last.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    all: Vec<Document>,
    /// Places in `all`, by namespace and name.
    by_kind: BTreeMap<Kind, BTreeMap<(String, String), usize>>,
}

impl Documents {
    /// Every object of every document of `file` (`kind: List` opened up). What is malformed is
    /// reported.
    pub fn read(file: &Arc<SourceFile>, diagnostics: &mut Vec<Diagnostic>) -> Documents {
        let mut documents = Documents::default();
        each_document(file, Dialect::Kubernetes, diagnostics, |node, _| {
            documents.add(&node);
        });
        documents
    }

    /// Adds the objects of a parsed document. What has no name, or is of a kind that no analyzer looks
    /// at, is passed over.
    pub fn add(&mut self, node: &Node) {
        let text = |path: &[&str]| node.at(path).and_then(Node::as_scalar);
        let written = text(&["kind"]).unwrap_or_default();
        if written == "List" {
            let items = node.at(&["items"]).and_then(Node::as_seq);
            for item in items.unwrap_or_default() {
                self.add(item);
            }
            return;
        }
        let api_version = text(&["apiVersion"]).unwrap_or_default();
        let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
        let kind = KINDS
            .iter()
            .find(|kind| kind.group == group && kind.name == written);
        let (Some(kind), Some(name)) = (kind, text(&["metadata", "name"])) else {
            return;
        };
        let namespace = text(&["metadata", "namespace"]).filter(|text| !text.is_empty());
        let namespace = match CLUSTER_KINDS.contains(kind) {
            true => "",
            false => namespace.unwrap_or("default"),
        };
        self.insert(Document {
            kind: *kind,
            api_version: api_version.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            node: node.clone(),
        });
    }

    fn insert(&mut self, document: Document) {
        let key = (document.namespace.clone(), document.name.clone());
        let of_kind = self.by_kind.entry(document.kind).or_default();
        match of_kind.get(&key) {
            Some(at) => self.all[*at] = document,
            None => {
                of_kind.insert(key, self.all.len());
                self.all.push(document);
            }
        }
    }

    /// Every object, in the order written.
    pub fn iter(&self) -> impl Iterator<Item = &Document> {
        self.all.iter()
    }

    /// Those of one kind, by namespace and name.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Document> {
        let places = self
            .by_kind
            .get(&kind)
            .into_iter()
            .flat_map(BTreeMap::values);
        places.map(|at| &self.all[*at])
    }

    /// Whether there is any object of that kind.
    pub fn has(&self, kind: Kind) -> bool {
        self.by_kind.contains_key(&kind)
    }

    /// The object of that name; the namespace of kinds that are in none is empty.
    pub fn find(&self, kind: Kind, namespace: &str, name: &str) -> Option<&Document> {
        let key = (namespace.to_owned(), name.to_owned());
        let at = self.by_kind.get(&kind)?.get(&key)?;
        Some(&self.all[*at])
    }
}
