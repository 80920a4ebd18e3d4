//! Configuration from files, and a proxy of it.

use crate::args::ConfigArgs;
use control_plane::{
    ControlPlane, Objects, ProxyIdentity, PushSettings, Request, Resources, allow_invalid,
};
use scenarios::model::Scenario;
use source::{Diagnostic, Dialect, SourceFile};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every object of the files, with the MeshConfig. A scenario stands for the objects that it starts
/// with.
pub(crate) fn objects(args: &ConfigArgs, diagnostics: &mut Vec<Diagnostic>) -> Objects {
    let mut objects = Objects::default();
    for file in sources(&args.config, diagnostics) {
        if is_scenario(&file) {
            let scenario = scenario(&file, diagnostics);
            let starts_with = scenario.map(|scenario| sim::plan::objects(&scenario, diagnostics));
            objects.apply(&starts_with.unwrap_or_default());
        } else {
            objects.apply(&Objects::read(&file, diagnostics));
        }
    }
    if let Some(data_plane) = args.data_plane {
        objects.set_data_plane(data_plane);
    }
    if args.allow_invalid {
        allow_invalid(diagnostics);
    }
    if let Some(path) = &args.mesh_config {
        sim::plan::set_mesh_config(&mut objects, path, diagnostics);
    }
    objects
}

/// Of a folder with a scenario, the scenario: it names the other files.
pub(crate) fn sources(
    paths: &[PathBuf],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<SourceFile>> {
    let mut sources = Vec::new();
    for path in paths {
        let scenario = path.join("scenario.yaml");
        let path = if scenario.is_file() { &scenario } else { path };
        sources.extend(sim::plan::read_sources(path, None, diagnostics));
    }
    sources
}

/// A scenario has none of the keys that every object of a cluster has.
pub(crate) fn is_scenario(file: &Arc<SourceFile>) -> bool {
    // Spares a large dump a second reading.
    if !["traffic", "topology"]
        .iter()
        .any(|key| names_key(&file.text, key))
    {
        return false;
    }
    let (documents, _) = source::parse(file, Dialect::Yaml12);
    let Some(map) = documents.first().and_then(source::Node::as_map) else {
        return false;
    };
    map.get("kind").is_none() && (map.get("traffic").is_some() || map.get("topology").is_some())
}

/// Whether that key may stand there.
fn names_key(text: &str, key: &str) -> bool {
    text.match_indices(key).any(|(at, _)| {
        let ends = |c: char| c.is_whitespace() || matches!(c, '{' | ',' | ':' | '"' | '\'');
        let (before, after) = (&text[..at], &text[at + key.len()..]);
        before.chars().next_back().is_none_or(ends) && after.starts_with(ends)
    })
}

/// The scenario of a file that has one.
pub(crate) fn scenario(
    file: &Arc<SourceFile>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let folder = Path::new(&*file.name).parent().unwrap_or(Path::new(""));
    scenarios::parse(file, folder, diagnostics)
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
    control_plane(objects).resources(proxy)
}

/// The control plane of a cluster with `objects`.
pub(crate) fn control_plane(objects: Objects) -> ControlPlane {
    let pods = objects.pods();
    ControlPlane::new(PushSettings::default(), objects, pods)
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
