//! Configuration from files, and a proxy of it.

use crate::args::ConfigArgs;
use control_plane::{
    ControlPlane, MeshConfig, Objects, ProxyIdentity, PushSettings, Request, Resources,
    allow_invalid,
};
use source::{Diagnostic, SourceFile};
use std::path::Path;
use std::sync::Arc;

const SCENARIO: &str = "scenario.yaml";

/// Every object of the files, with the MeshConfig.
pub(crate) fn objects(args: &ConfigArgs, diagnostics: &mut Vec<Diagnostic>) -> Objects {
    let mut objects = Objects::default();
    for path in &args.config {
        if is_scenario(path) {
            let scenario = sim::plan::read_scenario(path, &[], diagnostics);
            let starts_with = scenario.map(|scenario| sim::plan::objects(&scenario, diagnostics));
            objects.apply(&starts_with.unwrap_or_default());
            continue;
        }
        for file in sim::plan::read_sources(path, None, diagnostics) {
            objects.apply(&Objects::read(&file, diagnostics));
        }
    }
    if args.allow_invalid {
        allow_invalid(diagnostics);
    }
    if let Some(path) = &args.mesh_config {
        for file in sim::plan::read_sources(path, None, diagnostics) {
            objects.set_mesh_config(MeshConfig::parse(&file.name, &file.text, diagnostics));
        }
    }
    objects
}

/// A scenario stands for the objects that it starts with.
fn is_scenario(path: &Path) -> bool {
    path.ends_with(SCENARIO) || path.join(SCENARIO).is_file()
}

/// The proxy meant by `--as`.
pub(crate) fn proxy(
    objects: &Objects,
    name: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ProxyIdentity> {
    let found = objects.proxy(name);
    let found = found.map_err(|mut problem| {
        problem.message.insert_str(0, "--as: ");
        diagnostics.push(problem);
    });
    found.ok()
}

/// What the control plane tells `proxy`.
pub(crate) fn resources(objects: Objects, proxy: &ProxyIdentity) -> Resources {
    let pods = objects.pods();
    ControlPlane::new(PushSettings::default(), objects, pods).resources(proxy)
}

/// The requests of a file, one JSON object a line.
pub(crate) fn read_requests(
    file: &Arc<SourceFile>,
    requests: &mut Vec<Request>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let range = start..start + line.trim_end().len();
        start += line.len();
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(request) => requests.push(request),
            Err(error) => {
                // The place is told by the diagnostic.
                let problem = error.to_string();
                let what = problem.split(" at line ").next().unwrap_or_default();
                let diagnostic = Diagnostic::error("a line is a request as a JSON object");
                diagnostics.push(diagnostic.at(&file.span(range), what));
            }
        }
    }
}
