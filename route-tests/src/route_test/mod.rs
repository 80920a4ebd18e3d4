//! Tests in meshsim's own format: requests to a proxy of an Istio configuration.

mod expect;
mod judge;
mod read;

use crate::configuration::{
    Configuration, Configurations, Given, Places, Proxy, cleaned, has_error,
};
use crate::coverage::{Coverage, Destinations};
use crate::find::Found;
use crate::outcome::{Failure, Format, TestResult};
use control_plane::{Explanation, Objects, Request, explain};
use expect::What;
use judge::{Answer, problems};
use proxy_core::xds::RouteAction;
pub(crate) use read::shown;
use read::{Asked, RouteTest, RouteTests};
use source::Diagnostic;
use std::path::Path;

/// Runs every test of a file.
pub(crate) fn run(
    found: &Found,
    given: &Given,
    configurations: &mut Configurations,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TestResult> {
    let mut results = Vec::new();
    for document in &found.documents {
        let before = diagnostics.len();
        let Some(tests) = read::read(document, diagnostics) else {
            continue;
        };
        let readable = !has_error(&diagnostics[before..]);
        let place = tests.config.first().map(|named| &named.span);
        let places = places(&tests, &found.file.name);
        let loaded = configurations.load(&places, place, given, coverage, diagnostics);
        let (Some(configuration), true) = (loaded, readable) else {
            continue;
        };
        for test in &tests.tests {
            results.extend(run_test(test, given, configuration, coverage, diagnostics));
        }
    }
    results
}

/// Paths in a file are relative to it.
fn places(tests: &RouteTests, file: &str) -> Places {
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let path = |text: &str| cleaned(&folder.join(text));
    let config = tests.config.iter().map(|named| path(&named.text));
    Places {
        config: (!tests.config.is_empty()).then(|| config.collect()),
        mesh_config: tests.mesh_config.as_ref().map(|named| path(&named.text)),
    }
}

/// `None`: it cannot be run, which is reported.
fn run_test(
    test: &RouteTest,
    given: &Given,
    configuration: &mut Configuration,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<TestResult> {
    let own = test.proxy.as_ref();
    let Some(name) = own.map(|own| own.text.as_str()).or(given.proxy.as_deref()) else {
        let message = "a route test needs a proxy";
        let problem = Diagnostic::error(message).at(&test.span, "asks no proxy");
        diagnostics.push(problem.help("say which: `as: WORKLOAD` here or for all of the file"));
        return None;
    };
    let proxy = configuration.proxy(name, own.map(|own| &own.span), diagnostics)?;
    let mut failures = Vec::new();
    for asked in &test.requests {
        let request = settled(asked, &proxy, configuration.objects(), diagnostics)?;
        let explanation = explain(&proxy.resources, &request);
        count(&request, &explanation, test, configuration, coverage);
        let answer = Answer {
            explanation: &explanation,
            objects: configuration.objects(),
            namespace: &proxy.identity.namespace,
        };
        let problems = problems(&answer, &test.expect, &test.not);
        if !problems.is_empty() {
            failures.push(Failure {
                request: format!("{} (as {name})", shown(&request)),
                problems,
                because: explanation.trail,
            });
        }
    }
    let requests = test.requests.len();
    let format = Format::RouteTest;
    Some(TestResult::new(
        &test.span, format, &test.name, requests, failures,
    ))
}

/// The request, with where it comes from and goes to.
fn settled(
    asked: &Asked,
    proxy: &Proxy,
    objects: &Objects,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Request> {
    let mut request = asked.request.clone();
    if let Some(from) = &asked.from {
        match objects.pod(&from.text) {
            Ok(pod) => request.come_from(&pod, &proxy.identity),
            Err(problem) => {
                diagnostics.push(problem.at(&from.span, "names no pod"));
                return None;
            }
        }
    }
    request.resolve(objects, &proxy.identity);
    Some(request)
}

/// Counts what the request reached.
fn count(
    request: &Request,
    answer: &Explanation,
    test: &RouteTest,
    configuration: &Configuration,
    coverage: &mut Coverage,
) {
    let Some(route) = &answer.matched else {
        return;
    };
    let rules = &configuration.rules;
    let Some(rule) = route.origin.as_ref().and_then(|origin| rules.of(origin)) else {
        return;
    };
    let mut wants = test.expect.iter();
    let named = wants.any(|want| matches!(want.what, What::To(_) | What::Clusters(_)));
    let to = match &route.action {
        RouteAction::Forward(_) if named => Destinations::All,
        _ => Destinations::Sole,
    };
    let head = request.head();
    rules.reach(rule, &route.matches, &head, to, coverage);
}
