//! The Gateway API as its conformance suite wants it, and as Istio's own controller carries it out.
//!
//! `CASE=NAME` narrows a test to some cases, `SHOW=1` prints every failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod goldens;
#[path = "../../../source/tests/json/mod.rs"]
mod json;
mod judge;
mod mistakes;
mod rules;
mod suite;
mod surroundings;

use control_plane::{ControlPlane, Objects, Pod, PushSettings, Resources};
use source::SourceFile;
use std::path::{Path, PathBuf};

/// Reference data beside the repository, if it is there.
fn corpus(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let path = path.join(folder);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

/// Whether the environment asks for `name`.
fn wanted(name: &str) -> bool {
    name.contains(&std::env::var("CASE").unwrap_or_default())
}

fn load(objects: &mut Objects, name: &str, text: &str) {
    let mut diagnostics = Vec::new();
    let file = SourceFile::new(name, text);
    objects.apply(&Objects::read(&file, &mut diagnostics));
    if std::env::var_os("WARN").is_some() {
        eprintln!("{}", source::render(&diagnostics, false));
    }
}

/// A configuration, and what its proxies are told.
struct World {
    objects: Objects,
    pods: Vec<Pod>,
    plane: ControlPlane,
}

impl World {
    fn new(objects: Objects) -> World {
        let pods = objects.pods();
        let settings = PushSettings::default();
        World {
            plane: ControlPlane::new(settings, objects.clone(), pods.clone()),
            objects,
            pods,
        }
    }

    fn resources(&mut self, pod: &Pod) -> Resources {
        self.plane.resources(&pod.identity())
    }

    /// The pod of a namespace with all these labels.
    fn pod(&self, namespace: &str, labels: &[(&str, &str)]) -> Option<Pod> {
        let has = |pod: &Pod, (key, value): &(&str, &str)| {
            let mut labels = pod.labels.iter();
            labels.any(|(k, v)| **k == **key && **v == **value)
        };
        let mut pods = self.pods.iter();
        let found = pods
            .find(|pod| *pod.namespace == *namespace && labels.iter().all(|label| has(pod, label)));
        found.cloned()
    }
}

/// What passed of what was asked.
#[derive(Default)]
struct Tally {
    passed: usize,
    all: usize,
    failures: Vec<String>,
}

impl Tally {
    fn count(&mut self, what: &str, result: Result<(), String>) {
        self.all += 1;
        match result {
            Ok(()) => self.passed += 1,
            Err(why) => self.failures.push(format!("{what}: {why}")),
        }
    }

    fn percent(&self) -> f64 {
        100.0 * self.passed as f64 / self.all.max(1) as f64
    }

    fn report(&self, title: &str) {
        eprintln!(
            "{title}: {}/{} ({:.1} %)",
            self.passed,
            self.all,
            self.percent()
        );
        if std::env::var_os("SHOW").is_some() {
            for failure in &self.failures {
                eprintln!("  {failure}");
            }
        }
    }
}
