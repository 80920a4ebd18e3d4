//! The core beside a real Envoy. Needs one: MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud
//! otherwise.

#![allow(clippy::unwrap_used)]

use control_plane::{ControlPlane, Objects, ProxyKind, PushSettings};
use source::{Diagnostic, Level, SourceFile};
use std::path::{Path, PathBuf};
use verify::{Config, Report, Settings};

const SAMPLE_SIZE: u64 = 10_000;

fn envoy() -> Option<PathBuf> {
    let found = verify::find_envoy();
    if found.is_none() {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
    }
    found
}

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.retain(|file| file.extension().is_some_and(|e| e == "yaml"));
    files
}

fn objects(paths: &[PathBuf]) -> Objects {
    let mut objects = Objects::default();
    for file in paths.iter().flat_map(|path| files(path)) {
        let text = std::fs::read_to_string(&file).unwrap();
        add(&mut objects, &file.display().to_string(), &text);
    }
    objects
}

fn add(objects: &mut Objects, name: &str, text: &str) {
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    objects.apply(&Objects::read(
        &SourceFile::new(name, text),
        &mut diagnostics,
    ));
    diagnostics.retain(|one| one.level == Level::Error);
    assert!(
        diagnostics.is_empty(),
        "{}",
        source::render(&diagnostics, false)
    );
}

/// The first pod of every workload with a proxy.
fn configs(name: &str, objects: &Objects) -> Vec<Config> {
    let pods = objects.pods();
    let proxies = pods
        .iter()
        .filter(|pod| pod.ordinal == 0 && pod.proxy != ProxyKind::None);
    let mut configs = Vec::new();
    for pod in proxies {
        let proxy = pod.identity();
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

fn verify(configs: &[Config], sample_size: u64) -> Option<Report> {
    let settings = Settings {
        sample_size,
        ..Settings::new(envoy()?)
    };
    let report = verify::configs(configs, &settings).unwrap();
    println!("{report}");
    Some(report)
}

fn assert_agree(configs: &[Config], sample_size: u64) {
    assert!(!configs.is_empty());
    if let Some(report) = verify(configs, sample_size) {
        assert!(report.requests > 0);
        assert!(report.agrees());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_library() {
    let library = root().join("scenarios/library");
    let mut all = Vec::new();
    for scenario in [
        "bookinfo-canary",
        "bookinfo-routing-demo",
        "retry-storm",
        "slow-endpoint",
    ] {
        let folder = library.join(scenario);
        let objects = objects(&[folder.join("istio"), folder.join("kubernetes")]);
        all.extend(configs(scenario, &objects));
    }
    assert_agree(&all, SAMPLE_SIZE);
}

/// Sidecars for Bookinfo's pods, and the gateway that its rules are bound to.
const PROXIES: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: default, labels: {istio-injection: enabled}}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, ports: [{name: http2, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Pod
metadata: {name: istio-ingressgateway, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.0.99.1, phase: Running, conditions: [{type: Ready, status: "True"}]}
"#;

/// Every proxy under each of the sample's rules.
#[test]
fn bookinfo() {
    let samples = root().join("../shared/corpus/samples/bookinfo");
    let platform = samples.join("platform/kube");
    if !platform.exists() {
        println!("SKIPPED: no Bookinfo samples at {}", samples.display());
        return;
    }
    let mut all = Vec::new();
    for rules in files(&samples.join("networking")) {
        let name = rules.file_stem().unwrap().to_string_lossy().into_owned();
        let mut paths = vec![
            platform.join("bookinfo.yaml"),
            samples.join("networking/destination-rule-all.yaml"),
        ];
        if !paths.contains(&rules) {
            paths.push(rules);
        }
        let mut objects = objects(&paths);
        add(&mut objects, "proxies", PROXIES);
        let own = configs(&name, &objects);
        assert!(own.iter().any(|one| one.name.contains("ingressgateway")));
        all.extend(own);
    }
    // It is at productpage's sidecar that most ways part.
    let (productpage, others): (Vec<_>, Vec<_>) =
        (all.into_iter()).partition(|one| one.name.contains("productpage"));
    assert_agree(&productpage, SAMPLE_SIZE);
    others.chunks(50).for_each(|some| assert_agree(some, 200));
}
