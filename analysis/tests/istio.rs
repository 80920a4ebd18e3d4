//! What `istioctl analyze` says, against what is said here: in code and resource, as often.
//!
//! `CASE=NAME` narrows it to some cases. Where it differs, the difference is printed.

#![allow(clippy::expect_used)]

use analysis::{Documents, Selection, Settings, analyze};
use control_plane::Objects;
use serde_json::Value;
use source::{Diagnostic, Dialect, Node, SourceFile, each_document, parse};
use std::path::{Path, PathBuf};

/// What validation says as one of Istio's analyzers.
const OF_VALIDATION: [&str; 4] = ["IST0106", "IST0130", "IST0131", "IST0133"];

/// Go types of analyzers that are called otherwise.
const RENAMED: [(&str, &str); 8] = [
    (
        "authz.AuthorizationPoliciesAnalyzer",
        "auth.AuthorizationPoliciesAnalyzer",
    ),
    (
        "deployment.ApplicationUIDAnalyzer",
        "applicationUID.Analyzer",
    ),
    (
        "deployment.ServiceAssociationAnalyzer",
        "deployment.MultiServiceAnalyzer",
    ),
    (
        "deprecation.FieldAnalyzer",
        "deprecation.DeprecationAnalyzer",
    ),
    (
        "destinationrule.PodNotSelectedAnalyzer",
        "destinationrule.SubsetSelectPodAnalyzer",
    ),
    (
        "multicluster.MeshNetworksAnalyzer",
        "meshnetworks.MeshNetworksAnalyzer",
    ),
    ("schemaValidation.CollectionValidationAnalyzer", VALIDATION),
    (
        "serviceentry.ProtocolAddressesAnalyzer",
        "serviceentry.Analyzer",
    ),
];
/// Stands for what reading says.
const VALIDATION: &str = "validation";

fn shared(of: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../shared")
        .join(of);
    if path.exists() {
        return Some(path);
    }
    eprintln!("SKIPPED: {} is not there", path.display());
    None
}

fn file(path: &Path) -> std::sync::Arc<SourceFile> {
    let text = std::fs::read_to_string(path).expect("it can be read");
    SourceFile::new(&path.display().to_string(), &text)
}

/// What reading says that is an analyzer's in Istio, and every object.
fn read(files: &[PathBuf]) -> (Vec<Diagnostic>, Documents) {
    let mut found = Vec::new();
    let mut documents = Documents::default();
    for path in files {
        each_document(
            &file(path),
            Dialect::Kubernetes,
            &mut found,
            |node, found| {
                Objects::read_node(&node, found);
                documents.add(&node);
            },
        );
    }
    found.retain(|one| one.code.is_some_and(|code| OF_VALIDATION.contains(&code)));
    (found, documents)
}

/// Code and resource of each message, sorted; namespace `default` goes without saying.
fn told(found: &[Diagnostic]) -> Vec<String> {
    let mut told: Vec<String> = found
        .iter()
        .map(|one| {
            let resource = one.resource.clone().unwrap_or_default();
            format!("{} {resource}", one.code.unwrap_or("?")).replace(" default/", " ")
        })
        .collect();
    told.sort();
    told
}

fn wanted(messages: &Value) -> Vec<String> {
    let mut wanted: Vec<String> = messages
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let part = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            format!("{} {}", part("code"), part("resource")).replace(" default/", " ")
        })
        .collect();
    wanted.sort();
    wanted
}

/// Whether both say the same; else prints what does not.
fn same(case: &str, told: &[String], wanted: &[String]) -> bool {
    if told == wanted {
        return true;
    }
    let without = |all: &[String], others: &[String]| {
        let mut others = others.to_vec();
        let mut left = all.to_vec();
        left.retain(|one| match others.iter().position(|other| other == one) {
            Some(at) => {
                others.remove(at);
                false
            }
            None => true,
        });
        left
    };
    println!(
        "{case}: missing {:?}, too much {:?}",
        without(wanted, told),
        without(told, wanted)
    );
    false
}

fn is_asked_for(case: &str) -> bool {
    std::env::var("CASE").is_ok_and(|asked| !case.contains(&asked))
}

#[test]
fn of_configurations() {
    let Some(folder) = shared("istiod/cases") else {
        return;
    };
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("it can be listed")
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|case| case.join("analysis.json").exists())
        .collect();
    cases.sort();
    let (mut right, mut all) = (0, 0);
    for case in cases {
        let name = case
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_string();
        if is_asked_for(&name) {
            continue;
        }
        let files = ["kubernetes.yaml", "istio.yaml"].map(|file| case.join(file));
        let (mut found, documents) = read(&files);
        analyze(&documents, &Settings::default(), &mut found);
        let text = std::fs::read_to_string(case.join("analysis.json")).expect("it can be read");
        let messages: Value = serde_json::from_str(&text).expect("it is JSON");
        all += 1;
        right += usize::from(same(&name, &told(&found), &wanted(&messages)));
    }
    println!("{right} of {all} configurations agree");
    assert!(right * 100 >= all * 97, "{right} of {all}");
}

#[test]
fn of_single_analyzers() {
    let Some(folder) = shared("corpus") else {
        return;
    };
    let text = std::fs::read_to_string(folder.join("expected-analysis.json"));
    let cases: Value = serde_json::from_str(&text.expect("it can be read")).expect("it is JSON");
    let root = folder.join("pkg/config/analysis/analyzers");
    let (mut right, mut told, mut all) = (0, 0, 0);
    for case in cases["cases"].as_array().into_iter().flatten() {
        let name = case["name"].as_str().unwrap_or_default();
        if is_asked_for(name) {
            continue;
        }
        all += 1;
        right += usize::from(single(&root, case, name));
        told += usize::from(whole(&root, case, name));
    }
    println!("{right} of {all} cases agree, {told} are told among all else");
    assert!(right * 100 >= all * 97, "{right} of {all}");
    assert!(told * 100 >= all * 97, "{told} of {all}");
}

/// The files of a case, and its settings for the mesh.
fn inputs(root: &Path, case: &Value) -> (Vec<PathBuf>, Option<Node>, Option<Node>) {
    let files = case["inputFiles"].as_array().into_iter().flatten();
    let files = files.map(|file| root.join(file.as_str().unwrap_or_default()));
    let settings_file = |key: &str| {
        let path = root.join(case[key].as_str()?);
        let (documents, _) = parse(&file(&path), Dialect::Kubernetes);
        documents.into_iter().next()
    };
    let (mesh, networks) = (
        settings_file("meshConfigFile"),
        settings_file("meshNetworksFile"),
    );
    (files.collect(), mesh, networks)
}

/// By the analyzer that the case is about, alone.
fn single(root: &Path, case: &Value, name: &str) -> bool {
    let go = case["analyzer"].as_str().unwrap_or_default();
    let go = go.split(['{', '(']).next().unwrap_or_default();
    let renamed = RENAMED.iter().find(|(known, _)| *known == go);
    let analyzer = renamed.map_or(go, |(_, name)| *name);
    let (files, mesh_config, mesh_networks) = inputs(root, case);
    let (mut found, documents) = read(&files);
    if analyzer != VALIDATION {
        let mut known = analysis::istio::ANALYZERS.iter();
        assert!(known.any(|one| one.name == analyzer), "{analyzer}");
        found.clear();
        let settings = Settings {
            mesh_config: mesh_config.as_ref(),
            mesh_networks: mesh_networks.as_ref(),
            analyzers: Selection::Named(&[analyzer.to_owned()]),
        };
        analyze(&documents, &settings, &mut found);
    }
    same(name, &told(&found), &wanted(&case["expected"]))
}

/// Whether what is wanted is told when everything is.
fn whole(root: &Path, case: &Value, name: &str) -> bool {
    let (files, mesh_config, mesh_networks) = inputs(root, case);
    let (mut found, documents) = read(&files);
    let settings = Settings {
        mesh_config: mesh_config.as_ref(),
        mesh_networks: mesh_networks.as_ref(),
        ..Settings::default()
    };
    analyze(&documents, &settings, &mut found);
    let (told, wanted) = (told(&found), wanted(&case["expected"]));
    let mut missing = wanted.iter().filter(|one| !told.contains(one)).peekable();
    let all = missing.peek().is_none();
    missing.for_each(|one| println!("{name}, among all: missing {one}"));
    all
}
