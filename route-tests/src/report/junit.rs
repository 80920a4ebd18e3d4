//! The XML that CI systems read: a suite for each file of tests.

use crate::outcome::TestResult;
use crate::suite::Report;
use std::collections::BTreeMap;
use std::fmt::Write;

/// JUnit's XML. Nothing is timed: every `time` is left out.
#[allow(clippy::unwrap_used)]
pub fn junit(report: &Report) -> String {
    let mut suites: BTreeMap<&str, Vec<&TestResult>> = BTreeMap::new();
    for test in &report.tests {
        suites.entry(&test.file).or_default().push(test);
    }
    let count = |tests: &[&TestResult]| tests.iter().filter(|test| !test.passed).count();
    let failures: usize = suites.values().map(|tests| count(tests)).sum();
    let all = report.tests.len();
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to text does not fail.
    writeln!(
        xml,
        "<testsuites name=\"meshsim\" tests=\"{all}\" failures=\"{failures}\">"
    )
    .unwrap();
    for (file, tests) in &suites {
        let (all, failures, name) = (tests.len(), count(tests), escaped(file));
        writeln!(
            xml,
            "  <testsuite name=\"{name}\" tests=\"{all}\" failures=\"{failures}\">"
        )
        .unwrap();
        for test in tests {
            xml += &case(test);
        }
        xml += "  </testsuite>\n";
    }
    xml + "</testsuites>\n"
}

fn case(test: &TestResult) -> String {
    let (name, file, line) = (escaped(&test.name), escaped(&test.file), test.line);
    let open = format!("    <testcase name=\"{name}\" classname=\"{file}\" line=\"{line}\"");
    if test.passed {
        return open + "/>\n";
    }
    let first = test
        .failures
        .iter()
        .find_map(|failure| failure.problems.first());
    let message = escaped(first.map_or("", String::as_str));
    let mut text = String::new();
    for failure in &test.failures {
        text += &format!("{}\n", failure.request);
        let lines = failure.problems.iter().chain(&failure.because);
        lines.for_each(|line| text += &format!("  {line}\n"));
    }
    let text = escaped(&text);
    format!("{open}>\n      <failure message=\"{message}\">{text}</failure>\n    </testcase>\n")
}

/// Characters that XML has no place for become a question mark.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\n' | '\t' => out.push(c),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}
