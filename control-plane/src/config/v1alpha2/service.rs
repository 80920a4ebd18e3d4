//! How rules of 2017 name services.

use super::Spelling;
use crate::config::syntax::{demand_of, dns_label, host_name, wildcard_host};
use crate::config::{Labels, Named, named, named_node, refuse, selection};
use crate::names::DOMAIN;
use source::{Diagnostic, Fields, Node};

/// Istio 0.2 `IstioService`, or the full name of 0.1 with its tags.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceReference {
    /// In full.
    pub(crate) host: Named,
    pub(crate) labels: Labels,
}

impl ServiceReference {
    /// `key` of a rule in `namespace`.
    pub(super) fn read(
        fields: &mut Fields<'_, '_>,
        key: &'static str,
        spelling: Spelling,
        namespace: &str,
    ) -> Option<ServiceReference> {
        let node = fields.optional(key)?;
        ServiceReference::of(node, key, spelling, namespace, fields.diagnostics)
    }

    pub(super) fn of(
        node: &Node,
        key: &str,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ServiceReference> {
        match spelling {
            Spelling::V01 => {
                let host = named_node(node, key, diagnostics)?;
                demand_of(
                    diagnostics,
                    &host,
                    "the full name of a service",
                    host_name(&host.text),
                );
                Some(ServiceReference {
                    host,
                    labels: Vec::new(),
                })
            }
            Spelling::V02 => read_istio_service(node, namespace, diagnostics),
        }
    }

    /// Labels that rules of such a kind may not have here.
    pub(super) fn without_labels(
        &self,
        what: &str,
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if !self.labels.is_empty() {
            let message = format!("the destination of {what} has no labels");
            let place = node.at(&["labels"]).unwrap_or(node);
            refuse(diagnostics, &place.span, message, "labels are of `route`");
        }
    }
}

fn read_istio_service(
    node: &Node,
    namespace: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ServiceReference> {
    let mut fields = Fields::of(node, "a service", diagnostics)?;
    let filled = |named: &Named| !named.text.is_empty();
    let name = named(&mut fields, "name").filter(filled);
    let service = named(&mut fields, "service").filter(filled);
    let of_namespace = named(&mut fields, "namespace").filter(filled);
    let domain = named(&mut fields, "domain").filter(filled);
    let labels = selection::valid_labels(&mut fields, "labels");
    for part in [&name, &of_namespace].into_iter().flatten() {
        demand_of(
            fields.diagnostics,
            part,
            "part of a service's name",
            dns_label(&part.text),
        );
    }
    if let Some(domain) = &domain {
        demand_of(
            fields.diagnostics,
            domain,
            "a domain",
            host_name(&domain.text),
        );
    }
    let complaint = match (&name, &service) {
        (None, None) => Some(("a service needs `name` or `service`", &node.span)),
        (Some(_), Some(service)) => {
            Some(("a service has either `name` or `service`", &service.span))
        }
        _ => None,
    };
    if let Some((message, span)) = complaint {
        refuse(fields.diagnostics, span, message, "which one is meant?");
    }
    if let (Some(service), None) = (&service, &name) {
        demand_of(
            fields.diagnostics,
            service,
            "a host",
            wildcard_host(&service.text),
        );
        for (key, part) in [("namespace", &of_namespace), ("domain", &domain)] {
            if let Some(part) = part {
                let message = format!("`{key}` goes with `name`, not with `service`");
                refuse(
                    fields.diagnostics,
                    &part.span,
                    message,
                    "`service` is in full",
                );
            }
        }
    }
    fields.finish();
    let (text, span) = match (service, name) {
        (Some(service), _) => (service.text, service.span),
        (None, Some(name)) => {
            let of = of_namespace.as_ref().map_or(namespace, |of| &of.text);
            // As Pilot has it: a domain that is stated does not follow `svc`.
            let domain = domain.map_or(DOMAIN.into(), |domain| domain.text);
            (format!("{}.{of}.{domain}", name.text).into(), name.span)
        }
        (None, None) => return None,
    };
    Some(ServiceReference {
        host: Named { text, span },
        labels,
    })
}
