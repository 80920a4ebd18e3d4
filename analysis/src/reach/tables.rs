//! Which matches are tried one after the other, and for whom.

use super::Position;
use control_plane::{HttpRuleMatch, HttpRules};
use proxy_core::xds::{Name, Regex};
use request_set::{Authorities, Condition, Domain, Given, Paths, Reach, reach};
use std::collections::{BTreeMap, BTreeSet};

/// What [`Given`] calls the gateway, the port and the namespace; labels are `label KEY`.
pub(super) const GATEWAY: &str = "gateway";
pub(super) const PORT: &str = "port";
pub(super) const NAMESPACE: &str = "namespace";
pub(super) const LABEL: &str = "label ";

/// Matches that are tried one after the other.
pub(super) struct Table {
    pub(super) tried: Vec<Position>,
    /// The places in `tried` of those whose fate is decided here.
    asked: Vec<usize>,
    domain: Domain,
}

impl Table {
    /// What reaches the matches whose fate is decided here.
    pub(super) fn reach(&self, services: &[HttpRules]) -> Vec<(Position, Reach)> {
        let of = |at: &Position| condition(&services[at.service].matches[at.one]);
        let conditions: Vec<Condition<'_>> = self.tried.iter().map(of).collect();
        let mut reached: Vec<Option<Reach>> = reach(&conditions, &self.domain)
            .into_iter()
            .map(Some)
            .collect();
        let asked = self.asked.iter();
        asked
            .filter_map(|&at| Some((self.tried[at], reached[at].take()?)))
            .collect()
    }
}

fn condition(one: &HttpRuleMatch) -> Condition<'_> {
    let mut given = Vec::new();
    let mut add = |name: &str, values: Vec<Name>| {
        given.push(Given {
            name: name.into(),
            values,
        });
    };
    if let Some(port) = one.port {
        add(PORT, vec![port.to_string().into()]);
    }
    if !one.gateways.is_empty() {
        add(GATEWAY, one.gateways.clone());
    } else {
        if let Some(namespace) = &one.source_namespace {
            add(NAMESPACE, vec![namespace.clone()]);
        }
        for (key, value) in &one.source_labels {
            add(&format!("{LABEL}{key}"), vec![value.clone()]);
        }
    }
    Condition {
        request: &one.request,
        given,
    }
}

/// All tables: one for each VirtualService, and one for several that share a host at a gateway.
pub(super) fn tables(services: &[HttpRules], paths: Paths) -> Vec<Table> {
    let shared = shared(services);
    let mut tables = Vec::new();
    for (number, service) in services.iter().enumerate() {
        let merged = |gateway: &Name| {
            let mut hosts = service.hosts.iter();
            hosts.all(|host| shared.contains_key(&(gateway.clone(), host.clone())))
        };
        let joins = service.seen_by_all && !service.of_gateway_api;
        let alone: Vec<Name> = service
            .gateways
            .iter()
            .filter(|gateway| !joins || !merged(gateway))
            .cloned()
            .collect();
        let tried: Vec<Position> = positions(services, number).collect();
        // Where it stands with others, what comes after a match of all requests is not even there.
        let asked = match alone.is_empty() {
            true => leading(service)..tried.len(),
            false => 0..tried.len(),
        };
        let gateways = match alone.is_empty() {
            true => service.gateways.clone(),
            false => alone,
        };
        if !asked.is_empty() {
            tables.push(Table {
                domain: domain(paths, gateways, &service.hosts, &tried, services),
                tried,
                asked: asked.collect(),
            });
        }
    }
    // Many hosts are shared by the same.
    let mut by_members: BTreeMap<&Vec<usize>, (BTreeSet<Name>, BTreeSet<Name>)> = BTreeMap::new();
    for ((gateway, host), members) in &shared {
        let (gateways, hosts) = by_members.entry(members).or_default();
        gateways.insert(gateway.clone());
        hosts.insert(host.clone());
    }
    for (members, (gateways, hosts)) in by_members {
        let mut tried: Vec<Position> = members
            .iter()
            .flat_map(|&number| {
                let before = leading(&services[number]);
                positions(services, number).take(before)
            })
            .collect();
        tried.sort_by_key(|at| services[at.service].matches[at.one].catch_all);
        let hosts: Vec<Name> = hosts.into_iter().collect();
        tables.push(Table {
            domain: domain(
                paths,
                gateways.into_iter().collect(),
                &hosts,
                &tried,
                services,
            ),
            asked: (0..tried.len()).collect(),
            tried,
        });
    }
    tables
}

fn positions(services: &[HttpRules], service: usize) -> impl Iterator<Item = Position> + use<> {
    (0..services[service].matches.len()).map(move |one| Position { service, one })
}

/// How many matches there are up to the first that takes all requests, which is one of them.
fn leading(service: &HttpRules) -> usize {
    let mut matches = service.matches.iter();
    let first = matches.position(|one| one.catch_all);
    first.map_or(service.matches.len(), |first| first + 1)
}

/// The VirtualServices of each host that several have at a gateway, oldest first.
fn shared(services: &[HttpRules]) -> BTreeMap<(Name, Name), Vec<usize>> {
    let mut shared: BTreeMap<(Name, Name), Vec<usize>> = BTreeMap::new();
    for (number, service) in services.iter().enumerate() {
        if !service.seen_by_all || service.of_gateway_api {
            continue;
        }
        // For sidecars the oldest has the host alone.
        for gateway in service
            .gateways
            .iter()
            .filter(|gateway| &***gateway != "mesh")
        {
            for host in &service.hosts {
                let key = (gateway.clone(), host.clone());
                shared.entry(key).or_default().push(number);
            }
        }
    }
    shared.retain(|_, members| members.len() > 1);
    shared
}

/// Requests to `hosts` at `gateways`.
fn domain(
    paths: Paths,
    gateways: Vec<Name>,
    hosts: &[Name],
    tried: &[Position],
    services: &[HttpRules],
) -> Domain {
    let preferred = hosts.first().map_or("x".into(), |host| example(host));
    let looks_at_authority = tried.iter().any(|at| {
        let one = &services[at.service].matches[at.one];
        let mut headers = one.request.headers.iter();
        headers.any(|header| &*header.name == ":authority")
    });
    // In the mesh a host has many names.
    let in_mesh = gateways.iter().any(|gateway| &**gateway == "mesh");
    let pattern = looks_at_authority.then(|| match in_mesh {
        true => Regex::new(".*").ok(),
        false => pattern(hosts),
    });
    Domain {
        paths,
        authorities: match pattern.flatten() {
            Some(pattern) => Authorities::Matching(pattern, vec![preferred]),
            None if looks_at_authority => Authorities::Any,
            None => Authorities::OneOf(vec![preferred]),
        },
        given: BTreeMap::from([(GATEWAY.into(), gateways)]),
    }
}

/// A name that reaches `host`, as short as every client knows it.
fn example(host: &str) -> Name {
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    match host.strip_prefix('*') {
        Some(rest) => format!("x{rest}").into(),
        None => host.into(),
    }
}

/// Every name that reaches one of `hosts` at a gateway, whatever its case and port.
fn pattern(hosts: &[Name]) -> Option<Regex> {
    let names = hosts.iter().map(|host| {
        let escaped = |text: &str| -> String {
            let bytes = text.bytes().map(|byte| format!(r"\x{byte:02x}"));
            bytes.collect()
        };
        match host.strip_prefix('*') {
            Some(rest) => format!(".*{}", escaped(rest)),
            None => escaped(host),
        }
    });
    let names: Vec<String> = names.collect();
    Regex::new(&format!("(?i)({})(:[0-9]*)?", names.join("|"))).ok()
}
