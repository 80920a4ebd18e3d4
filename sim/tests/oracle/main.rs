//! What real Envoy did, recorded beside the repository, against what this proxy does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod case;
mod client;
mod golden;
mod load;
mod routing;
mod stats;

use case::Case;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn oracle() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/oracle");
    if path.join("cases").is_dir() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let only = std::env::var("CASE").unwrap_or_default();
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| {
        let name = file.file_name().unwrap().to_string_lossy();
        name.ends_with(".yaml") && name.contains(&only)
    });
    files.sort();
    files
}

#[test]
fn requests_are_answered_as_envoy_answers_them() {
    let Some(oracle) = oracle() else { return };
    for file in files(&oracle.join("cases")) {
        let case = Case::read(&file, 21_001);
        let golden = golden::lines(&oracle, &case.name);
        let lines = routing::lines(&case);
        for (at, (want, got)) in golden.iter().zip(&lines).enumerate() {
            if want["aggregate"].is_object() {
                for one in golden::compare(&want["aggregate"], &got["aggregate"]) {
                    if one.p < 1e-4 {
                        eprintln!(
                            "{} {at} {} p {:.2e} gap {:.1}\n  want {}\n  got  {}",
                            case.name,
                            one.what,
                            one.p,
                            one.gap,
                            want["aggregate"][&one.what],
                            got["aggregate"][&one.what]
                        );
                    }
                }
                continue;
            }
            let differing = golden::differing(want, got);
            if !differing.is_empty() {
                eprintln!("{} {at} {}", case.name, want["request"]);
            }
            for key in differing {
                eprintln!("  {key}\n    want {}\n    got  {}", want[&key], got[&key]);
            }
        }
    }
}

#[test]
fn load_is_spread_as_envoy_spreads_it() {
    let Some(oracle) = oracle() else { return };
    for file in files(&oracle.join("cases/lb")) {
        let case = Case::read(&file, 22_001);
        let path = oracle.join("golden/lb").join(format!("{}.json", case.name));
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let (phases, keys) = load::outcome(&case);
        let wrong = load::wrong_keys(&golden, &keys);
        if !keys.is_empty() {
            eprintln!("{}: {} of {} keys wrong", case.name, wrong, keys.len());
        }
        for (at, (want, got)) in load::recorded(&golden).iter().zip(&phases).enumerate() {
            for one in want.compare(got) {
                eprintln!(
                    "{} {at} {} p {:.2e} gap {:.2}",
                    case.name, one.what, one.p, one.gap
                );
            }
            eprintln!("  want {:?}\n  got  {:?}", want.endpoints, got.endpoints);
        }
    }
}
