//! Random meshes beside a real Envoy, and what they once found. See docs/testing.md. Needs an Envoy:
//! MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud otherwise.

#![allow(clippy::unwrap_used, clippy::panic)]

mod coverage;
mod json;
mod mesh;
mod policies;
mod routes;

use control_plane::{ControlPlane, Objects, PushSettings};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use source::SourceFile;
use std::collections::BTreeMap;
use verify::{Config, Settings};

/// In the full run.
const SETS: u64 = 500;

/// Set number `number`, always the same.
fn set(number: u64) -> Vec<Value> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(RunnerConfig::default(), rng);
    mesh::mesh().new_tree(&mut runner).unwrap().current()
}

fn text(set: &[Value]) -> String {
    let texts: Vec<String> = set.iter().map(ToString::to_string).collect();
    texts.join("\n---\n")
}

/// Fails at anything that a user would be told.
fn load(name: &str, text: &str) -> Objects {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new(name, text), &mut diagnostics);
    objects.check_references(&mut diagnostics);
    assert!(
        diagnostics.is_empty(),
        "{}",
        source::render(&diagnostics, false)
    );
    objects
}

#[test]
fn every_field_is_in_many_sets() {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for number in 0..SETS {
        let set = set(number);
        load(&format!("set-{number}"), &text(&set));
        for field in coverage::fields(&set) {
            *counts.entry(field).or_default() += 1;
        }
    }
    for (field, count) in &counts {
        println!("{field:<60} {:>5.1} %", *count as f64 / SETS as f64 * 100.0);
    }
}

/// What the proxies of the sets are told.
fn configs(numbers: std::ops::Range<u64>) -> Vec<Config> {
    let mut configs = Vec::new();
    for number in numbers {
        let name = format!("set-{number}");
        let objects = load(&name, &text(&set(number)));
        configs.extend(proxies(&name, &objects, &mesh::PROXIES));
    }
    configs
}

fn proxies(name: &str, objects: &Objects, proxies: &[&str]) -> Vec<Config> {
    let pods = objects.pods();
    let mut configs = Vec::new();
    for proxy in proxies {
        let proxy = objects
            .proxy(proxy)
            .unwrap_or_else(|d| panic!("{}", d.message));
        let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods.clone());
        configs.push(Config {
            name: format!("{name}, {}", proxy.name),
            resources: plane.resources(&proxy),
            proxy,
            requests: Vec::new(),
        });
    }
    configs
}

#[test]
fn sets_agree() {
    let Some(envoy) = std::env::var_os("MESHSIM_ENVOY")
        .map(std::path::PathBuf::from)
        .or_else(verify::find_envoy)
    else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let range = std::env::var("MESHSIM_SETS").ok();
    let range = range
        .as_deref()
        .and_then(|t| t.split_once(".."))
        .map(|(a, b)| a.parse().unwrap()..b.parse().unwrap());
    let all = configs(range.unwrap_or(0..20));
    let mut bad = 0;
    for chunk in all.chunks(50) {
        let started = std::time::Instant::now();
        let report = verify::configs(
            chunk,
            &Settings {
                sample_size: std::env::var("SAMPLE").ok().and_then(|t| t.parse().ok()).unwrap_or(0),
                ..Settings::new(envoy.clone())
            },
        );
        match report {
            Ok(report) => {
                println!("{report}");
                bad += report.differences.len();
            }
            Err(e) => {
                println!("FAIL {e}");
                bad += 1;
            }
        }
        println!("{:?}", started.elapsed());
    }
    assert_eq!(bad, 0);
}
#[test]
fn print_set() {
    if let Ok(n) = std::env::var("PRINT_SET") {
        println!("{}", text(&set(n.parse().unwrap())));
    }
}
