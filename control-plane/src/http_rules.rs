//! The HTTP rules of a configuration as proxies try them, for those who compare their conditions.

use crate::config::HttpMatch;
use crate::names::gateway_name;
use crate::objects::{ObjectRef, Objects};
use crate::rules::{Rules, VirtualServiceRule};
use crate::translate::{is_catch_all, match_of};
use proxy_core::xds::{Name, RouteMatch};
use source::Span;
use std::sync::Arc;

/// The HTTP rules of one VirtualService, written or made from another object, with those that it
/// delegates to.
#[derive(Clone, Debug)]
pub struct HttpRules {
    /// The VirtualService, under the name that Istio gives it where it was not written.
    pub object: ObjectRef,
    /// In full.
    pub hosts: Vec<Name>,
    /// `mesh`, `NAMESPACE/NAME`.
    pub gateways: Vec<Name>,
    /// Proxies of every namespace see it.
    pub seen_by_all: bool,
    /// Made from routes of the Gateway API.
    pub of_gateway_api: bool,
    /// In the order in which they are tried, those of one rule one after the other.
    pub matches: Vec<HttpRuleMatch>,
}

/// One condition of an HTTP rule, with all that has to hold.
#[derive(Clone, Debug)]
pub struct HttpRuleMatch {
    /// The name of its rule; can be empty.
    pub rule_name: Name,
    /// Where its rule was written.
    pub rule: Span,
    /// Where it was written; `None` for a rule that states none, and for one that was not written.
    pub span: Option<Span>,
    /// What it asks of a request.
    pub request: RouteMatch,
    /// That of the listener; of gateways, that of the server.
    pub port: Option<u16>,
    /// One of them has to be the proxy's, and then it does not matter where a request comes from; if
    /// empty, all will do. `mesh`, `NAMESPACE/NAME`.
    pub gateways: Vec<Name>,
    /// Those that the proxy's pod has to have.
    pub source_labels: Vec<(Name, Name)>,
    /// That of the proxy.
    pub source_namespace: Option<Name>,
    /// Asks nothing of requests. At gateways, routes of several VirtualServices that do are tried
    /// after all others.
    pub catch_all: bool,
}

/// Every VirtualService with HTTP rules, in the order in which Istio considers them.
pub fn http_rules(objects: &Objects) -> Vec<HttpRules> {
    let rules = Rules::new(&objects.discovered());
    let all = rules.virtual_services.iter();
    all.filter(|rule| !rule.hosts.is_empty() && !rule.http().is_empty())
        .map(of_virtual_service)
        .collect()
}

fn of_virtual_service(rule: &Arc<VirtualServiceRule>) -> HttpRules {
    let mut matches = Vec::new();
    for http in rule.http() {
        let of = |one: Option<&HttpMatch>| {
            let request = match_of(rule, one);
            let statics = one.map(|one| one.statics.clone()).unwrap_or_default();
            let gateways = statics.gateways.iter();
            HttpRuleMatch {
                rule_name: http.name.clone(),
                rule: http.span.clone(),
                span: one.and_then(|one| one.span.clone()),
                port: statics.port,
                gateways: gateways
                    .map(|gateway| gateway_name(&gateway.text, rule.namespace()))
                    .collect(),
                source_labels: statics.source_labels.clone(),
                source_namespace: statics.source_namespace.clone(),
                catch_all: is_catch_all(&request),
                request,
            }
        };
        match &http.matches[..] {
            [] => matches.push(of(None)),
            stated => matches.extend(stated.iter().map(|one| of(Some(one)))),
        }
    }
    HttpRules {
        object: rule.reference().clone(),
        hosts: rule.hosts.clone(),
        gateways: rule.gateways.clone(),
        seen_by_all: rule.export_to.is_everyone(),
        of_gateway_api: rule.of_gateway_api(),
        matches,
    }
}
