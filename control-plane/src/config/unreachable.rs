//! Rules and matches of a VirtualService that earlier ones leave nothing to (Istio's warnings
//! IST0130 and IST0131).

use crate::codes::{INEFFECTIVE_MATCH, UNREACHABLE_RULE};
use source::{Diagnostic, Node, Value};
use std::collections::BTreeMap;

/// Warns of the `rules` of one kind, in their order; `http`: they are HTTP rules.
pub(super) fn warn_of_unreachable(rules: &[Node], http: bool, diagnostics: &mut Vec<Diagnostic>) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut catch_all = None;
    let mut prefixes: Vec<Prefix<'_>> = Vec::new();
    for (at, rule) in rules.iter().enumerate() {
        let matches = list(rule, "match");
        if let Some(earlier) = catch_all {
            let label = match matches.is_empty() {
                true => "only the last rule can have no match",
                false => "never asked",
            };
            diagnostics.push(
                Diagnostic::warning(format!(
                    "rule {} is not used: rule {} has no match, so it takes everything",
                    name_of(rule, at),
                    name_of(&rules[earlier], earlier)
                ))
                .code(UNREACHABLE_RULE)
                .at(&rule.span, label),
            );
            continue;
        }
        if matches.is_empty() {
            catch_all = Some(at);
            continue;
        }
        let mut repeated = 0;
        for (number, one) in matches.iter().enumerate() {
            match seen.get(&meaning(one, true)) {
                Some(earlier) => {
                    repeated += 1;
                    let whose = name_of(&rules[*earlier], *earlier);
                    let what = name_of(one, number);
                    let message = format!("match {what} of rule {} is not used", name_of(rule, at));
                    diagnostics.push(
                        Diagnostic::warning(message)
                            .code(INEFFECTIVE_MATCH)
                            .at(&one.span, format!("the same as a match of rule {whose}")),
                    );
                }
                None => {
                    seen.insert(meaning(one, true), at);
                    prefixes.extend(http.then(|| Prefix::of(one, (rule, at), number)).flatten());
                }
            }
        }
        if repeated == matches.len() {
            let message = format!("rule {} is not used", name_of(rule, at));
            diagnostics.push(
                Diagnostic::warning(message)
                    .code(UNREACHABLE_RULE)
                    .at(&rule.span, "earlier rules have all of its matches"),
            );
        }
    }
    warn_of_covered(&prefixes, diagnostics);
}

fn list<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    node.at(&[key]).and_then(Node::as_seq).unwrap_or_default()
}

/// Its `name`, or its position.
fn name_of(node: &Node, at: usize) -> String {
    match node.at(&["name"]).and_then(Node::as_scalar) {
        Some(name) if !name.is_empty() => format!("\"{name}\""),
        _ => format!("#{at}"),
    }
}

/// A text that is the same for two matches that say the same; the name does not count.
fn meaning(node: &Node, outermost: bool) -> String {
    match &node.value {
        Value::Map(map) => {
            let counts = |key: &str, value: &Node| {
                let absent = matches!(value.value, Value::Null | Value::Bool(false));
                !(outermost && (key == "name" || absent))
            };
            let mut parts: Vec<String> = map
                .entries
                .iter()
                .filter(|entry| counts(&entry.key, &entry.value))
                .map(|entry| format!("{:?}:{}", entry.key, meaning(&entry.value, false)))
                .collect();
            parts.sort();
            format!("{{{}}}", parts.join(","))
        }
        Value::Seq(items) => {
            let parts: Vec<String> = items.iter().map(|item| meaning(item, false)).collect();
            format!("[{}]", parts.join(","))
        }
        _ => format!("{:?}", node.as_scalar()),
    }
}

/// A match whose path is a prefix, as far as Istio compares such.
struct Prefix<'n> {
    span: &'n source::Span,
    rule: String,
    name: String,
    path: &'n str,
    port: &'n str,
    method: String,
    authority: String,
    /// Headers, query parameters and headers that must be absent.
    others: [BTreeMap<&'n str, String>; 3],
}

impl<'n> Prefix<'n> {
    fn of(one: &'n Node, (rule, at): (&Node, usize), number: usize) -> Option<Prefix<'n>> {
        let path = one.at(&["uri", "prefix"]).and_then(Node::as_scalar)?;
        let text = |key: &str| one.at(&[key]).map_or(String::new(), exact_or_prefix);
        let others = ["headers", "queryParams", "withoutHeaders"].map(|key| {
            let entries = one.at(&[key]).and_then(Node::as_map);
            let entries = entries.map_or(&[][..], |map| &map.entries);
            entries
                .iter()
                .map(|entry| (entry.key.as_str(), exact_or_prefix(&entry.value)))
                .collect()
        });
        let method = match text("method") {
            none if none.is_empty() => "exact:GET".to_owned(),
            stated => stated,
        };
        (!path.is_empty()).then(|| Prefix {
            span: &one.span,
            rule: name_of(rule, at),
            name: name_of(one, number),
            path,
            port: one.at(&["port"]).and_then(Node::as_scalar).unwrap_or("0"),
            method,
            authority: text("authority"),
            others,
        })
    }

    /// Whether everything that `later` matches is this one's.
    fn covers(&self, later: &Prefix<'_>) -> bool {
        let same_keys = |(own, other): (&BTreeMap<&str, String>, &BTreeMap<&str, String>)| {
            own.len() == other.len()
                && own.iter().all(|(key, value)| {
                    let other = other.get(key);
                    other.is_some_and(|other| value.starts_with(other.as_str()))
                })
        };
        later.path.starts_with(self.path)
            && later.port == self.port
            && self.method.starts_with(&later.method)
            && self.authority.starts_with(&later.authority)
            && self.others.iter().zip(&later.others).all(same_keys)
    }
}

fn exact_or_prefix(wanted: &Node) -> String {
    let text = |how: &str| {
        let found = wanted.at(&[how]).and_then(Node::as_scalar);
        found.filter(|text| !text.is_empty())
    };
    match (text("exact"), text("prefix")) {
        (Some(text), _) => format!("exact:{text}"),
        (None, Some(text)) => format!("prefix:{text}"),
        (None, None) => String::new(),
    }
}

fn warn_of_covered(prefixes: &[Prefix<'_>], diagnostics: &mut Vec<Diagnostic>) {
    for (at, later) in prefixes.iter().enumerate() {
        let mut before = prefixes[..at].iter();
        let covering = before.find(|earlier| later.path != earlier.path && earlier.covers(later));
        if let Some(earlier) = covering {
            let message = format!(
                "match {} of rule {}, prefix `{}`, is not used",
                later.name, later.rule, later.path
            );
            let label = format!(
                "match {} of rule {} takes prefix `{}`",
                earlier.name, earlier.rule, earlier.path
            );
            diagnostics.push(
                Diagnostic::warning(message)
                    .code(INEFFECTIVE_MATCH)
                    .at(later.span, label),
            );
        }
    }
}
