//! Policies whose selectors do not reach gateways of the Gateway API (IST0166), and kinds of it that are
//! too old (IST0176).

use super::input::{Input, Report};
use crate::codes::{IST0166, IST0176};
use crate::documents::{
    AUTHORIZATION_POLICY, CUSTOM_RESOURCE_DEFINITION, Document, POD, REQUEST_AUTHENTICATION,
    TELEMETRY, WASM_PLUGIN,
};
use crate::read::{entries, present};
use crate::selector::Selector;
use std::collections::BTreeMap;

const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

pub(super) fn analyze_selectors(input: &Input<'_>, report: &mut Report<'_>) {
    let mut pods: BTreeMap<&str, Vec<(&Document, &str)>> = BTreeMap::new();
    for pod in input.of(POD) {
        if let Some(gateway) = pod.label(GATEWAY_NAME) {
            pods.entry(&pod.namespace).or_default().push((pod, gateway));
        }
    }
    for kind in [
        AUTHORIZATION_POLICY,
        REQUEST_AUTHENTICATION,
        TELEMETRY,
        WASM_PLUGIN,
    ] {
        for policy in input.of(kind) {
            let Some(node) = present(&policy.node, &["spec", "selector"]) else {
                continue;
            };
            if present(&policy.node, &["spec", "targetRef"]).is_some() {
                continue;
            }
            let selector = Selector::of(entries(node, &["matchLabels"]));
            let of_namespace = pods.get(&*policy.namespace).into_iter().flatten();
            for (_, gateway) in of_namespace.filter(|(pod, _)| selector.matches(pod.labels())) {
                let diagnostic = IST0166
                    .says(format!(
                        "the selector takes pods of Gateway {gateway}, and has no effect on them"
                    ))
                    .at(&node.span, "gateways of the Gateway API are not selected")
                    .help(format!(
                        "write `targetRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, \
                         name: {gateway}}}]` instead"
                    ));
                report.say_once(policy, diagnostic);
            }
        }
    }
}

/// The versions of the Gateway API's bundle from which Istio reads a kind.
const MINIMUM: [(&str, [u64; 3]); 4] = [
    ("grpcroutes.gateway.networking.k8s.io", [1, 1, 0]),
    ("backendtlspolicies.gateway.networking.k8s.io", [1, 4, 0]),
    ("tlsroutes.gateway.networking.k8s.io", [1, 5, 0]),
    ("tcproutes.gateway.networking.k8s.io", [1, 6, 0]),
];

pub(super) fn analyze_versions(input: &Input<'_>, report: &mut Report<'_>) {
    for document in input.of(CUSTOM_RESOURCE_DEFINITION) {
        let minimum = MINIMUM.iter().find(|(name, _)| *name == document.name);
        let written = document
            .annotations()
            .iter()
            .find(|entry| entry.key == "gateway.networking.k8s.io/bundle-version");
        let (Some((_, minimum)), Some(written)) = (minimum, written) else {
            continue;
        };
        let installed = written.value.as_scalar().unwrap_or_default();
        if version(installed).is_some_and(|installed| installed < *minimum) {
            let [major, minor, patch] = minimum;
            let diagnostic = IST0176
                .says(format!(
                    "Istio reads {} from version {major}.{minor}.{patch} on, this is {installed}",
                    document.name
                ))
                .at(&written.value.span, "its objects have no effect")
                .help("install a newer version of the Gateway API");
            report.say_once(document, diagnostic);
        }
    }
}

/// `v1.2.3`, `1.2`; what is before a release counts as the release.
fn version(text: &str) -> Option<[u64; 3]> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let release = text.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = [0; 3];
    for (at, part) in release.split('.').enumerate() {
        *numbers.get_mut(at)? = part.parse().ok()?;
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn versions() {
        assert_eq!(version("v1.4.0-rc.1"), Some([1, 4, 0]));
        assert_eq!(version("1.4"), Some([1, 4, 0]));
        assert_eq!(version("v1.4.0.1"), None);
        assert_eq!(version("main"), None);
    }
}
