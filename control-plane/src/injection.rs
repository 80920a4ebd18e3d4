//! Whether a pod gets a sidecar: what its manifest and its namespace say, and what Istio's injector
//! makes of it. Translation, rehearsals and `meshsim inject` all ask here.

use crate::config::{LabelSelector, Labels, label};
use crate::model::{ProxyKind, Router};
use proxy_core::xds::Name;
use source::{Diagnostic, Node};

/// Label of pods and, before there was one, annotation.
pub const INJECT: &str = "sidecar.istio.io/inject";
/// Label of namespaces.
pub const NAMESPACE_INJECTION: &str = "istio-injection";
/// Label of namespaces and pods.
pub const REVISION: &str = "istio.io/rev";
/// What `linkerd-inject` of 2017 annotates pods with.
pub const LINKERD_INJECTED: &str = "alpha.istio.io/linkerd-daemonset";

/// Istio's `IgnoredNamespaces`.
const IGNORED_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// What the manifest of a pod, or of a pod template, says.
#[derive(Clone, Debug, PartialEq)]
pub struct PodFacts {
    pub labels: Vec<(Name, Name)>,
    /// `sidecar.istio.io/inject` as an annotation.
    pub annotation: Option<Name>,
    pub host_network: bool,
    pub proxy: ProxyFound,
}

/// The proxy that a manifest has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFound {
    Nothing,
    /// A container `istio-proxy` beside others.
    Sidecar,
    /// The pod is a gateway: its only container is `istio-proxy`, or it asks for that template.
    Gateway,
    /// The pod is Linkerd 1.x itself.
    NodeProxy,
    /// `linkerd-inject` was here.
    Node,
}

/// What a namespace says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamespaceFacts {
    /// One of Kubernetes' own, which the injector leaves alone.
    pub ignored: bool,
    /// Its label `istio-injection`.
    pub injection: Option<Name>,
    /// Its label `istio.io/rev`.
    pub revision: Option<Name>,
}

/// The injector and its webhook.
#[derive(Clone, Debug, PartialEq)]
pub struct Injector {
    /// `policy` of its configuration: pods that do not say are injected.
    pub enabled: bool,
    never: Vec<LabelSelector>,
    always: Vec<LabelSelector>,
    /// Namespaces without a label count as enabled (`enableNamespacesByDefault` of the installation).
    pub namespaces_by_default: bool,
}

/// Why a pod has the proxy that it has, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its manifest has one already.
    Found(ProxyFound),
    HostNetwork,
    IgnoredNamespace,
    PodLabel,
    PodAnnotation,
    PodRevision,
    NamespaceLabel,
    NamespaceRevision,
    /// Neither label nor annotation anywhere.
    Unlabelled,
    /// `neverInjectSelector`, by its place.
    Never(usize),
    /// `alwaysInjectSelector`, by its place.
    Always(usize),
    /// `policy: disabled`.
    Policy,
}

impl PodFacts {
    /// `pod` is a Pod, or a template of one.
    pub fn of(pod: &Node) -> PodFacts {
        let pairs = |key: &str| -> Labels {
            let map = pod.at(&["metadata", key]).and_then(Node::as_map);
            let entries = map.map_or(&[][..], |map| &map.entries[..]).iter();
            entries
                .filter_map(|entry| {
                    Some((entry.key.as_str().into(), entry.value.as_scalar()?.into()))
                })
                .collect()
        };
        let (labels, annotations) = (pairs("labels"), pairs("annotations"));
        let host_network = pod.at(&["spec", "hostNetwork"]).and_then(Node::as_bool);
        PodFacts {
            proxy: ProxyFound::of(pod, &annotations),
            annotation: label(&annotations, INJECT).cloned(),
            labels,
            host_network: host_network.unwrap_or(false),
        }
    }

    /// Whether it asks to be injected.
    pub fn asks_for_injection(&self) -> bool {
        self.asks().is_some_and(|(injected, _)| injected)
    }

    /// What the pod asks for itself: its label, or else its annotation. Only `true` and `false` count.
    fn asks(&self) -> Option<(bool, Reason)> {
        let by_label = label(&self.labels, INJECT).map(|text| (text, Reason::PodLabel));
        let by_annotation = || Some((self.annotation.as_ref()?, Reason::PodAnnotation));
        let (text, reason) = by_label.or_else(by_annotation)?;
        match &**text {
            "true" => Some((true, reason)),
            "false" => Some((false, reason)),
            _ => None,
        }
    }
}

impl ProxyFound {
    fn of(pod: &Node, annotations: &Labels) -> ProxyFound {
        let containers = |key: &str| {
            let list = pod.at(&["spec", key]).and_then(Node::as_seq);
            list.unwrap_or_default().iter()
        };
        let text = |container: &Node, key: &str| {
            let text = container.at(&[key]).and_then(Node::as_scalar);
            text.unwrap_or_default().to_owned()
        };
        // Those that start first and go on running (native sidecars) are like any other.
        let goes_on = |container: &&Node| text(container, "restartPolicy") == "Always";
        let running: Vec<&Node> = containers("containers")
            .chain(containers("initContainers").filter(goes_on))
            .collect();
        let is = |image: &str, name: &str| {
            let rest = image.strip_prefix("docker.io/").unwrap_or(image);
            let rest = rest.strip_prefix(name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        };
        let linkerd = |container: &&Node| {
            let image = text(container, "image");
            is(&image, "buoyantio/linkerd") || is(&image, "linkerd/linkerd")
        };
        let redirects = |container: &Node| is(&text(container, "image"), "linkerd/istio-init");
        if running.iter().any(linkerd) {
            return ProxyFound::NodeProxy;
        }
        if label(annotations, LINKERD_INJECTED).is_some()
            || containers("initContainers").any(redirects)
        {
            return ProxyFound::Node;
        }
        let template = label(annotations, "inject.istio.io/templates");
        let names: Vec<String> = running.iter().map(|one| text(one, "name")).collect();
        if template.is_some_and(|name| &**name == "gateway") || names == ["istio-proxy"] {
            return ProxyFound::Gateway;
        }
        match names.iter().any(|name| name == "istio-proxy") {
            true => ProxyFound::Sidecar,
            false => ProxyFound::Nothing,
        }
    }
}

impl NamespaceFacts {
    /// Of a namespace with those labels.
    pub fn of(name: &str, labels: &[(Name, Name)]) -> NamespaceFacts {
        NamespaceFacts {
            ignored: IGNORED_NAMESPACES.contains(&name),
            injection: label(labels, NAMESPACE_INJECTION).cloned(),
            revision: label(labels, REVISION).cloned(),
        }
    }
}

impl Default for Injector {
    /// Istio's default profile.
    fn default() -> Injector {
        Injector {
            enabled: true,
            never: Vec::new(),
            always: Vec::new(),
            namespaces_by_default: false,
        }
    }
}

impl Injector {
    /// The one of rehearsals: manifests leave the labels of namespaces out.
    pub fn of_rehearsals() -> Injector {
        Injector {
            namespaces_by_default: true,
            ..Injector::default()
        }
    }

    /// With what the `config` of a ConfigMap `istio-sidecar-injector` says.
    pub fn configured(self, config: &Node, diagnostics: &mut Vec<Diagnostic>) -> Injector {
        let mut selectors = |key: &str| -> Vec<LabelSelector> {
            let list = config.at(&[key]).and_then(Node::as_seq);
            let list = list.unwrap_or_default().iter();
            list.filter_map(|node| LabelSelector::read(node, diagnostics))
                .collect()
        };
        Injector {
            never: selectors("neverInjectSelector"),
            always: selectors("alwaysInjectSelector"),
            enabled: config.at(&["policy"]).and_then(Node::as_scalar) != Some("disabled"),
            ..self
        }
    }

    /// The proxy that a pod in a namespace ends up with, and why.
    pub fn decide(&self, pod: &PodFacts, namespace: &NamespaceFacts) -> (ProxyKind, Reason) {
        let found = match pod.proxy {
            ProxyFound::Nothing => None,
            ProxyFound::Sidecar => Some(ProxyKind::Sidecar),
            ProxyFound::Gateway => Some(ProxyKind::Gateway),
            ProxyFound::NodeProxy => Some(ProxyKind::NodeProxy(Router::Outgoing)),
            ProxyFound::Node => Some(ProxyKind::Node),
        };
        if let Some(found) = found {
            return (found, Reason::Found(pod.proxy));
        }
        let (injected, reason) = self.injects(pod, namespace);
        match injected {
            true => (ProxyKind::Sidecar, reason),
            false => (ProxyKind::None, reason),
        }
    }

    fn injects(&self, pod: &PodFacts, namespace: &NamespaceFacts) -> (bool, Reason) {
        // It would catch the traffic of the whole node.
        if pod.host_network {
            return (false, Reason::HostNetwork);
        }
        if namespace.ignored {
            return (false, Reason::IgnoredNamespace);
        }
        let asks = pod.asks();
        // The webhook is called for a pod by the labels of its namespace, or by its own.
        let called_by = match (&namespace.injection, &namespace.revision) {
            (Some(text), _) if &**text != "enabled" => return (false, Reason::NamespaceLabel),
            (Some(_), _) => Reason::NamespaceLabel,
            (None, Some(_)) => Reason::NamespaceRevision,
            (None, None) => match asks {
                Some((_, Reason::PodLabel)) => Reason::PodLabel,
                _ if label(&pod.labels, REVISION).is_some() => Reason::PodRevision,
                _ if self.namespaces_by_default => Reason::Unlabelled,
                _ => return (false, Reason::Unlabelled),
            },
        };
        if let Some(answer) = asks {
            return answer;
        }
        let chosen = |selectors: &[LabelSelector]| {
            let fits = |selector: &LabelSelector| selector.selects(&pod.labels);
            selectors.iter().position(fits)
        };
        match (chosen(&self.never), chosen(&self.always)) {
            (Some(at), _) => (false, Reason::Never(at)),
            (None, Some(at)) => (true, Reason::Always(at)),
            (None, None) if !self.enabled => (false, Reason::Policy),
            (None, None) => (true, called_by),
        }
    }
}
