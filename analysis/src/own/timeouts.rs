//! Timeouts of one HTTP rule that do not do what they seem to: a try, its repetitions or an injected
//! delay that they do not fit.

use super::read::{count, duration, span_of, text};
use crate::codes::{MSH0003, MSH0004, MSH0005, MSH0006, MSH0007};
use crate::documents::{Document, Documents, VIRTUAL_SERVICE};
use crate::read::items;
use proxy_core::time::Nanos;
use source::{Diagnostic, Node, Span};

/// What Istio retries on where a rule does not say.
const DEFAULT_CONDITIONS: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// Under these Envoy repeats a try that ran into its timeout (`retry_state_impl.cc`: to the retry
/// policy that is a reset).
const COVERS_TIMEOUTS: [&str; 3] = ["5xx", "gateway-error", "reset"];

pub(super) fn check(documents: &Documents, found: &mut Vec<Diagnostic>) {
    for document in documents.of(VIRTUAL_SERVICE) {
        for rule in items(&document.node, &["spec", "http"]) {
            let before = found.len();
            check_tries(rule, found);
            check_delay(rule, found);
            check_shares(rule, found);
            about(document, &mut found[before..]);
        }
    }
}

fn about(document: &Document, found: &mut [Diagnostic]) {
    for diagnostic in found {
        diagnostic.resource = Some(document.resource());
    }
}

/// The retry policy of a rule whose tries have a timeout.
struct Tries<'n> {
    most: u32,
    each: Nanos,
    each_span: &'n Span,
    conditions: &'n str,
    conditions_span: Option<&'n Span>,
}

impl<'n> Tries<'n> {
    fn of(rule: &'n Node) -> Option<Tries<'n>> {
        let policy = rule.at(&["retries"])?;
        let (each, each_span) = duration(policy, &["perTryTimeout"])?;
        let attempts = count(policy, &["attempts"]).unwrap_or(0);
        if attempts == 0 || each == Nanos::ZERO {
            return None;
        }
        let conditions = text(policy, &["retryOn"]);
        Some(Tries {
            most: attempts.saturating_add(1),
            each,
            each_span,
            conditions: conditions.unwrap_or(DEFAULT_CONDITIONS),
            conditions_span: conditions
                .and_then(|_| policy.at(&["retryOn"]))
                .map(|node| &node.span),
        })
    }

    fn repeats_slow_ones(&self) -> bool {
        let mut conditions = self.conditions.split(',');
        conditions.any(|condition| COVERS_TIMEOUTS.contains(&condition))
    }
}

fn check_tries(rule: &Node, found: &mut Vec<Diagnostic>) {
    let Some(tries) = Tries::of(rule) else { return };
    let whole = duration(rule, &["timeout"]);
    match whole {
        Some((whole, _)) if tries.each >= whole => found.push(without_effect(&tries, whole)),
        _ if !tries.repeats_slow_ones() => found.push(not_repeated(&tries)),
        Some((whole, span)) => found.extend(too_many(&tries, whole, span)),
        None => {}
    }
}

fn without_effect(tries: &Tries<'_>, whole: Nanos) -> Diagnostic {
    let (each, most) = (span_of(tries.each), tries.most);
    let label = format!("the `timeout` of the whole request is {}", span_of(whole));
    MSH0003
        .says(format!(
            "a `perTryTimeout` of {each} has no effect: the request ends first"
        ))
        .at(tries.each_span, label)
        .help(format!(
            "for {most} slow tries, a `perTryTimeout` below {} and `reset` in `retryOn`; or a longer \
             `timeout`",
            span_of(Nanos::from_millis(whole.as_millis() / u64::from(most)))
        ))
}

fn not_repeated(tries: &Tries<'_>) -> Diagnostic {
    let each = span_of(tries.each);
    let label = match tries.conditions_span {
        Some(_) => "no condition of `retryOn` is for slow tries",
        None => "no condition of Istio's default `retryOn` is for slow tries",
    };
    MSH0005
        .says(format!(
            "a try that takes longer than {each} is not made again: the request ends with 504"
        ))
        .at(tries.each_span, label)
        .help(format!("`retryOn: {},reset`", tries.conditions))
}

/// Where the last tries cannot even begin, if those before take their time.
fn too_many(tries: &Tries<'_>, whole: Nanos, span: &Span) -> Option<Diagnostic> {
    let begin = whole.0.div_ceil(tries.each.0);
    if begin >= u64::from(tries.most) {
        return None;
    }
    let (each, most) = (span_of(tries.each), tries.most);
    let all = span_of(Nanos(tries.each.0.saturating_mul(most.into())));
    let message = format!(
        "of {most} tries that take {each} each, only {begin} begin before the timeout of {}",
        span_of(whole)
    );
    let label = format!("{most} tries of {each} take {all}");
    Some(MSH0004.says(message).at(span, label).help(format!(
        "a `timeout` of {all}, a shorter `perTryTimeout`, or `attempts: {}`",
        begin.saturating_sub(1)
    )))
}

/// The fault filter comes before the router, where the timeout begins.
fn check_delay(rule: &Node, found: &mut Vec<Diagnostic>) {
    let whole = duration(rule, &["timeout"]);
    let delay = duration(rule, &["fault", "delay", "fixedDelay"]);
    let (Some((whole, _)), Some((delay, span))) = (whole, delay) else {
        return;
    };
    let delays = rule.at(&["fault", "delay"]).and_then(share);
    if delay < whole || delays.is_none_or(|share| share == 0.0) {
        return;
    }
    let (delay, whole) = (span_of(delay), span_of(whole));
    let message =
        format!("a delay of {delay} does not run into the `timeout` of {whole} beside it");
    found.push(
        MSH0006
            .says(message)
            .at(
                span,
                format!("passes before the request is sent on; then it still has {whole}"),
            )
            .help("put the timeout into the rule that leads to the caller, or the delay into a rule of what the destination calls"),
    );
}

/// A fault without a percentage hits nothing.
fn check_shares(rule: &Node, found: &mut Vec<Diagnostic>) {
    for (kind, what) in [("delay", "fixedDelay"), ("abort", "httpStatus")] {
        let Some(fault) = rule.at(&["fault", kind]) else {
            continue;
        };
        if fault.at(&[what]).is_some() && share(fault).is_none() {
            let message = format!("this {kind} hits no request: it has no `percentage`");
            found.push(
                MSH0007
                    .says(message)
                    .at(&fault.span, "without one it is 0 %")
                    .help("`percentage: {value: 100}` for every request"),
            );
        }
    }
}

/// The percentage of a fault; `None` if it states none.
fn share(fault: &Node) -> Option<f64> {
    let number = |path: &[&str]| text(fault, path)?.parse::<f64>().ok();
    let stated = fault
        .at(&["percentage"])
        .map(|_| number(&["percentage", "value"]).unwrap_or(0.0));
    stated.or_else(|| number(&["percent"]))
}
