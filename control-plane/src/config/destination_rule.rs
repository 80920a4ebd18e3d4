//! DestinationRule.

use super::{ExportTo, Labels, Named, TrafficPolicy, labels, required_named};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// Istio `DestinationRule`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DestinationRule {
    pub(crate) host: Named,
    pub(crate) policy: Option<TrafficPolicy>,
    pub(crate) subsets: Vec<Subset>,
    pub(crate) export_to: ExportTo,
    pub(crate) workload_selector: Option<Labels>,
}

/// Istio `Subset`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Subset {
    pub(crate) name: Named,
    pub(crate) labels: Labels,
    pub(crate) policy: Option<TrafficPolicy>,
}

impl DestinationRule {
    pub(crate) fn read(
        node: &Node,
        namespace: &Name,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<DestinationRule> {
        let mut fields = Fields::of(node, "a DestinationRule", diagnostics)?;
        let host = required_named(&mut fields, "host");
        let policy = fields
            .optional("trafficPolicy")
            .and_then(|node| TrafficPolicy::read(node, fields.diagnostics));
        let subsets: Vec<Subset> = fields
            .list("subsets")
            .iter()
            .filter_map(|node| Subset::read(node, fields.diagnostics))
            .collect();
        for (at, subset) in subsets.iter().enumerate() {
            if subsets[..at]
                .iter()
                .any(|earlier| earlier.name == subset.name)
            {
                let message = format!("subset `{}` is there twice", subset.name.text);
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(&subset.name.span, "the second one"));
            }
        }
        let export_to = ExportTo::read(&mut fields, namespace);
        let workload_selector = match fields.optional("workloadSelector") {
            Some(node) => {
                let mut inner = Fields::of(node, "a workload selector", fields.diagnostics)?;
                let wanted = labels(&mut inner, "matchLabels");
                inner.finish();
                Some(wanted)
            }
            None => None,
        };
        fields.finish();
        Some(DestinationRule {
            host: host?,
            policy,
            subsets,
            export_to,
            workload_selector,
        })
    }
}

impl Subset {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Subset> {
        let mut fields = Fields::of(node, "a subset", diagnostics)?;
        let name = required_named(&mut fields, "name");
        let labels = labels(&mut fields, "labels");
        let policy = fields
            .optional("trafficPolicy")
            .and_then(|node| TrafficPolicy::read(node, fields.diagnostics));
        fields.finish();
        Some(Subset {
            name: name?,
            labels,
            policy,
        })
    }
}
