//! HTTP rules, and matches of them, that no request reaches: earlier ones take all that they ask for,
//! or there is no such request.
//!
//! | module | holds |
//! |---|---|
//! | `tables` | which rules are tried one after the other, and for whom |
//! | `words` | how it is told |

mod tables;
mod words;

use crate::documents::Documents;
use control_plane::{HttpRuleMatch, HttpRules, Objects, http_rules};
use proxy_core::xds::{HttpConnectionManager, RouteSource};
use request_set::{Paths, Reach};
use source::{Diagnostic, Span};
use std::collections::{BTreeMap, BTreeSet};
use tables::{Table, tables};
use words::Words;

/// One match of one of the VirtualServices, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    service: usize,
    one: usize,
}

/// Why a match is never reached, as seen in one table.
struct Finding<'t> {
    at: Position,
    table: &'t Table,
    /// `Never` or `Impossible`.
    reach: Reach,
}

/// Adds a message for every match of an HTTP rule of `objects` that no request reaches, or one for the
/// rule if that holds for all of its matches. What `found` has of a rule or match from Istio's own
/// analysis (IST0130, IST0131) is not said again. `documents` are those of the objects.
pub fn never_reached(documents: &Documents, objects: &Objects, found: &mut Vec<Diagnostic>) {
    let services = http_rules(objects);
    let mut manager = HttpConnectionManager::new(RouteSource::Rds("".into()));
    objects.mesh_config().set_path_normalization(&mut manager);
    let tables = tables(&services, Paths::of(&manager));
    let findings = findings(&services, &tables);
    let of_istio = found
        .iter()
        .filter(|said| matches!(said.code, Some("IST0130" | "IST0131")));
    let of_istio: BTreeSet<Written> = of_istio.flat_map(|said| &said.span).map(written).collect();
    let mut told: BTreeSet<Written> = BTreeSet::new();
    let words = Words {
        documents,
        services: &services,
    };
    for service in &services {
        for rule in service
            .matches
            .chunk_by(|a, b| written(&a.rule) == written(&b.rule))
        {
            let span = &rule[0].rule;
            if of_istio.contains(&written(span)) {
                continue;
            }
            let never = |one: &HttpRuleMatch| findings.get(&place_of(one))?.as_ref();
            let all = rule.iter().all(|one| never(one).is_some());
            let untold = rule.iter().filter(|one| {
                let span = one.span.as_ref();
                span.is_none_or(|span| !of_istio.contains(&written(span)))
            });
            for one in untold {
                let Some(finding) = never(one) else {
                    continue;
                };
                let (span, said) = match &one.span {
                    Some(own) if !all => (own, words.of_match(own, finding)),
                    _ => (span, words.of_rule(span, finding)),
                };
                if told.insert(written(span)) {
                    found.push(said);
                }
            }
        }
    }
}

/// Of every match, by where it was written, why it is never reached; one of a rule that others delegate
/// to acts in several places, and reached in one of them is reached.
fn findings<'t>(
    services: &[HttpRules],
    tables: &'t [Table],
) -> BTreeMap<Place, Option<Finding<'t>>> {
    let mut findings: BTreeMap<Place, Option<Finding<'t>>> = BTreeMap::new();
    for table in tables {
        for (at, reach) in table.reach(services) {
            let place = place_of(&services[at.service].matches[at.one]);
            let never = matches!(reach, Reach::Never { .. } | Reach::Impossible(_));
            let finding = never.then_some(Finding { at, table, reach });
            match findings.get_mut(&place) {
                None => {
                    findings.insert(place, finding);
                }
                Some(known) if finding.is_none() => *known = None,
                Some(_) => {}
            }
        }
    }
    findings
}

/// File, and the bytes within it.
type Written = (String, usize, usize);
/// Of the rule and of the match, if that was written.
type Place = (Written, Option<Written>);

fn written(span: &Span) -> Written {
    let range = span.range();
    (span.file.name.to_string(), range.start, range.end)
}

fn place_of(one: &HttpRuleMatch) -> Place {
    (written(&one.rule), one.span.as_ref().map(written))
}
