//! Istio's analyzers, as `istioctl analyze` runs them.

use crate::documents::{Documents, Kind};
use source::{Diagnostic, Node};

/// One analyzer of Istio's.
pub struct Analyzer {
    /// As `istioctl analyze --analyzer` names it.
    pub name: &'static str,
    /// The kinds that it looks at.
    pub reads: &'static [Kind],
    run: fn(&Input<'_>, &mut Vec<Diagnostic>),
}

/// What there is besides the objects.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// The MeshConfig; else that of the `istio` ConfigMap among the objects, else Istio's defaults.
    pub mesh_config: Option<&'a Node>,
    /// The MeshNetworks, in the same way.
    pub mesh_networks: Option<&'a Node>,
    /// Only analyzers of these names; all if empty.
    pub only: &'a [String],
}

/// What analyzers look at.
#[allow(dead_code)]
struct Input<'a> {
    documents: &'a Documents,
    settings: Settings<'a>,
}

/// Every analyzer, in Istio's order.
pub const ANALYZERS: &[Analyzer] = &[];

/// What Istio's analyzers say of the objects, each thing once. What validation says (IST0106, IST0133
/// and others) comes from reading them: `control_plane::Objects::read`.
pub fn analyze(documents: &Documents, settings: &Settings<'_>, diagnostics: &mut Vec<Diagnostic>) {
    let input = Input {
        documents,
        settings: *settings,
    };
    let only = settings.only;
    for analyzer in ANALYZERS {
        if only.is_empty() || only.iter().any(|name| name == analyzer.name) {
            (analyzer.run)(&input, diagnostics);
        }
    }
}
