//! One object: what kind it is, how old, where it stands.

use crate::codes::INVALID;
use crate::config::{
    AuthorizationPolicy, BoundTo, DestinationPolicy, DestinationRule, EgressRule, Envelope,
    EnvoyFilter, Gateway, IngressRule, MeshConfig, PeerAuthentication, RequestAuthentication,
    RouteRule, Semantics, ServiceEntry, Sidecar, Spelling, VirtualService, WorkloadEntry,
    check_proxy_config, check_telemetry, check_traffic_extension, check_wasm_plugin,
    check_workload_group, is_dns_label, label, labels,
};
use crate::gateway_api::{self, Certificates};
use crate::kinds::{Fate, fate, is_istio, is_mixer};
use crate::kubernetes::{
    Deployment, EndpointsObject, Ingress, KubernetesService, PodObject, locality_of,
};
use crate::mixer::{self, RULE_FILE_KIND, RuleFile};
use crate::objects::ObjectRef;
use proxy_core::xds::{ConfigRef, Name};
use source::{Diagnostic, Fields, Level, Map, Node, Span, Value};

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
    WorkloadEntry(WorkloadEntry),
    PeerAuthentication(PeerAuthentication),
    Sidecar(Box<Sidecar>),
    AuthorizationPolicy(AuthorizationPolicy),
    RequestAuthentication(RequestAuthentication),
    EnvoyFilter(EnvoyFilter),
    RouteRule(Box<RouteRule>),
    DestinationPolicy(DestinationPolicy),
    EgressRule(EgressRule),
    IngressRule(Box<IngressRule>),
    Service(KubernetesService),
    Deployment(Deployment),
    Ingress(Ingress),
    /// Whether it is Istio's.
    IngressClass(bool),
    Pod(PodObject),
    Endpoints(EndpointsObject),
    Namespace,
    /// Its locality.
    Node(Name),
    Mesh(MeshConfig),
    GatewayApi(gateway_api::Spec),
    /// Of Istio 0.2, and a rule file of 0.1.
    Mixer(mixer::Part),
    MixerRules(RuleFile),
    /// What is in a Secret or ConfigMap.
    Certificates(Certificates),
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

    /// An object that Istio makes of this one: as old, and at its place.
    pub(crate) fn stand_in(&self, kind: &str, namespace: &str, name: &str, body: Body) -> Object {
        Object {
            reference: ObjectRef {
                kind: kind.into(),
                namespace: namespace.into(),
                name: name.into(),
            },
            age: self.age.clone(),
            labels: Vec::new(),
            document: Node {
                value: Value::Null,
                span: self.document.span.clone(),
            },
            body,
        }
    }
}

const CLUSTER_KINDS: [&str; 4] = ["Namespace", "Node", "IngressClass", "GatewayClass"];
/// Kinds that say what they say elsewhere than in `spec`.
const WITHOUT_SPEC: [&str; 6] = [
    "Endpoints",
    "EndpointSlice",
    "Namespace",
    "Node",
    "ConfigMap",
    "Secret",
];
/// Kinds of Istio that need a `spec`; the others may leave it out.
const SPEC_REQUIRED: [&str; 4] = [
    "ServiceEntry",
    "WorkloadEntry",
    "WorkloadGroup",
    "WasmPlugin",
];

/// Reads one object; `None` if it has an error, is not supported, or does not matter.
pub(crate) fn read_object(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    let before = diagnostics.len();
    let of_0_1 = Envelope::is_of(document);
    let object = match of_0_1 {
        true => read_rule_of_0_1(document, diagnostics),
        false => read_fields(document, diagnostics),
    };
    if object.is_some() && is_of_controller(document) {
        let mut said = diagnostics.split_off(before);
        said.retain(|diagnostic| diagnostic.level != Level::Error);
        diagnostics.append(&mut said);
    }
    let failed = diagnostics[before..]
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error);
    let text = |path: &[&str]| document.at(path).and_then(Node::as_scalar);
    let kind = text(&["kind"]);
    let resource = kind.map(|kind| {
        format!(
            "{kind} {}/{}",
            text(&["metadata", "namespace"]).unwrap_or("default"),
            text(&["metadata", "name"]).unwrap_or("")
        )
    });
    let resource = resource.or_else(|| Envelope::resource(document));
    let istio = of_0_1 || is_istio(text(&["apiVersion"]).unwrap_or(""), kind.unwrap_or(""));
    for diagnostic in &mut diagnostics[before..] {
        diagnostic.resource.clone_from(&resource);
        if diagnostic.level == Level::Error && istio {
            diagnostic.code.get_or_insert(INVALID);
        }
    }
    object.filter(|_| !failed)
}

fn read_rule_of_0_1(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    let envelope = Envelope::read(document, diagnostics)?;
    let (namespace, spec) = (envelope.namespace, envelope.spec);
    let body = read_rule_of_2017(envelope.kind, spec, Spelling::V01, &namespace, diagnostics)?;
    Some(Object {
        reference: ObjectRef {
            kind: envelope.kind.into(),
            namespace,
            name: envelope.name,
        },
        age: Age::Applied(0),
        labels: Vec::new(),
        document: document.clone(),
        body,
    })
}

fn read_rule_of_2017(
    kind: &str,
    spec: &Node,
    spelling: Spelling,
    namespace: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Body> {
    Some(match kind {
        "RouteRule" => {
            let rule = RouteRule::read(spec, spelling, namespace, diagnostics)?;
            Body::RouteRule(Box::new(rule))
        }
        "DestinationPolicy" => {
            let policy = DestinationPolicy::read(spec, spelling, namespace, diagnostics)?;
            Body::DestinationPolicy(policy)
        }
        "EgressRule" => Body::EgressRule(EgressRule::read(spec, diagnostics)?),
        _ => {
            let rule = IngressRule::read(spec, spelling, namespace, diagnostics)?;
            Body::IngressRule(Box::new(rule))
        }
    })
}

fn read_fields(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    if mixer::is_rule_file(document) {
        return read_rule_file(document, diagnostics);
    }
    let mut fields = Fields::of(document, "an object", diagnostics)?;
    let version = fields.required_text("apiVersion").unwrap_or_default();
    let kind_node = fields.required("kind")?;
    let kind = fields.required_text("kind")?;
    if !is_read(&version, &kind, &kind_node.span, fields.diagnostics) {
        return None;
    }
    let istio = is_istio(&version, &kind);
    let of_mixer = is_mixer(&version, &kind);
    let gateway_api = gateway_api::is_known(&kind, &version);
    let metadata = fields.required("metadata")?;
    let mut metadata = Fields::of(metadata, "metadata", fields.diagnostics)?;
    let name_node = metadata.required("name");
    let name: Name = metadata.text("name")?.into();
    if let (Some(node), true) = (
        name_node,
        istio && kind == "Gateway" && !is_dns_label(&name),
    ) {
        let message = format!("`{name}` is not the name of a Gateway");
        let label = "letters, digits and inner `-`, 63 at most";
        metadata
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, label));
    }
    let namespace = metadata.text("namespace").filter(|text| !text.is_empty());
    let namespace: Name = match CLUSTER_KINDS.contains(&kind.as_str()) {
        true => "".into(),
        false => namespace.unwrap_or_else(|| "default".to_owned()).into(),
    };
    let object_labels = labels(&mut metadata, "labels");
    if let Some(node) = metadata.optional("labels") {
        warn_of_ambient(node, metadata.diagnostics);
    }
    let annotations = labels(&mut metadata, "annotations");
    if let (Some(node), true) = (metadata.optional("annotations"), istio) {
        check_annotations(&kind, node, metadata.diagnostics);
    }
    let created = metadata.text("creationTimestamp");
    let age = created.map_or(Age::Applied(0), |time| Age::Created(time.into()));
    let spec = fields.optional("spec");
    if !WITHOUT_SPEC.contains(&kind.as_str()) {
        if !istio || SPEC_REQUIRED.contains(&kind.as_str()) {
            fields.required("spec")?;
        }
        fields.ignore(&["status"]);
        if kind != "Pod" {
            fields.finish();
        }
    }
    let empty = Node {
        value: Value::Map(Map::default()),
        span: kind_node.span.clone(),
    };
    let spec = spec.unwrap_or(&empty);
    if let Some(check) = checked_only(&kind) {
        check(spec, diagnostics);
        return None;
    }
    let body = match kind.as_str() {
        _ if gateway_api => {
            Body::GatewayApi(gateway_api::read(&kind, spec, &annotations, diagnostics)?)
        }
        _ if of_mixer => Body::Mixer(mixer::Part::read(&kind, spec, diagnostics)?),
        "VirtualService" => Body::VirtualService(VirtualService {
            semantics: Semantics::of(&annotations),
            ..VirtualService::read(spec, &namespace, diagnostics)?
        }),
        "DestinationRule" => Body::DestinationRule(Box::new(DestinationRule::read(
            spec,
            &namespace,
            diagnostics,
        )?)),
        "PeerAuthentication" => {
            Body::PeerAuthentication(PeerAuthentication::read(spec, diagnostics)?)
        }
        "AuthorizationPolicy" => {
            Body::AuthorizationPolicy(AuthorizationPolicy::read(spec, &annotations, diagnostics)?)
        }
        "RequestAuthentication" => {
            Body::RequestAuthentication(RequestAuthentication::read(spec, diagnostics)?)
        }
        "EnvoyFilter" => Body::EnvoyFilter(EnvoyFilter::read(spec, diagnostics)?),
        "Sidecar" => Body::Sidecar(Box::new(Sidecar::read(spec, &namespace, diagnostics)?)),
        "Gateway" => Body::Gateway(Gateway {
            bound_to: BoundTo::of(&annotations, &namespace),
            ..Gateway::read(spec, diagnostics)?
        }),
        "ServiceEntry" => Body::ServiceEntry(ServiceEntry::read(
            spec,
            &namespace,
            &object_labels,
            diagnostics,
        )?),
        "WorkloadEntry" => Body::WorkloadEntry(WorkloadEntry::read_object(
            spec,
            &object_labels,
            diagnostics,
        )?),
        "Service" => Body::Service(KubernetesService::read(
            spec,
            &annotations,
            &namespace,
            diagnostics,
        )?),
        "RouteRule" | "DestinationPolicy" | "EgressRule" | "IngressRule" => {
            read_rule_of_2017(&kind, spec, Spelling::V02, &namespace, diagnostics)?
        }
        "Deployment" | "StatefulSet" | "DaemonSet" => {
            Body::Deployment(Deployment::read(spec, &kind, diagnostics)?)
        }
        "Ingress" => Body::Ingress(Ingress::read(spec, &annotations, diagnostics)?),
        "IngressClass" => {
            let controller = spec.at(&["controller"]).and_then(Node::as_scalar);
            Body::IngressClass(controller == Some("istio.io/ingress-controller"))
        }
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
        "Node" => Body::Node(locality_of(|key| label(&object_labels, key).map(|l| &**l))),
        "ConfigMap" if &*name == "istio" => Body::Mesh(read_mesh(document, diagnostics)?),
        _ => Body::Certificates(gateway_api::certificates(&kind, document)),
    };
    Some(Object {
        reference: ObjectRef {
            kind: match gateway_api && kind == "Gateway" {
                true => gateway_api::GATEWAY.into(),
                false => kind.into(),
            },
            namespace,
            name,
        },
        age,
        labels: object_labels,
        document: document.clone(),
        body,
    })
}

/// Rules of Mixer's in the form of Istio 0.1, which have no name but that of their subject.
fn read_rule_file(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Object> {
    let rules = RuleFile::read(document, diagnostics)?;
    Some(Object {
        reference: ObjectRef {
            kind: RULE_FILE_KIND.into(),
            namespace: "default".into(),
            name: rules.subject.clone().unwrap_or_else(|| "global".into()),
        },
        age: Age::Applied(0),
        labels: Vec::new(),
        document: document.clone(),
        body: Body::MixerRules(rules),
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

/// Whether an object of this kind is read; what else becomes of it is said.
fn is_read(version: &str, kind: &str, place: &Span, diagnostics: &mut Vec<Diagnostic>) -> bool {
    match fate(version, kind) {
        Fate::Read => return true,
        Fate::Dropped => {}
        Fate::PassedOver(why) => {
            let message = format!("objects of kind {kind} ({version}) are passed over");
            let said = |diagnostic: &Diagnostic| {
                diagnostic.level == Level::Note && diagnostic.message == message
            };
            if !diagnostics.iter().any(said) {
                diagnostics.push(Diagnostic::note(message).at(place, why));
            }
        }
        Fate::Unsupported => diagnostics.push(
            Diagnostic::warning(format!("{kind} of {version} is not supported yet"))
                .at(place, "has no effect here"),
        ),
        Fate::Unknown { help } => diagnostics.push(
            Diagnostic::error(format!("Istio has no kind `{kind}` in {version}"))
                .at(place, "unknown")
                .code(INVALID)
                .help(help),
        ),
    }
    false
}

/// How an object is checked that is of no further use.
fn checked_only(kind: &str) -> Option<fn(&Node, &mut Vec<Diagnostic>)> {
    Some(match kind {
        "WorkloadGroup" => check_workload_group,
        "WasmPlugin" => check_wasm_plugin,
        "TrafficExtension" => check_traffic_extension,
        "Telemetry" => check_telemetry,
        "ProxyConfig" => check_proxy_config,
        _ => return None,
    })
}

/// Says that what a label asks of ambient mode is not done.
fn warn_of_ambient(labels: &Node, diagnostics: &mut Vec<Diagnostic>) {
    for entry in labels.as_map().map_or(&[][..], |map| &map.entries) {
        let value = entry.value.as_scalar().unwrap_or_default();
        let what = match (entry.key.as_str(), value) {
            (_, "" | "none") => continue,
            ("istio.io/dataplane-mode", "ambient") => "ambient mode (ztunnel) is",
            ("istio.io/use-waypoint", _) => "waypoints are",
            _ => continue,
        };
        let message = format!("{what} not supported yet");
        let label = "requests go as without it";
        diagnostics.push(Diagnostic::warning(message).at(&entry.key_span, label));
    }
}

/// Whether Istio's controller made it of the Gateway API: the rules for what users apply do not hold
/// for its names and hosts.
fn is_of_controller(document: &Node) -> bool {
    let marks = ["gateway-semantics", "route-semantics"];
    marks.iter().any(|mark| {
        let key = format!("internal.istio.io/{mark}");
        let mark = document.at(&["metadata", "annotations", &key]);
        mark.and_then(Node::as_scalar) == Some("gateway")
    })
}

/// Annotations that Istio's validation refuses.
fn check_annotations(kind: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    for entry in node.as_map().map_or(&[][..], |map| &map.entries) {
        let why = match entry.key.as_str() {
            "istio.io/dry-run" if kind != "AuthorizationPolicy" => "is for AuthorizationPolicies",
            "internal.istio.io/webhook-always-reject" => "asks to be refused",
            "internal.istio.io/parents" | "internal.istio.io/parent-namespace" => {
                "is for objects that Istio makes itself"
            }
            _ => continue,
        };
        let message = format!("annotation `{}` cannot be set here", entry.key);
        diagnostics.push(Diagnostic::error(message).at(&entry.key_span, why));
    }
}
