//! Coverage as Envoy's route table check tool counts it.

use super::read::{Assertion, Field};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Of one route table.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RouteCoverage {
    /// The file of the table.
    pub file: String,
    /// Routes, weighted clusters each on its own.
    pub routes: usize,
    /// Those of which at least one field was verified.
    pub covered: usize,
    /// In percent.
    pub percent: f64,
    /// The same where a route counts by the share of its fields that were verified (`--covall`).
    pub comprehensive_percent: f64,
}

/// What was verified so far, by virtual host, route and cluster.
#[derive(Debug, Default)]
pub(super) struct Covered {
    fields: BTreeMap<(usize, usize, Option<usize>), BTreeSet<&'static str>>,
}

/// So many fields a route that forwards has, and so many one that does not.
const FORWARDING_FIELDS: f64 = 5.0;
const ANSWERING_FIELDS: f64 = 2.0;

impl Covered {
    /// Counts what `assertion` verified of a route. Headers are not counted.
    pub(super) fn verify(&mut self, route: (usize, usize, Option<usize>), assertion: &Assertion) {
        let forwards = route.2.is_some();
        let field = match assertion {
            Assertion::Text(Field::PathRedirect, _) if !forwards => Field::PathRedirect.name(),
            Assertion::RedirectCode(_) if !forwards => "code_redirect",
            Assertion::Text(field, _) if forwards && *field != Field::PathRedirect => field.name(),
            _ => return,
        };
        self.fields.entry(route).or_default().insert(field);
    }

    pub(super) fn report(&self, file: &str, routes: usize) -> RouteCoverage {
        let of_route = |(route, fields): (&(usize, usize, Option<usize>), &BTreeSet<_>)| {
            let all = match route.2 {
                Some(_) => FORWARDING_FIELDS,
                None => ANSWERING_FIELDS,
            };
            fields.len() as f64 / all
        };
        let covered = self.fields.len();
        let comprehensive: f64 = self.fields.iter().map(of_route).sum();
        let percent = |part: f64| {
            if routes == 0 {
                100.0
            } else {
                100.0 * part / routes as f64
            }
        };
        RouteCoverage {
            file: file.to_owned(),
            routes,
            covered,
            percent: percent(covered as f64),
            comprehensive_percent: percent(comprehensive),
        }
    }
}
