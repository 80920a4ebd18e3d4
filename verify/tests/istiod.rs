//! Configurations whose istiod answers are recorded, beside a real Envoy. Needs one: MESHSIM_ENVOY, or
//! `envoy` in PATH; skipped aloud otherwise, as without the recordings. MESHSIM_SLOW takes 100
//! configurations, FROM=N and CASE=NAME others.

#![allow(clippy::unwrap_used)]

#[path = "../../control-plane/tests/recorded/mod.rs"]
mod recorded;

use control_plane::{ControlPlane, PushSettings};
use proxy_core::random::{hash_text, mix};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use verify::{Agreement, Config, Settings};

const SEED: u64 = 5;
const ALL: usize = 100;
const FEW: usize = 8;
const PROXIES_PER_ENVOY: usize = 25;

/// In an order that the seed gives.
fn cases() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/istiod/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!("SKIPPED: {} is not there", folder.display());
        return Vec::new();
    };
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort_by_key(|case| mix(SEED ^ hash_text(&name(case))));
    let only = std::env::var("CASE").unwrap_or_default();
    cases.retain(|case| name(case).contains(&only));
    cases
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

/// The gateway and a sidecar that were recorded.
fn configs(case: &Path) -> Vec<Config> {
    let (objects, answers) = recorded::load(case);
    let pods = objects.pods();
    let mut recorded = answers["proxies"].as_array().unwrap().iter().rev();
    let mut of_kind = |kind| recorded.find(|proxy| proxy["kind"] == kind);
    // The gateway is the last of them.
    let asked = [of_kind("gateway"), of_kind("sidecar")];
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods);
    let asked = asked.into_iter().flatten().map(|proxy| {
        let proxy = recorded::identity(proxy);
        Config {
            name: format!("{}, {}", name(case), proxy.name),
            resources: plane.resources(&proxy),
            proxy,
            requests: Vec::new(),
        }
    });
    asked.collect()
}

#[test]
fn recorded_configurations_agree() {
    let Some(envoy) = verify::find_envoy() else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let count = match std::env::var_os("MESHSIM_SLOW") {
        Some(_) => ALL,
        None => FEW,
    };
    let from = std::env::var("FROM").map_or(0, |from| from.parse().unwrap());
    let cases = cases();
    let cases = cases.iter().skip(from).take(count);
    let configs: Vec<Config> = cases.flat_map(|case| configs(case)).collect();
    let settings = Settings {
        sample_size: 0,
        ..Settings::new(envoy)
    };
    let (mut requests, mut agrees) = (0, true);
    let mut counts: BTreeMap<_, [u32; 2]> = BTreeMap::new();
    for some in configs.chunks(PROXIES_PER_ENVOY) {
        let report = verify::configs(some, &settings).unwrap();
        if !report.agrees() {
            println!("{report}");
        }
        agrees &= report.agrees();
        requests += report.requests;
        for &Agreement {
            field,
            compared,
            differed,
            ..
        } in &report.agreement
        {
            let counts = counts.entry(field).or_default();
            counts[0] += compared;
            counts[1] += differed;
        }
    }
    println!("{requests} requests to {} proxies", configs.len());
    for (field, [compared, differed]) in &counts {
        println!("{:<32} {compared:>9} {differed:>9}", field.name());
    }
    assert!(agrees);
}
