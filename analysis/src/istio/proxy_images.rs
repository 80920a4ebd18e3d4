//! Sidecars of another image than is injected now (IST0158).

use super::injection::{injector, values};
use super::input::{Input, Report};
use super::workloads::{INJECTION, PROXY, REVISION, all_containers};
use crate::codes::IST0158;
use crate::documents::{CONFIG_MAP, Document, NAMESPACE, POD, PROXY_CONFIG};
use crate::read::{entries, present, text};
use crate::selector::Selector;
use source::{Dialect, SourceFile, parse};
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let injectors = input
        .of(CONFIG_MAP)
        .filter(|map| map.name.starts_with(&injector("")));
    let images: BTreeMap<&str, String> = injectors.map(|map| (&*map.name, image(map))).collect();
    if images.is_empty() {
        return;
    }
    let variants = Variants::new(input);
    for namespace in input.of(NAMESPACE) {
        let enabled = namespace.label(INJECTION) == Some("enabled");
        let revision = match namespace.label(REVISION) {
            Some(revision) => revision,
            None if enabled => "default",
            None => continue,
        };
        let Some(image) = images.get(&*injector(revision)) else {
            continue;
        };
        let pods = input.of(POD).filter(|pod| pod.namespace == namespace.name);
        let mut others = BTreeSet::new();
        for pod in pods {
            let given = pod
                .annotation("sidecar.istio.io/proxyImage")
                .unwrap_or_default();
            let variant = format!("{image}-{}", variants.of(pod));
            let proxies = all_containers(&pod.node, &["spec"])
                .filter(|container| text(container, &["name"]) == PROXY);
            let mut images = proxies.map(|proxy| text(proxy, &["image"]));
            if given.is_empty() && images.any(|own| own != image && own != variant) {
                others.insert(&*pod.name);
            }
        }
        if others.is_empty() {
            continue;
        }
        let others: Vec<&str> = others.into_iter().collect();
        let diagnostic = IST0158
            .says(format!(
                "the sidecars of {} are of another image than `{image}`, which is injected now",
                others.join(", ")
            ))
            .at(namespace.place(), "has pods from before an upgrade")
            .help("restart the workloads");
        report.say_once(namespace, diagnostic);
    }
}

/// The image that an injector's ConfigMap names.
fn image(map: &Document) -> String {
    let Some(values) = values(map) else {
        return String::new();
    };
    let part = |path: &[&str]| text(&values, path).to_owned();
    let image = part(&["global", "proxy", "image"]);
    match image.contains('/') {
        true => image,
        false => format!(
            "{}/{image}:{}",
            part(&["global", "hub"]),
            part(&["global", "tag"])
        ),
    }
}

/// Which variant of the image a pod gets, such as `distroless`.
struct Variants<'n> {
    of_mesh: &'n str,
    of_namespaces: BTreeMap<&'n str, &'n str>,
    of_workloads: Vec<(&'n str, Selector<'n>, &'n str)>,
}

impl<'n> Variants<'n> {
    fn new(input: &'n Input<'_>) -> Variants<'n> {
        let mut variants = Variants {
            of_mesh: input.mesh_text(&["defaultConfig", "image", "imageType"]),
            of_namespaces: BTreeMap::new(),
            of_workloads: Vec::new(),
        };
        for document in input.of(PROXY_CONFIG) {
            let namespace = &*document.namespace;
            let variant = text(&document.node, &["spec", "image", "imageType"]);
            let selector = present(&document.node, &["spec", "selector"]);
            match selector.map(|node| Selector::of(entries(node, &["matchLabels"]))) {
                _ if variant.is_empty() => {}
                _ if namespace == input.root_namespace() => variants.of_mesh = variant,
                None => {
                    variants.of_namespaces.insert(namespace, variant);
                }
                Some(selector) => variants.of_workloads.push((namespace, selector, variant)),
            }
        }
        variants
    }

    /// The nearest that says something; empty for the usual image.
    fn of(&self, pod: &Document) -> String {
        let namespace = &*pod.namespace;
        let mut of_workload = self
            .of_workloads
            .iter()
            .rev()
            .filter(|(of, selector, _)| *of == namespace && selector.matches(pod.labels()));
        let variant = annotated(pod)
            .or_else(|| Some(of_workload.next()?.2.to_owned()))
            .or_else(|| Some((*self.of_namespaces.get(namespace)?).to_owned()))
            .unwrap_or_else(|| self.of_mesh.to_owned());
        match variant.as_str() {
            "default" => String::new(),
            _ => variant,
        }
    }
}

/// What the pod's own ProxyConfig says.
fn annotated(pod: &Document) -> Option<String> {
    let written = pod.annotation("proxy.istio.io/config")?;
    let (documents, _) = parse(&SourceFile::new("annotation", written), Dialect::Kubernetes);
    let variant = text(documents.first()?, &["image", "imageType"]);
    (!variant.is_empty()).then(|| variant.to_owned())
}
