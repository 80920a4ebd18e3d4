//! From the rules of routes to VirtualServices: one for each gateway and host, in which the rules of
//! all routes stand in the order of the Gateway API.

use super::GENERATED;
use super::attach::{Attachment, To};
use super::connections::{at_port as l4_at_port, for_listener, for_service, hosts, intersection};
use super::http::{Converted, at_port, sort};
use super::known::Known;
use super::route::{Route, RouteKind};
use crate::config::{ExportTo, HttpRoute, L4Route, Named, Semantics, VirtualService};
use crate::names::service_host;
use crate::object::{Age, Body, Object};
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// HTTP rules of one route that wait for those of others.
struct Part {
    name: String,
    object: Arc<Object>,
    spec: VirtualService,
}

impl Part {
    /// By what the rules of routes are ordered where they are equally specific.
    fn precedence(&self) -> (&Age, &Name, &str) {
        let object = &self.object;
        (&object.age, &object.reference.namespace, &self.name)
    }
}

/// Rules by gateway and host.
#[derive(Default)]
pub(crate) struct Merged {
    parts: BTreeMap<String, Vec<Part>>,
}

impl Merged {
    /// Adds the rules of an HTTPRoute or GRPCRoute.
    pub(crate) fn add(
        &mut self,
        known: &Known<'_>,
        object: &Arc<Object>,
        route: &Route,
        attachments: &[Attachment<'_>],
        (mesh, gateway): (&Converted<HttpRoute>, &Converted<HttpRoute>),
    ) {
        let own = &object.reference.namespace;
        let mut count = 0;
        for attachment in taken(attachments) {
            let port = attachment.reference.port;
            let (key, vs_hosts, rules) = match (attachment.to, port) {
                (To::Listener(parent), _) => {
                    let key = parent.internal.to_string();
                    (key, hosts(route), gateway.rules.clone())
                }
                (To::Mesh, None) => {
                    let hosts = mesh_hosts(known, attachment, own);
                    (own.to_string(), hosts, mesh.rules.clone())
                }
                (To::Mesh, Some(port)) => {
                    let hosts = mesh_hosts(known, attachment, own);
                    (format!("{own}/{port}"), hosts, at_port(&mesh.rules, port))
                }
            };
            if rules.is_empty() {
                continue;
            }
            for host in vs_hosts.iter().filter(|host| attachment.owns(host)) {
                let spec = VirtualService {
                    http: rules.clone(),
                    ..virtual_service(object, attachment, host, Semantics::GatewayApi)
                };
                let parts = self.parts.entry(format!("{key}/{host}")).or_default();
                parts.push(Part {
                    name: format!("{}~{count}", object.reference.name),
                    object: Arc::clone(object),
                    spec,
                });
                count += 1;
            }
        }
    }

    /// The VirtualServices, by gateway and host.
    pub(crate) fn finish(self) -> Vec<Arc<Object>> {
        let mut made = Vec::new();
        for (key, mut parts) in self.parts {
            parts.sort_by(|a, b| a.precedence().cmp(&b.precedence()));
            let mut parts = parts.into_iter();
            let Some(first) = parts.next() else {
                continue;
            };
            let mut spec = first.spec;
            spec.http.extend(parts.flat_map(|part| part.spec.http));
            sort(&mut spec.http);
            let (of, name) = (first.object, key.replace('/', "~"));
            let namespace = &of.reference.namespace;
            let body = Body::VirtualService(spec);
            let object = of.stand_in("VirtualService", namespace, &name, body);
            made.push(Arc::new(object));
        }
        made
    }
}

/// The VirtualServices of a TLSRoute or TCPRoute.
pub(crate) fn l4_virtual_services(
    known: &Known<'_>,
    object: &Arc<Object>,
    route: &Route,
    attachments: &[Attachment<'_>],
    (mesh, gateway): (&Converted<L4Route>, &Converted<L4Route>),
) -> Vec<Arc<Object>> {
    let own = &object.reference;
    let tls = route.kind == RouteKind::Tls;
    let (suffix, semantics) = match tls {
        true => ("tls", Semantics::TlsRoute),
        false => ("tcp", Semantics::GatewayApi),
    };
    let mut made = Vec::new();
    for attachment in taken(attachments) {
        let (vs_hosts, rules) = match attachment.to {
            To::Mesh => {
                let rules = match attachment.reference.port {
                    Some(port) => l4_at_port(&mesh.rules, port),
                    None => mesh.rules.clone(),
                };
                (mesh_hosts(known, attachment, &own.namespace), rules)
            }
            To::Listener(parent) => match parent.hostname.as_ref().filter(|_| tls) {
                Some(host) => {
                    let rules = for_listener(&gateway.rules, host);
                    (intersection(&hosts(route), host), rules)
                }
                None => (hosts(route), gateway.rules.clone()),
            },
        };
        for host in &vs_hosts {
            let rules = match attachment.in_mesh() && tls {
                true => for_service(&rules, &vs_hosts, host),
                false => rules.clone(),
            };
            let mut spec = virtual_service(object, attachment, host, semantics);
            match tls {
                true => spec.tls = rules,
                false => spec.tcp = rules,
            }
            let (name, count) = (&own.name, made.len());
            let name = format!("{name}~{suffix}~{count}~{GENERATED}");
            let body = Body::VirtualService(spec);
            let object = object.stand_in("VirtualService", &own.namespace, &name, body);
            made.push(Arc::new(object));
        }
    }
    made
}

/// Those that take the route, in the order of their gateways.
fn taken<'a, 'k>(attachments: &'a [Attachment<'k>]) -> Vec<&'a Attachment<'k>> {
    let accepted = attachments.iter().filter(|a| a.denied.is_none());
    let mut accepted: Vec<&Attachment<'_>> = accepted.collect();
    accepted.sort_by_key(|attachment| attachment.internal());
    accepted
}

/// The hosts of the Service or ServiceEntry that a reference means.
fn mesh_hosts(known: &Known<'_>, attachment: &Attachment<'_>, own: &Name) -> Vec<Name> {
    let to = &attachment.reference.to;
    let namespace = to.namespace_or(own);
    match attachment.reference.group_kind() {
        (_, "Service") => vec![service_host(&to.name.text, namespace)],
        (_, kind) => match known.find(kind, namespace, &to.name.text).map(|o| &o.body) {
            Some(Body::ServiceEntry(entry)) => {
                let hosts = entry.hosts.iter();
                hosts
                    .map(|host| host.text.to_ascii_lowercase().into())
                    .collect()
            }
            _ => Vec::new(),
        },
    }
}

/// One without rules.
fn virtual_service(
    object: &Object,
    attachment: &Attachment<'_>,
    host: &Name,
    semantics: Semantics,
) -> VirtualService {
    let named = |text: Name| Named {
        text,
        span: object.document.span.clone(),
    };
    VirtualService {
        hosts: vec![named(host.clone())],
        gateways: vec![named(attachment.internal())],
        http: Vec::new(),
        tls: Vec::new(),
        tcp: Vec::new(),
        export_to: ExportTo::Unstated,
        semantics,
    }
}
