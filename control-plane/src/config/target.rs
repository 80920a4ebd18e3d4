//! Which workloads a policy is for.

use super::Labels;
use super::selection::{Reference, label, read_target};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields};

/// Label of the pods of a Gateway API gateway: its name.
pub(crate) const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// Istio `selector`, `targetRef`, `targetRefs`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    /// Empty: the whole namespace.
    Workloads(Labels),
    /// Names of the Gateways referred to; Services and waypoints have no proxy here.
    Gateways(Vec<Name>),
}

impl Target {
    /// Reads the three fields, of which one at most is there.
    pub(crate) fn read(fields: &mut Fields<'_, '_>) -> Target {
        let (selector, references) = read_target(fields);
        Target::of(selector, references, fields.diagnostics)
    }

    /// Without references, what is selected.
    pub(super) fn of(
        selector: Option<Labels>,
        references: Vec<Reference>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Target {
        if references.is_empty() {
            return Target::Workloads(selector.unwrap_or_default());
        }
        for other in references.iter().filter(|target| target.kind != "Gateway") {
            let message = format!("policies for a {} are not supported yet", other.kind);
            let label = "waypoints are not modelled: it has no effect here";
            diagnostics.push(Diagnostic::warning(message).at(&other.span, label));
        }
        let gateways = references
            .into_iter()
            .filter(|target| target.kind == "Gateway");
        Target::Gateways(gateways.map(|target| target.name).collect())
    }

    /// Whether a policy with this target in `namespace` is for a workload. Those of `root` are for
    /// workloads of every namespace.
    pub(crate) fn covers(
        &self,
        namespace: &str,
        root: &str,
        (workload_namespace, workload_labels): (&str, &Labels),
    ) -> bool {
        match self {
            Target::Workloads(selector) => {
                (namespace == root || namespace == workload_namespace)
                    && super::has_labels(workload_labels, selector)
            }
            Target::Gateways(names) => {
                let gateway = label(workload_labels, GATEWAY_NAME);
                namespace == workload_namespace
                    && gateway.is_some_and(|gateway| names.contains(gateway))
            }
        }
    }
}
