//! The pods and namespaces of manifests, and the injector's configuration among them.

use control_plane::injection::{Injector, NamespaceFacts, Reason};
use source::{Diagnostic, Dialect, Node, SourceFile, Span, each_document};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Everything that matters to injection.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub(crate) files: Vec<Arc<SourceFile>>,
    pub(crate) pods: Vec<PodManifest>,
    /// By name.
    pub(crate) namespaces: BTreeMap<String, Node>,
    pub(crate) injector: Injector,
    /// `alwaysInjectSelector` and `neverInjectSelector`, where they stand.
    pub(crate) selectors: Option<Span>,
}

/// A Pod, or what has a template of one.
#[derive(Clone, Debug)]
pub(crate) struct PodManifest {
    pub(crate) api_version: String,
    pub(crate) kind: String,
    /// `default` if it does not say.
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) name_span: Span,
    /// The Pod or the template.
    pub(crate) pod: Node,
}

impl Manifests {
    /// Reads `files`; `namespace` is that of objects that do not say, and `by_default` says whether
    /// namespaces without a label are injected. What cannot be read is reported.
    pub fn read(
        files: &[Arc<SourceFile>],
        namespace: &str,
        by_default: bool,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Manifests {
        let mut manifests = Manifests {
            files: files.to_vec(),
            ..Manifests::default()
        };
        manifests.injector.namespaces_by_default = by_default;
        for file in files {
            each_document(
                file,
                Dialect::Kubernetes,
                diagnostics,
                |node, diagnostics| {
                    manifests.add(&node, namespace, diagnostics);
                },
            );
        }
        manifests
    }

    /// Whether labels that are not in the manifests would decide.
    pub(crate) fn leaves_open(&self, pod: &PodManifest, reason: Reason) -> bool {
        reason == Reason::Unlabelled
            && !self.injector.namespaces_by_default
            && !self.namespaces.contains_key(&pod.namespace)
    }

    /// What the namespace of a pod says.
    pub(crate) fn namespace(&self, name: &str) -> NamespaceFacts {
        let labels = self.namespaces.get(name).and_then(|node| {
            let labels = node.at(&["metadata", "labels"])?.as_map()?;
            let pairs = labels.entries.iter();
            let pairs =
                pairs.filter_map(|e| Some((e.key.as_str().into(), e.value.as_scalar()?.into())));
            Some(pairs.collect::<Vec<_>>())
        });
        NamespaceFacts::of(name, &labels.unwrap_or_default())
    }

    fn add(&mut self, node: &Node, default: &str, diagnostics: &mut Vec<Diagnostic>) {
        let text = |path: &[&str]| node.at(path).and_then(Node::as_scalar);
        let kind = text(&["kind"]).unwrap_or_default();
        let name = text(&["metadata", "name"]).or_else(|| text(&["metadata", "generateName"]));
        let template: &[&str] = match kind {
            "List" => {
                let items = node.at(&["items"]).and_then(Node::as_seq);
                for item in items.unwrap_or_default() {
                    self.add(item, default, diagnostics);
                }
                return;
            }
            "Namespace" => {
                let name = name.unwrap_or_default().to_owned();
                self.namespaces.insert(name, node.clone());
                return;
            }
            "ConfigMap" => return self.configure(node, name, diagnostics),
            "Pod" => &[],
            "CronJob" => &["spec", "jobTemplate", "spec", "template"],
            "Deployment"
            | "StatefulSet"
            | "DaemonSet"
            | "ReplicaSet"
            | "ReplicationController"
            | "Job"
            | "DeploymentConfig" => &["spec", "template"],
            _ => return,
        };
        let Some(pod) = node.at(template).filter(|pod| pod.as_map().is_some()) else {
            let message = format!("{kind} has no pod template");
            diagnostics.push(Diagnostic::error(message).at(&node.span, "`spec.template` is a map"));
            return;
        };
        let named = node.at(&["metadata", "name"]);
        self.pods.push(PodManifest {
            api_version: text(&["apiVersion"]).unwrap_or_default().to_owned(),
            kind: kind.to_owned(),
            namespace: text(&["metadata", "namespace"])
                .unwrap_or(default)
                .to_owned(),
            name: name.unwrap_or_default().to_owned(),
            name_span: named.unwrap_or(node).span.clone(),
            pod: pod.clone(),
        });
    }

    /// `istio-sidecar-injector`, or that of a revision.
    fn configure(&mut self, node: &Node, name: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
        if !name.is_some_and(|name| name.starts_with("istio-sidecar-injector")) {
            return;
        }
        let Some(config) = node.at(&["data", "config"]) else {
            return;
        };
        let Some(text) = config.as_str() else { return };
        let file = SourceFile::new(&format!("{:?}", config.span), text);
        each_document(
            &file,
            Dialect::Kubernetes,
            diagnostics,
            |inner, diagnostics| {
                let injector = std::mem::take(&mut self.injector);
                self.injector = injector.configured(&inner, diagnostics);
                self.selectors = Some(config.span.clone());
            },
        );
    }
}
