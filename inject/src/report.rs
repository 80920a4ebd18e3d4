//! A line for each pod: its proxy, and why.

use crate::captured::{Captured, annotation};
use crate::documents::{Manifests, PodManifest};
use control_plane::ProxyKind;
use control_plane::injection::{
    INJECT, LINKERD_INJECTED, NAMESPACE_INJECTION, PodFacts, ProxyFound, REVISION, Reason,
};
use serde::Serialize;
use source::{Diagnostic, Node, Span};

/// Where something stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub file: String,
    pub line: u32,
    pub column: u32,
}

impl Place {
    pub(crate) fn of(span: &Span) -> Place {
        Place {
            file: span.file.name.to_string(),
            line: span.line(),
            column: span.column(),
        }
    }
}

/// One Pod, or the pods of one workload.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PodReport {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    pub place: Place,
    /// `sidecar`, `gateway`, `none`, `node` (that of its node), `node-proxy`, or `undecided`: the labels of
    /// its namespace would say, which is not in the manifests.
    pub proxy: &'static str,
    /// The injector adds it; otherwise the manifest has it already, or there is none.
    pub injected: bool,
    pub why: String,
    /// Of the label, annotation or field that decided.
    pub decided_by: Option<Place>,
    /// Of pods with a sidecar.
    pub captured: Option<Captured>,
    /// What may surprise.
    pub notes: Vec<String>,
}

/// The pods of `manifests`, in their order. Annotations that the injector refuses are reported.
pub fn survey(manifests: &Manifests, diagnostics: &mut Vec<Diagnostic>) -> Vec<PodReport> {
    let pods = manifests.pods.iter();
    pods.map(|pod| report(manifests, pod, diagnostics))
        .collect()
}

fn report(
    manifests: &Manifests,
    pod: &PodManifest,
    diagnostics: &mut Vec<Diagnostic>,
) -> PodReport {
    let facts = PodFacts::of(&pod.pod);
    let namespace = manifests.namespace(&pod.namespace);
    let (proxy, reason) = manifests.injector.decide(&facts, &namespace);
    let by = decided_by(manifests, pod, reason);
    let captured = (proxy == ProxyKind::Sidecar).then(|| Captured::of(&pod.pod, diagnostics));
    PodReport {
        kind: pod.kind.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        place: Place::of(&pod.name_span),
        proxy: match proxy {
            _ if manifests.leaves_open(pod, reason) => "undecided",
            ProxyKind::Sidecar => "sidecar",
            ProxyKind::Gateway => "gateway",
            ProxyKind::None => "none",
            ProxyKind::Node => "node",
            ProxyKind::NodeProxy(_) => "node-proxy",
        },
        injected: injects(proxy, &facts, reason),
        why: why(manifests, pod, reason),
        decided_by: by.map(|node| Place::of(&node)),
        notes: match manifests.leaves_open(pod, reason) {
            true => Vec::new(),
            false => notes(pod, &facts, reason, captured.as_ref()),
        },
        captured,
    }
}

/// Whether the injector is what makes that proxy.
pub(crate) fn injects(proxy: ProxyKind, facts: &PodFacts, reason: Reason) -> bool {
    match reason {
        // A gateway's pod asks for the gateway template; a container of that name is all it has.
        Reason::Found(ProxyFound::Gateway) => facts.asks_for_injection(),
        Reason::Found(_) => false,
        _ => proxy == ProxyKind::Sidecar,
    }
}

pub(crate) fn why(manifests: &Manifests, pod: &PodManifest, reason: Reason) -> String {
    let label = |key: &str| {
        let node = pod.pod.at(&["metadata", "labels", key]);
        node.and_then(Node::as_scalar)
            .unwrap_or_default()
            .to_owned()
    };
    let of_namespace = |key: &str| {
        let node = manifests.namespaces.get(&pod.namespace);
        let value = node.and_then(|node| node.at(&["metadata", "labels", key])?.as_scalar());
        value.unwrap_or_default().to_owned()
    };
    match reason {
        Reason::Found(ProxyFound::Gateway) => "it is a gateway".to_owned(),
        Reason::Found(ProxyFound::NodeProxy) => "it is Linkerd 1.x".to_owned(),
        Reason::Found(ProxyFound::Node) => "linkerd-inject was here".to_owned(),
        Reason::Found(_) => "it has an istio-proxy container".to_owned(),
        Reason::HostNetwork => "hostNetwork: true".to_owned(),
        Reason::IgnoredNamespace => format!("namespace {} is never injected", pod.namespace),
        Reason::PodLabel => format!("label {INJECT}: {}", label(INJECT)),
        Reason::PodAnnotation => {
            let value = annotation(&pod.pod, INJECT).and_then(Node::as_scalar);
            format!("annotation {INJECT}: {}", value.unwrap_or_default())
        }
        Reason::PodRevision => format!("label {REVISION}: {}", label(REVISION)),
        Reason::NamespaceLabel => format!(
            "namespace label {NAMESPACE_INJECTION}: {}",
            of_namespace(NAMESPACE_INJECTION)
        ),
        Reason::NamespaceRevision => {
            format!("namespace label {REVISION}: {}", of_namespace(REVISION))
        }
        Reason::Unlabelled if manifests.injector.namespaces_by_default => {
            "namespaces are injected by default".to_owned()
        }
        Reason::Unlabelled if manifests.leaves_open(pod, reason) => {
            format!("namespace {} is not in the manifests", pod.namespace)
        }
        Reason::Unlabelled => format!("namespace {} has no injection label", pod.namespace),
        Reason::Never(at) => format!("neverInjectSelector {at}"),
        Reason::Always(at) => format!("alwaysInjectSelector {at}"),
        Reason::Policy => "policy: disabled".to_owned(),
    }
}

fn decided_by(manifests: &Manifests, pod: &PodManifest, reason: Reason) -> Option<Span> {
    let of_pod = |path: &[&str]| Some(pod.pod.at(path)?.span.clone());
    let namespace = manifests.namespaces.get(&pod.namespace);
    let of_namespace = |path: &[&str]| Some(namespace?.at(path)?.span.clone());
    match reason {
        Reason::Found(ProxyFound::Node) => of_pod(&["metadata", "annotations", LINKERD_INJECTED])
            .or_else(|| of_pod(&["spec", "initContainers"])),
        Reason::Found(ProxyFound::Gateway) => {
            of_pod(&["metadata", "annotations", "inject.istio.io/templates"])
                .or_else(|| of_pod(&["spec", "containers"]))
        }
        Reason::Found(_) => of_pod(&["spec", "containers"]),
        Reason::HostNetwork => of_pod(&["spec", "hostNetwork"]),
        Reason::IgnoredNamespace => None,
        Reason::PodLabel => of_pod(&["metadata", "labels", INJECT]),
        Reason::PodAnnotation => of_pod(&["metadata", "annotations", INJECT]),
        Reason::PodRevision => of_pod(&["metadata", "labels", REVISION]),
        Reason::NamespaceLabel => of_namespace(&["metadata", "labels", NAMESPACE_INJECTION]),
        Reason::NamespaceRevision => of_namespace(&["metadata", "labels", REVISION]),
        Reason::Unlabelled => of_namespace(&["metadata", "name"]),
        Reason::Never(_) | Reason::Always(_) | Reason::Policy => manifests.selectors.clone(),
    }
}

fn notes(
    pod: &PodManifest,
    facts: &PodFacts,
    reason: Reason,
    captured: Option<&Captured>,
) -> Vec<String> {
    let mut notes = Vec::new();
    let labels = pod.pod.at(&["metadata", "labels", INJECT]);
    let stated = labels.or_else(|| annotation(&pod.pod, INJECT));
    let text = stated.and_then(Node::as_scalar).unwrap_or("true");
    if !["true", "false"].contains(&text) {
        notes.push(format!(
            "{INJECT}: {text} is neither true nor false, and has no effect"
        ));
    }
    let annotated = facts.annotation.as_deref() == Some("true");
    match reason {
        Reason::Unlabelled if annotated => notes.push(format!(
            "the annotation {INJECT}: true does not call the injector where the namespace does not; the label does"
        )),
        Reason::Unlabelled => notes.push(
            "a rehearsal (`meshsim run`) gives it a sidecar all the same: manifests often leave the labels of namespaces out".to_owned(),
        ),
        Reason::NamespaceLabel if labels.and_then(Node::as_scalar) == Some("true") => notes.push(
            "the pod's own label is not looked at in such a namespace".to_owned(),
        ),
        _ => {}
    }
    if let Some(captured) = captured {
        notes.extend(passed_by(pod, captured));
    }
    notes
}

/// Container ports that the sidecar does not see.
fn passed_by(pod: &PodManifest, captured: &Captured) -> Vec<String> {
    let containers = pod.pod.at(&["spec", "containers"]).and_then(Node::as_seq);
    let ports = containers.unwrap_or_default().iter().flat_map(|container| {
        let ports = container.at(&["ports"]).and_then(Node::as_seq);
        ports.unwrap_or_default().iter()
    });
    let listed = |list: &str, port: &str| list.split(',').any(|one| one.trim() == port);
    let numbers = ports.filter_map(|port| port.at(&["containerPort"])?.as_scalar());
    let missed = numbers.filter(|port| {
        let included = &captured.include_inbound_ports.value;
        captured.mode.value == "NONE"
            || listed(&captured.exclude_inbound_ports.value, port)
            || (included != "*" && !listed(included, port))
    });
    missed
        .map(|port| format!("container port {port} is not captured: no policy applies to it"))
        .collect()
}
