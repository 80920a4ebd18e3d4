//! The test files of Envoy's route table check tool: requests to a route table, which is Envoy's
//! `RouteConfiguration` or, with a proxy given, the one that this proxy of an Istio configuration has.

mod covered;
mod judge;
mod read;
mod table;

pub use covered::RouteCoverage;

use crate::configuration::{Configuration, Configurations, Given, Places, has_error};
use crate::coverage::{Coverage, Destinations};
use crate::find::{Found, Kind};
use crate::outcome::{Failure, Format, TestResult};
use crate::route_configuration::{self, RouteConfiguration};
use covered::Covered;
use judge::{Answer, Taken, all_hold, ask};
use proxy_core::xds::Route;
use read::{CheckTest, Input};
use source::Diagnostic;
use std::sync::Arc;

/// The route table of `RouteConfiguration` tests, read when first asked for.
#[derive(Default)]
pub(crate) struct Tables {
    /// `None` inside: it cannot be used.
    table: Option<Option<RouteConfiguration>>,
    covered: Covered,
}

impl Tables {
    /// How much of the table the tests cover, if there were any.
    pub(crate) fn coverage(&self, given: &Given) -> Option<RouteCoverage> {
        let table = self.table.as_ref()?.as_ref()?;
        let file = tables(given).next()?.file.name.to_string();
        Some(self.covered.report(&file, table.route_count()))
    }
}

fn tables(given: &Given) -> impl Iterator<Item = &Found> {
    let found = given.found.iter();
    found.filter(|one| one.kind == Kind::RouteConfiguration)
}

/// Runs every test of a file.
pub(crate) fn run(
    found: &Found,
    given: &Given,
    tables: &mut Tables,
    configurations: &mut Configurations,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TestResult> {
    let before = diagnostics.len();
    let documents = found.documents.iter();
    let tests: Vec<CheckTest> = documents
        .flat_map(|document| read::read(document, diagnostics))
        .collect();
    let readable = !has_error(&diagnostics[before..]);
    if given.proxy.is_some() {
        let places = Places::default();
        let loaded = configurations.load(&places, None, given, coverage, diagnostics);
        let (Some(configuration), true) = (loaded, readable) else {
            return Vec::new();
        };
        return at_proxy(&tests, given, configuration, coverage, diagnostics);
    }
    if tables.table.is_none() {
        tables.table = Some(only_table(given, coverage, diagnostics));
    }
    let (Some(Some(table)), true) = (&mut tables.table, readable) else {
        return Vec::new();
    };
    let results = tests.iter();
    results
        .map(|test| at_table(test, table, &mut tables.covered, coverage))
        .collect()
}

/// The one table there is; anything else is reported.
fn only_table(
    given: &Given,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RouteConfiguration> {
    let all: Vec<&Found> = tables(given).collect();
    let [one] = all[..] else {
        let message = match all.len() {
            0 => "there is no RouteConfiguration to hold the tests against".to_owned(),
            count => format!("which of {count} RouteConfigurations are the tests about?"),
        };
        let help = "name one with `-c`; or a proxy of an Istio configuration with `--as`";
        diagnostics.push(Diagnostic::error(message).help(help));
        return None;
    };
    let before = diagnostics.len();
    let document = one.documents.first()?;
    let table = route_configuration::read(document, coverage, diagnostics);
    table.filter(|_| !has_error(&diagnostics[before..]))
}

fn at_table(
    test: &CheckTest,
    table: &mut RouteConfiguration,
    covered: &mut Covered,
    coverage: &mut Coverage,
) -> TestResult {
    let input = &test.input;
    let routes = table.for_requests(&input.runtime, input.internal);
    let mut answer = ask(&routes, input);
    let taken = answer.taken.clone();
    if let Some(taken) = &taken
        && table.hosts[taken.host].routes[taken.number].strip_query
    {
        answer.strip_query();
    }
    let virtual_cluster = match &taken {
        Some(taken) if taken.cluster.is_some() => virtual_cluster(table, taken.host, &answer),
        _ => String::new(),
    };
    let mut problems = Vec::new();
    for assertion in &test.assertions {
        match (answer.problem(assertion, &virtual_cluster), &taken) {
            (Some(problem), _) => problems.push(problem),
            (None, Some(taken)) => {
                covered.verify((taken.host, taken.number, taken.cluster), assertion);
            }
            (None, None) => {}
        }
    }
    if let Some(taken) = &taken {
        let rule = table.hosts[taken.host].routes[taken.number].rule;
        coverage.reach(rule, None, destination(taken));
    }
    let because = taken.as_ref().map(|taken| {
        let rule = &coverage.rules[table.hosts[taken.host].routes[taken.number].rule];
        let name = rule.name.as_deref().unwrap_or_default();
        format!("the route at {}:{} takes it: {name}", rule.file, rule.line)
    });
    result(
        test,
        problems,
        because.unwrap_or_else(|| "no route takes it".to_owned()),
    )
}

/// The first of a virtual host whose headers match, `other` if there are some.
fn virtual_cluster(table: &RouteConfiguration, host: usize, answer: &Answer) -> String {
    let clusters = &table.hosts[host].virtual_clusters;
    let mut fits = clusters.iter();
    let found = fits.find(|(_, headers)| all_hold(&answer.request, headers));
    match found {
        Some((name, _)) => name.to_string(),
        None if clusters.is_empty() => String::new(),
        None => "other".to_owned(),
    }
}

fn destination(taken: &Taken) -> Destinations {
    taken.cluster.map_or(Destinations::Sole, Destinations::One)
}

fn at_proxy(
    tests: &[CheckTest],
    given: &Given,
    configuration: &mut Configuration,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TestResult> {
    let name = given.proxy.as_deref().unwrap_or_default();
    let Some(proxy) = configuration.proxy(name, None, diagnostics) else {
        return Vec::new();
    };
    let mut results = Vec::new();
    for test in tests {
        let input = &test.input;
        let table = table::table_of(&proxy, configuration.objects(), input);
        let answer = ask(&table.unwrap_or_default(), input);
        let assertions = test.assertions.iter();
        let problems = assertions.filter_map(|assertion| answer.problem(assertion, ""));
        let problems = problems.collect();
        let because = answer.taken.as_ref().map(|taken| described(&taken.route));
        if let Some(taken) = &answer.taken {
            count(taken, input, configuration, coverage);
        }
        let because = because.unwrap_or_else(|| format!("no route of {name} takes it"));
        results.push(result(test, problems, because));
    }
    results
}

fn count(taken: &Taken, input: &Input, configuration: &Configuration, coverage: &mut Coverage) {
    let rules = &configuration.rules;
    let origin = taken.route.origin.as_ref();
    if let Some(rule) = origin.and_then(|origin| rules.of(origin)) {
        let to = destination(taken);
        rules.reach(rule, &taken.route.matches, &input.head, to, coverage);
    }
}

fn described(route: &Arc<Route>) -> String {
    match &route.origin {
        None => "a route takes it that comes from no rule".to_owned(),
        Some(origin) => format!(
            "the rule of {} {}/{} at {}:{} takes it",
            origin.kind, origin.namespace, origin.name, origin.file, origin.line
        ),
    }
}

fn result(test: &CheckTest, problems: Vec<String>, because: String) -> TestResult {
    let head = &test.input.head;
    let failure = (!problems.is_empty()).then(|| Failure {
        request: format!(
            "{} {}://{}{}",
            head.method, head.scheme, head.authority, head.path
        ),
        problems,
        because: vec![because],
    });
    let failures = failure.into_iter().collect();
    TestResult::new(&test.span, Format::RouterCheckTool, &test.name, 1, failures)
}
