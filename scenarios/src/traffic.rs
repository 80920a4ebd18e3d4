//! Sources of requests.

use crate::distribution::distribution;
use crate::fields::{count, entries, exactly_one, items, key, named, one_of, read, require};
use crate::model::{ArrivalSpacing, Distribution, Load, Origin, RatePoint, Traffic, Variant};
use crate::request::{METHODS, headers, request};
use crate::units::{WHOLE_PPM, duration, positive_duration, ppm_of, rate};
use proxy_core::time::Nanos;
use source::fields::expected;
use source::node::Entry;
use source::{Diagnostic, Fields, Node};

const USERS_MAX: u32 = 1_000_000;

const ARRIVALS: [(&str, ArrivalSpacing); 2] = [
    ("poisson", ArrivalSpacing::Poisson),
    ("constant", ArrivalSpacing::Constant),
];

/// By name; there is at least one.
pub(crate) fn traffic(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Traffic>> {
    let entries = entries(node, what, diagnostics);
    if entries.is_empty() && node.as_map().is_some() {
        diagnostics.push(
            Diagnostic::error(format!("`{what}` has at least one source of requests"))
                .at(&node.span, "none is here"),
        );
    }
    Some(
        entries
            .iter()
            .filter_map(|entry| source(entry, diagnostics))
            .collect(),
    )
}

fn source(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) -> Option<Traffic> {
    let mut fields = Fields::of(&entry.value, "a traffic source", diagnostics)?;
    let request = request(&mut fields, "a traffic source");
    let origin = origin(&mut fields);
    let load = load(&mut fields);
    let headers = read(&mut fields, "headers", headers).unwrap_or_default();
    let mix = read(&mut fields, "mix", mix).unwrap_or_default();
    let timeout = read(&mut fields, "timeout", positive_duration);
    let retries = count(&mut fields, "retries", 0..=100).unwrap_or(0);
    let from = read(&mut fields, "from_time", duration).unwrap_or(Nanos::ZERO);
    let until = read(&mut fields, "until", duration);
    if until.is_some_and(|until| until <= from) {
        let span = fields
            .optional("until")
            .map_or(fields.span(), |node| &node.span);
        let diagnostic = Diagnostic::error("a traffic source ends after it begins").at(
            span,
            "not after `from_time`, which is 0s unless it is written",
        );
        fields.diagnostics.push(diagnostic);
    }
    fields.finish();
    let request = request?;
    Some(Traffic {
        name: key(entry),
        method: request.method,
        scheme: request.scheme,
        authority: request.authority,
        port: request.port,
        path: request.path,
        target: request.target,
        headers,
        origin,
        load: load?,
        mix,
        timeout,
        retries,
        from,
        until,
    })
}

fn origin(fields: &mut Fields<'_, '_>) -> Origin {
    let via = read(fields, "via", named);
    let from = read(fields, "from", named);
    match (via, from) {
        (Some(via), None) => Origin::Via(via),
        (None, Some(from)) => Origin::From(from),
        (None, None) => Origin::Direct,
        (Some(_), Some(from)) => {
            let message = "a traffic source has `via` (clients outside) or `from` (a workload)";
            let diagnostic = Diagnostic::error(message).at(&from.span, "both are here");
            fields.diagnostics.push(diagnostic);
            Origin::Direct
        }
    }
}

fn load(fields: &mut Fields<'_, '_>) -> Option<Load> {
    match exactly_one(fields, "a traffic source", &["rate", "users"]) {
        Some("rate") => {
            let arrivals = read(fields, "arrivals", |node, what, diagnostics| {
                one_of(node, what, &ARRIVALS, diagnostics)
            });
            let rate = require(fields, "rate", rate_points)?;
            let arrivals = arrivals.unwrap_or(ArrivalSpacing::Poisson);
            Some(Load::Open { rate, arrivals })
        }
        Some(_) => {
            let think = read(fields, "think", distribution);
            let users = count(fields, "users", 1..=USERS_MAX)?;
            let think = think.unwrap_or(Distribution::Constant(Nanos::ZERO));
            Some(Load::Closed { users, think })
        }
        None => {
            fields.ignore(&["arrivals", "think"]);
            None
        }
    }
}

/// One rate, or a list of steps and ramps.
fn rate_points(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<RatePoint>> {
    if node.as_seq().is_none() {
        let per_s = rate(node, what, diagnostics)?;
        return Some(vec![RatePoint {
            at: Nanos::ZERO,
            per_s,
            ramp: false,
        }]);
    }
    let before = diagnostics.len();
    let mut points: Vec<RatePoint> = Vec::new();
    for item in items(node, what, diagnostics) {
        let Some(point) = rate_point(item, diagnostics) else {
            continue;
        };
        if points.is_empty() && point.ramp {
            diagnostics.push(
                Diagnostic::error("the first point of a rate is a step")
                    .at(&item.span, "there is no rate to go from")
                    .help("begin with `{at: 0s, rate: ...}`"),
            );
        }
        if points.last().is_some_and(|last| last.at >= point.at) {
            diagnostics.push(
                Diagnostic::error("the points of a rate are in order of time")
                    .at(&item.span, "not after the point before"),
            );
        }
        points.push(point);
    }
    if points.is_empty() && diagnostics.len() == before {
        let message = format!("`{what}` has at least one point");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "none is here"));
    }
    (diagnostics.len() == before).then_some(points)
}

fn rate_point(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RatePoint> {
    let mut fields = Fields::of(node, "a point of a rate", diagnostics)?;
    let at = require(&mut fields, "at", duration);
    let key = exactly_one(&mut fields, "a point of a rate", &["rate", "ramp_to"]);
    let per_s = key.and_then(|key| require(&mut fields, key, rate));
    fields.finish();
    Some(RatePoint {
        at: at?,
        per_s: per_s?,
        ramp: key == Some("ramp_to"),
    })
}

/// A list of `PERCENTAGE: what differs`.
fn mix(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<(u32, Variant)>> {
    let before = diagnostics.len();
    let mut variants = Vec::new();
    for item in items(node, what, diagnostics) {
        let [entry] = item.as_map().map_or(&[][..], |map| &map.entries) else {
            let want = format!("an item of `{what}` is one percentage and what differs");
            diagnostics.push(expected(item, &want).help("like `5%: {headers: {end-user: jason}}`"));
            continue;
        };
        match ppm_of(&entry.key) {
            Ok(share) => {
                let variant = variant(&entry.value, diagnostics).unwrap_or_default();
                variants.push((share, variant));
            }
            Err(_) => {
                let message = format!("the key of an item of `{what}` is a percentage");
                diagnostics.push(Diagnostic::error(message).at(
                    &entry.key_span,
                    "not a percentage from 0% to 100%, like `5%`",
                ));
            }
        }
    }
    let sum: u64 = variants.iter().map(|(share, _)| u64::from(*share)).sum();
    if diagnostics.len() == before && sum != u64::from(WHOLE_PPM) {
        let message = format!("the percentages of `{what}` sum to 100 %");
        let label = format!("they sum to {} %", sum as f64 / 10_000.0);
        diagnostics.push(Diagnostic::error(message).at(&node.span, label));
    }
    Some(variants)
}

fn variant(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Variant> {
    let mut fields = Fields::of(node, "a variant of the requests", diagnostics)?;
    let variant = Variant {
        method: read(&mut fields, "method", |node, what, diagnostics| {
            one_of(
                node,
                what,
                &METHODS.map(|(_, method)| (method, method)),
                diagnostics,
            )
        })
        .map(str::to_owned),
        path: read(&mut fields, "path", path),
        headers: read(&mut fields, "headers", headers).unwrap_or_default(),
    };
    fields.finish();
    Some(variant)
}

fn path(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let text = node.as_scalar().filter(|text| {
        text.starts_with('/')
            && !text.contains('#')
            && text.parse::<http::uri::PathAndQuery>().is_ok()
    });
    if text.is_none() {
        let message = format!("`{what}` is a path that begins with `/`");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "not a path"));
    }
    text.map(str::to_owned)
}
