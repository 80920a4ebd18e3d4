//! What both sides made of one request, field by field.

use crate::client::Answer;
use crate::core::Core;
use crate::logs::Line;
use crate::seen::{ATTEMPT, Asked, CONNECTION, Hit, Seen};
use serde::Serialize;
use std::collections::BTreeSet;

/// Keys tried until the core decides everything random as Envoy did.
const KEYS: u64 = 50_000;
/// So many outcomes that the core had before, one after another, and it is taken to have no more.
const NOTHING_NEW: u32 = 3_000;
/// So many turns later a search begins anew.
const TURNS: usize = 3;
/// Milliseconds by which the two sides may differ in what is left of a route's time for a later try.
const LATER_TRIES: u64 = 200;
const TIME_LEFT: &str = "x-envoy-expected-rq-timeout-ms";

/// Of one message.
type HeaderLines = Vec<(String, String)>;

/// What is compared of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Field {
    Connection,
    Route,
    Cluster,
    Endpoint,
    Status,
    Flags,
    Details,
    Attempts,
    Tries,
    Reuse,
    ResponseHeaders,
    Body,
    Upstream,
    UpstreamHeaders,
}

impl Field {
    /// In the report.
    pub fn name(self) -> &'static str {
        match self {
            Field::Connection => "connection",
            Field::Route => "virtual host and route",
            Field::Cluster => "cluster",
            Field::Endpoint => "endpoint",
            Field::Status => "status",
            Field::Flags => "response flags",
            Field::Details => "response code details",
            Field::Attempts => "attempts",
            Field::Tries => "endpoint of each try",
            Field::Reuse => "connections used before",
            Field::ResponseHeaders => "response headers",
            Field::Body => "body of local replies",
            Field::Upstream => "method, host and path upstream",
            Field::UpstreamHeaders => "headers upstream",
        }
    }
}

/// A field that was compared, with both sides where they differ.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compared {
    pub(crate) field: Field,
    pub(crate) differs: Option<(String, String)>,
}

/// Compares with whatever the core may do, all its random choices tried.
pub(crate) fn compare(core: &mut Core, asked: &Asked, envoy: &Seen) -> Vec<Compared> {
    let mut closest = Closest::default();
    closest.search(core, asked, envoy);
    // What upstreams were told to do before has left its marks on the first core alone.
    if asked.is_scripted() && !envoy.hits.iter().any(Hit::is_copy) {
        // All tries of a request together may take a whole round of turns, ever again from the same host.
        for _ in 0..TURNS {
            if closest.differing == Some(0) {
                break;
            }
            core.ask(&asked.unscripted(), 0);
            closest.search(core, asked, envoy);
        }
        return closest.fields;
    }
    for mut other in core.others() {
        if closest.differing == Some(0) {
            break;
        }
        closest.search(&mut other, asked, envoy);
    }
    closest.fields
}

/// The comparison with the fewest differences so far.
#[derive(Default)]
struct Closest {
    differing: Option<usize>,
    fields: Vec<Compared>,
    known: BTreeSet<String>,
}

impl Closest {
    fn search(&mut self, core: &mut Core, asked: &Asked, envoy: &Seen) {
        let mut nothing_new = 0;
        for key in 0..KEYS {
            let mine = core.ask(asked, key);
            if !self.known.insert(format!("{mine:?}")) {
                nothing_new += 1;
                if nothing_new == NOTHING_NEW {
                    break;
                }
                continue;
            }
            nothing_new = 0;
            let fields = fields(&mine, envoy);
            let differing = fields.iter().filter(|one| one.differs.is_some()).count();
            if self.differing.is_none_or(|fewest| differing < fewest) {
                self.differing = Some(differing);
                self.fields = fields;
            }
            if differing == 0 {
                break;
            }
        }
    }
}

fn fields(core: &Seen, envoy: &Seen) -> Vec<Compared> {
    let mut all = Comparison::default();
    all.text(Field::Connection, &core.closed, &envoy.closed, |closed| {
        if *closed { "closed" } else { "answered" }.to_owned()
    });
    if core.closed || envoy.closed {
        return all.0;
    }
    let some = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    all.text(Field::Route, &core.route, &envoy.route, some);
    all.text(Field::Cluster, &core.cluster, &envoy.cluster, some);
    let address = |one: &Option<_>| {
        one.map_or_else(
            || "none".to_owned(),
            |a: std::net::SocketAddr| a.to_string(),
        )
    };
    all.text(Field::Endpoint, &core.endpoint, &envoy.endpoint, address);
    all.text(Field::Status, &core.status, &envoy.status, u16::to_string);
    all.text(Field::Flags, &core.flags, &envoy.flags, String::clone);
    all.text(Field::Details, &core.details, &envoy.details, String::clone);
    all.text(
        Field::Attempts,
        &core.attempts,
        &envoy.attempts,
        u32::to_string,
    );
    if core.attempts > 1 || envoy.attempts > 1 {
        all.text(Field::Tries, &tries(core), &tries(envoy), |all| {
            all.join(", ")
        });
    }
    let reuse = |seen: &Seen| -> Vec<String> {
        let hits = seen.hits.iter();
        hits.map(|hit| format!("{} times", hit.before)).collect()
    };
    if (envoy.hits.iter()).any(|hit| hit.header(CONNECTION).is_some()) {
        all.text(Field::Reuse, &reuse(core), &reuse(envoy), |all| {
            all.join(", ")
        });
    }
    let theirs = response_headers(envoy);
    all.text(
        Field::ResponseHeaders,
        &response_headers(core),
        &theirs,
        |all| lines(all),
    );
    if core.body.is_some() || envoy.body.is_some() {
        let body = |body: &Option<String>| format!("{:?}", body.as_deref().unwrap_or_default());
        all.text(Field::Body, &core.body, &envoy.body, body);
    }
    let where_to = |seen: &Seen| -> Vec<String> {
        let mut hits: Vec<String> = seen.hits.iter().map(request_line).collect();
        hits.sort();
        hits
    };
    all.text(Field::Upstream, &where_to(core), &where_to(envoy), |hits| {
        hits.join(", ")
    });
    if !core.hits.is_empty() || !envoy.hits.is_empty() {
        let theirs = all_upstream_headers(envoy);
        let mut mine = all_upstream_headers(core);
        if later_tries_alike(&mine, &theirs) {
            mine.clone_from(&theirs);
        }
        all.text(Field::UpstreamHeaders, &mine, &theirs, |all| {
            let hits: Vec<String> = all.iter().map(|headers| lines(headers)).collect();
            hits.join(" | ")
        });
    }
    all.0
}

#[derive(Default)]
struct Comparison(Vec<Compared>);

impl Comparison {
    fn text<T: PartialEq>(
        &mut self,
        field: Field,
        core: &T,
        envoy: &T,
        text: impl Fn(&T) -> String,
    ) {
        let differs = (core != envoy).then(|| (text(core), text(envoy)));
        self.0.push(Compared { field, differs });
    }
}

/// Where each try went that says which it is.
fn tries(seen: &Seen) -> Vec<String> {
    let own = seen.hits.iter().filter(|hit| !hit.is_copy());
    let told = own.filter_map(|hit| Some(format!("{}: {}", hit.header(ATTEMPT)?, hit.endpoint)));
    let mut tries: Vec<String> = told.collect();
    tries.sort();
    tries
}

fn request_line(hit: &Hit) -> String {
    format!("{} {}{}", hit.method, hit.authority, hit.path)
}

fn lines(headers: &[(String, String)]) -> String {
    let lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    lines.join("; ")
}

/// Without what depends on the time of day, and what frames the message.
fn response_headers(seen: &Seen) -> Vec<(String, String)> {
    const NOT_COMPARED: [&str; 6] = [
        "date",
        "server",
        "content-length",
        "transfer-encoding",
        "connection",
        "x-envoy-upstream-service-time",
    ];
    let mut headers = seen.response_headers.clone();
    headers.retain(|(name, _)| !NOT_COMPARED.contains(&&**name));
    headers
}

fn all_upstream_headers(seen: &Seen) -> Vec<HeaderLines> {
    let mut all: Vec<HeaderLines> = seen.hits.iter().map(upstream_headers).collect();
    all.sort();
    all
}

/// Whether both are the same but for the time that is left for tries after the first, which depends
/// on how long the tries before took.
fn later_tries_alike(core: &[HeaderLines], envoy: &[HeaderLines]) -> bool {
    let left = |headers: &HeaderLines| -> Option<u64> {
        let value = |name| headers.iter().find(|(own, _)| own == name);
        let (_, count) = value(ATTEMPT)?;
        let (_, left) = value(TIME_LEFT).filter(|_| count != "1")?;
        left.parse().ok()
    };
    let others = |headers: &HeaderLines| -> HeaderLines {
        let others = headers.iter().filter(|(name, _)| name != TIME_LEFT);
        others.cloned().collect()
    };
    let alike = |mine: &HeaderLines, theirs: &HeaderLines| match (left(mine), left(theirs)) {
        (Some(one), Some(other)) => {
            one.abs_diff(other) <= LATER_TRIES && others(mine) == others(theirs)
        }
        _ => mine == theirs,
    };
    core.len() == envoy.len() && core.iter().zip(envoy).all(|(one, other)| alike(one, other))
}

/// Without what frames the message, and the host, which is compared on its own.
fn upstream_headers(hit: &Hit) -> HeaderLines {
    const NOT_COMPARED: [&str; 4] = ["host", "content-length", "transfer-encoding", "connection"];
    let mut headers = hit.headers.clone();
    headers.retain(|(name, _)| !NOT_COMPARED.contains(&&**name));
    // A mirror names the machine that Envoy runs on, a gateway the client.
    const CLIENT: &str = "x-envoy-external-address";
    if hit.is_copy() || hit.header(CLIENT).is_some() {
        headers.retain(|(name, _)| name != "x-forwarded-for" && name != CLIENT);
    }
    headers.sort();
    headers
}

/// What was seen of Envoy.
pub(crate) fn of_envoy(
    asked: &Asked,
    answer: Option<&Answer>,
    line: Option<&Line>,
    hits: Vec<Hit>,
) -> Seen {
    let mut seen = Seen {
        closed: answer.is_none(),
        hits,
        ..Seen::default()
    };
    seen.hits.sort();
    if let Some(answer) = answer {
        seen.response_headers = answer.headers.clone();
        seen.response_headers.sort();
    }
    let Some(line) = line else {
        return seen;
    };
    let route = line.route.clone();
    seen.route = route.filter(|text| !text.is_empty() && text != "-");
    seen.cluster = line.cluster(asked.config);
    seen.endpoint = line.endpoint();
    seen.status = line.status.unwrap_or_default();
    seen.flags = line.flags.clone().unwrap_or_else(|| "-".to_owned());
    seen.details = line.details();
    seen.attempts = line.attempts.unwrap_or_default();
    if let Some(answer) = answer
        && seen.details != "via_upstream"
        && !answer.body.is_empty()
    {
        seen.body = Some(String::from_utf8_lossy(&answer.body).into_owned());
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_later_tries_may_have_another_time_left() {
        let told = |count: &str, left: &str| -> HeaderLines {
            [(ATTEMPT, count), (TIME_LEFT, left)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        };
        for (one, other, alike) in [
            (told("2", "1990"), told("2", "1960"), true),
            (told("2", "1990"), told("2", "1500"), false),
            (told("1", "1990"), told("1", "1991"), false),
            (told("2", "1990"), told("3", "1990"), false),
        ] {
            assert_eq!(later_tries_alike(&[one], &[other]), alike);
        }
    }
}
