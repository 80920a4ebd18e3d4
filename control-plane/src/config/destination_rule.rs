//! DestinationRule.

use super::selection::{selector, valid_labels};
use super::syntax::{demand_of, dns_label, wildcard_host};
use super::{ExportTo, Exporter, Labels, Named, TrafficPolicy, required_named};
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
        if let Some(host) = &host {
            demand_of(
                fields.diagnostics,
                host,
                "a host",
                wildcard_host(&host.text),
            );
        }
        let policy = fields
            .optional("trafficPolicy")
            .and_then(|node| TrafficPolicy::read(node, namespace, fields.diagnostics));
        let subsets: Vec<Subset> = fields
            .list("subsets")
            .iter()
            .filter_map(|node| Subset::read(node, namespace, fields.diagnostics))
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
        let workload_selector = selector(&mut fields, "workloadSelector", "matchLabels");
        let exporter = match workload_selector {
            Some(_) => Exporter::SelectingRule,
            None => Exporter::Rule,
        };
        let export_to = ExportTo::read(&mut fields, namespace, exporter);
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
    fn read(node: &Node, namespace: &Name, diagnostics: &mut Vec<Diagnostic>) -> Option<Subset> {
        let mut fields = Fields::of(node, "a subset", diagnostics)?;
        let name = required_named(&mut fields, "name");
        if let Some(name) = &name {
            let verdict = dns_label(&name.text);
            demand_of(fields.diagnostics, name, "the name of a subset", verdict);
        }
        let labels = valid_labels(&mut fields, "labels");
        let policy = fields
            .optional("trafficPolicy")
            .and_then(|node| TrafficPolicy::read(node, namespace, fields.diagnostics));
        fields.finish();
        Some(Subset {
            name: name?,
            labels,
            policy,
        })
    }
}
