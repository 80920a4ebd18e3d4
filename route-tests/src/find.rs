//! What the files below a path are: tests of which format, scenarios, configuration.

use crate::configuration::cleaned;
use source::{Diagnostic, Dialect, Node, SourceFile, nearest};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tests in meshsim's own format.
    RouteTests,
    /// Tests of istio-config-validator.
    ValidatorTests,
    /// Tests of Envoy's route table check tool.
    RouterCheckTests,
    Scenario,
    /// Envoy's `RouteConfiguration`.
    RouteConfiguration,
    /// Istio's and Kubernetes' objects.
    Objects,
}

/// A file that is for something.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) file: Arc<SourceFile>,
    pub(crate) documents: Vec<Node>,
}

/// The keys that tell: the first that a document has.
const KEYS: [(&str, Kind); 10] = [
    ("apiVersion", Kind::Objects),
    ("kind", Kind::Objects),
    ("route_tests", Kind::RouteTests),
    ("testCases", Kind::ValidatorTests),
    ("tests", Kind::RouterCheckTests),
    ("virtual_hosts", Kind::RouteConfiguration),
    ("virtualHosts", Kind::RouteConfiguration),
    ("vhds", Kind::RouteConfiguration),
    ("traffic", Kind::Scenario),
    ("topology", Kind::Scenario),
];

/// Every file at `path` that is for something: a file, all of a folder and the folders in it, or `-` for
/// standard input. What cannot be read is reported.
pub(crate) fn find(path: &Path, diagnostics: &mut Vec<Diagnostic>) -> Vec<Found> {
    let path = &cleaned(path);
    if !path.is_dir() {
        let files = sim::plan::read_sources(path, None, diagnostics);
        let found = files
            .iter()
            .filter_map(|file| of_file(file, true, diagnostics));
        return found.collect();
    }
    let mut paths = Vec::new();
    walk(path, &mut paths, diagnostics);
    if paths.is_empty() {
        let message = format!("{}: no YAML file in this folder", path.display());
        diagnostics.push(Diagnostic::error(message));
    }
    let mut found = Vec::new();
    for path in paths {
        for file in sim::plan::read_sources(&path, None, diagnostics) {
            found.extend(of_file(&file, false, diagnostics));
        }
    }
    found
}

/// The files of a folder and those of the folders in it, in order of name.
fn walk(folder: &Path, paths: &mut Vec<PathBuf>, diagnostics: &mut Vec<Diagnostic>) {
    let mut unreadable = |error| {
        let message = format!("{}: {error}", folder.display());
        diagnostics.push(Diagnostic::error(message));
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return unreadable(error),
    };
    let mut inside: Vec<PathBuf> = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => inside.push(entry.path()),
            Err(error) => unreadable(error),
        }
    }
    inside.sort();
    for path in inside {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            // A link to a folder may lead back.
            if !path.is_symlink() {
                walk(&path, paths, diagnostics);
            }
            continue;
        }
        let extension = path.extension().and_then(|e| e.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            paths.push(cleaned(&path));
        }
    }
}

/// `named`: the user named the file itself, so that it has to be for something.
fn of_file(
    file: &Arc<SourceFile>,
    named: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Found> {
    let (documents, problems) = source::parse(file, Dialect::Yaml12);
    let kind = documents.iter().find_map(kind_of);
    // Objects are read again, in the way of Kubernetes.
    if kind != Some(Kind::Objects) {
        diagnostics.extend(problems.iter().cloned());
    }
    if let Some(kind) = kind {
        return Some(Found {
            kind,
            file: Arc::clone(file),
            documents,
        });
    }
    if problems.is_empty() {
        diagnostics.extend(useless(file, &documents, named));
    }
    None
}

fn kind_of(document: &Node) -> Option<Kind> {
    let map = document.as_map()?;
    let mut keys = KEYS.iter();
    let found = keys.find(|(key, _)| map.get(key).is_some());
    found.map(|(_, kind)| *kind)
}

/// What to say of a file that is for nothing.
fn useless(file: &Arc<SourceFile>, documents: &[Node], named: bool) -> Option<Diagnostic> {
    let message = format!("{}: neither tests nor configuration", file.name);
    let keys = documents.iter().filter_map(Node::as_map);
    let mut keys = keys.flat_map(|map| &map.entries);
    let known = || KEYS.iter().map(|(key, _)| *key);
    let meant = keys.find_map(|entry| Some((entry, nearest(&entry.key, known())?)));
    match meant {
        Some((entry, key)) => Some(
            Diagnostic::error(message)
                .at(&entry.key_span, "not a key of any format")
                .help(format!("did you mean `{key}`?")),
        ),
        None if named => Some(Diagnostic::error(message).help(
            "tests have `route_tests`, `testCases` (istio-config-validator) or `tests` (Envoy's \
             route table check tool) at the top",
        )),
        None => documents
            .first()
            .map(|first| Diagnostic::note(message).at(&first.span, "passed over")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of_text(text: &str, named: bool) -> (Option<Kind>, Vec<String>) {
        let mut diagnostics = Vec::new();
        let file = SourceFile::new("a.yaml", text);
        let found = of_file(&file, named, &mut diagnostics);
        let said = diagnostics.iter().map(|one| {
            let help = one.help.clone().unwrap_or_default();
            format!("{}: {} {help}", one.level, one.message)
        });
        (found.map(|found| found.kind), said.collect())
    }

    #[test]
    fn keys_tell_what_a_file_is_for() {
        for (text, kind) in [
            ("route_tests: []", Kind::RouteTests),
            (
                "# none\n---\ntestCases: []\n---\ntestCases: []",
                Kind::ValidatorTests,
            ),
            ("{\"tests\": []}", Kind::RouterCheckTests),
            ("virtualHosts: []", Kind::RouteConfiguration),
            ("name: x\ntraffic: {}", Kind::Scenario),
            ("kind: Service\ntests: 1", Kind::Objects),
        ] {
            assert_eq!(of_text(text, true), (Some(kind), Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_for_nothing_is_told() {
        let (none, said) = of_text("testcases: []", false);
        assert_eq!(none, None);
        assert_eq!(
            said[0],
            "error: a.yaml: neither tests nor configuration did you mean `testCases`?"
        );
        assert!(of_text("rootNamespace: x", false).1[0].starts_with("note: "));
        assert!(of_text("rootNamespace: x", true).1[0].starts_with("error: "));
        assert!(of_text("a: [", false).1[0].starts_with("error: not YAML"));
        assert_eq!(of_text("", false), (None, Vec::new()));
    }
}
