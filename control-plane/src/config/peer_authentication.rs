//! PeerAuthentication.

use super::{Labels, choice, read_selector};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// Istio `PeerAuthentication`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PeerAuthentication {
    /// Empty: the whole namespace.
    pub(crate) selector: Labels,
    /// `None`: inherited.
    pub(crate) mode: Option<MutualTls>,
    /// By port of the workload.
    pub(crate) ports: Vec<(u16, Option<MutualTls>)>,
}

/// Istio `PeerAuthentication.MutualTLS.Mode`: what a workload accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MutualTls {
    Disable,
    Permissive,
    Strict,
}

impl PeerAuthentication {
    pub(crate) fn read(
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<PeerAuthentication> {
        let mut fields = Fields::of(node, "a PeerAuthentication", diagnostics)?;
        let mut selector = Labels::new();
        if let Some(node) = fields.optional("selector") {
            selector = read_selector(node, fields.diagnostics);
        }
        let mode = fields
            .optional("mtls")
            .and_then(|node| read_mode(node, fields.diagnostics));
        let mut ports = Vec::new();
        if let Some(node) = fields.optional("portLevelMtls") {
            if selector.is_empty() {
                fields.diagnostics.push(
                    Diagnostic::error("`portLevelMtls` needs a selector")
                        .at(&node.span, "ports of which workload?"),
                );
            }
            let mut inner = Fields::of(node, "port-level settings", fields.diagnostics)?;
            if node.as_map().is_some_and(|map| map.entries.is_empty()) {
                let want = "`portLevelMtls` has at least one port";
                inner.diagnostics.push(expected(node, want));
            }
            for entry in inner.rest() {
                match entry.key.parse() {
                    Ok(port) if port > 0 => {
                        ports.push((port, read_mode(&entry.value, inner.diagnostics)))
                    }
                    _ => inner
                        .diagnostics
                        .push(expected(&entry.value, "the keys are port numbers")),
                }
            }
        }
        fields.finish();
        Some(PeerAuthentication {
            selector,
            mode,
            ports,
        })
    }
}

fn read_mode(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<MutualTls> {
    let mut fields = Fields::of(node, "mutual TLS settings", diagnostics)?;
    let modes = [
        ("UNSET", None),
        ("DISABLE", Some(MutualTls::Disable)),
        ("PERMISSIVE", Some(MutualTls::Permissive)),
        ("STRICT", Some(MutualTls::Strict)),
    ];
    let mode = choice(&mut fields, "mode", &modes);
    fields.finish();
    mode.flatten()
}
