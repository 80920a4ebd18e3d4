//! Istio's annotations on Namespaces, Services, Pods and Deployments: unknown, misplaced, deprecated or
//! with values that Istio does not understand (IST0107, IST0108, IST0125, IST0135).

use super::annotation_values::problem;
use super::input::{Input, Report};
use super::workloads::INJECT;
use crate::codes::{IST0107, IST0108, IST0125, IST0135};
use crate::documents::{DEPLOYMENT, Document, NAMESPACE, POD, SERVICE};
use source::node::Entry;

/// An annotation that Istio knows.
struct Known {
    name: &'static str,
    /// The kinds that it is for; empty if it is for all.
    kinds: &'static [&'static str],
    deprecated: bool,
}

const fn known(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        name,
        kinds,
        deprecated: false,
    }
}

const fn deprecated(name: &'static str, kinds: &'static [&'static str]) -> Known {
    Known {
        name,
        kinds,
        deprecated: true,
    }
}

const ON_POD: &[&str] = &["Pod"];
const ON_GATEWAY: &[&str] = &["Gateway"];
const ON_SERVICE: &[&str] = &["Service"];
const ON_WORKLOAD_ENTRY: &[&str] = &["WorkloadEntry"];
const ON_HOSTS: &[&str] = &["Service", "ServiceEntry", "Namespace"];

/// Those of Istio's API (`annotation/annotations.yaml`).
const KNOWN: &[Known] = &[
    deprecated("alpha.istio.io/canonical-serviceaccounts", ON_SERVICE),
    deprecated("alpha.istio.io/kubernetes-serviceaccounts", ON_SERVICE),
    known("ambient.istio.io/bypass-inbound-capture", ON_POD),
    known("ambient.istio.io/dns-capture", ON_POD),
    known("ambient.istio.io/redirection", ON_POD),
    known(
        "ambient.istio.io/waypoint-inbound-binding",
        &["GatewayClass", "Gateway"],
    ),
    known("galley.istio.io/analyze-suppress", &[]),
    known("gateway.istio.io/name-override", ON_GATEWAY),
    known("gateway.istio.io/service-account", ON_GATEWAY),
    known("inject.istio.io/templates", ON_POD),
    known("istio.io/autoRegistrationGroup", ON_WORKLOAD_ENTRY),
    known("istio.io/connectedAt", ON_WORKLOAD_ENTRY),
    known("istio.io/disconnectedAt", ON_WORKLOAD_ENTRY),
    known("istio.io/dry-run", &["AuthorizationPolicy"]),
    known("istio.io/reroute-virtual-interfaces", ON_POD),
    known("istio.io/use-waypoint-canary-weight", ON_HOSTS),
    known("istio.io/workloadController", ON_WORKLOAD_ENTRY),
    known("kubernetes.io/ingress.class", &["Ingress"]),
    known("networking.istio.io/exportTo", ON_SERVICE),
    known("networking.istio.io/service-type", ON_GATEWAY),
    known("networking.istio.io/traffic-distribution", ON_HOSTS),
    known("prometheus.istio.io/merge-metrics", ON_POD),
    known("proxy.istio.io/config", ON_POD),
    known("proxy.istio.io/overrides", ON_POD),
    known("readiness.status.sidecar.istio.io/applicationPorts", ON_POD),
    known("readiness.status.sidecar.istio.io/failureThreshold", ON_POD),
    known(
        "readiness.status.sidecar.istio.io/initialDelaySeconds",
        ON_POD,
    ),
    known("readiness.status.sidecar.istio.io/periodSeconds", ON_POD),
    known("sidecar.istio.io/agentLogLevel", ON_POD),
    known("sidecar.istio.io/bootstrapOverride", ON_POD),
    known("sidecar.istio.io/componentLogLevel", ON_POD),
    deprecated("sidecar.istio.io/discoveryAddress", ON_POD),
    deprecated("sidecar.istio.io/extraStatTags", ON_POD),
    deprecated(INJECT, ON_POD),
    known("sidecar.istio.io/interceptionMode", ON_POD),
    known("sidecar.istio.io/logLevel", ON_POD),
    known("sidecar.istio.io/nativeSidecar", ON_POD),
    known("sidecar.istio.io/proxyCPU", ON_POD),
    known("sidecar.istio.io/proxyCPULimit", ON_POD),
    known("sidecar.istio.io/proxyImage", ON_POD),
    known("sidecar.istio.io/proxyImageType", ON_POD),
    known("sidecar.istio.io/proxyMemory", ON_POD),
    known("sidecar.istio.io/proxyMemoryLimit", ON_POD),
    known("sidecar.istio.io/rewriteAppHTTPProbers", ON_POD),
    deprecated("sidecar.istio.io/statsCompression", ON_POD),
    known("sidecar.istio.io/statsEvictionInterval", ON_POD),
    known("sidecar.istio.io/statsFlushInterval", ON_POD),
    known("sidecar.istio.io/statsHistogramBins", ON_POD),
    known("sidecar.istio.io/statsHistogramBuckets", ON_POD),
    deprecated("sidecar.istio.io/statsInclusionPrefixes", ON_POD),
    deprecated("sidecar.istio.io/statsInclusionRegexps", ON_POD),
    deprecated("sidecar.istio.io/statsInclusionSuffixes", ON_POD),
    known("sidecar.istio.io/userVolume", ON_POD),
    known("sidecar.istio.io/userVolumeMount", ON_POD),
    known("status.sidecar.istio.io/port", ON_POD),
    known("topology.istio.io/controlPlaneClusters", &["Namespace"]),
    known("traffic.istio.io/nodeSelector", ON_SERVICE),
    known("traffic.sidecar.istio.io/excludeInboundPorts", ON_POD),
    known("traffic.sidecar.istio.io/excludeInterfaces", ON_POD),
    known("traffic.sidecar.istio.io/excludeOutboundIPRanges", ON_POD),
    known("traffic.sidecar.istio.io/excludeOutboundPorts", ON_POD),
    known("traffic.sidecar.istio.io/includeInboundPorts", ON_POD),
    known("traffic.sidecar.istio.io/includeOutboundIPRanges", ON_POD),
    known("traffic.sidecar.istio.io/includeOutboundPorts", ON_POD),
    deprecated("traffic.sidecar.istio.io/kubevirtInterfaces", ON_POD),
];

/// What Istio itself sets.
const SET_BY_ISTIO: [&str; 3] = [
    "sidecar.istio.io/status",
    "gateway.istio.io/controller-version",
    "istio.io/rev",
];

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for kind in [NAMESPACE, SERVICE, POD, DEPLOYMENT] {
        for document in input.of(kind) {
            for annotation in document.annotations() {
                if is_istio(&annotation.key) && !SET_BY_ISTIO.contains(&&*annotation.key) {
                    check(document, annotation, report);
                }
            }
        }
    }
}

fn is_istio(name: &str) -> bool {
    let domain = name.split('/').next().unwrap_or_default();
    name == "kubernetes.io/ingress.class" || domain.ends_with("istio.io")
}

fn check(document: &Document, annotation: &Entry, report: &mut Report<'_>) {
    let name = &*annotation.key;
    let place = &annotation.key_span;
    let Some(known) = KNOWN.iter().find(|known| known.name == name) else {
        let diagnostic = IST0108
            .says(format!("Istio has no annotation `{name}`"))
            .at(place, "has no effect")
            .nearest(name, KNOWN.iter().map(|known| known.name));
        report.say(document, diagnostic);
        return;
    };
    if known.deprecated && !(name == INJECT && document.label(INJECT).is_some()) {
        let diagnostic = IST0135
            .says(format!("annotation `{name}` is deprecated"))
            .at(place, "may stop working in a later Istio");
        let diagnostic = match name == INJECT {
            true => diagnostic.help(format!("use the label `{INJECT}`")),
            false => diagnostic,
        };
        report.say(document, diagnostic);
    }
    if known.kinds.is_empty() {
        return;
    }
    if !known.kinds.contains(&document.kind.name) {
        let kinds = known.kinds.join(", ");
        let diagnostic = IST0107
            .says(format!(
                "annotation `{name}` is not for a {}",
                document.kind.name
            ))
            .at(place, "has no effect here");
        let diagnostic = match (document.kind == DEPLOYMENT, known.kinds) {
            (true, ["Pod"]) => {
                diagnostic.help("it is for Pods: put it below `spec.template.metadata.annotations`")
            }
            _ => diagnostic.help(format!("it is for: {kinds}")),
        };
        report.say(document, diagnostic);
        return;
    }
    let value = annotation.value.as_scalar().unwrap_or_default();
    if let Some(problem) = problem(name, value) {
        let diagnostic = IST0125
            .says(format!("`{value}` is no value of annotation `{name}`"))
            .at(&annotation.value.span, problem);
        report.say(document, diagnostic);
    }
}
