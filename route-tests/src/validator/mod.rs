//! The test files of istio-config-validator: requests, and what the rule of the VirtualService that takes
//! them has to say.
//!
//! As that tool does it, VirtualServices are looked at by themselves, in the order of their files,
//! whatever their gateways; there need be no service and no proxy. With a proxy given, the rule is the one
//! by which this proxy routes.

mod hosts;
mod message;
mod read;

use crate::brief::{brief, in_one_line};
use crate::configuration::{Configuration, Configurations, Given, Places, has_error};
use crate::coverage::{Coverage, Destinations, delegates, entry_of};
use crate::find::Found;
use crate::outcome::{Failure, Format, TestResult};
use crate::route_test::shown;
use control_plane::{Request, StatedRule, explain};
use hosts::Hosts;
use proxy_core::head::RequestHead;
use proxy_core::router::{matches, path_of};
use read::{Asserted, Input, TestCase};
use serde_json::Value;
use source::{Diagnostic, Node};

/// Runs every test case of a file.
pub(crate) fn run(
    found: &Found,
    given: &Given,
    configurations: &mut Configurations,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<TestResult> {
    let before = diagnostics.len();
    let documents = found.documents.iter();
    let cases: Vec<TestCase> = documents
        .flat_map(|document| read::read(document, diagnostics))
        .collect();
    let readable = !has_error(&diagnostics[before..]);
    let places = Places::default();
    let loaded = configurations.load(&places, None, given, coverage, diagnostics);
    let (Some(configuration), true) = (loaded, readable) else {
        return Vec::new();
    };
    let hosts = Hosts::of(configuration);
    let mut results = Vec::new();
    for case in &cases {
        let mut failures = Vec::new();
        for input in &case.inputs {
            let request = input.request();
            let Some(chosen) = choose(&request, &hosts, given, configuration, diagnostics) else {
                return results;
            };
            failures.extend(judge(case, &request, &chosen, &hosts, configuration));
            count(case, &chosen, configuration, coverage);
        }
        let format = Format::IstioConfigValidator;
        let (requests, name) = (case.inputs.len(), &case.description);
        results.push(TestResult::new(
            &case.span, format, name, requests, failures,
        ));
    }
    results
}

impl Input {
    fn request(&self) -> Request {
        Request {
            method: self.method.clone(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers: self.headers.clone(),
            ..Request::default()
        }
    }
}

/// A rule, and the entry of its `match` that took the request.
type Taken = (usize, Option<usize>);

/// The rule that takes a request.
struct Chosen {
    /// Of the VirtualService of the host; `None`: there is none.
    root: Option<Taken>,
    /// The one that stands for it, where it delegates.
    delegate: Option<Taken>,
}

/// `None`: the proxy is not there, which is reported.
fn choose(
    request: &Request,
    hosts: &Hosts,
    given: &Given,
    configuration: &mut Configuration,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Chosen> {
    let head = request.head();
    let Some(name) = &given.proxy else {
        return Some(by_host(&head, hosts, configuration));
    };
    let proxy = configuration.proxy(name, None, diagnostics)?;
    let mut request = request.clone();
    request.resolve(configuration.objects(), &proxy.identity);
    let route = explain(&proxy.resources, &request).matched;
    let rules = &configuration.rules;
    let origin = route.as_ref().and_then(|route| route.origin.as_ref());
    let rule = origin.and_then(|origin| rules.of(origin));
    let rule = rule.map(|rule| {
        let matches = route.as_ref().map(|route| &route.matches);
        (rule, entry_of(rules.get(rule), matches, &head))
    });
    let root = rule.and_then(|(rule, _)| rules.delegating_to(rule, &head));
    Some(match root {
        Some(root) => Chosen {
            root: Some(root),
            delegate: rule,
        },
        None => Chosen {
            root: rule,
            delegate: None,
        },
    })
}

/// The first rule for the host that matches.
fn by_host(head: &RequestHead, hosts: &Hosts, configuration: &Configuration) -> Chosen {
    let rules = &configuration.rules;
    let mut of_host = hosts.rules(&head.authority).iter();
    let root = of_host.find_map(|&at| taken(at, rules.get(at), head));
    let delegate = root.and_then(|(root, _)| {
        let root = rules.get(root);
        let mut children = hosts.delegates().iter();
        children.find_map(|&at| {
            let child = rules.get(at);
            let named = delegates(root, &child.origin);
            named.then(|| taken(at, child, head)).flatten()
        })
    });
    Chosen { root, delegate }
}

fn taken(at: usize, rule: &StatedRule, head: &RequestHead) -> Option<Taken> {
    if rule.matches.is_empty() {
        return Some((at, None));
    }
    let path = path_of(&head.path);
    let entry = rule.matches.iter().position(|one| matches(one, path, head));
    entry.map(|entry| (at, Some(entry)))
}

fn judge(
    case: &TestCase,
    request: &Request,
    chosen: &Chosen,
    hosts: &Hosts,
    configuration: &Configuration,
) -> Option<Failure> {
    let rules = &configuration.rules;
    let root = chosen.root.map(|(at, _)| rules.get(at));
    let mut problems = Vec::new();
    if let Some(asserted) = &case.delegate {
        problems.extend(differs(case, asserted, root));
    }
    // What the delegate says is asked only together with where it sends to.
    let follows = case
        .asserted
        .iter()
        .any(|asserted| asserted.field == "route");
    let delegating = root.filter(|root| follows && root.node.at(&["delegate"]).is_some());
    let rule = match (delegating, chosen.delegate) {
        (None, _) => root,
        (Some(_), Some((at, _))) => Some(rules.get(at)),
        (Some(root), None) => {
            problems.extend(missing_delegate(root, configuration));
            None
        }
    };
    if problems.is_empty() || rule.is_some() || delegating.is_none() {
        let asserted = case.asserted.iter();
        problems.extend(asserted.filter_map(|asserted| differs(case, asserted, rule)));
    }
    (!problems.is_empty()).then(|| Failure {
        request: shown(request),
        problems,
        because: because(request, chosen, hosts, configuration),
    })
}

/// What is wrong with a field of the rule.
fn differs(case: &TestCase, asserted: &Asserted, rule: Option<&StatedRule>) -> Option<String> {
    let field = asserted.field;
    let stated = rule.and_then(|rule| rule.node.at(&[field]));
    // The control plane has read it.
    let value = stated.map(|node| message::read(node, asserted.shape, &mut Vec::new()));
    let same = value.unwrap_or(Value::Null) == asserted.value;
    let got = stated.map_or_else(|| "none".to_owned(), in_one_line);
    match (same, case.want_match) {
        (true, true) | (false, false) => None,
        (false, true) => {
            let want = in_one_line(&asserted.node);
            Some(format!("{field}: expected {want}, got {got}"))
        }
        (true, false) => Some(format!(
            "{field}: expected anything but {got} (wantMatch: false)"
        )),
    }
}

/// The rule names a VirtualService that is not there.
fn missing_delegate(root: &StatedRule, configuration: &Configuration) -> Option<String> {
    let mut rules = configuration.rules.iter();
    let there = rules.any(|rule| rule.hosts.is_empty() && delegates(root, &rule.origin));
    let name = root
        .node
        .at(&["delegate", "name"])
        .and_then(Node::as_scalar);
    let name = name.unwrap_or_default();
    (!there).then(|| format!("delegate: virtualservice {name} not found"))
}

fn because(
    request: &Request,
    chosen: &Chosen,
    hosts: &Hosts,
    configuration: &Configuration,
) -> Vec<String> {
    let rules = &configuration.rules;
    let Some(root) = chosen.root else {
        let authority = &request.authority;
        return vec![match hosts.rules(authority) {
            [] => format!("no VirtualService has the host {authority}"),
            _ => format!("no rule for {authority} matches"),
        }];
    };
    let described = |(at, entry): Taken| {
        let rule = rules.get(at);
        let origin = &rule.origin;
        let of = format!("{} {}/{}", origin.kind, origin.namespace, origin.name);
        let entries = rule.node.at(&["match"]).and_then(Node::as_seq);
        let entry = entry.and_then(|entry| entries?.get(entry));
        let by = entry.map_or_else(
            || "takes everything".to_owned(),
            |node| format!("matches {} (line {})", brief(node), node.span.line()),
        );
        format!("the rule of {of} at {}:{} {by}", origin.file, origin.line)
    };
    let delegate = chosen.delegate.map(described);
    let delegate = delegate.map(|text| format!("which delegates: {text}"));
    [described(root)].into_iter().chain(delegate).collect()
}

fn count(case: &TestCase, chosen: &Chosen, configuration: &Configuration, coverage: &mut Coverage) {
    let route = case
        .asserted
        .iter()
        .any(|asserted| asserted.field == "route");
    let to = match route && case.want_match {
        true => Destinations::All,
        false => Destinations::Sole,
    };
    for (rule, entry) in [chosen.root, chosen.delegate].into_iter().flatten() {
        configuration.rules.reach_entry(rule, entry, to, coverage);
    }
}
