//! Which parents a route binds to, and which refuse it.

use super::known::{Known, Problem, controller_of};
use super::listeners::Parent;
use super::reference::{GROUP, ParentRef};
use super::route::Route;
use super::{GATEWAY, Spec};
use crate::names::{is_wildcard, is_within, overlap};
use crate::object::{Body, Object};
use proxy_core::xds::Name;

/// One parent that a reference of a route means.
pub(crate) struct Attachment<'a> {
    pub(crate) reference: &'a ParentRef,
    pub(crate) to: To<'a>,
    pub(crate) denied: Option<Problem>,
    /// Hosts of other listeners of that port, which more exact hosts belong to.
    banned: Vec<Name>,
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

    /// The host of the listener.
    pub(crate) fn hostname(&self) -> Option<&Name> {
        match self.to {
            To::Mesh => None,
            To::Listener(parent) => parent.hostname.as_ref(),
        }
    }

    /// Whether no other listener of the port is a better one for `host`.
    pub(crate) fn owns(&self, host: &str) -> bool {
        let own = self.hostname().map_or("", |host| host);
        if !own.is_empty() && !is_wildcard(own) {
            return true;
        }
        if !own.is_empty() && !overlap(host, own) {
            return false;
        }
        let mut others = self.banned.iter();
        !others.any(|other| own.len() <= other.len() && is_within(host, other))
    }
}

/// The parents of `route`, ordered by reference.
pub(crate) fn attachments<'a>(
    known: &Known<'a>,
    parents: &'a [Parent],
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
                    banned: Vec::new(),
                });
            }
            (GROUP, kind @ ("Gateway" | "ListenerSet")) => {
                let of_parent = |parent: &&Parent| {
                    parent.kind == kind && parent.namespace == *namespace && parent.name == *name
                };
                let candidates: Vec<&Parent> = parents.iter().filter(of_parent).collect();
                for parent in &candidates {
                    let others = candidates.iter().filter(|other| {
                        other.section != parent.section
                            && other.port == parent.port
                            && other.protocol == parent.protocol
                    });
                    let hosts = others.map(|other| other.hostname.clone().unwrap_or("".into()));
                    let own_host = parent.hostname.as_deref().unwrap_or_default();
                    found.push(Attachment {
                        reference,
                        to: To::Listener(parent),
                        denied: refused(parent, reference, route, own),
                        banned: hosts.filter(|host| **host != *own_host).collect(),
                    });
                }
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
    let label = |labels: &[(Name, Name)], key: &str| {
        let found = labels.iter().find(|(known, _)| **known == *key);
        found.map(|(_, value)| value.clone())
    };
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
    let of = stated.filter(|of| !of.is_empty());
    let of = of.unwrap_or_else(|| namespace.clone());
    if name.is_empty() || name.eq_ignore_ascii_case("none") {
        return false;
    }
    let Some(waypoint) = known.find(GATEWAY, &of, &name) else {
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
    let every: Name = "*".into();
    let stated: Vec<&Name> = route.hostnames.iter().map(|host| &host.text).collect();
    let hosts = match stated.is_empty() {
        true => vec![&every],
        false => stated,
    };
    let pairs = parent.hosts.iter().filter_map(|host| host.split_once('/'));
    let fitting: Vec<&str> = pairs
        .filter(|(_, host)| hosts.iter().any(|of_route| overlap(host, of_route)))
        .map(|(namespace, _)| namespace)
        .collect();
    let shown = parent.hostname.as_deref().unwrap_or_default();
    if fitting.is_empty() {
        let message = format!("no hostnames matched parent hostname \"{shown}\"");
        return Some(Problem::new("NoMatchingListenerHostname", message));
    }
    if !fitting.iter().any(|of| *of == "*" || **of == **own) {
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
