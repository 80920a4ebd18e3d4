//! One object: what kind it is, how old, where it stands.

use crate::codes::INVALID;
use crate::config::{
    DestinationRule, Gateway, MeshConfig, PeerAuthentication, ServiceEntry, Sidecar,
    VirtualService, labels,
};
use crate::kubernetes::{Deployment, EndpointsObject, KubernetesService, PodObject, locality_of};
use crate::objects::ObjectRef;
use proxy_core::xds::{ConfigRef, Name};
use source::{Diagnostic, Fields, Level, Node};

/// When an object came to be. Those with a `creationTimestamp` are older than those without.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Age {
    /// RFC 3339 in UTC, which sorts as text.
    Created(Name),
    Applied(u64),
}

/// One object.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub(crate) reference: ObjectRef,
    pub(crate) age: Age,
    pub(crate) labels: Vec<(Name, Name)>,
    pub(crate) document: Node,
    pub(crate) body: Body,
}

#[derive(Clone, Debug)]
pub(crate) enum Body {
    VirtualService(VirtualService),
    DestinationRule(Box<DestinationRule>),
    Gateway(Gateway),
    ServiceEntry(ServiceEntry),
    PeerAuthentication(PeerAuthentication),
    Sidecar(Box<Sidecar>),
    Service(KubernetesService),
    Deployment(Deployment),
    Pod(PodObject),
    Endpoints(EndpointsObject),
    Namespace,
    /// Its locality.
    Node(Name),
    Mesh(MeshConfig),
}

impl Object {
    /// Where it stands, as resources made from it say.
    pub(crate) fn origin(&self) -> ConfigRef {
        let span = &self.document.span;
        ConfigRef {
            kind: self.reference.kind.clone(),
            namespace: self.reference.namespace.clone(),
            name: self.reference.name.clone(),
            file: span.file.name.clone(),
            line: span.line(),
        }
    }
}

const ISTIO_KINDS: [&str; 6] = [
    "PeerAuthentication",
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "Sidecar",
];
const ISTIO_VERSIONS: [&str; 3] = [
    "networking.istio.io/v1",
    "networking.istio.io/v1beta1",
    "networking.istio.io/v1alpha3",
];
const SECURITY_VERSIONS: [&str; 2] = ["security.istio.io/v1", "security.istio.io/v1beta1"];
/// Without any influence on routing.
const IRRELEVANT_KINDS: [&str; 1] = ["ServiceAccount"];
const CLUSTER_KINDS: [&str; 2] = ["Namespace", "Node"];

/// Reads one object; `None` if it has an error, is not supported, or does not matter.
pub(crate) fn read_object(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    let before = diagnostics.len();
    let object = read_fields(document, diagnostics);
    let failed = diagnostics[before..]
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error);
    let text = |path: &[&str]| document.at(path).and_then(Node::as_scalar);
    let kind = text(&["kind"]).unwrap_or("object");
    let resource = format!(
        "{kind} {}/{}",
        text(&["metadata", "namespace"]).unwrap_or("default"),
        text(&["metadata", "name"]).unwrap_or("")
    );
    for diagnostic in &mut diagnostics[before..] {
        diagnostic.resource = Some(resource.clone());
        if diagnostic.level == Level::Error && ISTIO_KINDS.contains(&kind) {
            diagnostic.code.get_or_insert(INVALID);
        }
    }
    object.filter(|_| !failed)
}

fn read_fields(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    let mut fields = Fields::of(document, "an object", diagnostics)?;
    let version = fields.required_text("apiVersion").unwrap_or_default();
    let kind_node = fields.required("kind")?;
    let kind = fields.required_text("kind")?;
    if IRRELEVANT_KINDS.contains(&kind.as_str()) {
        return None;
    }
    let supported = match kind.as_str() {
        "PeerAuthentication" => SECURITY_VERSIONS.contains(&version.as_str()),
        kind if ISTIO_KINDS.contains(&kind) => ISTIO_VERSIONS.contains(&version.as_str()),
        "Service" | "Pod" | "Endpoints" | "Namespace" | "Node" => version == "v1",
        "ConfigMap" => {
            let name = document.at(&["metadata", "name"]).and_then(Node::as_scalar);
            name == Some("istio")
        }
        "Deployment" => version == "apps/v1",
        "EndpointSlice" => version == "discovery.k8s.io/v1",
        _ => false,
    };
    if !supported {
        fields.diagnostics.push(
            Diagnostic::warning(format!("{kind} of {version} is not supported yet"))
                .at(&kind_node.span, "has no effect here"),
        );
        return None;
    }
    let metadata = fields.required("metadata")?;
    let mut metadata = Fields::of(metadata, "metadata", fields.diagnostics)?;
    let name: Name = metadata.required_text("name")?.into();
    let namespace = metadata.text("namespace").filter(|text| !text.is_empty());
    let namespace: Name = match CLUSTER_KINDS.contains(&kind.as_str()) {
        true => "".into(),
        false => namespace.unwrap_or_else(|| "default".to_owned()).into(),
    };
    let object_labels = labels(&mut metadata, "labels");
    let annotations = labels(&mut metadata, "annotations");
    let created = metadata.text("creationTimestamp");
    let age = created.map_or(Age::Applied(0), |time| Age::Created(time.into()));
    let spec = fields.optional("spec");
    if ![
        "Endpoints",
        "EndpointSlice",
        "Namespace",
        "Node",
        "ConfigMap",
    ]
    .contains(&kind.as_str())
    {
        fields.required("spec");
        spec?;
    }
    if ISTIO_KINDS.contains(&kind.as_str()) || kind == "Service" || kind == "Deployment" {
        fields.ignore(&["status"]);
        fields.finish();
    }
    let empty = document;
    let spec = spec.unwrap_or(empty);
    let body = match kind.as_str() {
        "VirtualService" => {
            Body::VirtualService(VirtualService::read(spec, &namespace, diagnostics)?)
        }
        "DestinationRule" => Body::DestinationRule(Box::new(DestinationRule::read(
            spec,
            &namespace,
            diagnostics,
        )?)),
        "PeerAuthentication" => {
            Body::PeerAuthentication(PeerAuthentication::read(spec, diagnostics)?)
        }
        "Sidecar" => Body::Sidecar(Box::new(Sidecar::read(spec, diagnostics)?)),
        "Gateway" => Body::Gateway(Gateway::read(spec, diagnostics)?),
        "ServiceEntry" => Body::ServiceEntry(ServiceEntry::read(spec, &namespace, diagnostics)?),
        "Service" => Body::Service(KubernetesService::read(
            spec,
            &annotations,
            &namespace,
            diagnostics,
        )?),
        "Deployment" => Body::Deployment(Deployment::read(spec, diagnostics)?),
        "Pod" => Body::Pod(PodObject::read(document, diagnostics)?),
        "Endpoints" => Body::Endpoints(EndpointsObject::read_endpoints(
            document,
            &name,
            diagnostics,
        )),
        "EndpointSlice" => Body::Endpoints(EndpointsObject::read_slice(
            document,
            &object_labels,
            diagnostics,
        )?),
        "Namespace" => Body::Namespace,
        "Node" => Body::Node(locality_of(|key| {
            let found = object_labels.iter().find(|(k, _)| **k == *key);
            found.map(|(_, value)| &**value)
        })),
        _ => Body::Mesh(read_mesh(document, diagnostics)?),
    };
    Some(Object {
        reference: ObjectRef {
            kind: kind.into(),
            namespace,
            name,
        },
        age,
        labels: object_labels,
        document: document.clone(),
        body,
    })
}

fn read_mesh(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<MeshConfig> {
    let text = document.at(&["data", "mesh"]).and_then(Node::as_scalar)?;
    let name = &document.span.file.name;
    Some(MeshConfig::parse(
        &format!("{name} (data.mesh)"),
        text,
        diagnostics,
    ))
}
