//! Random meshes beside a real Envoy, and what they once found. See docs/testing.md. Needs an Envoy:
//! MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud otherwise.

#![allow(clippy::unwrap_used, clippy::panic)]

mod accepted;
mod coverage;
mod json;
mod mesh;
mod policies;
mod routes;

use control_plane::{ControlPlane, Objects, ProxyKind, PushSettings};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;
use source::SourceFile;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use verify::{Agreement, Config, Field, Report, Settings};

const ALL_SETS: u64 = 500;
/// Of them, unless more is asked for.
const FEW_SETS: u64 = 50;
/// In the full run, of each request that may go several ways.
const SAMPLE_SIZE: u64 = 200;
const CONFIGS_PER_ENVOY: usize = 50;

/// Set number `number`, always the same.
fn set(number: u64) -> Vec<Value> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Default::default(), rng);
    let mut set = mesh::mesh().new_tree(&mut runner).unwrap().current();
    set.iter_mut().for_each(accepted::accepted);
    set
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
    // Istio too warns of rules that earlier ones leave nothing to, as random rules do.
    diagnostics.retain(|d| !matches!(d.code, Some("IST0130" | "IST0131" | "IST0133")));
    let told = source::render(&diagnostics, false);
    assert!(diagnostics.is_empty(), "{told}");
    objects
}

/// The client's sidecar, and the gateway if there is one.
fn configs(name: &str, objects: &Objects) -> Vec<Config> {
    let pods = objects.pods();
    let asked = pods
        .iter()
        .filter(|pod| pod.proxy == ProxyKind::Gateway || *pod.name == *"client");
    let config = |pod: &control_plane::Pod| {
        let proxy = pod.identity();
        let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods.clone());
        Config {
            name: format!("{name}, {}", proxy.name),
            resources: plane.resources(&proxy),
            proxy,
            requests: Vec::new(),
        }
    };
    asked.map(config).collect()
}

fn envoy() -> Option<PathBuf> {
    let found = verify::find_envoy();
    if found.is_none() {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
    }
    found
}

/// What all reports say together.
#[derive(Default)]
struct Total {
    requests: u32,
    samples: usize,
    counts: BTreeMap<Field, [u32; 2]>,
    agrees: bool,
}

impl Total {
    fn of(configs: &[Config], envoy: PathBuf, sample_size: u64) -> Total {
        let settings = Settings {
            sample_size,
            ..Settings::new(envoy)
        };
        let mut total = Total {
            agrees: true,
            ..Total::default()
        };
        for some in configs.chunks(CONFIGS_PER_ENVOY) {
            total.add(&verify::configs(some, &settings).unwrap());
        }
        println!(
            "{} requests and {} samples to {} proxies",
            total.requests,
            total.samples,
            configs.len()
        );
        for (field, [compared, differed]) in &total.counts {
            println!("{:<32} {compared:>9} {differed:>9}", field.name());
        }
        total
    }

    fn add(&mut self, report: &Report) {
        self.requests += report.requests;
        self.samples += report.samples.len();
        for &Agreement {
            field,
            compared,
            differed,
            ..
        } in &report.agreement
        {
            let counts = self.counts.entry(field).or_default();
            counts[0] += compared;
            counts[1] += differed;
        }
        if !report.agrees() {
            self.agrees = false;
            println!("{report}");
        }
    }
}

#[test]
fn every_field_is_in_many_sets() {
    let sets: Vec<Vec<Value>> = (0..ALL_SETS).map(set).collect();
    for (number, set) in sets.iter().enumerate() {
        load(&format!("set-{number}"), &text(set));
    }
    let (table, wrong) = coverage::table(&sets);
    println!("{table}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `MESHSIM_SETS=FROM..TO` asks about those, and prints what they are if they differ.
#[test]
fn sets_agree() {
    let Some(envoy) = envoy() else { return };
    let slow = std::env::var_os("MESHSIM_SLOW").is_some();
    let (count, sample_size) = if slow {
        (ALL_SETS, SAMPLE_SIZE)
    } else {
        (FEW_SETS, 0)
    };
    let named = std::env::var("MESHSIM_SETS").ok().map(|text| range(&text));
    let numbers = named.clone().unwrap_or(0..count);
    let mut all = Vec::new();
    for number in numbers.clone() {
        let name = format!("set-{number}");
        all.extend(configs(&name, &load(&name, &text(&set(number)))));
    }
    let total = Total::of(&all, envoy, sample_size);
    if !total.agrees && named.is_some() {
        numbers.for_each(|number| println!("# set {number}\n{}", text(&set(number))));
    }
    assert!(total.agrees);
    assert!(total.requests as usize >= 20 * all.len());
}

fn range(text: &str) -> Range<u64> {
    let bounds = text.split_once("..");
    let parsed = bounds.and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    parsed.unwrap_or_else(|| panic!("MESHSIM_SETS is `{text}`, not FROM..TO"))
}

/// What was once different, a folder each, in one small mesh.
fn regressions() -> Vec<Config> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let mesh = read(&folder.join("mesh.yaml"));
    let entries = std::fs::read_dir(&folder).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    let mut all = Vec::new();
    for case in cases {
        let name = case.file_name().unwrap().to_string_lossy().into_owned();
        let text = format!("{mesh}\n---\n{}", read(&case.join("config.yaml")));
        all.extend(configs(&name, &load(&name, &text)));
    }
    all
}

#[test]
fn regressions_agree() {
    if let Some(envoy) = envoy() {
        assert!(Total::of(&regressions(), envoy, 0).agrees);
    }
}

/// Without an Envoy: what is asked can be sent, and changes nothing for what is asked next.
#[test]
fn requests_of_regressions() {
    for (name, wanted, unwanted) in [
        ("values-with-a-space", "q=A%20b", " b"),
        ("copies-that-fail", "/", "x-verify-upstream"),
        ("stream-reset", "x-verify-upstream: reset", " b"),
    ] {
        let config = regressions()
            .into_iter()
            .find(|one| one.name.starts_with(name))
            .unwrap();
        let requests = verify::requests(&config.resources, config.proxy.ip);
        let to_a = requests
            .iter()
            .filter(|one| one.authority.starts_with("a."));
        let texts = to_a.map(|request| {
            let headers = request.headers.iter();
            let headers: Vec<String> = headers.map(|(n, value)| format!("{n}: {value}")).collect();
            format!("{}\n{}", request.path, headers.join("\n"))
        });
        let texts: Vec<String> = texts.collect();
        assert!(texts.iter().any(|text| text.contains(wanted)), "{name}");
        assert!(!texts.iter().any(|text| text.contains(unwanted)), "{name}");
    }
}
