//! A whole run of tests.

use crate::configuration::{Configurations, Given};
use crate::coverage::Coverage;
use crate::find::{Found, Kind, find};
use crate::outcome::TestResult;
use crate::router_check::{RouteCoverage, Tables};
use crate::{route_test, router_check, scenario, validator};
use source::Diagnostic;
use std::path::PathBuf;

/// Which tests, against what.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Files and folders of tests.
    pub tests: Vec<PathBuf>,
    /// Configuration for tests whose files name none. Empty: what is found beside the tests.
    pub config: Vec<PathBuf>,
    /// A MeshConfig file, for configurations without one of their own.
    pub mesh_config: Option<PathBuf>,
    /// The proxy of tests that name none, as for `explain --as`.
    pub proxy: Option<String>,
    /// Invalid objects are left out instead of being errors.
    pub allow_invalid: bool,
}

/// How everything came out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// In the order of the files, and in them.
    pub tests: Vec<TestResult>,
    pub coverage: Coverage,
    /// Of the route table of route table check tests, as Envoy's tool counts.
    pub route_coverage: Option<RouteCoverage>,
}

impl Report {
    /// Whether every test passed.
    pub fn passed(&self) -> bool {
        self.tests.iter().all(|test| test.passed)
    }
}

/// Runs all tests. With an error among the diagnostics some of them could not be run.
pub fn run(options: &Options, diagnostics: &mut Vec<Diagnostic>) -> Report {
    let mut found = Vec::new();
    for path in &options.tests {
        found.extend(find(path, diagnostics));
    }
    let given = given(options, &found, diagnostics);
    let mut configurations = Configurations::default();
    let mut report = Report::default();
    let mut tables = Tables::default();
    let mut any = false;
    for one in &found {
        let (all, coverage) = (&mut configurations, &mut report.coverage);
        let results = match one.kind {
            Kind::RouteTests => route_test::run(one, &given, all, coverage, diagnostics),
            Kind::ValidatorTests => validator::run(one, &given, all, coverage, diagnostics),
            Kind::RouterCheckTests => {
                router_check::run(one, &given, &mut tables, all, coverage, diagnostics)
            }
            Kind::Scenario => scenario::run(one, options.allow_invalid, diagnostics),
            Kind::Objects | Kind::RouteConfiguration => continue,
        };
        any = true;
        report.tests.extend(results);
    }
    report.route_coverage = tables.coverage(&given);
    if !any && diagnostics.is_empty() {
        let message = "there is no test in what was named";
        diagnostics.push(Diagnostic::error(message));
    }
    report
}

fn given(options: &Options, beside: &[Found], diagnostics: &mut Vec<Diagnostic>) -> Given {
    let is_configuration =
        |one: &&Found| matches!(one.kind, Kind::Objects | Kind::RouteConfiguration);
    let found = match &options.config[..] {
        [] => beside.iter().filter(is_configuration).cloned().collect(),
        paths => {
            let mut found = Vec::new();
            for path in paths {
                found.extend(find(path, diagnostics));
            }
            found
        }
    };
    Given {
        found,
        mesh_config: options.mesh_config.clone(),
        proxy: options.proxy.clone(),
        allow_invalid: options.allow_invalid,
    }
}
