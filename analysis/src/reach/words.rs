//! How it is told that a match is never reached.

use super::tables::{GATEWAY, LABEL, NAMESPACE, PORT};
use super::{Finding, Position, Why, written};
use crate::codes::MSH0001;
use crate::documents::Documents;
use control_plane::{HttpRuleMatch, HttpRules};
use proxy_core::xds::PathMatch;
use request_set::{Place, Witness};
use source::{Diagnostic, Level, Span};

/// So many of the matches that take everything together are named.
const NAMED: usize = 3;

pub(super) struct Words<'a> {
    pub(super) documents: &'a Documents,
    pub(super) services: &'a [HttpRules],
}

impl Words<'_> {
    /// Of a rule none of whose matches is reached; `finding` is that of the first.
    pub(super) fn of_rule(&self, rule: &Span, finding: &Finding) -> Diagnostic {
        let name = &self.one(finding.at).rule_name;
        let subject = match name.is_empty() {
            true => "this rule".to_owned(),
            false => format!("rule \"{name}\""),
        };
        self.of(subject, rule, finding)
    }

    /// Of one match of a rule that is reached by others.
    pub(super) fn of_match(&self, one: &Span, finding: &Finding) -> Diagnostic {
        let name = &self.one(finding.at).rule_name;
        let subject = match name.is_empty() {
            true => "this match".to_owned(),
            false => format!("a match of rule \"{name}\""),
        };
        let mut said = self.of(subject, one, finding);
        let rule = written(&self.one(finding.at).rule);
        let of_the_rule = |taker: &Position| written(&self.one(*taker).rule) == rule;
        if let Why::Taken { takers, .. } = &finding.why
            && takers.iter().all(of_the_rule)
        {
            said.level = Level::Note;
            said.help = Some("remove it: the rule has these requests already".to_owned());
        }
        said
    }

    fn one(&self, at: Position) -> &HttpRuleMatch {
        &self.services[at.service].matches[at.one]
    }

    fn of(&self, subject: String, span: &Span, finding: &Finding) -> Diagnostic {
        let mut said = match &finding.why {
            Why::Taken {
                asks,
                taken_by,
                takers,
            } => {
                let message = format!(
                    "{subject} is never reached: every request that it matches is taken by {}",
                    self.listed(takers, finding.at)
                );
                let taker = self.called(*taken_by, finding.at);
                let label = format!("{} goes to {taker}", circumstances(asks));
                let help = self.way_out(takers, finding.at);
                MSH0001.says(message).at(span, label).help(help)
            }
            Why::Impossible(place) => {
                let (why, help) = impossible(place, self.one(finding.at));
                let message = format!("{subject} is never reached: there is no such request");
                MSH0001.says(message).at(span, why).help(help)
            }
        };
        said.resource = self.resource(span);
        said
    }

    fn way_out(&self, takers: &[Position], at: Position) -> &'static str {
        let foreign = takers.iter().any(|taker| taker.service != at.service);
        match takers.len() {
            // Its rules have an order of their own.
            _ if self.services[at.service].of_gateway_api => {
                "ask for something that is left, or remove it"
            }
            _ if foreign => {
                "keep the rules of one host in one VirtualService, in the order in which they are \
                 to be tried, or remove it"
            }
            1 => "put it before that one, have that one ask for less, or remove it",
            _ => "put it before those, have those ask for less, or remove it",
        }
    }

    /// `the match at FILE:LINE` with the name of its rule, and of its VirtualService if that is not
    /// the one of `at`.
    fn called(&self, taker: Position, at: Position) -> String {
        let one = self.one(taker);
        let span = one.span.as_ref().unwrap_or(&one.rule);
        let place = format!("{}:{}", span.file.name, span.line());
        let mut text = match (one.rule_name.is_empty(), &one.span) {
            (false, _) => format!("rule \"{}\" ({place})", one.rule_name),
            (true, Some(_)) => format!("the match at {place}"),
            (true, None) => format!("the rule at {place}"),
        };
        if taker.service != at.service {
            text += &format!(" of {}", self.services[taker.service].object);
        }
        text
    }

    fn listed(&self, takers: &[Position], at: Position) -> String {
        let named = takers.iter().take(NAMED);
        let mut names: Vec<String> = named.map(|&taker| self.called(taker, at)).collect();
        if takers.len() > NAMED {
            names.push(format!("{} more", takers.len() - NAMED));
        }
        match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, before)) => format!("{} and {last} together", before.join(", ")),
            None => String::new(),
        }
    }

    /// The object in which `span` stands.
    fn resource(&self, span: &Span) -> Option<String> {
        let mut documents = self.documents.iter();
        let around = documents.find(|document| {
            let whole = &document.node.span;
            let (whole_range, range) = (whole.range(), span.range());
            whole.file.name == span.file.name
                && whole_range.start <= range.start
                && range.end <= whole_range.end
        });
        around.map(|document| document.resource())
    }
}

/// The request, and what has to hold besides.
fn circumstances(asks: &Witness) -> String {
    let mut text = format!("`{asks}`");
    for (name, value) in &asks.given {
        text += &match &**name {
            PORT => format!(" at port {value}"),
            GATEWAY if &**value == "mesh" => String::new(),
            GATEWAY => format!(" at gateway {value}"),
            NAMESPACE => format!(" from namespace {value}"),
            label => {
                let key = label.strip_prefix(LABEL).unwrap_or(label);
                format!(" from pods with {key}: {value}")
            }
        };
    }
    for (path, values) in &asks.claims {
        text += &format!(" with claim {}: {}", path.join("."), values.join(", "));
    }
    text
}

/// Why no request is such, and what to do about it.
fn impossible(place: &Place, one: &HttpRuleMatch) -> (String, &'static str) {
    let any = "ask for something that a request can have, or remove it";
    let text = match &one.request.path {
        PathMatch::Exact(text) | PathMatch::Prefix(text) | PathMatch::SeparatedPrefix(text) => {
            Some(text)
        }
        PathMatch::Regex(_) => None,
    };
    let conditions = |name: &str| {
        let headers = one.request.headers.iter();
        headers.filter(|header| &*header.name == name).count()
    };
    match (place, text) {
        (Place::Path, Some(text)) if !text.starts_with('/') => (
            format!("no path begins with `{text}`"),
            "every path begins with `/`",
        ),
        (Place::Path, Some(text)) if text.contains(['?', '#']) => (
            "the path is matched without its query".to_owned(),
            "ask for the query in `queryParams`",
        ),
        (Place::Path, Some(text)) if !text.is_ascii() => (
            "no path has such characters".to_owned(),
            "write them as clients send them: `%` and two digits for each byte",
        ),
        (Place::Path, _) => (
            "no path is like that once it is normalised".to_owned(),
            "write it as it is then: without `.` and `..`, `\\` or needless `%` escapes",
        ),
        (Place::Method, _) => ("no method is like that".to_owned(), any),
        (Place::Scheme, _) => (
            "no scheme is like that".to_owned(),
            "the scheme is `http` or `https`",
        ),
        (Place::Authority, _) => (
            "the VirtualService has no such host".to_owned(),
            "list the host, or remove the condition on the authority",
        ),
        (Place::Header(name), _) if conditions(name) > 1 => (
            format!("the conditions on header `{name}` exclude each other"),
            "leave one of them out, or remove it",
        ),
        (Place::Header(name), _) => (format!("header `{name}` can have no such value"), any),
        (Place::Query(name), _) => (format!("parameter `{name}` can have no such value"), any),
        (Place::Claim(path), _) => (format!("claim `{}` cannot be such", path.join(".")), any),
        (Place::Chance, _) => ("no request is among them".to_owned(), any),
        (Place::Given(name), _) if &**name == GATEWAY => (
            "the VirtualService is for none of these gateways".to_owned(),
            "name them in the `gateways` of the VirtualService too, or remove it",
        ),
        (Place::Given(_), _) => ("its conditions exclude each other".to_owned(), any),
    }
}
