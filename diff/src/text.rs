//! The answer as people read it.

use crate::report::{Change, Report, Treatment, Undecided, Witness};
use control_plane::{RequestDirection, RequestProtocol, RequestTls};
use proxy_core::xds::ConfigRef;
use std::fmt::Write;

/// So many names are listed; of others only the number is told.
const NAMES_MAX: usize = 3;

/// As text for a terminal.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    for change in &report.changes {
        text += &class(change);
    }
    for one in &report.undecided {
        text += &undecided(one);
    }
    for (workloads, side) in [(&report.only_old, "old"), (&report.only_new, "new")] {
        if !workloads.is_empty() {
            let _ = writeln!(
                text,
                "only in the {side} configuration: {}",
                listed(workloads)
            );
        }
    }
    for note in notes(report) {
        text += &format!("{note}\n");
    }
    text + &headline(report) + "\n"
}

/// What is to be known of the answer as a whole.
pub(crate) fn notes(report: &Report) -> Vec<&'static str> {
    let assumed = "no workload has a sidecar by these files: all are taken to have one";
    let without =
        "no Service in these files: rules about services are about nothing; add the Services";
    let notes = [
        (report.assumed_sidecars, assumed),
        (report.without_services, without),
    ];
    notes
        .into_iter()
        .filter_map(|(holds, note)| holds.then_some(note))
        .collect()
}

fn class(change: &Change) -> String {
    let mut text = format!(
        "{} changes {}
",
        request(&change.witness),
        kinds(change)
    );
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<4} {value}");
    };
    line(asked(change), &proxies(change));
    if change.hosts.len() > 1 {
        line("to", &listed(&change.hosts));
    }
    line("was", &treatment(&change.old));
    line("now", &treatment(&change.new));
    text + "\n"
}

fn undecided(one: &Undecided) -> String {
    let rules = |rules: &[ConfigRef]| match rules {
        [] => "no rule".to_owned(),
        [first, ..] => rule(first),
    };
    let (old, new) = (rules(&one.old), rules(&one.new));
    format!(
        "undecided: {}\n  for  {}\n  was  {old}\n  now  {new}\n\n",
        one.about, one.reason
    )
}

/// What came out, in one line.
pub(crate) fn headline(report: &Report) -> String {
    let count = |n: usize, one: &str, several: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {several}"),
    };
    let compared = count(report.proxies, "proxy", "proxies");
    let changes = match report.changes.len() {
        0 if report.undecided.is_empty() => "no request changes".to_owned(),
        0 => "no request is known to change".to_owned(),
        n => count(n, "class of requests changes", "classes of requests change"),
    };
    let undecided = match report.undecided.len() {
        0 => String::new(),
        n => format!(", {n} undecided"),
    };
    format!("{changes}{undecided} ({compared} compared)")
}

pub(crate) fn kinds(change: &Change) -> String {
    let names: Vec<&str> = change.kinds.iter().map(|kind| kind.name()).collect();
    names.join(", ")
}

/// How the proxies stand to the request.
pub(crate) fn asked(change: &Change) -> &'static str {
    match change.witness.request.direction {
        None | Some(RequestDirection::Outbound) => "from",
        Some(RequestDirection::Inbound | RequestDirection::Gateway) => "at",
    }
}

pub(crate) fn proxies(change: &Change) -> String {
    match &change.proxies[..] {
        [only] => only.clone(),
        several => format!("{} and {} more", change.witness.proxy, several.len() - 1),
    }
}

fn treatment(treatment: &Treatment) -> String {
    let by = match &treatment.rules[..] {
        [] => "no rule".to_owned(),
        [only] => rule(only),
        [first, others @ ..] => format!("{} and {} more", rule(first), others.len()),
    };
    format!("{}  ({by})", treatment.summary)
}

pub(crate) fn rule(origin: &ConfigRef) -> String {
    let (kind, file, line) = (&origin.kind, &origin.file, origin.line);
    format!("{kind} {}/{}, {file}:{line}", origin.namespace, origin.name)
}

pub(crate) fn listed(names: &[String]) -> String {
    let shown = &names[..names.len().min(NAMES_MAX)];
    match names.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// A request as one would give it to curl.
pub(crate) fn request(witness: &Witness) -> String {
    let request = &witness.request;
    let secured = match (request.tls, &request.sni) {
        (RequestTls::None, _) => String::new(),
        (RequestTls::Tls, None) => " by TLS".to_owned(),
        (RequestTls::Tls, Some(sni)) => format!(" by TLS to {sni}"),
        (RequestTls::Mtls, _) => match &request.principal {
            None => " by mutual TLS".to_owned(),
            Some(principal) => format!(" by mutual TLS from {principal}"),
        },
    };
    let from = request
        .source
        .map(|ip| format!(" from {ip}"))
        .unwrap_or_default();
    let inbound = match request.direction {
        Some(RequestDirection::Inbound) => ", arriving",
        _ => "",
    };
    if request.protocol == RequestProtocol::Tcp {
        let address = request.address.map(|address| address.to_string());
        let address = address.unwrap_or_default();
        return format!("a TCP connection to {address}{inbound}{secured}{from}");
    }
    let quoted = |text: &str| text.replace('\'', r"'\''");
    let mut line = format!("{} ", request.method);
    let url = format!("{}://{}{}", request.scheme, request.authority, request.path);
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~:/[]@,=%+".contains(c);
    match url.chars().all(plain) {
        true => line += &url,
        false => line += &format!("'{}'", quoted(&url)),
    }
    for (name, value) in &request.headers {
        line += &format!(" -H '{}: {}'", quoted(name), quoted(value));
    }
    if let Some(address) = request.address.filter(|_| witness.is_elsewhere) {
        line += &format!(" to {address}");
    }
    // Where a URL says it already.
    let told = request.scheme == "https" && request.tls == RequestTls::Tls;
    if !told {
        line += inbound;
        line += &secured;
    }
    line + &from
}
