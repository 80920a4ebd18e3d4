//! Our resources beside those in istiod's own config dumps. `SHOW=1` prints every difference,
//! `CASE=NAME` narrows it to some cases.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod recorded;

use control_plane::{ControlPlane, PushSettings, Resources};
use export::{Comparison, against};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

fn dumps(wanted: impl Fn(&str) -> bool) -> Option<Vec<PathBuf>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/istiod/cases");
    let Ok(entries) = std::fs::read_dir(&cases) else {
        eprintln!("skipped: {} is not there", cases.display());
        return None;
    };
    let folders = entries.map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| wanted(&path.file_name().unwrap().to_string_lossy()));
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut files: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(".config_dump.json"));
    files.sort();
    Some(files)
}

fn resources(dump: &Path) -> Resources {
    let folder = dump.parent().unwrap();
    let (objects, answers) = recorded::load(folder);
    let file = dump.file_name().unwrap().to_string_lossy();
    let name = file.strip_suffix(".config_dump.json").unwrap();
    // Of pods of one name in two namespaces the last one's dump was kept.
    let mut proxies = answers["proxies"].as_array().unwrap().iter();
    let proxy = proxies.rfind(|proxy| proxy["name"] == name).unwrap();
    let pods = objects.pods();
    let identity = recorded::identity(proxy);
    ControlPlane::new(PushSettings::default(), objects, pods).resources(&identity)
}

fn compare(dumps: &[PathBuf]) -> Comparison {
    let mut all = Comparison::default();
    for path in dumps {
        let ours = resources(path);
        let ours = export::Resources {
            clusters: &ours.clusters,
            endpoints: &ours.endpoints,
            listeners: &ours.listeners,
            routes: &ours.routes,
        };
        let mut comparison = against(&ours, &read(path));
        for one in &mut comparison.differences {
            // Recorded without the EndpointSlices of the gateway's own Service.
            let gateway = one.resource.contains("istio-ingressgateway") && one.theirs.is_null();
            let recorder = (gateway && one.kind == "endpoints").then_some(RECORDING);
            one.class = one.class.or(recorder);
        }
        if std::env::var_os("SHOW").is_some() {
            for one in comparison.unexplained() {
                eprintln!(
                    "{}: {} {}{}\n  theirs {}\n  ours   {}",
                    path.display(),
                    one.kind,
                    one.resource,
                    one.path,
                    one.theirs,
                    one.ours
                );
            }
        }
        all.add(comparison);
    }
    all
}

/// Route tables that more than one listener names were asked for again and came back empty; a proxy
/// asks once.
fn read(dump: &Path) -> Value {
    let text = std::fs::read_to_string(dump).unwrap();
    let mut dump: Value = serde_json::from_str(&text).unwrap();
    for config in dump["configs"].as_array_mut().unwrap() {
        if let Some(tables) = config["dynamic_route_configs"].as_array_mut() {
            let mut names = BTreeSet::new();
            tables.retain(|table| names.insert(table["route_config"]["name"].to_string()));
        }
    }
    dump
}

const RECORDING: &str = "left out by the recording";

/// Prints the counts; nothing is unexplained, and no class is larger than `most`.
fn check(dumps: usize, all: &Comparison, most: &[(&str, &str, usize)]) {
    eprintln!("{dumps} dumps");
    for (kind, (seen, same)) in &all.resources {
        eprintln!("  {same:6} of {seen:6} {kind} the same");
    }
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for one in &all.differences {
        let class = one.class.unwrap_or("unexplained");
        *counts.entry((class, one.kind)).or_default() += 1;
    }
    let mut over = Vec::new();
    for ((class, kind), count) in counts {
        let bound = most.iter().find(|(c, k, _)| (*c, *k) == (class, kind));
        let bound = bound.map_or(0, |(_, _, bound)| *bound);
        eprintln!("  {count:6} of at most {bound:6} {class}: {kind}");
        if count > bound {
            over.push((class, kind, count));
        }
    }
    assert_eq!(over, [], "SHOW=1 prints what is unexplained");
}

#[test]
fn bookinfo_is_what_istiod_sends() {
    let Some(dumps) = dumps(|case| case.starts_with("bookinfo-") && !case.contains("gwapi")) else {
        return;
    };
    assert!(dumps.len() >= 40, "only {} dumps", dumps.len());
    check(
        dumps.len(),
        &compare(&dumps),
        &[(RECORDING, "endpoints", 120)],
    );
}

#[test]
fn other_configurations_are_what_istiod_sends() {
    let only = std::env::var("CASE").unwrap_or_default();
    let Some(dumps) = dumps(|case| {
        case.contains(&only) && (!case.starts_with("bookinfo-") || case.contains("gwapi"))
    }) else {
        return;
    };
    assert!(
        dumps.len() >= 103 || !only.is_empty(),
        "only {} dumps",
        dumps.len()
    );
    check(
        dumps.len(),
        &compare(&dumps),
        &[(RECORDING, "endpoints", 273)],
    );
}
