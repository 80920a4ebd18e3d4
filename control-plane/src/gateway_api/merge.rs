//! From the rules of routes to VirtualServices: one for each gateway and host, in which the rules of
//! all routes stand in the order of the Gateway API.

use super::attach::{Attachment, To};
use super::connections::{at_port as l4_at_port, for_listener, for_service, hosts, intersection};
use super::deployment::generated;
use super::http::{Converted, at_port, sort};
use super::known::{Known, reference, service_host};
use super::route::{Route, RouteKind};
use crate::config::{ExportTo, HttpRoute, L4Route, Named, Semantics, VirtualService};
use crate::object::{Age, Body, Object};
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// HTTP rules of one route that wait for those of others.
struct Part {
    age: Age,
    namespace: Name,
    name: String,
    object: Arc<Object>,
    spec: VirtualService,
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
            let mut key = attachment.internal().to_string();
            let (mut vs_hosts, mut rules) = (hosts(route), gateway.rules.clone());
            if attachment.in_mesh() {
                key = own.to_string();
                vs_hosts = mesh_hosts(known, attachment, own);
                rules = mesh.rules.clone();
                if let Some(port) = attachment.reference.port {
                    rules = at_port(&rules, port);
                    key = format!("{own}/{port}");
                }
            }
            if rules.is_empty() {
                continue;
            }
            sort(&mut rules);
            for host in vs_hosts.iter().filter(|host| attachment.owns(host)) {
                let spec = VirtualService {
                    http: rules.clone(),
                    ..virtual_service(object, attachment, host, Semantics::GatewayApi)
                };
                self.parts
                    .entry(format!("{key}/{host}"))
                    .or_default()
                    .push(Part {
                        age: object.age.clone(),
                        namespace: own.clone(),
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
            parts.sort_by(|a, b| {
                let order = |part: &Part| (part.age.clone(), part.namespace.clone());
                order(a).cmp(&order(b)).then_with(|| a.name.cmp(&b.name))
            });
            let mut parts = parts.into_iter();
            let Some(first) = parts.next() else {
                continue;
            };
            let mut spec = first.spec;
            spec.http.extend(parts.flat_map(|part| part.spec.http));
            sort(&mut spec.http);
            let name = reference("VirtualService", &first.namespace, &key.replace('/', "~"));
            let object = generated(&first.object, name, Body::VirtualService(spec));
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
        let mut vs_hosts = hosts(route);
        let mut rules = gateway.rules.clone();
        if attachment.in_mesh() {
            vs_hosts = mesh_hosts(known, attachment, &own.namespace);
            rules = mesh.rules.clone();
            if let Some(port) = attachment.reference.port {
                rules = l4_at_port(&rules, port);
            }
        } else if let Some(host) = attachment.hostname().filter(|_| tls) {
            vs_hosts = intersection(&vs_hosts, host);
            rules = for_listener(&rules, host);
        }
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
            let count = made.len();
            let name = format!(
                "{}~{suffix}~{count}~istio-autogenerated-k8s-gateway",
                own.name
            );
            let name = reference("VirtualService", &own.namespace, &name);
            let object = generated(object, name, Body::VirtualService(spec));
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
    let gateway = match attachment.to {
        To::Mesh => "mesh".into(),
        To::Listener(parent) => parent.internal.clone(),
    };
    VirtualService {
        hosts: vec![named(host.clone())],
        gateways: vec![named(gateway)],
        http: Vec::new(),
        tls: Vec::new(),
        tcp: Vec::new(),
        export_to: ExportTo::Everyone,
        semantics,
    }
}
