//! Calls that lead to calls, in a scenario: tries that multiply, callers that give up before those
//! whom they called do, and circuit breakers below what their caller has under way.

use super::blocks::{Block, Rules};
use super::calls::{Calls, Hop};
use super::read::span_of;
use crate::codes::{MSH0002, MSH0009, MSH0019};
use crate::documents::{Documents, VIRTUAL_SERVICE};
use crate::read::items;
use proxy_core::time::Nanos;
use proxy_core::xds::{HttpProtocol, RetryOn, RetryPolicy};
use source::{Diagnostic, Node, Span};
use std::collections::BTreeMap;

/// So many tries at the last service are worth a warning: two retries at each of two hops make as
/// many.
const TRIES: u64 = 9;

pub(super) fn check(
    documents: &Documents,
    rules: &Rules<'_>,
    calls: &Calls,
    found: &mut Vec<Diagnostic>,
) {
    multiplied(documents, calls, found);
    for (number, hop) in calls.hops.iter().enumerate() {
        found.extend(gives_up_first(documents, hop, hop));
        for next in calls.after(number) {
            found.extend(gives_up_first(documents, hop, &calls.hops[next]));
        }
        found.extend(breaks_below(rules, hop));
    }
}

/// The worst chain from a hop on.
#[derive(Clone)]
struct Chain {
    tries: u64,
    /// Numbers of hops, the first call first.
    hops: Vec<usize>,
}

struct Search<'c> {
    calls: &'c Calls,
    known: Vec<Option<Chain>>,
    /// Calls may come back to where they began.
    under_way: Vec<bool>,
}

fn multiplied(documents: &Documents, calls: &Calls, found: &mut Vec<Diagnostic>) {
    let mut search = Search {
        calls,
        known: vec![None; calls.hops.len()],
        under_way: vec![false; calls.hops.len()],
    };
    // The worst for each last call.
    let mut worst: BTreeMap<usize, Chain> = BTreeMap::new();
    for number in 0..calls.hops.len() {
        let chain = search.from(number);
        let last = chain.hops[chain.hops.len() - 1];
        let known = worst.get(&last).map_or(0, |known| known.tries);
        if chain.hops.len() > 1 && chain.tries >= TRIES && chain.tries > known {
            worst.insert(last, chain);
        }
    }
    // Several sources or headers may lead along the same rules.
    let mut said: Vec<(String, u64)> = Vec::new();
    for chain in worst.values() {
        let names = path(calls, chain);
        if !said.contains(&(names.clone(), chain.tries)) {
            found.push(tries_multiply(documents, calls, chain, &names));
            said.push((names, chain.tries));
        }
    }
}

impl Search<'_> {
    fn from(&mut self, number: usize) -> Chain {
        let hop = &self.calls.hops[number];
        let alone = Chain {
            tries: tries(hop, repeats_failures),
            hops: vec![number],
        };
        if let Some(known) = &self.known[number] {
            return known.clone();
        }
        if std::mem::replace(&mut self.under_way[number], true) {
            return alone;
        }
        // What the caller says of a call that failed is 500.
        let again = tries(hop, |policy| repeats_status(policy, 500));
        let next: Vec<usize> = self.calls.after(number).collect();
        let needed = next
            .into_iter()
            .filter(|next| self.calls.hops[*next].needed);
        let below: Vec<Chain> = needed.map(|next| self.from(next)).collect();
        let longest = below
            .into_iter()
            .reduce(|a, b| if b.tries > a.tries { b } else { a });
        let chain = match longest {
            Some(below) if again.saturating_mul(below.tries) > alone.tries => Chain {
                tries: again.saturating_mul(below.tries),
                hops: [vec![number], below.hops].concat(),
            },
            _ => alone,
        };
        self.under_way[number] = false;
        self.known[number] = Some(chain.clone());
        chain
    }
}

/// How many tries one request becomes, if each fails in a way that `repeats` is for. Where the proxy
/// bounds its retries in another way, they do not multiply without end.
fn tries(hop: &Hop, repeats: impl Fn(&RetryPolicy) -> bool) -> u64 {
    let bounded = hop.cluster.as_ref().is_some_and(|cluster| {
        let limits = &cluster.circuit_breakers;
        limits.retry_budget.is_some() || limits.max_retries < u32::MAX
    });
    let policy = hop.forward().and_then(|forward| forward.retry.as_ref());
    let retries = policy.filter(|policy| !bounded && repeats(policy));
    let tries = 1 + retries.map_or(0, |policy| u64::from(policy.num_retries));
    u64::from(hop.own_tries).saturating_mul(tries)
}

fn repeats_status(policy: &RetryPolicy, status: u16) -> bool {
    let on = policy.retry_on;
    on.any(RetryOn::FIVE_XX)
        || (on.any(RetryOn::GATEWAY_ERROR) && (502..=504).contains(&status))
        || (on.any(RetryOn::RETRIABLE_STATUS_CODES)
            && policy.retriable_status_codes.contains(&status))
}

/// Of an application, however it fails.
fn repeats_failures(policy: &RetryPolicy) -> bool {
    [500, 502, 503, 504]
        .into_iter()
        .any(|status| repeats_status(policy, status))
}

/// `people → frontend → backend`.
fn path(calls: &Calls, chain: &Chain) -> String {
    let hops: Vec<&Hop> = chain
        .hops
        .iter()
        .map(|number| &calls.hops[*number])
        .collect();
    let mut names: Vec<&str> = hops.iter().map(|hop| hop.caller.as_str()).collect();
    names.extend(hops.last().map(|hop| hop.callee.as_str()));
    names.join(" → ")
}

fn tries_multiply(documents: &Documents, calls: &Calls, chain: &Chain, names: &str) -> Diagnostic {
    let last = chain.hops.len() - 1;
    let factors: Vec<String> = chain
        .hops
        .iter()
        .enumerate()
        .map(|(at, number)| {
            let hop = &calls.hops[*number];
            let here = match at == last {
                true => tries(hop, repeats_failures),
                false => tries(hop, |policy| repeats_status(policy, 500)),
            };
            format!("{here} at `{}`", hop.callee)
        })
        .collect();
    let hop = &calls.hops[chain.hops[last]];
    let rule = rule_of(documents, hop);
    let place = rule.as_ref().map_or(&hop.span, |(_, rule)| {
        &rule.at(&["retries"]).unwrap_or(rule).span
    });
    let message = format!(
        "retries multiply along {names}: one request can become {} tries at `{}`",
        chain.tries, hop.callee
    );
    let mut diagnostic = MSH0002
        .says(message)
        .at(place, factors.join(", times "))
        .help(
            "retry at one hop only, best at the last one; or bound them: `retryBudget`, or \
         `connectionPool.http.maxRetries`, in the DestinationRule",
        );
    diagnostic.resource = rule.map(|(resource, _)| resource);
    diagnostic
}

/// The VirtualService and the rule in it that made the route of a hop.
fn rule_of<'d>(documents: &'d Documents, hop: &Hop) -> Option<(String, &'d Node)> {
    let origin = hop.route.as_ref()?.origin.as_ref()?;
    let document = documents.find(VIRTUAL_SERVICE, &origin.namespace, &origin.name)?;
    let mut rules = items(&document.node, &["spec", "http"]).iter();
    let rule = rules.find(|rule| rule.span.line() == origin.line)?;
    Some((document.resource(), rule))
}

/// How long the other side may work on one try of a hop, and what says so.
fn patience(hop: &Hop) -> Option<(Nanos, &'static str)> {
    let forward = hop.forward();
    let whole = forward
        .and_then(|forward| forward.timeout)
        .map(|time| (time, "timeout"));
    let each = forward.and_then(|forward| forward.retry.as_ref()?.per_try_timeout);
    let each = each.map(|time| (time, "perTryTimeout"));
    let own = hop.patience.map(|time| (time, ""));
    [own, whole, each]
        .into_iter()
        .flatten()
        .min_by_key(|(time, _)| *time)
}

/// How long a hop may take as a whole, where its proxy is told.
fn duration(hop: &Hop) -> Option<Nanos> {
    let whole = hop.forward()?.timeout?;
    Some(hop.patience.map_or(whole, |own| own.min(whole)))
}

/// `outer` waits for what `inner` takes part in; they may be the same call, made by an application and
/// by its proxy.
fn gives_up_first(documents: &Documents, outer: &Hop, inner: &Hop) -> Option<Diagnostic> {
    let same = std::ptr::eq(outer, inner);
    let (waits, key) = match same {
        true => (outer.patience?, ""),
        false => patience(outer)?,
    };
    let takes = match same {
        true => outer.forward()?.timeout?,
        false => duration(inner)?,
    };
    if waits >= takes {
        return None;
    }
    let (waits, takes) = (span_of(waits), span_of(takes));
    let rule = rule_of(documents, outer).filter(|_| !key.is_empty());
    let stated = rule.as_ref().and_then(|(_, rule)| match key {
        "timeout" => rule.at(&["timeout"]),
        _ => rule.at(&["retries", "perTryTimeout"]),
    });
    let place: &Span = stated.map_or(&outer.span, |node| &node.span);
    let message = match same {
        true => format!(
            "`{}` waits {waits} for `{}`, but its proxy goes on trying for {takes}",
            outer.caller, outer.callee
        ),
        false => format!(
            "`{}` waits {waits} for `{}`, which waits up to {takes} for `{}`",
            outer.caller, outer.callee, inner.callee
        ),
    };
    let label = match rule_of(documents, inner) {
        Some((resource, rule)) => format!(
            "less than the `timeout` of {resource} ({}:{}): work goes on that nobody waits for",
            rule.span.file.name,
            rule.span.line()
        ),
        None => "work goes on that nobody waits for".to_owned(),
    };
    let help = format!("give the outer call at least {takes}, or the inner one at most {waits}");
    let mut diagnostic = MSH0009.says(message).at(place, label).help(help);
    diagnostic.resource = rule.map(|(resource, _)| resource);
    Some(diagnostic)
}

/// A limit of the caller's proxy that its own concurrency is beyond.
fn breaks_below(rules: &Rules<'_>, hop: &Hop) -> Option<Diagnostic> {
    let (at_once, cluster) = (hop.at_once?, hop.cluster.as_ref()?);
    let limits = &cluster.circuit_breakers;
    let requests = (u64::from(limits.max_requests), "http2MaxRequests");
    // Each endpoint has a connection, whatever the limit; what waits for one is bounded too.
    let connections = u64::from(limits.max_connections).max(hop.endpoints as u64);
    let queued = connections + u64::from(limits.max_pending_requests);
    let (most, key) = match cluster.http_protocol {
        HttpProtocol::Http2 => requests,
        _ => requests.min((queued, "http1MaxPendingRequests")),
    };
    if at_once <= most {
        return None;
    }
    let Block { rule, node } = rules.block(cluster, "connectionPool")?;
    let stated = node
        .at(&["http", key])
        .or_else(|| node.at(&["tcp", "maxConnections"]));
    let message = format!(
        "`{}` can have {at_once} requests to `{}` under way, of which {} are refused",
        hop.caller,
        hop.callee,
        at_once - most
    );
    let label = format!("at most {most} at a time from each proxy; the rest is answered 503");
    let help =
        "raise the limits to what the caller has under way, or give the caller fewer workers";
    let mut diagnostic = MSH0019
        .says(message)
        .at(&stated.unwrap_or(node).span, label)
        .help(help);
    diagnostic.resource = Some(rule.resource());
    Some(diagnostic)
}
