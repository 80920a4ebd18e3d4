//! The objects of a configuration: reading, applying, deleting, patching.

mod pods;

use crate::config::{DataPlane, MeshConfig};
use crate::gateway_api::{GatewayApiStatus, Translated, deployed, translated};
use crate::model::ServiceInfo;
use crate::object::{Age, Body, Object, read_object};
use crate::registry::Registry;
use crate::store::{Difference, Items};
use proxy_core::xds::Name;
use source::fields::expected;
use source::{Diagnostic, Dialect, Map, Node, SourceFile, Value, each_document};
use std::sync::{Arc, OnceLock};

/// The objects of a configuration: Istio's and Kubernetes'. Cheap to clone (objects are shared).
#[derive(Clone, Debug, Default)]
pub struct Objects {
    store: Arc<Store>,
}

#[derive(Clone, Debug, Default)]
struct Store {
    items: Items,
    /// Counts what was applied: the age of objects without `creationTimestamp`.
    applied: u64,
    data_plane: Option<DataPlane>,
    /// Made when first asked for; forgotten with every change.
    registry: OnceLock<Arc<Registry>>,
    /// What Istio's controller makes of the Gateways: in the same way, as is the next.
    deployed: OnceLock<Arc<Vec<Arc<Object>>>>,
    gateway_api: OnceLock<Arc<Translated>>,
}

/// Rules of Istio's, which say nothing of what there is.
const RULE_KINDS: [&str; 10] = [
    "VirtualService",
    "DestinationRule",
    "PeerAuthentication",
    "AuthorizationPolicy",
    "RequestAuthentication",
    "EnvoyFilter",
    "Sidecar",
    "RouteRule",
    "DestinationPolicy",
    "IngressRule",
];

/// Names one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// `VirtualService`, `Service`, ...
    pub kind: Name,
    pub namespace: Name,
    pub name: Name,
}

impl Objects {
    /// Every object of every document of `file` (`kind: List` opened up). What cannot be read, is
    /// invalid or not supported is reported with its place; an object with an error is left out.
    pub fn read(file: &Arc<SourceFile>, diagnostics: &mut Vec<Diagnostic>) -> Objects {
        let mut objects = Objects::default();
        each_document(
            file,
            Dialect::Kubernetes,
            diagnostics,
            |document, diagnostics| {
                objects.add(&document, diagnostics);
            },
        );
        objects
    }

    /// The same from a parsed document.
    pub fn read_node(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Objects {
        let mut objects = Objects::default();
        objects.add(node, diagnostics);
        objects
    }

    /// Adds the object of a parsed document, or those of a `kind: List`; as [`Objects::read`] does.
    pub fn add(&mut self, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
        let list = node.at(&["kind"]).and_then(Node::as_scalar) == Some("List");
        if list {
            match node.at(&["items"]).map(|items| (items, items.as_seq())) {
                Some((_, Some(items))) => {
                    for item in items {
                        self.add(item, diagnostics);
                    }
                }
                Some((items, None)) if items.value != Value::Null => {
                    diagnostics.push(expected(items, "`items` of a List is a list"));
                }
                _ => {}
            }
            return;
        }
        let Some(object) = read_object(node, diagnostics) else {
            return;
        };
        let reference = object.reference.clone();
        let items = &mut self.change(&reference.kind).items;
        if items.insert(Arc::new(object)).is_some() {
            diagnostics.push(
                Diagnostic::warning(format!("{reference} is there twice"))
                    .at(&node.span, "replaces the earlier one"),
            );
        }
    }

    /// The store, for a change to objects of `kind`.
    fn change(&mut self, kind: &str) -> &mut Store {
        let store = Arc::make_mut(&mut self.store);
        if !RULE_KINDS.contains(&kind) {
            store.registry = OnceLock::new();
            store.deployed = OnceLock::new();
            store.gateway_api = OnceLock::new();
        }
        store
    }

    /// What differs from `old`.
    pub(crate) fn differences<'a>(&'a self, old: &'a Objects) -> Vec<Difference<'a>> {
        self.store.items.differences(&old.store.items)
    }

    /// The objects of `kind` in `namespace`, as applied, by name.
    pub(crate) fn of_namespace(
        &self,
        kind: &str,
        namespace: &Name,
    ) -> impl Iterator<Item = &Arc<Object>> {
        self.store.items.of_namespace(kind, namespace)
    }

    /// `kubectl apply`: adds or replaces. A replaced object keeps its age; a new one without
    /// `creationTimestamp` is younger than all before.
    pub fn apply(&mut self, other: &Objects) {
        if self.store.items.is_empty() && other.store.applied == 0 {
            // All of one age: no need to tell them so one by one.
            let (applied, data_plane) = (self.store.applied + 1, self.store.data_plane);
            self.store = Arc::clone(&other.store);
            let store = Arc::make_mut(&mut self.store);
            store.applied = applied;
            if let Some(data_plane) = data_plane {
                self.set_data_plane(data_plane);
            }
            return;
        }
        Arc::make_mut(&mut self.store).applied += 1;
        if let (None, Some(data_plane)) = (self.store.data_plane, other.store.data_plane) {
            self.set_data_plane(data_plane);
        }
        for object in other.store.items.iter() {
            let store = self.change(&object.reference.kind);
            let old = store.items.get(&object.reference);
            let age = match (old, &object.age) {
                (Some(old), _) => old.age.clone(),
                (None, Age::Applied(_)) => Age::Applied(store.applied),
                (None, created) => created.clone(),
            };
            let mut object = Arc::clone(object);
            if object.age != age {
                Arc::make_mut(&mut object).age = age;
            }
            store.items.insert(object);
        }
    }

    /// `kubectl delete`; false if there is no such object.
    pub fn delete(&mut self, object: &ObjectRef) -> bool {
        let there = self.store.items.get(object).is_some();
        there && self.change(&object.kind).items.remove(object).is_some()
    }

    /// `kubectl patch --type merge`; errors are reported, and then nothing changes.
    pub fn patch(&mut self, object: &ObjectRef, merge: &Node, diagnostics: &mut Vec<Diagnostic>) {
        let Some(old) = self.store.items.get(object) else {
            let names: Vec<String> = self.refs().iter().map(ObjectRef::to_string).collect();
            diagnostics.push(
                Diagnostic::error(format!("there is no {object} to patch"))
                    .at(&merge.span, "nothing to change")
                    .nearest(&object.to_string(), names.iter().map(String::as_str)),
            );
            return;
        };
        let document = merged(&old.document, merge);
        let age = old.age.clone();
        let Some(mut new) = read_object(&document, diagnostics) else {
            return;
        };
        if new.reference != *object {
            diagnostics.push(
                Diagnostic::error("a patch does not rename an object")
                    .at(&merge.span, format!("makes it {}", new.reference)),
            );
            return;
        }
        new.age = age;
        self.change(&object.kind).items.insert(Arc::new(new));
    }

    /// The names of all objects, in order.
    pub fn refs(&self) -> Vec<ObjectRef> {
        let objects = self.store.items.iter();
        objects.map(|object| object.reference.clone()).collect()
    }

    /// With the Services and Deployments that Istio's controller makes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.stored().chain(self.deployed())
    }

    /// As applied.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.store.items.iter()
    }

    /// Those of one kind, as applied, by namespace and name.
    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Arc<Object>> {
        self.store.items.of_kind(kind)
    }

    fn deployed(&self) -> impl Iterator<Item = &Arc<Object>> {
        let made = self.store.deployed.get_or_init(|| Arc::new(deployed(self)));
        made.iter()
    }

    /// The object of that name.
    pub(crate) fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        let reference = ObjectRef {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let stored = self.store.items.get(&reference);
        match kind {
            "Service" | "Deployment" => {
                stored.or_else(|| self.deployed().find(|object| object.reference == reference))
            }
            _ => stored,
        }
    }

    /// What the objects of the Gateway API become.
    pub(crate) fn gateway_api(&self) -> &Translated {
        self.store
            .gateway_api
            .get_or_init(|| Arc::new(translated(self)))
    }

    /// The status that Istio's controller gives each object of the Gateway API, by kind, namespace
    /// and name. Objects of other controllers have none.
    pub fn gateway_api_statuses(&self) -> &[GatewayApiStatus] {
        &self.gateway_api().statuses
    }

    /// The MeshConfig that applies: of the `istio` ConfigMap, else Istio's defaults.
    pub fn mesh_config(&self) -> MeshConfig {
        let mut maps = self.of_kind("ConfigMap");
        let stated = maps.find_map(|object| match &object.body {
            Body::Mesh(mesh) => Some(mesh.clone()),
            _ => None,
        });
        MeshConfig {
            data_plane: self.store.data_plane,
            ..stated.unwrap_or_default()
        }
    }

    /// Makes it a mesh of 2017: rules of then are carried out by `data_plane`, and hosts without rules
    /// have its defaults too. Without this, rules of 2017 act for their own hosts as `envoy-2017` took
    /// them.
    pub fn set_data_plane(&mut self, data_plane: DataPlane) {
        let store = Arc::make_mut(&mut self.store);
        store.data_plane = Some(data_plane);
        store.registry = OnceLock::new();
        store.deployed = OnceLock::new();
        store.gateway_api = OnceLock::new();
    }

    /// Sets the MeshConfig, as an `istio` ConfigMap would.
    pub fn set_mesh_config(&mut self, mesh: MeshConfig) {
        let file = SourceFile::new("MeshConfig", "");
        let document = Node {
            value: Value::Map(Map::default()),
            span: file.span(0..0),
        };
        let reference = ObjectRef {
            kind: "ConfigMap".into(),
            namespace: "istio-system".into(),
            name: "istio".into(),
        };
        let object = Object {
            reference: reference.clone(),
            age: Age::Applied(0),
            labels: Vec::new(),
            document,
            body: Body::Mesh(mesh),
        };
        self.change(&reference.kind).items.insert(Arc::new(object));
    }

    pub(crate) fn virtual_service(&self, namespace: &Name, name: &Name) -> Option<&Body> {
        let object = self.find("VirtualService", namespace, name)?;
        Some(&object.body)
    }

    /// Whether the IngressClass of that name is Istio's.
    pub(crate) fn ingress_class(&self, name: &Name) -> Option<bool> {
        match self.find("IngressClass", "", name)?.body {
            Body::IngressClass(of_istio) => Some(of_istio),
            _ => None,
        }
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.store
            .registry
            .get_or_init(|| Arc::new(Registry::new(&self.discovered())))
    }

    /// What Istio looks at: without the namespaces that its `discoverySelectors` leave out.
    pub(crate) fn discovered(&self) -> Objects {
        let mesh = self.mesh_config();
        if mesh.discovery.is_empty() {
            return self.clone();
        }
        let selected = |namespace: &Name| {
            let object = self.find("Namespace", "", namespace);
            let labels = object.map_or(&[][..], |object| &object.labels);
            let mut selectors = mesh.discovery.iter();
            selectors.any(|selector| selector.matches(namespace, labels))
        };
        let wanted = |reference: &ObjectRef| {
            // Its own configuration is not found that way.
            let everywhere = reference.namespace.is_empty() || &*reference.kind == "ConfigMap";
            everywhere || selected(&reference.namespace)
        };
        let store = Store {
            items: self.store.items.retained(wanted),
            applied: self.store.applied,
            data_plane: self.store.data_plane,
            ..Store::default()
        };
        Objects {
            store: Arc::new(store),
        }
    }

    /// The service that a client in `namespace` reaches by `host` (short, `name.namespace`, full,
    /// ServiceEntry host, or cluster IP).
    pub fn service(&self, host: &str, namespace: &str) -> Option<ServiceInfo> {
        self.registry()
            .find_for_client(host, namespace)
            .map(|service| service.info(self))
    }

    /// Every service, oldest first.
    pub fn services(&self) -> Vec<ServiceInfo> {
        let registry = self.registry();
        registry
            .services
            .iter()
            .map(|service| service.info(self))
            .collect()
    }
}

/// JSON merge patch (RFC 7386): maps are merged, null removes, the rest replaces.
fn merged(old: &Node, patch: &Node) -> Node {
    let (Value::Map(before), Value::Map(changes)) = (&old.value, &patch.value) else {
        return patch.clone();
    };
    let mut map = before.clone();
    for entry in &changes.entries {
        let at = map.entries.iter().position(|e| e.key == entry.key);
        match (at, &entry.value.value) {
            (Some(at), Value::Null) => {
                map.entries.remove(at);
            }
            (None, Value::Null) => {}
            (Some(at), _) => map.entries[at].value = merged(&map.entries[at].value, &entry.value),
            (None, _) => map.entries.push(entry.clone()),
        }
    }
    Node {
        value: Value::Map(map),
        span: old.span.clone(),
    }
}
