//! Whether an object is valid, as Istio's own test cases say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cases;
mod messages;

use control_plane::Objects;
use serde_json::Value;
use source::{Diagnostic, Level, SourceFile};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Istio's test data, where it is at hand.
fn corpus() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if !root.is_dir() {
        eprintln!("SKIPPED: no {}", root.display());
    }
    root.is_dir().then_some(root)
}

/// What reading `text` has to say.
fn said_of(text: &str) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    Objects::read(&SourceFile::new("case.yaml", text), &mut diagnostics);
    diagnostics
}

/// How many cases of each kind agree.
#[derive(Default)]
struct Tally {
    kinds: BTreeMap<String, (usize, usize)>,
    differences: Vec<String>,
    /// Of kinds that are not read yet.
    apart: usize,
}

impl Tally {
    fn count(&mut self, kind: &str, name: &str, verdict: Verdict) {
        if verdict == Verdict::KindNotRead {
            self.apart += 1;
            return;
        }
        let (agree, all) = self.kinds.entry(kind.to_owned()).or_default();
        *all += 1;
        match verdict {
            Verdict::Differs(what) => self.differences.push(format!("{kind}: {name}: {what}")),
            _ => *agree += 1,
        }
    }

    /// Prints all of it, and demands that `floor` percent agree.
    fn demand(&self, floor: usize) {
        let mut sum = (0, 0);
        for (kind, (agree, all)) in &self.kinds {
            println!("{kind:28} {agree:4} of {all:4}");
            sum = (sum.0 + agree, sum.1 + all);
        }
        println!("{:28} {:4} of {:4}", "together", sum.0, sum.1);
        println!("{:28} {:4}", "of kinds not read yet", self.apart);
        for difference in &self.differences {
            println!("DIFFERS {difference}");
        }
        assert!(sum.0 * 100 >= sum.1 * floor, "below {floor} %");
    }
}

#[derive(PartialEq)]
enum Verdict {
    Agrees,
    Differs(String),
    KindNotRead,
}

/// Whether what is said of `text` fits.
fn judge(text: &str, valid: bool, warning: Option<bool>) -> Verdict {
    let said = said_of(text);
    let not_read = |d: &&Diagnostic| d.message.contains(".istio.io/") && d.code.is_none();
    if said.iter().filter(not_read).count() > 0 {
        return Verdict::KindNotRead;
    }
    let errors: Vec<&str> = said
        .iter()
        .filter(|d| d.level == Level::Error)
        .map(|d| d.message.as_str())
        .collect();
    if valid != errors.is_empty() {
        return Verdict::Differs(match valid {
            true => format!("is valid, but: {}", errors.join("; ")),
            false => "is invalid, but accepted".to_owned(),
        });
    }
    // Those of Istio have a code; what is not supported has none.
    let warned: Vec<&str> = said
        .iter()
        .filter(|d| d.level == Level::Warning && d.code.is_some())
        .map(|d| d.message.as_str())
        .collect();
    match warning {
        Some(true) if valid && warned.is_empty() => Verdict::Differs("Istio warns".to_owned()),
        Some(false) if valid && !warned.is_empty() => {
            Verdict::Differs(format!("Istio does not warn: {}", warned.join("; ")))
        }
        _ => Verdict::Agrees,
    }
}

#[test]
fn cases_of_istios_validation() {
    let Some(root) = corpus() else { return };
    let text = std::fs::read_to_string(root.join("validation-cases.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let mut tally = Tally::default();
    for case in all["cases"].as_array().unwrap() {
        let object = cases::whole_object(case);
        let valid = case["valid"].as_bool().unwrap();
        let verdict = judge(&object.to_string(), valid, case["warning"].as_bool());
        let kind = case["kind"].as_str().unwrap();
        tally.count(kind, case["name"].as_str().unwrap(), verdict);
    }
    tally.demand(FLOOR);
}

/// Percent of the cases.
const FLOOR: usize = 98;

#[test]
fn objects_that_the_api_server_refuses() {
    let Some(root) = corpus() else { return };
    let mut tally = Tally::default();
    let folder = root.join("pkg/config/validation/testdata/crds");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        let kind = stem.split('-').next().unwrap();
        for (at, document) in documents(&text).iter().enumerate() {
            let expected = document.lines().find_map(|line| line.strip_prefix("_err:"));
            let object: Vec<&str> = document
                .lines()
                .filter(|line| !line.starts_with("_err:"))
                .collect();
            let verdict = judge(&object.join("\n"), expected.is_none(), None);
            let name = format!("{stem} #{at}{}", expected.unwrap_or_default());
            tally.count(kind, &name, verdict);
        }
    }
    tally.demand(FLOOR);
}

/// The documents of a YAML stream that say something.
fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        match line.trim_end() {
            "---" => documents.push(String::new()),
            line if line.starts_with('#') => {}
            line => {
                let last = documents.last_mut().unwrap();
                last.push_str(line);
                last.push('\n');
            }
        }
    }
    documents.retain(|document| !document.trim().is_empty());
    documents
}

#[test]
fn what_istiod_was_given_is_valid() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/istiod/cases");
    if !folder.is_dir() {
        eprintln!("SKIPPED: no {}", folder.display());
        return;
    }
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    for case in cases {
        for name in ["kubernetes.yaml", "istio.yaml"] {
            let text = std::fs::read_to_string(case.join(name)).unwrap_or_default();
            let mut said = said_of(&text);
            said.retain(|d| d.level == Level::Error);
            assert_eq!(source::render(&said, false), "", "{}", case.display());
        }
    }
}
