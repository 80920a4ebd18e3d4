//! PeerAuthentication.

use super::selection::selector;
use super::{Labels, choice};
use source::{Diagnostic, Fields, Node};
use std::num::NonZeroU16;

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
        let selector = selector(&mut fields, "selector", "matchLabels").unwrap_or_default();
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
            let mut entries = inner.rest().peekable();
            if entries.peek().is_none() {
                inner.diagnostics.push(
                    Diagnostic::error("`portLevelMtls` has at least one port")
                        .at(&node.span, "no port"),
                );
            }
            for entry in entries {
                match entry.key.parse::<NonZeroU16>() {
                    Ok(port) => {
                        ports.push((port.get(), read_mode(&entry.value, inner.diagnostics)));
                    }
                    Err(_) => inner.diagnostics.push(
                        Diagnostic::error("the keys of `portLevelMtls` are ports, 1 to 65535")
                            .at(&entry.key_span, format!("found `{}`", entry.key)),
                    ),
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
