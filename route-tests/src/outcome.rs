//! How tests came out.

use serde::Serialize;

/// One test of a file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestResult {
    pub file: String,
    /// From 1.
    pub line: u32,
    pub format: Format,
    pub name: String,
    pub passed: bool,
    /// How many were asked about.
    pub requests: usize,
    pub failures: Vec<Failure>,
}

/// By whose rules a test is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    RouteTest,
    IstioConfigValidator,
    RouterCheckTool,
    Scenario,
}

/// What did not hold of one request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// As one would give it to curl; empty where it is about no single one.
    pub request: String,
    pub problems: Vec<String>,
    /// How the request was decided.
    pub because: Vec<String>,
}

impl TestResult {
    pub(crate) fn new(
        span: &source::Span,
        format: Format,
        name: &str,
        requests: usize,
        failures: Vec<Failure>,
    ) -> TestResult {
        TestResult {
            file: span.file.name.to_string(),
            line: span.line(),
            format,
            name: name.to_owned(),
            passed: failures.is_empty(),
            requests,
            failures,
        }
    }
}
