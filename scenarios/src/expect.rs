//! What must hold.

use crate::fields::{exactly_one, items, named, read, require};
use crate::model::{Anchor, Bound, Expectation, Metric, Named, Point, Selector, Window};
use crate::units::{by_text, duration_of, fraction_of, number_of, range_of, whole_of};
use proxy_core::telemetry::Flag;
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Span, Value};

/// What a metric is measured in.
#[derive(Clone, Copy, PartialEq)]
enum Unit {
    Share,
    Count,
    Number,
    Milliseconds,
}

const METRICS: [(&str, Unit); 16] = [
    ("success_rate", Unit::Share),
    ("requests", Unit::Count),
    ("share_of", Unit::Share),
    ("requests_of", Unit::Count),
    ("code_share", Unit::Share),
    ("flag_share", Unit::Share),
    ("retries_per_request", Unit::Number),
    ("reports", Unit::Count),
    ("mean", Unit::Milliseconds),
    ("p50", Unit::Milliseconds),
    ("p75", Unit::Milliseconds),
    ("p90", Unit::Milliseconds),
    ("p95", Unit::Milliseconds),
    ("p99", Unit::Milliseconds),
    ("p99.9", Unit::Milliseconds),
    ("p99.99", Unit::Milliseconds),
];

const BOUNDS: [&str; 3] = ["at_least", "at_most", "between"];

/// The expectations. `events` are the names in the timeline, also of events that cannot be read.
pub(crate) fn expectations(
    node: &Node,
    what: &str,
    events: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<Expectation>> {
    let items = items(node, what, diagnostics);
    Some(
        items
            .iter()
            .filter_map(|item| expectation(item, events, diagnostics))
            .collect(),
    )
}

fn expectation(
    node: &Node,
    events: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Expectation> {
    let mut fields = Fields::of(node, "an expectation", diagnostics)?;
    let of = selector(&mut fields);
    let during = read(&mut fields, "during", |node, _, diagnostics| {
        window(node, events, diagnostics)
    });
    let metric = metric(&mut fields);
    if let Some((Metric::ShareOf(_) | Metric::RequestsOf(_), _)) = metric
        && of.to.is_none()
    {
        let message = "`share_of` and `requests_of` are about requests `to` a service";
        let diagnostic = Diagnostic::error(message).at(fields.span(), "`to` is missing");
        fields.diagnostics.push(diagnostic);
    }
    if let Some((Metric::Reports, _)) = metric
        && of.traffic.is_some()
    {
        let message = "`reports` are about requests `to` a service";
        let diagnostic = Diagnostic::error(message).at(fields.span(), "not about a source");
        fields.diagnostics.push(diagnostic);
    }
    fields.finish();
    let (metric, bound) = metric?;
    let during = during.unwrap_or(Window {
        from: Point {
            anchor: Anchor::Start,
            offset_ns: 0,
        },
        to: Point {
            anchor: Anchor::End,
            offset_ns: 0,
        },
        span: node.span.clone(),
    });
    let whole = one_line(node);
    let text = whole
        .strip_prefix('{')
        .and_then(|text| text.strip_suffix('}'));
    let text = text.unwrap_or(&whole).to_owned();
    Some(Expectation {
        text,
        span: node.span.clone(),
        of,
        metric,
        bound,
        during,
    })
}

fn selector(fields: &mut Fields<'_, '_>) -> Selector {
    let selector = Selector {
        traffic: read(fields, "traffic", named),
        to: read(fields, "to", named),
        from: read(fields, "from", named),
    };
    let inside = selector.to.is_some() || selector.from.is_some();
    let (message, label) = match (&selector.traffic, inside) {
        (Some(_), true) => (
            "`traffic` is what clients see, `to` and `from` what proxies see",
            "both are here",
        ),
        (None, false) => (
            "an expectation is about some requests: `traffic`, or `to`, `from` or both",
            "none of them is here",
        ),
        _ => return selector,
    };
    let diagnostic = Diagnostic::error(message).at(fields.span(), label);
    fields.diagnostics.push(diagnostic);
    selector
}

fn metric(fields: &mut Fields<'_, '_>) -> Option<(Metric, Bound)> {
    let keys = METRICS.map(|(key, _)| key);
    let Some(key) = exactly_one(fields, "an expectation", &keys) else {
        fields.ignore(&BOUNDS);
        return None;
    };
    let unit = METRICS
        .iter()
        .find(|(k, _)| *k == key)
        .map(|(_, unit)| *unit)?;
    let node = fields.required(key)?;
    if node.as_map().is_none() {
        if plain_metric(key).is_some() {
            let help = format!("like `{key}: {{at_least: ...}}` or `{key}: {{at_most: ...}}`");
            let diagnostic = expected(node, &format!("`{key}` holds its bound")).help(help);
            fields.diagnostics.push(diagnostic);
            fields.ignore(&BOUNDS);
            return None;
        }
        let metric = named_metric(key, node, fields.diagnostics);
        let bound = bound(fields, unit);
        return Some((metric?, bound?));
    }
    let mut inner = Fields::of(node, "a metric with its bound", fields.diagnostics)?;
    let about = match key {
        "code_share" => Some("code"),
        "flag_share" => Some("flag"),
        "share_of" | "requests_of" => Some("version"),
        _ => None,
    };
    let metric = match about {
        Some(about) => require(&mut inner, about, |node, _, diagnostics| {
            named_metric(key, node, diagnostics)
        }),
        None => plain_metric(key),
    };
    let bound = bound(&mut inner, unit);
    inner.finish();
    no_bound_beside(fields);
    Some((metric?, bound?))
}

fn no_bound_beside(fields: &mut Fields<'_, '_>) {
    let beside = BOUNDS
        .into_iter()
        .find_map(|key| Some((key, fields.optional(key)?)));
    if let Some((key, node)) = beside {
        let message = "the bound stands inside the metric or beside it";
        let diagnostic =
            Diagnostic::error(message).at(&node.span, format!("`{key}` beside it too"));
        fields.diagnostics.push(diagnostic);
    }
}

/// A metric about a code, a flag or a version.
fn named_metric(key: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Metric> {
    match key {
        "code_share" => code(node, diagnostics).map(Metric::CodeShare),
        "flag_share" => flag(node, diagnostics).map(Metric::FlagShare),
        "share_of" => named(node, key, diagnostics).map(Metric::ShareOf),
        _ => named(node, key, diagnostics).map(Metric::RequestsOf),
    }
}

/// A metric that is about nothing but its bound.
fn plain_metric(key: &str) -> Option<Metric> {
    Some(match key {
        "success_rate" => Metric::SuccessRate,
        "requests" => Metric::Requests,
        "retries_per_request" => Metric::RetriesPerRequest,
        "reports" => Metric::Reports,
        "mean" => Metric::Mean,
        _ => Metric::Quantile(fraction_of(&format!("{}%", key.strip_prefix('p')?)).ok()?),
    })
}

fn code(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<u16> {
    match node.value {
        Value::Int(code) if code == 0 || (200..=599).contains(&code) => u16::try_from(code).ok(),
        _ => {
            let message = "a code is a status from 200 to 599, or 0 for no answer";
            diagnostics.push(Diagnostic::error(message).at(&node.span, "not a status"));
            None
        }
    }
}

fn flag(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Named> {
    let flag = named(node, "flag", diagnostics)?;
    let names = Flag::ALL.map(Flag::as_str);
    if names.contains(&flag.text.as_str()) {
        return Some(flag);
    }
    let known = format!("known flags: {}", names.join(", "));
    let diagnostic = Diagnostic::error(format!("no response flag `{}`", flag.text))
        .at(&node.span, "not a flag")
        .nearest(&flag.text, names);
    let listed = if diagnostic.help.is_none() {
        diagnostic.help(known)
    } else {
        diagnostic
    };
    diagnostics.push(listed);
    None
}

fn bound(fields: &mut Fields<'_, '_>, unit: Unit) -> Option<Bound> {
    let present = BOUNDS.map(|key| fields.optional(key).is_some());
    let one = |node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>| {
        let want = format!("`{what}` is {} here", unit.want());
        by_text(node, want, diagnostics, |text| unit.read(text))
    };
    let at_least = read(fields, "at_least", one);
    let at_most = read(fields, "at_most", one);
    let between = read(fields, "between", |node, what, diagnostics| {
        let want = format!("`{what}` is {} here", unit.want_two());
        by_text(node, want, diagnostics, |text| {
            range_of(text, |text| unit.read(text))
        })
    });
    let complaint = match present {
        [false, false, false] => Some((
            "a bound is missing",
            "needs `at_least`, `at_most` or `between`",
        )),
        [true, _, true] | [_, true, true] => Some((
            "a bound is either `between`, or `at_least` and `at_most`",
            "both are here",
        )),
        _ => None,
    };
    let bound = match between {
        Some((low, high)) => Bound {
            at_least: Some(low),
            at_most: Some(high),
        },
        None => Bound { at_least, at_most },
    };
    let empty = bound
        .at_least
        .zip(bound.at_most)
        .filter(|(low, high)| low > high);
    let complaint = complaint.or(empty.map(|_| {
        (
            "nothing lies between these bounds",
            "the upper is below the lower",
        )
    }));
    if let Some((message, label)) = complaint {
        let diagnostic = Diagnostic::error(message).at(fields.span(), label);
        fields.diagnostics.push(diagnostic);
    }
    Some(bound)
}

impl Unit {
    fn want(self) -> &'static str {
        match self {
            Unit::Share => "a percentage, like `99.9%`,",
            Unit::Count => "a whole number",
            Unit::Number => "a plain number, like `0.1`,",
            Unit::Milliseconds => "a duration, like `400ms`,",
        }
    }

    fn want_two(self) -> &'static str {
        match self {
            Unit::Share => "two percentages, like `9%..11%`,",
            Unit::Count => "two whole numbers, like `1..9`,",
            Unit::Number => "two plain numbers, like `0.1..0.2`,",
            Unit::Milliseconds => "two durations, like `1ms..9ms`,",
        }
    }

    fn read(self, text: &str) -> Result<f64, crate::units::Complaint> {
        match self {
            Unit::Share => fraction_of(text),
            Unit::Count => whole_of(text),
            Unit::Number => number_of(text),
            Unit::Milliseconds => duration_of(text).map(|value| value.as_millis_f64()),
        }
    }
}

/// `FROM..TO`.
fn window(node: &Node, events: &[&str], diagnostics: &mut Vec<Diagnostic>) -> Option<Window> {
    let Some((from, to)) = node.as_scalar().and_then(|text| text.split_once("..")) else {
        let want = "`during` is a window `FROM..TO`";
        diagnostics.push(expected(node, want).help("like `start..end` or `NAME+2s..end`"));
        return None;
    };
    let from = point(from.trim(), &node.span, events, diagnostics);
    let to = point(to.trim(), &node.span, events, diagnostics);
    Some(Window {
        from: from?,
        to: to?,
        span: node.span.clone(),
    })
}

/// A duration, or `start`, `end` or an event, with a duration after or before it. A name with a
/// `-` inside is a name first.
fn point(
    text: &str,
    span: &Span,
    events: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Point> {
    if let Ok(after) = duration_of(text) {
        let offset_ns = i64::try_from(after.0).ok()?;
        return Some(Point {
            anchor: Anchor::RunStart,
            offset_ns,
        });
    }
    if let Some(anchor) = anchor(text, span, events) {
        return Some(Point {
            anchor,
            offset_ns: 0,
        });
    }
    let split = text
        .rfind(['+', '-'])
        .map(|at| (&text[..at], &text[at..at + 1], &text[at + 1..]));
    let offset = split.and_then(|(name, sign, offset)| {
        let ns = i64::try_from(duration_of(offset).ok()?.0).ok()?;
        Some((name.trim(), if sign == "-" { -ns } else { ns }))
    });
    let (name, offset_ns) = offset.unwrap_or((text, 0));
    if let Some(anchor) = anchor(name, span, events) {
        return Some(Point { anchor, offset_ns });
    }
    if let Some((name, sign, offset)) = split
        && anchor(name.trim(), span, events).is_some()
    {
        let message = format!("after `{sign}` stands a duration, like `2s`");
        diagnostics.push(Diagnostic::error(message).at(span, format!("not `{offset}`")));
        return None;
    }
    let points = ["start", "end"].into_iter().chain(events.iter().copied());
    let known: Vec<&str> = points.clone().collect();
    let diagnostic = Diagnostic::error(format!("no event `{name}` in the timeline"))
        .at(
            span,
            "`start`, `end`, an event, or a duration from the start of the run",
        )
        .nearest(name, points);
    let help = format!("known: {}", known.join(", "));
    let listed = if diagnostic.help.is_none() {
        diagnostic.help(help)
    } else {
        diagnostic
    };
    diagnostics.push(listed);
    None
}

fn anchor(name: &str, span: &Span, events: &[&str]) -> Option<Anchor> {
    match name {
        "start" => Some(Anchor::Start),
        "end" => Some(Anchor::End),
        _ if events.contains(&name) => {
            let (text, span) = (name.to_owned(), span.clone());
            Some(Anchor::Event(Named { text, span }))
        }
        _ => None,
    }
}

/// As written, without line breaks and comments.
fn one_line(node: &Node) -> String {
    match &node.value {
        Value::Map(map) => {
            let inside: Vec<String> = map
                .entries
                .iter()
                .map(|entry| format!("{}: {}", entry.key, one_line(&entry.value)))
                .collect();
            format!("{{{}}}", inside.join(", "))
        }
        Value::Seq(items) => {
            let inside: Vec<String> = items.iter().map(one_line).collect();
            format!("[{}]", inside.join(", "))
        }
        _ => node.as_scalar().unwrap_or_default().to_owned(),
    }
}
