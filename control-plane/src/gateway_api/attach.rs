//! Which parents a route binds to, and which refuse it.

use super::connections::hosts;
use super::known::{Known, Problem, controller_of};
use super::listeners::{Parent, Parents};
use super::reference::{GROUP, ParentRef};
use super::route::Route;
use super::{GATEWAY, Spec};
use crate::config::label;
use crate::names::{is_wildcard, is_within, overlap};
use crate::object::{Body, Object};
use proxy_core::xds::Name;

/// One parent that a reference of a route means.
pub(crate) struct Attachment<'a> {
    pub(crate) reference: &'a ParentRef,
    pub(crate) to: To<'a>,
    pub(crate) denied: Option<Problem>,
    /// All listeners of the same Gateway or ListenerSet.
    siblings: &'a [Parent],
}

/// What a route binds to.
#[derive(Clone, Copy)]
pub(crate) enum To<'a> {
    /// All clients of a Service or ServiceEntry.
    Mesh,
    Listener(&'a Parent),
}

impl Attachment<'_> {
    pub(crate) fn in_mesh(&self) -> bool {
        matches!(self.to, To::Mesh)
    }

    /// The gateway that rules of VirtualServices name.
    pub(crate) fn internal(&self) -> Name {
        match self.to {
            To::Mesh => "mesh".into(),
            To::Listener(parent) => parent.internal.clone(),
        }
    }

    /// Whether no other listener of the port is a better one for `host`.
    pub(crate) fn owns(&self, host: &str) -> bool {
        let To::Listener(parent) = self.to else {
            return true;
        };
        let own = parent.host();
        if !own.is_empty() && !is_wildcard(own) {
            return true;
        }
        if !own.is_empty() && !overlap(host, own) {
            return false;
        }
        !self.siblings.iter().any(|other| {
            let better = other.host();
            other.section != parent.section
                && other.port == parent.port
                && other.protocol == parent.protocol
                && better != own
                && own.len() <= better.len()
                && is_within(host, better)
        })
    }
}

/// The parents of `route`, ordered by reference.
pub(crate) fn attachments<'a>(
    known: &Known<'a>,
    parents: &'a Parents,
    object: &Object,
    route: &'a Route,
) -> Vec<Attachment<'a>> {
    let own = &object.reference.namespace;
    let mut found: Vec<Attachment<'a>> = Vec::new();
    for reference in &route.parents {
        let namespace = reference.to.namespace_or(own);
        let name = &reference.to.name.text;
        match reference.group_kind() {
            ("", "Service") | ("networking.istio.io", "ServiceEntry") => {
                if foreign_waypoint(known, reference, namespace) {
                    continue;
                }
                found.push(Attachment {
                    reference,
                    to: To::Mesh,
                    denied: missing(known, reference, namespace),
                    siblings: &[],
                });
            }
            (GROUP, kind @ ("Gateway" | "ListenerSet")) => {
                let key = (kind, namespace.clone(), name.clone());
                let siblings = parents.get(&key).map_or(&[][..], Vec::as_slice);
                found.extend(siblings.iter().map(|parent| Attachment {
                    reference,
                    to: To::Listener(parent),
                    denied: refused(parent, reference, route, own),
                    siblings,
                }));
            }
            // Perhaps another controller's.
            _ => {}
        }
    }
    found.sort_by_key(|attachment| attachment.reference.key(own));
    found
}

/// Whether the Service or ServiceEntry is not there.
fn missing(known: &Known<'_>, reference: &ParentRef, namespace: &str) -> Option<Problem> {
    let name = &reference.to.name.text;
    let (_, kind) = reference.group_kind();
    let what = match kind {
        "Service" => "service",
        _ => "service entry",
    };
    known.find(kind, namespace, name).is_none().then(|| {
        let message = format!("parent {what}: \"{name}\" not found");
        Problem::new("NoMatchingParent", message)
    })
}

/// Whether clients go through a waypoint of another controller, which then has the say.
fn foreign_waypoint(known: &Known<'_>, reference: &ParentRef, namespace: &Name) -> bool {
    let (_, kind) = reference.group_kind();
    let Some(object) = known.find(kind, namespace, &reference.to.name.text) else {
        return false;
    };
    let of_namespace = known.namespaces.get(namespace).map(|labels| &labels[..]);
    let mut labels = &object.labels[..];
    if label(labels, "istio.io/use-waypoint").is_none() {
        labels = of_namespace.unwrap_or_default();
    }
    let Some(name) = label(labels, "istio.io/use-waypoint") else {
        return false;
    };
    let stated = label(labels, "istio.io/use-waypoint-namespace");
    let of = stated.filter(|of| !of.is_empty()).unwrap_or(namespace);
    if name.is_empty() || name.eq_ignore_ascii_case("none") {
        return false;
    }
    let Some(waypoint) = known.find(GATEWAY, of, name) else {
        return false;
    };
    let Body::GatewayApi(Spec::Gateway(gateway)) = &waypoint.body else {
        return false;
    };
    let class = known.find("GatewayClass", "", &gateway.class);
    class.is_some() && controller_of(known.objects, &gateway.class).is_none()
}

/// Why a listener does not take a route.
fn refused(parent: &Parent, reference: &ParentRef, route: &Route, own: &Name) -> Option<Problem> {
    if let Some(port) = reference.port.filter(|port| *port != parent.port) {
        let message = format!("port {port} not found");
        return Some(Problem::new("NoMatchingParent", message));
    }
    if let Some(section) = reference.section.as_ref().filter(|s| **s != parent.section) {
        let message = format!("sectionName \"{section}\" not found");
        return Some(Problem::new("NoMatchingParent", message));
    }
    let shown = parent.host();
    let host = parent.hostname.as_deref().unwrap_or("*");
    if !hosts(route).iter().any(|of_route| overlap(host, of_route)) {
        let message = format!("no hostnames matched parent hostname \"{shown}\"");
        return Some(Problem::new("NoMatchingListenerHostname", message));
    }
    let mut namespaces = parent.namespaces.iter();
    if !namespaces.any(|of| **of == *"*" || of == own) {
        let message = format!(
            "hostnames matched parent hostname \"{shown}\", but namespace \"{own}\" is not allowed \
             by the parent"
        );
        return Some(Problem::new("NotAllowedByListeners", message));
    }
    (!parent.kinds.contains(&route.kind)).then(|| {
        let kind = route.kind.name();
        let message = format!("kind {GROUP}/v1/{kind} is not allowed");
        Problem::new("NotAllowedByListeners", message)
    })
}
