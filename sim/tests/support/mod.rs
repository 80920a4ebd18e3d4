//! Plans from scenario text and files.
#![allow(clippy::unwrap_used, clippy::panic)]

use sim::{Overrides, Plan};
use source::SourceFile;
use std::path::{Path, PathBuf};

/// The repository's folder.
#[allow(dead_code)]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The plan of a scenario's text, with `sets` written over it.
pub fn plan_of(name: &str, text: &str, folder: &Path, sets: &[(&str, String)]) -> Plan {
    let sets: Vec<_> = sets
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()))
        .collect();
    let mut diagnostics = Vec::new();
    let scenario = scenarios::parse_with(
        &SourceFile::new(name, text),
        folder,
        &sets,
        &mut diagnostics,
    );
    let plan = scenario.and_then(|s| Plan::new(&s, Overrides::default(), &mut diagnostics));
    plan.unwrap_or_else(|| panic!("{}", source::render(&diagnostics, false)))
}

/// The shipped scenarios, by name.
#[allow(dead_code)]
pub fn library() -> Vec<(String, Plan)> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("scenarios/library"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let plan = |folder: &PathBuf| {
        let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        (name.clone(), plan_of(&name, &text, folder, &[]))
    };
    folders.iter().map(plan).collect()
}
