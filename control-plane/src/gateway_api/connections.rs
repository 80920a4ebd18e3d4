//! TLSRoutes and TCPRoutes to the rules of VirtualServices.

use super::backends::{weight, weightless};
use super::http::{Converted, destinations};
use super::known::Known;
use super::route::{Route, RouteKind};
use crate::config::{L4Match, L4Route, Static};
use crate::names::{is_within, overlap};
use crate::object::Object;
use proxy_core::xds::Name;

/// One rule for each. `in_mesh`: for clients of the mesh, not for gateways.
pub(crate) fn l4_rules(
    known: &Known<'_>,
    object: &Object,
    route: &Route,
    in_mesh: bool,
) -> Converted<L4Route> {
    let own = &object.reference.namespace;
    let mut converted = Converted {
        rules: Vec::new(),
        problem: None,
    };
    for rule in &route.rules {
        let (to, problem) = match weight(&rule.backends) {
            0 => (vec![(weightless(&rule.span), 1)], None),
            _ => match destinations(known, rule, route.kind, own, !in_mesh) {
                Ok((made, problem)) => {
                    let made = made.into_iter();
                    let to = made.map(|one| (one.destination, one.weight));
                    (to.collect(), problem)
                }
                Err(problem) => return Converted::refused(problem),
            },
        };
        converted.problem = problem.or(converted.problem);
        let matches = match route.kind {
            RouteKind::Tls => vec![L4Match {
                sni_hosts: hosts(route),
                destination_subnets: Vec::new(),
                statics: Static::default(),
            }],
            _ => Vec::new(),
        };
        converted.rules.push(L4Route {
            span: rule.span.clone(),
            matches,
            route: to,
        });
    }
    converted
}

/// The hosts of a route; `*` if it has none.
pub(crate) fn hosts(route: &Route) -> Vec<Name> {
    let hosts: Vec<Name> = route.hostnames.iter().map(|h| h.text.clone()).collect();
    match hosts.is_empty() {
        true => vec!["*".into()],
        false => hosts,
    }
}

/// The same rules for one port only.
pub(crate) fn at_port(rules: &[L4Route], port: u16) -> Vec<L4Route> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        if rule.matches.is_empty() {
            rule.matches.push(L4Match {
                sni_hosts: Vec::new(),
                destination_subnets: Vec::new(),
                statics: Static::default(),
            });
        }
        for one in &mut rule.matches {
            one.statics.port = Some(port);
        }
    }
    rules
}

/// Of the server names each rule is for, those that clients of a service can mean by `host`; where
/// none is stated, the hosts of the service.
pub(crate) fn for_service(rules: &[L4Route], hosts: &[Name], host: &Name) -> Vec<L4Route> {
    let mut rules = rules.to_vec();
    for one in rules.iter_mut().flat_map(|rule| &mut rule.matches) {
        if matches!(&one.sni_hosts[..], [every] if &**every == "*") {
            one.sni_hosts = hosts.to_vec();
        }
        if one.sni_hosts.len() > 1 {
            one.sni_hosts.retain(|name| overlap(host, name));
        }
    }
    rules
}

/// The same rules where the listener is for `host` only.
pub(crate) fn for_listener(rules: &[L4Route], host: &Name) -> Vec<L4Route> {
    let mut rules = rules.to_vec();
    for one in rules.iter_mut().flat_map(|rule| &mut rule.matches) {
        one.sni_hosts = intersection(&one.sni_hosts, host);
    }
    rules.retain(|rule| {
        let mut matches = rule.matches.iter();
        rule.matches.is_empty() || matches.any(|one| !one.sni_hosts.is_empty())
    });
    rules
}

/// Of each pair the narrower name.
pub(crate) fn intersection(names: &[Name], host: &Name) -> Vec<Name> {
    let narrower =
        names.iter().filter_map(
            |name| match (is_within(name, host), is_within(host, name)) {
                (true, _) => Some(name.clone()),
                (false, true) => Some(host.clone()),
                (false, false) => None,
            },
        );
    let mut found: Vec<Name> = Vec::new();
    for name in narrower {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}
