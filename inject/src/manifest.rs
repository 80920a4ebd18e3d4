//! Manifests as injection leaves them.

use crate::documents::{Manifests, PodManifest};
use crate::edit::Edits;
use crate::linkerd::LinkerdInject;
use crate::report::{injects, why};
use crate::sidecar;
use control_plane::ProxyKind;
use control_plane::injection::PodFacts;
use serde_json::Value;
use source::{Diagnostic, Dialect, Level, Node, SourceFile};
use std::sync::Arc;

/// Whose injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injection {
    /// Istio 1.32's: pods that get a sidecar. `cni`: a node agent redirects instead of an init container.
    Istio { cni: bool },
    /// That of `linkerd-inject`: every workload.
    Linkerd(LinkerdInject),
}

/// Manifests with what injection adds.
#[derive(Clone, Debug)]
pub struct Made {
    /// Of every file.
    pub texts: Vec<(Arc<SourceFile>, String)>,
    pub pods: Vec<PodMade>,
}

/// What became of a Pod, or of the pods of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodMade {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// Why nothing is added to it.
    pub left: Option<String>,
}

/// `manifests` with what `injection` adds. What can not be added is reported.
pub fn manifest(
    manifests: &Manifests,
    injection: &Injection,
    diagnostics: &mut Vec<Diagnostic>,
) -> Made {
    let mut made = Made {
        texts: Vec::new(),
        pods: Vec::new(),
    };
    for file in &manifests.files {
        let text = injected(manifests, file, injection, &mut made.pods, diagnostics);
        made.texts.push((Arc::clone(file), text));
    }
    made
}

fn injected(
    manifests: &Manifests,
    file: &Arc<SourceFile>,
    injection: &Injection,
    made: &mut Vec<PodMade>,
    diagnostics: &mut Vec<Diagnostic>,
) -> String {
    let mut edits = Edits::new(file);
    let pods = manifests.pods.iter();
    for pod in pods.filter(|pod| Arc::ptr_eq(&pod.pod.span.file, file)) {
        let left = match injection {
            Injection::Linkerd(linkerd) => linkerd.inject(pod, &mut edits),
            Injection::Istio { cni } => istio(manifests, pod, *cni, &mut edits, diagnostics),
        };
        made.push(PodMade {
            kind: pod.kind.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            left,
        });
    }
    if edits.is_empty() {
        return file.text.to_string();
    }
    let text = edits.finish(diagnostics);
    check(file, &text, diagnostics);
    text
}

/// Adds a sidecar to a pod that gets one; why others do not.
fn istio(
    manifests: &Manifests,
    pod: &PodManifest,
    cni: bool,
    edits: &mut Edits<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<String> {
    let facts = PodFacts::of(&pod.pod);
    let namespace = manifests.namespace(&pod.namespace);
    // As `istioctl kube-inject`, which does not ask for labels that it cannot see.
    let mut injector = manifests.injector.clone();
    injector.namespaces_by_default |= !manifests.namespaces.contains_key(&pod.namespace);
    let (proxy, reason) = injector.decide(&facts, &namespace);
    if proxy != ProxyKind::Sidecar || !injects(proxy, &facts, reason) {
        return Some(why(manifests, pod, reason));
    }
    let Some(spec) = pod.pod.at(&["spec"]).filter(|spec| spec.as_map().is_some()) else {
        return Some("it has no spec".to_owned());
    };
    sidecar::inject(pod, spec, cni, edits, diagnostics);
    None
}

/// Anchors and the like may make an addition something else than it was meant to be.
fn check(file: &Arc<SourceFile>, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let made = SourceFile::new(&format!("{} (injected)", file.name), text);
    let (_, problems) = source::parse(&made, Dialect::Kubernetes);
    let broken = problems.iter().find(|one| one.level == Level::Error);
    if let Some(problem) = broken {
        let message = format!("nothing can be added to this manifest: {}", problem.message);
        diagnostics.push(Diagnostic::error(message).at(&file.span(0..0), "as it is written"));
    }
}

/// Adds annotations and labels to a Pod or a template.
pub(crate) fn annotate(
    pod: &Node,
    annotations: &[(String, Value)],
    labels: &[(String, Value)],
    edits: &mut Edits<'_>,
) {
    match pod.at(&["metadata"]).filter(|node| node.as_map().is_some()) {
        Some(metadata) => {
            edits.set_in(metadata, "annotations", annotations);
            if !labels.is_empty() {
                edits.set_in(metadata, "labels", labels);
            }
        }
        None => {
            let all =
                |entries: &[(String, Value)]| Value::Object(entries.iter().cloned().collect());
            let both = [
                ("annotations".to_owned(), all(annotations)),
                ("labels".to_owned(), all(labels)),
            ];
            let present = both.iter().filter(|(_, map)| *map != serde_json::json!({}));
            let present: Vec<_> = present.cloned().collect();
            edits.set_in(pod, "metadata", &present);
        }
    }
}
