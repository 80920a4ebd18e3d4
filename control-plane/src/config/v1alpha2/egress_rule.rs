//! EgressRule.

use crate::config::syntax::{demand_of, wildcard_host};
use crate::config::{Named, named, port, refuse};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};
use std::collections::BTreeSet;

/// Istio `EgressRule`: a host outside the mesh that may be called.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EgressRule {
    /// `*`, `*.foo.com`, `foo.com`.
    pub(crate) host: Named,
    pub(crate) ports: Vec<(u16, EgressProtocol)>,
}

/// What is spoken to the host. Applications speak plain HTTP in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EgressProtocol {
    Http,
    Http2,
    /// The proxy begins TLS.
    Https,
}

impl EgressRule {
    /// The host however it is written.
    pub(crate) fn lower_host(&self) -> Name {
        self.host.text.to_ascii_lowercase().into()
    }

    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<EgressRule> {
        let mut fields = Fields::of(node, "an EgressRule", diagnostics)?;
        let destination = fields.required("destination");
        let host = destination.and_then(|node| read_destination(node, fields.diagnostics));
        fields.required("ports");
        let mut seen = BTreeSet::new();
        let mut ports = Vec::new();
        for node in fields.list("ports") {
            let Some(found) = read_port(node, fields.diagnostics) else {
                continue;
            };
            if !seen.insert(found.0) {
                let message = format!("port {} is there twice", found.0);
                refuse(fields.diagnostics, &node.span, message, "the second one");
            }
            ports.push(found);
        }
        if fields.list("ports").is_empty() {
            let place = fields.span().clone();
            refuse(
                fields.diagnostics,
                &place,
                "an EgressRule has ports",
                "none",
            );
        }
        if let (Some(true), Some(node)) = (
            fields.boolean("useEgressProxy"),
            fields.optional("useEgressProxy"),
        ) {
            let message = "Istio did not direct requests through an egress proxy";
            refuse(fields.diagnostics, &node.span, message, "refused by Pilot");
        }
        fields.finish();
        Some(EgressRule { host: host?, ports })
    }
}

/// Only `service` may be there.
fn read_destination(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Named> {
    let mut fields = Fields::of(node, "the destination of an EgressRule", diagnostics)?;
    for key in ["name", "namespace", "domain", "labels"] {
        if let Some(node) = fields.optional(key) {
            let message = format!("the destination of an EgressRule has no `{key}`");
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                "write the host as `service`",
            );
        }
    }
    fields.required("service");
    let host = named(&mut fields, "service");
    if let Some(host) = &host {
        demand_of(
            fields.diagnostics,
            host,
            "a host",
            wildcard_host(&host.text),
        );
    }
    fields.finish();
    host
}

fn read_port(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(u16, EgressProtocol)> {
    let mut fields = Fields::of(node, "a port", diagnostics)?;
    fields.required("port");
    let number = port(&mut fields, "port");
    let place = fields.required("protocol");
    let text = fields.text("protocol").unwrap_or_default();
    let protocol = match text.to_ascii_uppercase().as_str() {
        "HTTP" => Some(EgressProtocol::Http),
        "HTTP2" | "GRPC" => Some(EgressProtocol::Http2),
        "HTTPS" => Some(EgressProtocol::Https),
        _ => None,
    };
    if let (None, Some(node)) = (protocol, place) {
        let message = format!("an EgressRule knows no protocol `{text}`");
        let label = "one of http, https, http2, grpc";
        refuse(fields.diagnostics, &node.span, message, label);
    }
    fields.finish();
    Some((number?, protocol?))
}
