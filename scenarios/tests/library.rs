//! The shipped scenarios can be read, and everything they name is there.

#![allow(clippy::unwrap_used)]

use scenarios::model::{ConfigSource, Happening, Scenario};
use source::{SourceFile, render};
use std::path::{Path, PathBuf};

fn library() -> Vec<(String, Scenario)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("library");
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    folders.sort();
    let scenarios = folders.iter().map(|folder| {
        let text = std::fs::read_to_string(folder.join("scenario.yaml")).unwrap();
        let file = SourceFile::new(&folder.display().to_string(), &text);
        let mut diagnostics = Vec::new();
        let scenario = scenarios::parse(&file, folder, &mut diagnostics);
        assert_eq!(render(&diagnostics, false), "");
        (text, scenario.unwrap())
    });
    scenarios.collect()
}

#[test]
fn every_scenario_reads_and_says_what_it_shows() {
    let names: Vec<String> = library()
        .into_iter()
        .map(|(text, scenario)| {
            assert!(text.starts_with("# "), "{}", scenario.name);
            assert!(
                scenario.folder.ends_with(&scenario.name),
                "{}",
                scenario.name
            );
            assert!(!scenario.expect.is_empty(), "{}", scenario.name);
            scenario.name
        })
        .collect();
    assert_eq!(
        names,
        [
            "announcement-2017",
            "bookinfo-canary",
            "bookinfo-routing-demo",
            "request-routing-2017",
            "retry-storm",
            "slow-endpoint"
        ]
    );
}

#[test]
fn every_file_is_there_is_yaml_and_is_used() {
    for (_, scenario) in library() {
        let mut used: Vec<String> = scenario
            .topology
            .manifests
            .iter()
            .map(|path| path.text.clone())
            .collect();
        let applied = scenario
            .timeline
            .iter()
            .filter_map(|event| match &event.what {
                Happening::Apply(source) => Some(source),
                _ => None,
            });
        for source in scenario.config.iter().chain(applied) {
            if let ConfigSource::Path(path) = source {
                used.push(path.text.clone());
            }
        }
        for path in &used {
            let text = std::fs::read_to_string(scenario.folder.join(path)).unwrap();
            let file = SourceFile::new(path, &text);
            let (documents, diagnostics) = source::parse(&file, source::Dialect::Kubernetes);
            assert_eq!(render(&diagnostics, false), "");
            assert!(!documents.is_empty(), "{path}");
        }
        for folder in ["kubernetes", "istio"] {
            let Ok(files) = std::fs::read_dir(scenario.folder.join(folder)) else {
                continue;
            };
            for file in files {
                let name = file.unwrap().file_name();
                let path = format!("{folder}/{}", name.display());
                assert!(
                    used.contains(&path),
                    "{} does not use {path}",
                    scenario.name
                );
            }
        }
    }
}
