//! Rules that come before the one that matches: why each of them does not.

use super::PassedOver;
use super::conditions::lacking;
use crate::config::{ExportTo, Named, Static, has_labels};
use crate::model::{ProxyIdentity, ProxyKind};
use crate::names::{gateway_name, is_within};
use crate::rules::VirtualServiceRule;
use crate::translate::Mesh;
use proxy_core::router::Decision;
use proxy_core::xds::{ConfigRef, Name, Route, VirtualHost};
use std::sync::Arc;

/// The routes of `host` before the one that `decision` found, with what the request lacks.
pub(super) fn routes(host: &VirtualHost, decision: &Decision) -> Vec<PassedOver> {
    let found = decision.route();
    let is_found = |route: &&Arc<Route>| found.is_some_and(|found| Arc::ptr_eq(found, route));
    let earlier = host.routes.iter().take_while(|route| !is_found(route));
    let claims = decision.token.claims();
    earlier
        .map(|route| PassedOver {
            route: route.name.clone(),
            config: route.origin.clone(),
            why: lacking(&route.matches, &decision.head, claims)
                .unwrap_or_else(|| "it takes only some of the requests that it matches".to_owned()),
        })
        .collect()
}

/// For whom rules are looked at.
pub(super) struct Asker<'m> {
    pub(super) mesh: &'m Mesh,
    pub(super) proxy: &'m ProxyIdentity,
    /// Of the listener.
    pub(super) port: u16,
}

impl Asker<'_> {
    /// Adds the rules for the host of the request that this proxy is not told of, as far as they
    /// stand before the one that matched.
    pub(super) fn add_left_out(
        &self,
        passed_over: &mut Vec<PassedOver>,
        host: &VirtualHost,
        decision: &Decision,
    ) {
        let without_port = |name: &'_ str| name.split(':').next().unwrap_or_default().to_owned();
        let host = without_port(&host.name);
        let name = without_port(&decision.head.authority);
        let matched = decision.route().and_then(|route| route.origin.as_ref());
        for rule in &self.mesh.rules.virtual_services {
            let mut hosts = rule.hosts.iter();
            if !hosts.any(|of| **of == *host || is_within(&name, of)) {
                continue;
            }
            for left_out in self.left_out(rule) {
                insert(passed_over, left_out, matched);
            }
        }
    }

    fn left_out(&self, rule: &VirtualServiceRule) -> Vec<PassedOver> {
        if let Some(why) = self.foreign(rule) {
            return vec![PassedOver {
                route: "".into(),
                config: Some(rule.origin()),
                why,
            }];
        }
        let mut left_out = Vec::new();
        for http in rule.http() {
            for one in &http.matches {
                let Some(why) = self.unfit(rule, &one.statics) else {
                    continue;
                };
                let config = http.origin.clone().unwrap_or_else(|| ConfigRef {
                    file: http.span.file.name.clone(),
                    line: http.span.line(),
                    ..rule.origin()
                });
                left_out.push(PassedOver {
                    route: http.name.clone(),
                    config: Some(config),
                    why,
                });
            }
        }
        left_out
    }

    /// Why the whole VirtualService is not for this proxy.
    fn foreign(&self, rule: &VirtualServiceRule) -> Option<String> {
        if !rule.export_to.shows(&self.proxy.namespace) {
            let whom = match &rule.export_to {
                ExportTo::Namespaces(names) if names.is_empty() => "nobody".to_owned(),
                ExportTo::Namespaces(names) => names.join(", "),
                ExportTo::Everyone | ExportTo::Unstated => "everybody".to_owned(),
            };
            let own = &self.proxy.namespace;
            return Some(format!("it is exported to {whom}, not to namespace {own}"));
        }
        let in_mesh = rule.gateways.iter().any(|gateway| &**gateway == "mesh");
        match self.proxy.kind {
            ProxyKind::Sidecar | ProxyKind::None if !in_mesh => Some(format!(
                "it is for gateway {}, not for sidecars (`mesh`)",
                rule.gateways.join(", ")
            )),
            ProxyKind::Gateway if rule.gateways.iter().all(|gateway| &**gateway == "mesh") => {
                Some("it is for sidecars (`mesh`) only, not for gateways".to_owned())
            }
            _ => None,
        }
    }

    /// What a match asks of the proxy that this one is not.
    fn unfit(&self, rule: &VirtualServiceRule, statics: &Static) -> Option<String> {
        if let Some(port) = statics.port.filter(|port| *port != self.port) {
            return Some(format!("it is for port {port}, not {}", self.port));
        }
        if self.proxy.kind == ProxyKind::Gateway {
            return None;
        }
        if !statics.gateways.is_empty() {
            let id = |gateway: &Named| gateway_name(&gateway.text, rule.namespace());
            let named: Vec<Name> = statics.gateways.iter().map(id).collect();
            let in_mesh = named.iter().any(|gateway| &**gateway == "mesh");
            return (!in_mesh).then(|| format!("it is for gateway {}", named.join(", ")));
        }
        if !has_labels(&self.proxy.labels, &statics.source_labels) {
            let wanted = statics.source_labels.iter();
            let lacking = wanted.filter(|pair| !self.proxy.labels.contains(pair));
            let lacking: Vec<String> = lacking
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            return Some(format!("it is for callers with {}", lacking.join(" and ")));
        }
        let namespace = statics.source_namespace.as_ref();
        let other = namespace.filter(|namespace| **namespace != self.proxy.namespace)?;
        Some(format!("it is for callers in namespace {other}"))
    }
}

/// Puts `new` where it stands among the rules of its object; nowhere, if that is after `matched`.
fn insert(passed_over: &mut Vec<PassedOver>, new: PassedOver, matched: Option<&ConfigRef>) {
    let Some(place) = &new.config else {
        return;
    };
    let of_object = |other: &&ConfigRef| {
        (&other.kind, &other.namespace, &other.name) == (&place.kind, &place.namespace, &place.name)
    };
    if matched
        .filter(of_object)
        .is_some_and(|at| at.line < place.line)
    {
        return;
    }
    let is_later = |other: &PassedOver| {
        let at = other.config.as_ref().filter(of_object);
        at.is_some_and(|at| at.line > place.line)
    };
    let next = passed_over.iter().position(is_later);
    let at = next.unwrap_or(passed_over.len());
    passed_over.insert(at, new);
}
