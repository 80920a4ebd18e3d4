//! Scenarios among tests: each expectation is a test.

use crate::find::Found;
use crate::outcome::{Failure, Format, TestResult};
use record::Verdict;
use sim::{Observers, Overrides, Plan};
use source::Diagnostic;
use std::path::Path;

/// Runs a scenario with its own seed.
pub(crate) fn run(
    found: &Found,
    allow_invalid: bool,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TestResult> {
    let folder = Path::new(&*found.file.name)
        .parent()
        .unwrap_or(Path::new(""));
    let overrides = Overrides {
        allow_invalid,
        ..Overrides::default()
    };
    let plan = scenarios::parse(&found.file, folder, diagnostics)
        .and_then(|scenario| Plan::new(&scenario, overrides, diagnostics));
    let Some(plan) = plan else {
        return Vec::new();
    };
    let outcome = sim::event::run(&plan, plan.seed, Observers::default());
    let verdicts = outcome.record.expectations.into_iter();
    verdicts
        .map(|verdict| result(&plan.name, verdict))
        .collect()
}

fn result(scenario: &str, verdict: Verdict) -> TestResult {
    let failure = (!verdict.passed).then(|| Failure {
        request: String::new(),
        problems: vec![format!(
            "expected {}, got {}",
            verdict.bound, verdict.observed
        )],
        because: Vec::new(),
    });
    TestResult {
        file: verdict.file,
        line: verdict.line,
        format: Format::Scenario,
        name: format!("{scenario}: {}", verdict.name),
        passed: verdict.passed,
        requests: 0,
        failures: failure.into_iter().collect(),
    }
}
