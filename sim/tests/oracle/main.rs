//! What real Envoy did, recorded beside the repository, against what this proxy does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod case;
mod client;
mod differences;
mod engine;
mod golden;
#[path = "../../../source/tests/json/mod.rs"]
mod json;
mod load;
mod report;
mod routing;
mod stats;

use case::Case;
use golden::Answers;
use report::Report;
use routing::Line;
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
    let mut report = Report::new("Requests through one proxy");
    for file in files(&oracle.join("cases")) {
        let case = Case::read(&file, 21_001);
        let timed = engine::picks_by_timing(&case);
        report.case(&case.name);
        let golden = golden::lines(&oracle, &case.name);
        let lines = match routing::lines(&case) {
            Ok(lines) => lines,
            Err(reason) => {
                report.refused(golden.len(), &reason);
                continue;
            }
        };
        for (item, (want, got)) in golden.iter().zip(lines).enumerate() {
            match got {
                Line::Single(got) => report.single(item, want, &got),
                Line::Many(got) => report.many(item, timed, &Answers::recorded(want), &got),
                Line::Statistics(got) => report.statistics(item, want, &got),
            }
        }
    }
    report.finish();
}

#[test]
fn load_is_spread_as_envoy_spreads_it() {
    let Some(oracle) = oracle() else { return };
    let mut report = Report::new("Load and keys through one proxy");
    for file in files(&oracle.join("cases/lb")) {
        let case = Case::read(&file, 22_001);
        let timed = engine::picks_by_timing(&case);
        report.case(&case.name);
        let golden = golden::load(&oracle, &case.name);
        let (phases, keys) = load::outcome(&case);
        if !keys.is_empty() {
            report.keys(keys.len(), load::wrong_keys(&golden, &keys));
        }
        for (item, (want, got)) in golden::phases(&golden).iter().zip(&phases).enumerate() {
            report.many(item, timed, &Answers::recorded(want), got);
        }
    }
    report.finish();
}

#[test]
fn scenarios_go_as_envoy_goes() {
    let Some(oracle) = oracle() else { return };
    let mut report = Report::new("Scenarios in the event engine");
    let routing = files(&oracle.join("cases"))
        .into_iter()
        .map(|file| Case::read(&file, 21_001));
    let load = files(&oracle.join("cases/lb"))
        .into_iter()
        .map(|file| Case::read(&file, 22_001));
    for case in routing.chain(load).filter(engine::is_timed) {
        report.case(&case.name);
        let answers = match engine::outcome(&case) {
            Ok(answers) => answers,
            Err(why) => {
                report.note(&format!("not as a scenario: {why}"));
                continue;
            }
        };
        let golden = match case.spec["phases"].is_array() {
            true => golden::phases(&golden::load(&oracle, &case.name)).to_vec(),
            false => golden::lines(&oracle, &case.name),
        };
        let timed = engine::picks_by_timing(&case);
        for (item, (want, got)) in golden.iter().zip(&answers).enumerate() {
            report.many(item, timed, &Answers::recorded(want), got);
        }
    }
    report.finish();
}
