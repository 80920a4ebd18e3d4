//! Which rules, matches and destinations the requests of tests reached.

use crate::brief::brief;
use control_plane::StatedRule;
use proxy_core::head::RequestHead;
use proxy_core::router::{matches, path_of};
use proxy_core::xds::{ConfigRef, RouteMatch};
use serde::Serialize;
use source::Node;
use std::collections::BTreeMap;

/// Of every configuration that tests were held against.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Coverage {
    pub rules: Vec<RuleCoverage>,
    /// By file, line and column of the rule.
    #[serde(skip)]
    known: BTreeMap<(String, u32, u32), usize>,
}

/// A rule of the configuration: of a VirtualService, an HTTPRoute, or a route of Envoy's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleCoverage {
    /// `KIND NAMESPACE/NAME`.
    pub object: String,
    pub file: String,
    /// From 1.
    pub line: u32,
    pub name: Option<String>,
    /// That reached it.
    pub requests: u64,
    pub matches: Vec<PartCoverage>,
    pub destinations: Vec<PartCoverage>,
}

/// An entry of `match` or `route`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartCoverage {
    pub line: u32,
    /// As written, in one line.
    pub what: String,
    pub requests: u64,
}

/// Which destinations of a rule a request, and what was expected of it, reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destinations {
    /// What is expected says of each how it goes there.
    All,
    /// The one that was picked.
    One(usize),
    /// Whichever there is, if it is the only one.
    Sole,
}

/// So many parts of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Share {
    pub reached: usize,
    pub of: usize,
}

impl Share {
    fn add(&mut self, requests: u64) {
        self.reached += usize::from(requests > 0);
        self.of += 1;
    }

    /// `None`: of nothing.
    pub fn percent(self) -> Option<f64> {
        (self.of > 0).then(|| 100.0 * self.reached as f64 / self.of as f64)
    }
}

impl PartCoverage {
    pub(crate) fn of(node: &Node) -> PartCoverage {
        PartCoverage {
            line: node.span.line(),
            what: brief(node),
            requests: 0,
        }
    }
}

impl Coverage {
    /// Has `rule`, which stands at `column`, counted; returns its number, the same for the same place.
    pub(crate) fn add(&mut self, rule: RuleCoverage, column: u32) -> usize {
        let place = (rule.file.clone(), rule.line, column);
        let next = self.rules.len();
        let number = *self.known.entry(place).or_insert(next);
        if number == next {
            self.rules.push(rule);
        }
        number
    }

    /// Counts a request.
    pub(crate) fn reach(&mut self, rule: usize, entry: Option<usize>, to: Destinations) {
        let rule = &mut self.rules[rule];
        rule.requests += 1;
        if let Some(one) = entry.and_then(|entry| rule.matches.get_mut(entry)) {
            one.requests += 1;
        }
        let reached = match to {
            Destinations::All => &mut rule.destinations[..],
            Destinations::One(at) => rule.destinations.get_mut(at..=at).unwrap_or_default(),
            Destinations::Sole if rule.destinations.len() == 1 => &mut rule.destinations[..],
            Destinations::Sole => &mut [],
        };
        reached.iter_mut().for_each(|one| one.requests += 1);
    }

    /// Rules, matches and destinations, each counted as one.
    pub fn total(&self) -> Share {
        let parts = [self.of_rules(), self.of_matches(), self.of_destinations()];
        Share {
            reached: parts.iter().map(|part| part.reached).sum(),
            of: parts.iter().map(|part| part.of).sum(),
        }
    }

    /// Rules alone.
    pub fn of_rules(&self) -> Share {
        let mut share = Share::default();
        self.rules.iter().for_each(|rule| share.add(rule.requests));
        share
    }

    /// Entries of `match` alone.
    pub fn of_matches(&self) -> Share {
        share(self.rules.iter().flat_map(|rule| &rule.matches))
    }

    /// Destinations alone.
    pub fn of_destinations(&self) -> Share {
        share(self.rules.iter().flat_map(|rule| &rule.destinations))
    }
}

fn share<'p>(parts: impl Iterator<Item = &'p PartCoverage>) -> Share {
    let mut share = Share::default();
    parts.for_each(|part| share.add(part.requests));
    share
}

/// The rules of one configuration, and their numbers in a [`Coverage`].
pub(crate) struct Rules {
    rules: Vec<StatedRule>,
    numbers: Vec<usize>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<StatedRule>, coverage: &mut Coverage) -> Rules {
        let number = |rule: &StatedRule| coverage.add(of_rule(rule), rule.node.span.column());
        Rules {
            numbers: rules.iter().map(number).collect(),
            rules,
        }
    }

    /// As listed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &StatedRule> {
        self.rules.iter()
    }

    /// The rule that a route comes from. One that stands for a rule that delegates to it has the name
    /// of that one's object, and its own place.
    pub(crate) fn of(&self, origin: &ConfigRef) -> Option<usize> {
        let very = self.rules.iter().position(|rule| rule.origin == *origin);
        let there = |rule: &StatedRule| {
            let (kind, file, line) = (&rule.origin.kind, &rule.origin.file, rule.origin.line);
            (kind, file, line) == (&origin.kind, &origin.file, origin.line)
        };
        very.or_else(|| self.rules.iter().position(there))
    }

    pub(crate) fn get(&self, rule: usize) -> &StatedRule {
        &self.rules[rule]
    }

    /// Counts a request that `route`, of `rule`, took. A rule that delegates to it is reached too.
    pub(crate) fn reach(
        &self,
        rule: usize,
        route: &RouteMatch,
        head: &RequestHead,
        to: Destinations,
        coverage: &mut Coverage,
    ) {
        let entry = entry_of(&self.rules[rule], Some(route), head);
        coverage.reach(self.numbers[rule], entry, to);
        if let Some((root, entry)) = self.delegating_to(rule, head) {
            coverage.reach(self.numbers[root], entry, Destinations::Sole);
        }
    }

    /// The same where it is known which entry of its `match` took it.
    pub(crate) fn reach_entry(
        &self,
        rule: usize,
        entry: Option<usize>,
        to: Destinations,
        coverage: &mut Coverage,
    ) {
        coverage.reach(self.numbers[rule], entry, to);
    }

    /// The first rule with a match for `head` that has those of the object of `rule` in its place.
    pub(crate) fn delegating_to(
        &self,
        rule: usize,
        head: &RequestHead,
    ) -> Option<(usize, Option<usize>)> {
        let to = &self.rules[rule];
        if !to.hosts.is_empty() || &*to.origin.kind != "VirtualService" {
            return None;
        }
        let roots = self.rules.iter().enumerate();
        let mut roots = roots.filter(|(_, root)| delegates(root, &to.origin));
        roots.find_map(|(at, root)| {
            let entry = entry_of(root, None, head);
            (entry.is_some() || root.matches.is_empty()).then_some((at, entry))
        })
    }
}

/// Whether `root` has the rules of the object of `to` in its place.
pub(crate) fn delegates(root: &StatedRule, to: &ConfigRef) -> bool {
    let text = |key| root.node.at(&["delegate", key]).and_then(Node::as_scalar);
    let namespace = text("namespace").filter(|namespace| !namespace.is_empty());
    text("name") == Some(&*to.name) && namespace.unwrap_or(&root.origin.namespace) == &*to.namespace
}

/// The entry of a rule's `match` that became `route`; of one that became no route of its own, the first
/// that holds for `head`.
pub(crate) fn entry_of(
    rule: &StatedRule,
    route: Option<&RouteMatch>,
    head: &RequestHead,
) -> Option<usize> {
    let same = rule.matches.iter().position(|one| Some(one) == route);
    let path = path_of(&head.path);
    let holds = |one: &RouteMatch| matches(one, path, head);
    same.or_else(|| rule.matches.iter().position(holds))
}

fn of_rule(rule: &StatedRule) -> RuleCoverage {
    let origin = &rule.origin;
    let list = |key| {
        rule.node
            .at(&[key])
            .and_then(Node::as_seq)
            .unwrap_or_default()
    };
    let (matches, destinations) = match &*origin.kind {
        "VirtualService" => (list("match"), list("route")),
        _ => (list("matches"), list("backendRefs")),
    };
    // What has no weight beside others gets nothing.
    let weightless = |node: &&Node| {
        let weight = node.at(&["weight"]).and_then(Node::as_scalar);
        let default = if &*origin.kind == "VirtualService" {
            "0"
        } else {
            "1"
        };
        weight.unwrap_or(default) == "0"
    };
    let several = destinations.len() > 1;
    let destinations = destinations
        .iter()
        .filter(|node| !several || !weightless(node));
    let name = rule.node.at(&["name"]).and_then(Node::as_scalar);
    RuleCoverage {
        object: format!("{} {}/{}", origin.kind, origin.namespace, origin.name),
        file: origin.file.to_string(),
        line: origin.line,
        name: name.map(str::to_owned),
        requests: 0,
        matches: matches.iter().map(PartCoverage::of).collect(),
        destinations: destinations.map(PartCoverage::of).collect(),
    }
}
