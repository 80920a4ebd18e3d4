//! HTTP rules as they were written, for those who count which of them are used.

use crate::gateway_api;
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::translate::match_of_gateway_api;
use proxy_core::xds::{ConfigRef, Name, RouteMatch};
use source::Node;

/// One rule of a VirtualService, an HTTPRoute or a GRPCRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct StatedRule {
    /// The object, and the line of the rule.
    pub origin: ConfigRef,
    /// The hosts of the object as written; none of a VirtualService that others delegate to.
    pub hosts: Vec<Name>,
    /// As written.
    pub node: Node,
    /// What each entry of its `match` (`matches`) asks of a request. Conditions on the proxy and the
    /// listener are not in it.
    pub matches: Vec<RouteMatch>,
}

impl Objects {
    /// Every HTTP rule as it was written, by kind, namespace and name of its object and then in order.
    pub fn stated_rules(&self) -> Vec<StatedRule> {
        let objects = self.stored();
        objects.flat_map(|object| rules_of(object)).collect()
    }
}

fn rules_of(object: &Object) -> Vec<StatedRule> {
    let stated: (&[&str], Vec<Name>, Vec<Vec<RouteMatch>>) = match &object.body {
        Body::VirtualService(service) => {
            let rules = service.http.iter();
            let matches = rules.map(|rule| rule.matches.iter().map(|one| one.request.clone()));
            let hosts = service.hosts.iter().map(|host| host.text.clone());
            (
                &["spec", "http"],
                hosts.collect(),
                matches.map(Iterator::collect).collect(),
            )
        }
        Body::GatewayApi(gateway_api::Spec::Route(route)) if route.kind.routes_http() => {
            let rules = route.rules.iter();
            let matches = rules.map(|rule| rule.matches.iter().map(match_of_gateway_api));
            let hosts = route.hostnames.iter().map(|host| host.text.clone());
            (
                &["spec", "rules"],
                hosts.collect(),
                matches.map(Iterator::collect).collect(),
            )
        }
        _ => return Vec::new(),
    };
    let (list, hosts, matches) = stated;
    let nodes = object.document.at(list).and_then(Node::as_seq);
    let rules = nodes.unwrap_or_default().iter().zip(matches);
    let rules = rules.map(|(node, matches)| StatedRule {
        origin: ConfigRef {
            line: node.span.line(),
            ..object.origin()
        },
        hosts: hosts.clone(),
        node: node.clone(),
        matches,
    });
    rules.collect()
}
