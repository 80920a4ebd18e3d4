//! How tests came out, as people and programs read it.

mod junit;
mod text;

pub use junit::junit;
pub use text::{Shown, coverage, summary};

use crate::suite::Report;
use serde_json::{Value, json};

/// In the JSON.
const SCHEMA: &str = "meshsim.test/1";

/// One object: tests, and coverage by rule.
pub fn json(report: &Report) -> Value {
    let coverage = &report.coverage;
    json!({
        "schema": SCHEMA,
        "version": env!("CARGO_PKG_VERSION"),
        "passed": report.passed(),
        "tests": report.tests,
        "route_coverage": report.route_coverage,
        "coverage": {
            "percent": coverage.total().percent(),
            "total": coverage.total(),
            "of_rules": coverage.of_rules(),
            "of_matches": coverage.of_matches(),
            "of_destinations": coverage.of_destinations(),
            "rules": coverage.rules,
        },
    })
}
