//! `meshsim test`.

use crate::args::{TestArgs, TestFormat};
use crate::{Exit, report};
use anstream::{eprintln, print, println};
use route_tests::report::{Shown, coverage, json, junit, summary};
use route_tests::{Options, Report, RouteCoverage};
use source::Diagnostic;
use std::io::IsTerminal;

pub(crate) fn test(args: &TestArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let report_of_tests = route_tests::run(&options(args), &mut diagnostics);
    if let (Some(_), None) = (args.fail_under, &report_of_tests.route_coverage) {
        let message = "--fail-under: no route table check test was held against a \
                       RouteConfiguration";
        diagnostics.push(Diagnostic::error(message).help("see --min-coverage"));
    }
    let failed = report(&diagnostics);
    match args.format {
        TestFormat::Json => println!("{}", json(&report_of_tests)),
        TestFormat::Junit => print!("{}", junit(&report_of_tests)),
        TestFormat::Text => print!("{}", text(&report_of_tests, args)),
    }
    let covered = is_covered(&report_of_tests, args);
    match (failed, report_of_tests.passed() && covered) {
        (true, _) => Exit::BadInput,
        (false, true) => Exit::Held,
        (false, false) => Exit::DidNotHold,
    }
}

/// With tests named by a flag, as istio-config-validator has it, the rest is configuration.
fn options(args: &TestArgs) -> Options {
    let (tests, mut config) = match args.tests.is_empty() {
        true => (args.paths.clone(), Vec::new()),
        false => (args.tests.clone(), args.paths.clone()),
    };
    config.extend(args.config.iter().cloned());
    Options {
        tests,
        config,
        mesh_config: args.mesh_config.clone(),
        proxy: args.proxy.clone(),
        allow_invalid: args.allow_invalid,
    }
}

fn text(tests: &Report, args: &TestArgs) -> String {
    let shown = match args.details && !args.only_show_failures {
        true => Shown::All,
        false => Shown::Failed,
    };
    let mut text = summary(tests, shown);
    if !args.summary {
        let covered = coverage(&tests.coverage, std::io::stdout().is_terminal());
        if !covered.is_empty() {
            text += &format!("\n{covered}");
        }
    }
    if let Some(route_coverage) = &tests.route_coverage {
        let percent = rounded(percent_of(route_coverage, args));
        text += &format!("Current route coverage: {percent}%\n");
    }
    text
}

fn percent_of(coverage: &RouteCoverage, args: &TestArgs) -> f64 {
    match args.covall {
        true => coverage.comprehensive_percent,
        false => coverage.percent,
    }
}

/// To four decimals at most.
fn rounded(percent: f64) -> f64 {
    (percent * 10_000.0).round() / 10_000.0
}

fn is_covered(tests: &Report, args: &TestArgs) -> bool {
    let mut covered = true;
    let percent = tests.coverage.total().percent().unwrap_or(100.0);
    if let Some(least) = args.min_coverage
        && percent < least
    {
        eprintln!("coverage {percent:.1} % is below {least} %");
        covered = false;
    }
    if let (Some(least), Some(coverage)) = (args.fail_under, &tests.route_coverage)
        && percent_of(coverage, args) < least
    {
        eprintln!("Failed to meet coverage requirement: {least}%");
        covered = false;
    }
    covered
}
