//! Durations that vary.

use crate::fields::{entries, exactly_one, items, require};
use crate::model::Distribution;
use crate::units::{duration, fraction_of, positive, positive_duration};
use proxy_core::time::Nanos;
use source::{Diagnostic, Fields, Node};

/// A plain duration, or a map that says how it is spread.
pub(crate) fn distribution(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Distribution> {
    if node.as_map().is_none() && node.as_seq().is_none() {
        return duration(node, what, diagnostics).map(Distribution::Constant);
    }
    let mut fields = Fields::of(node, "a distribution", diagnostics)?;
    let keys = ["p50", "exponential", "mean", "quantiles", "samples"];
    let read = match exactly_one(&mut fields, "a distribution", &keys) {
        Some("p50") => lognormal(&mut fields),
        Some("exponential") => require(&mut fields, "exponential", positive_duration)
            .map(|mean| Distribution::Exponential { mean }),
        Some("mean") => gamma(&mut fields),
        Some("quantiles") => require(&mut fields, "quantiles", quantiles),
        Some("samples") => require(&mut fields, "samples", samples),
        _ => {
            fields.ignore(&["p99", "scv"]);
            None
        }
    };
    fields.finish();
    read
}

fn lognormal(fields: &mut Fields<'_, '_>) -> Option<Distribution> {
    let p50 = require(fields, "p50", positive_duration);
    let p99 = require(fields, "p99", positive_duration);
    let (p50, p99) = (p50?, p99?);
    if p99 < p50 {
        let span = fields
            .optional("p99")
            .map_or(fields.span(), |node| &node.span);
        fields
            .diagnostics
            .push(Diagnostic::error("`p99` is below `p50`").at(
                span,
                "at least as long as `p50`, since 99 of 100 are not longer",
            ));
        return None;
    }
    Some(Distribution::Lognormal { p50, p99 })
}

fn gamma(fields: &mut Fields<'_, '_>) -> Option<Distribution> {
    let mean = require(fields, "mean", positive_duration);
    let scv = require(fields, "scv", positive);
    Some(Distribution::Gamma {
        mean: mean?,
        scv: scv?,
    })
}

fn quantiles(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Distribution> {
    let before = diagnostics.len();
    let mut points: Vec<(f64, Nanos)> = Vec::new();
    for entry in entries(node, what, diagnostics) {
        let value = duration(&entry.value, &entry.key, diagnostics);
        let Ok(probability) = fraction_of(&entry.key) else {
            let message = format!("a key of `{what}` is a percentage, like `50%`");
            diagnostics.push(Diagnostic::error(message).at(&entry.key_span, "not a percentage"));
            continue;
        };
        let rising = points
            .last()
            .is_none_or(|last| last.0 < probability && value.is_none_or(|value| last.1 <= value));
        if !rising {
            let message = format!("`{what}` rise, both the percentages and the durations");
            diagnostics.push(Diagnostic::error(message).at(&entry.key_span, "falls back here"));
        }
        points.extend(value.map(|value| (probability, value)));
    }
    if diagnostics.len() > before {
        return None;
    }
    let ends = (points.first().map(|p| p.0), points.last().map(|p| p.0));
    if ends != (Some(0.0), Some(1.0)) {
        let message = format!("`{what}` go from `0%` to `100%`");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "one end is missing"));
        return None;
    }
    Some(Distribution::Quantiles(points))
}

fn samples(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Distribution> {
    let before = diagnostics.len();
    let samples: Vec<Nanos> = items(node, what, diagnostics)
        .iter()
        .filter_map(|item| duration(item, what, diagnostics))
        .collect();
    if samples.is_empty() && diagnostics.len() == before {
        let message = format!("`{what}` has at least one duration");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "none is here"));
    }
    (diagnostics.len() == before).then_some(Distribution::Samples(samples))
}
