//! On a terminal.

use crate::coverage::{Coverage, RuleCoverage, Share};
use crate::outcome::TestResult;
use crate::suite::Report;
use std::fmt::Write;

/// Which tests are named one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shown {
    /// Those that failed.
    #[default]
    Failed,
    All,
}

/// Each failed test with what did not hold and why; then how many there were.
pub fn summary(report: &Report, shown: Shown) -> String {
    let mut text = String::new();
    for test in &report.tests {
        match test.passed {
            false => text += &failed(test),
            true if shown == Shown::All => text += &headed("PASS", test),
            true => {}
        }
    }
    let count = report.tests.len();
    let failed = report.tests.iter().filter(|test| !test.passed).count();
    let requests: usize = report.tests.iter().map(|test| test.requests).sum();
    let tests = counted(count, "test");
    text += &match failed {
        0 => format!("{tests} passed"),
        _ => format!("{failed} of {tests} failed"),
    };
    match requests {
        0 => text + "\n",
        _ => text + &format!(" ({})\n", counted(requests, "request")),
    }
}

fn headed(verdict: &str, test: &TestResult) -> String {
    format!("{verdict}  {}:{}  {}\n", test.file, test.line, test.name)
}

#[allow(clippy::unwrap_used)]
fn failed(test: &TestResult) -> String {
    let mut text = headed("FAIL", test);
    for failure in &test.failures {
        // Writing to text does not fail.
        if !failure.request.is_empty() {
            writeln!(text, "      {}", failure.request).unwrap();
        }
        for problem in &failure.problems {
            writeln!(text, "        {problem}").unwrap();
        }
        for (at, step) in failure.because.iter().enumerate() {
            let word = if at == 0 { "because" } else { "" };
            writeln!(text, "        {word:<8}{step}").unwrap();
        }
    }
    text + "\n"
}

/// What no test reached, by place, and how much was; empty where there is no rule at all.
pub fn coverage(coverage: &Coverage, color: bool) -> String {
    if coverage.rules.is_empty() {
        return String::new();
    }
    let mut rules: Vec<&RuleCoverage> = coverage.rules.iter().collect();
    rules.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    let rows: Vec<Vec<String>> = rules.iter().flat_map(|rule| unreached(rule)).collect();
    let mut text = match rows.is_empty() {
        true => String::new(),
        false => reports::table(&["NO TEST REACHES", "", "OF"], &[], rows, color) + "\n",
    };
    let parts = [
        ("rules", coverage.of_rules()),
        ("matches", coverage.of_matches()),
        ("destinations", coverage.of_destinations()),
    ];
    let parts = parts.map(|(name, share)| format!("{name} {}", shown(share)));
    let total = coverage.total();
    let percent = total.percent().unwrap_or(100.0);
    text += &format!("coverage {percent:.1} %: {}\n", parts.join(", "));
    text
}

/// Of a rule that nothing reaches, only the rule.
fn unreached(rule: &RuleCoverage) -> Vec<Vec<String>> {
    let row =
        |line: u32, what: String| vec![format!("{}:{line}", rule.file), what, rule.object.clone()];
    if rule.requests == 0 {
        let name = rule
            .name
            .as_deref()
            .map_or(String::new(), |name| format!(" {name}"));
        return vec![row(rule.line, format!("rule{name}"))];
    }
    let parts = [
        ("match", &rule.matches),
        ("destination", &rule.destinations),
    ];
    let parts = parts.into_iter().flat_map(|(kind, parts)| {
        let missed = parts.iter().filter(|part| part.requests == 0);
        missed.map(move |part| (part.line, format!("{kind} {}", part.what)))
    });
    parts.map(|(line, what)| row(line, what)).collect()
}

fn shown(share: Share) -> String {
    format!("{} of {}", share.reached, share.of)
}

fn counted(count: usize, word: &str) -> String {
    match count {
        1 => format!("1 {word}"),
        _ => format!("{count} {word}s"),
    }
}
