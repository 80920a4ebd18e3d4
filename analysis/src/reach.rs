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
use request_set::{Paths, Reach, Witness};
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

/// Why a match is never reached.
struct Finding {
    at: Position,
    why: Why,
}

enum Why {
    /// `takers` together take all that it asks for, such as `asks`, which goes to `taken_by`.
    Taken {
        asks: Witness,
        taken_by: Position,
        takers: Vec<Position>,
    },
    /// No request has what it asks for in this place.
    Impossible(request_set::Place),
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
    // Matches of one rule need not stand side by side: the Gateway API has an order of its own.
    let reached = findings.iter().filter(|(_, finding)| finding.is_none());
    let reached: BTreeSet<&Written> = reached.map(|((rule, _), _)| rule).collect();
    for one in services.iter().flat_map(|service| &service.matches) {
        let place = place_of(one);
        let (rule, own) = &place;
        let said_before = |written: &Written| of_istio.contains(written);
        let Some(Some(finding)) = findings.get(&place) else {
            continue;
        };
        if said_before(rule) || own.as_ref().is_some_and(said_before) {
            continue;
        }
        let (span, said) = match &one.span {
            Some(span) if reached.contains(rule) => (span, words.of_match(span, finding)),
            _ => (&one.rule, words.of_rule(&one.rule, finding)),
        };
        if told.insert(written(span)) {
            found.push(said);
        }
    }
}

/// Of every match, by where it was written, why it is never reached; one of a rule that others delegate
/// to acts in several places, and reached in one of them is reached.
fn findings(services: &[HttpRules], tables: &[Table]) -> BTreeMap<Place, Option<Finding>> {
    let mut findings: BTreeMap<Place, Option<Finding>> = BTreeMap::new();
    for table in tables {
        for (at, reach) in table.reach(services) {
            let place = place_of(&services[at.service].matches[at.one]);
            let why = match reach {
                Reach::Reached(_) | Reach::Undecided(_) => None,
                Reach::Impossible(place) => Some(Why::Impossible(place)),
                Reach::Never {
                    asks,
                    taken_by,
                    takers,
                } => Some(Why::Taken {
                    asks,
                    taken_by: table.tried[taken_by],
                    takers: takers.iter().map(|&taker| table.tried[taker]).collect(),
                }),
            };
            let finding = why.map(|why| Finding { at, why });
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
