//! Gateways and their VirtualServices of Ingresses and IngressRules. As rules of a service say to which
//! version requests go, they stand in the VirtualService of each host too.

use super::{Converter, set};
use crate::config::HttpAction;
use crate::ingress;
use crate::object::{Body, Object};
use proxy_core::xds::{Name, PathMatch};
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::sync::Arc;

/// Path of an Ingress, and the host and port it goes to.
struct Entry {
    path: Option<PathMatch>,
    host: Name,
    port: Option<u16>,
}

impl Converter<'_, '_> {
    pub(super) fn add_ingress(&mut self) {
        for object in ingress::derived(self.objects) {
            match &object.body {
                Body::Gateway(_) => self.add_gateway(&object),
                Body::VirtualService(service) => {
                    let entries = service.http.iter().filter_map(|rule| {
                        let HttpAction::Route(to) = &rule.action else {
                            return None;
                        };
                        let to = &to.first()?.destination;
                        let path = rule.matches.first().map(|one| one.request.path.clone());
                        Some(Entry {
                            path,
                            host: to.host.text.clone(),
                            port: to.port,
                        })
                    });
                    let entries: Vec<Entry> = entries.collect();
                    self.add_hosts(&object, &entries);
                }
                _ => {}
            }
        }
    }

    fn add_gateway(&mut self, object: &Arc<Object>) {
        let Body::Gateway(gateway) = &object.body else {
            return;
        };
        let mut servers = Vec::new();
        for server in &gateway.servers {
            let hosts: Vec<&str> = server.hosts.iter().map(|host| &*host.text).collect();
            let port = json!({
                "number": server.port,
                "name": &*server.port_name,
                "protocol": &*server.protocol,
            });
            let mut made = json!({"port": port, "hosts": hosts});
            if server.tls.is_some() {
                made["tls"] = json!({"mode": "SIMPLE", "credentialName": "ingress-certs"});
                let message =
                    "a Gateway names the secret of its certificate, in the gateway's namespace";
                let label = "`ingress-certs` stands for it";
                self.warn(&object.document.span, message, label);
            }
            servers.push(made);
        }
        let spec = json!({
            "selector": {"istio": "ingressgateway"},
            "servers": servers,
        });
        self.add(
            "Gateway",
            &object.reference.namespace,
            &object.reference.name,
            &spec,
        );
    }

    fn add_hosts(&mut self, object: &Arc<Object>, entries: &[Entry]) {
        let Body::VirtualService(service) = &object.body else {
            return;
        };
        let ruled = entries.iter().any(|entry| self.rules.route(&entry.host));
        let routes: Vec<Value> = match ruled {
            true => self.unfolded(entries),
            // As today, like everything else of those hosts.
            false => entries.iter().map(plain_route).collect(),
        };
        let gateways: Vec<&str> = service
            .gateways
            .iter()
            .map(|gateway| &*gateway.text)
            .collect();
        let hosts: Vec<&str> = service.hosts.iter().map(|host| &*host.text).collect();
        let spec = json!({"gateways": gateways, "hosts": hosts, "http": routes});
        self.add(
            "VirtualService",
            &object.reference.namespace,
            &object.reference.name,
            &spec,
        );
    }

    /// The rules of each service, for the paths that the Ingress has for it.
    fn unfolded(&mut self, entries: &[Entry]) -> Vec<Value> {
        let mut routes: Vec<Value> = Vec::new();
        for entry in entries {
            let of_service = match self.rules.route(&entry.host) {
                true => self.http_routes(&entry.host),
                false => vec![json!({"route": [{"destination": {"host": &*entry.host}}]})],
            };
            for mut route in of_service {
                if within(entry.path.as_ref(), &mut route) {
                    with_port(&mut route, entry.port);
                    routes.push(route);
                }
            }
        }
        routes.sort_by_key(by_path);
        routes
    }
}

fn plain_route(entry: &Entry) -> Value {
    let mut route = json!({"route": [{"destination": {"host": &*entry.host}}]});
    let matches = match &entry.path {
        None | Some(PathMatch::Regex(_)) => None,
        Some(PathMatch::Exact(path)) => Some(json!([{"uri": {"exact": &**path}}])),
        Some(PathMatch::Prefix(path)) => Some(json!([{"uri": {"prefix": &**path}}])),
        // Whole parts of a path.
        Some(PathMatch::SeparatedPrefix(path)) => Some(json!([
            {"uri": {"exact": &**path}},
            {"uri": {"prefix": format!("{path}/")}},
        ])),
    };
    set(&mut route, "match", matches);
    with_port(&mut route, entry.port);
    route
}

/// Keeps the requests of both; false: there are none. What callers in the mesh are asked is not asked of
/// those outside: rules for some callers are left out.
fn within(outer: Option<&PathMatch>, route: &mut Value) -> bool {
    let conditions = &route["match"][0];
    let of_callers = ["sourceLabels", "sourceNamespace"];
    if of_callers.iter().any(|key| !conditions[key].is_null()) {
        return false;
    }
    let (exact, prefix) = match outer {
        None => (None, Some("/".to_owned())),
        Some(PathMatch::Exact(path)) => (Some(path.to_string()), None),
        Some(PathMatch::Prefix(path) | PathMatch::SeparatedPrefix(path)) => {
            (None, Some(path.to_string()))
        }
        Some(PathMatch::Regex(_)) => (None, None),
    };
    let own = |how: &str| conditions["uri"][how].as_str().map(str::to_owned);
    let (own_exact, own_prefix) = match own("exact") {
        Some(exact) => (Some(exact), None),
        None => (None, Some(own("prefix").unwrap_or_else(|| "/".to_owned()))),
    };
    let uri = match (exact, prefix, own_exact, own_prefix) {
        (_, Some(a), _, Some(b)) if b.starts_with(&a) => json!({"prefix": b}),
        (_, Some(a), _, Some(b)) if a.starts_with(&b) => json!({"prefix": a}),
        (_, Some(a), Some(b), _) if b.starts_with(&a) => json!({"exact": b}),
        (Some(a), _, _, Some(b)) if a.starts_with(&b) => json!({"exact": a}),
        (Some(a), _, Some(b), _) if a == b => json!({"exact": a}),
        _ => return false,
    };
    if route["match"].is_null() {
        route["match"] = json!([{}]);
    }
    route["match"][0]["uri"] = uri;
    true
}

/// Of a gateway a route names the port.
fn with_port(route: &mut Value, port: Option<u16>) {
    let (Some(port), Some(destinations)) = (port, route["route"].as_array_mut()) else {
        return;
    };
    for to in destinations {
        to["destination"]["port"] = json!({"number": port});
    }
}

/// Exact paths first, then prefixes, the longer before the shorter.
fn by_path(route: &Value) -> (bool, Option<String>, Reverse<Option<String>>) {
    let text = |how: &str| route["match"][0]["uri"][how].as_str().map(str::to_owned);
    let exact = text("exact");
    (exact.is_none(), exact, Reverse(text("prefix")))
}
