//! The listeners of Gateways and ListenerSets: which stand, which conflict, and the Gateway of Istio
//! that each becomes.

use super::GENERATED;
use super::deployment::service_name;
use super::gateway::{AddressType, Gateway, Listener, ListenerSet, Namespaces};
use super::known::{Controller, Known, Problem};
use super::listener_tls::tls_mode;
use super::reference::GROUP;
use super::route::{RouteKind, is_kind};
use super::status::{Conditions, ListenerStatus};
use crate::config::{BoundTo, Named, Server, ServerTls};
use crate::names::service_host;
use crate::object::{Body, Object};
use proxy_core::xds::Name;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The listeners that routes can bind to, by kind, namespace and name of whose they are.
pub(crate) type Parents = BTreeMap<(&'static str, Name, Name), Vec<Parent>>;

/// A listener as a parent of routes.
#[derive(Clone, Debug)]
pub(crate) struct Parent {
    /// `Gateway` or `ListenerSet`.
    pub(crate) kind: &'static str,
    pub(crate) namespace: Name,
    pub(crate) name: Name,
    pub(crate) section: Name,
    pub(crate) port: u16,
    pub(crate) protocol: Name,
    /// `NAMESPACE/NAME` of the Gateway of Istio.
    pub(crate) internal: Name,
    pub(crate) kinds: Vec<RouteKind>,
    /// Whose routes may bind; `*` is every one.
    pub(crate) namespaces: Vec<Name>,
    pub(crate) hostname: Option<Name>,
}

impl Parent {
    /// Its host; empty: every one.
    pub(crate) fn host(&self) -> &str {
        self.hostname.as_deref().unwrap_or_default()
    }
}

/// Whose listeners are read.
pub(crate) struct Owner<'a> {
    pub(crate) kind: &'static str,
    pub(crate) object: &'a Arc<Object>,
    /// The Gateway; a ListenerSet's is its parent.
    pub(crate) gateway_object: &'a Arc<Object>,
    pub(crate) gateway: &'a Gateway,
    pub(crate) controller: Controller,
    /// Hosts of the Services that pods of the Gateway are behind.
    pub(crate) services: &'a [Name],
}

/// What has become of one listener.
pub(crate) struct Outcome {
    pub(crate) status: ListenerStatus,
    pub(crate) valid: bool,
    /// The port that it listens on, if it does.
    pub(crate) port: Option<u16>,
    pub(crate) parent: Option<Parent>,
    pub(crate) gateway: Option<Arc<Object>>,
}

/// The hosts of the Services of a Gateway, and why some addresses are not used.
pub(crate) fn services_of(
    object: &Object,
    gateway: &Gateway,
    controller: Controller,
) -> (Vec<Name>, Option<Problem>) {
    let namespace = &object.reference.namespace;
    if gateway.managed() {
        let name = service_name(&object.reference.name, gateway, controller);
        return (vec![service_host(&name, namespace)], None);
    }
    let mut hosts = Vec::new();
    let mut skipped: Vec<&str> = Vec::new();
    for (kind, value) in &gateway.addresses {
        match kind {
            AddressType::Hostname if value.contains('.') => hosts.push(value.clone()),
            AddressType::Hostname => hosts.push(service_host(value, namespace)),
            AddressType::Ip | AddressType::Other(_) => skipped.push(value),
        }
    }
    let problem = (!skipped.is_empty()).then(|| {
        let list = skipped.join(" ");
        Problem::new(
            "UnsupportedAddress",
            format!("only Hostname is supported, ignoring [{list}]"),
        )
    });
    (hosts, problem)
}

/// What becomes of listener `listener` of `owner`.
pub(crate) fn outcome(
    known: &Known<'_>,
    owner: &Owner<'_>,
    listener: &Listener,
    port_problem: Option<Problem>,
) -> Outcome {
    let (tls, conditions, valid) = judged(known, owner, listener, port_problem);
    let secure = is_secure(listener);
    let listens = !secure || tls.is_some();
    // Waypoints serve no routes here, and tunnels none at all.
    let routes = match owner.controller {
        Controller::Waypoint => false,
        Controller::EastWest => listener.port != 15008,
        Controller::Gateway | Controller::Remote => true,
    };
    let of = &owner.object.reference;
    let name = format!("{}~{GENERATED}~{}", of.name, listener.name);
    let (kinds, _) = supported_kinds(listener);
    let namespaces = admitted(known, &of.namespace, listener);
    let gateway = (listens && routes && valid).then(|| {
        let spec = crate::config::Gateway {
            selector: Vec::new(),
            servers: vec![server(listener, tls.filter(|_| secure), &namespaces)],
            bound_to: Some(BoundTo {
                services: owner.services.to_vec(),
                namespace: owner.gateway_object.reference.namespace.clone(),
                managed: owner.gateway.managed(),
            }),
        };
        let body = Body::Gateway(spec);
        Arc::new(owner.object.stand_in("Gateway", &of.namespace, &name, body))
    });
    let parent = (listens && routes).then(|| Parent {
        kind: owner.kind,
        namespace: of.namespace.clone(),
        name: of.name.clone(),
        section: listener.name.clone(),
        port: listener.port,
        protocol: listener.protocol.clone(),
        internal: format!("{}/{name}", of.namespace).into(),
        kinds: kinds.clone(),
        namespaces,
        hostname: listener.hostname.clone(),
    });
    Outcome {
        status: ListenerStatus::new(&listener.name, &kinds, conditions),
        valid,
        port: listens.then_some(listener.port),
        parent,
        gateway,
    }
}

fn is_secure(listener: &Listener) -> bool {
    matches!(&*listener.protocol, "HTTPS" | "TLS")
}

/// What it does with TLS, its conditions, and whether it can be listened on.
fn judged(
    known: &Known<'_>,
    owner: &Owner<'_>,
    listener: &Listener,
    port_problem: Option<Problem>,
) -> (Option<ServerTls>, Conditions, bool) {
    let bad_tls = || Problem::new("Invalid", "Bad TLS configuration");
    let mut conditions = Conditions::of_listener();
    let mut valid = true;
    let tls = match tls_mode(known, owner, listener) {
        Ok(tls) => tls,
        Err(problem) => {
            if matches!(
                problem.reason,
                "InvalidCACertificateRef" | "InvalidCACertificateKind" | "RefNotPermitted"
            ) {
                let of_listener = Problem::new("NoValidCACertificate", problem.message.clone());
                conditions.fail("Accepted", of_listener);
            }
            conditions.fail("ResolvedRefs", problem);
            conditions.fail("Programmed", bad_tls());
            valid = false;
            Some(ServerTls::Terminate)
        }
    };
    let protocol = &listener.protocol;
    let problems = [port_problem, unsupported(owner.controller, protocol)];
    for problem in problems.into_iter().flatten() {
        conditions.fail("Accepted", problem);
        valid = false;
    }
    if let Some(message) = unexpected(owner.controller, listener) {
        conditions.fail("Accepted", Problem::new("UnsupportedProtocol", message));
    }
    if is_secure(listener) && tls.is_none() && owner.kind == "ListenerSet" {
        let message = format!("protocol is {protocol} but no TLS section is defined");
        conditions.fail("Accepted", Problem::new("UnsupportedProtocol", message));
        conditions.fail("Programmed", bad_tls());
        valid = false;
    }
    check_kinds(listener, &mut conditions);
    (tls, conditions, valid)
}

fn check_kinds(listener: &Listener, conditions: &mut Conditions) {
    if !supported_kinds(listener).1 {
        let problem = Problem::new("InvalidRouteKinds", "Invalid route kinds");
        conditions.fail("ResolvedRefs", problem);
    }
}

/// Of a listener that loses against an earlier one.
pub(crate) fn conflicted(listener: &Listener, reason: &'static str) -> Outcome {
    let message = "Listener has a conflict with another listener attached to the same Gateway";
    let mut conditions = Conditions::default();
    conditions.set("Accepted", false, reason, message);
    conditions.set("Programmed", false, reason, message);
    conditions.set("Conflicted", true, reason, message);
    check_kinds(listener, &mut conditions);
    let (kinds, _) = supported_kinds(listener);
    Outcome {
        status: ListenerStatus::new(&listener.name, &kinds, conditions),
        valid: false,
        port: None,
        parent: None,
        gateway: None,
    }
}

fn server(listener: &Listener, tls: Option<ServerTls>, namespaces: &[Name]) -> Server {
    let host = listener.hostname.as_deref().unwrap_or("*");
    Server {
        port: listener.port,
        port_name: "default".into(),
        protocol: listener.protocol.clone(),
        bind: None,
        hosts: namespaces
            .iter()
            .map(|namespace| Named {
                text: format!("{namespace}/{host}").into(),
                span: listener.span.clone(),
            })
            .collect(),
        tls,
        https_redirect: false,
    }
}

fn unsupported(controller: Controller, protocol: &str) -> Option<Problem> {
    let known = ["HTTP", "HTTPS", "TLS", "TCP", "HBONE"];
    let upper = protocol.to_ascii_uppercase();
    let ambient = matches!(controller, Controller::Waypoint | Controller::EastWest);
    let message = match protocol {
        "HBONE" if ambient => return None,
        "HBONE" => "protocol \"HBONE\" is only supported for waypoint proxies".to_owned(),
        _ if known.contains(&protocol) => return None,
        _ if known.contains(&upper.as_str()) => format!(
            "protocol \"{protocol}\" is unsupported. hint: \"{upper}\" (uppercase) may be supported"
        ),
        _ => format!("protocol \"{protocol}\" is unsupported"),
    };
    Some(Problem::new("UnsupportedProtocol", message))
}

/// What gateways of the ambient mesh cannot listen on.
fn unexpected(controller: Controller, listener: &Listener) -> Option<&'static str> {
    let hbone = listener.port == 15008 && &*listener.protocol == "HBONE";
    let mode = listener.tls.as_ref().map(|tls| tls.passthrough);
    let fits = match controller {
        Controller::Waypoint => hbone,
        Controller::EastWest if listener.port == 15008 => hbone && mode == Some(false),
        Controller::EastWest => &*listener.protocol == "TLS" && mode == Some(true),
        Controller::Gateway | Controller::Remote => true,
    };
    (!fits).then_some(match controller {
        Controller::Waypoint => "Expected a single listener on port 15008 with protocol \"HBONE\"",
        _ => {
            "East-west gateway listeners must be either port 15008 with protocol \"HBONE\" and \
             TLS.Mode == Terminate, or TLS with TLS.Mode == Passthrough"
        }
    })
}

/// The kinds of routes that may bind, and whether all those that it allows are among them.
fn supported_kinds(listener: &Listener) -> (Vec<RouteKind>, bool) {
    let terminates = listener.tls.as_ref().is_some_and(|tls| !tls.passthrough);
    let supported: &[RouteKind] = match &*listener.protocol {
        "HTTP" | "HTTPS" => &[RouteKind::Http, RouteKind::Grpc],
        "TCP" => &[RouteKind::Tcp],
        "TLS" if terminates => &[RouteKind::Tls, RouteKind::Tcp],
        "TLS" => &[RouteKind::Tls],
        _ => &[],
    };
    if listener.kinds.is_empty() {
        return (supported.to_vec(), true);
    }
    let listed = |kind: &&RouteKind| {
        let mut kinds = listener.kinds.iter();
        kinds.any(|(group, name)| is_kind(group, name, **kind))
    };
    let both: Vec<RouteKind> = supported.iter().filter(listed).copied().collect();
    let all = both.len() == listener.kinds.len();
    (both, all)
}

/// The namespaces whose routes may bind; `*` is every one.
fn admitted(known: &Known<'_>, own: &Name, listener: &Listener) -> Vec<Name> {
    let mut namespaces: Vec<Name> = match &listener.allowed {
        Namespaces::Same => vec![own.clone()],
        Namespaces::All | Namespaces::None | Namespaces::Selector(None) => vec!["*".into()],
        selector => {
            let all = known.namespaces.iter();
            all.filter(|(name, labels)| selector.admits(own, name, Some(labels)))
                .map(|(name, _)| (*name).clone())
                .collect()
        }
    };
    if namespaces.is_empty() {
        // Nobody's, so that the listener is there.
        namespaces.push("~".into());
    }
    namespaces
}

/// What listeners of a Gateway lose against an earlier one, with the reason. Those of the Gateway
/// come first, then those of its ListenerSets as they are given.
pub(crate) fn conflicts<'a>(
    listeners: impl Iterator<Item = &'a Listener>,
) -> Vec<Option<&'static str>> {
    let mut standing: Vec<&Listener> = Vec::new();
    let mut found = Vec::new();
    for listener in listeners {
        let prior = standing.iter().find(|prior| !distinct(listener, prior));
        found.push(prior.map(|prior| {
            let raw = |of: &Listener| matches!(&*of.protocol, "TCP" | "UDP");
            match (raw(listener) && raw(prior)) || listener.protocol != prior.protocol {
                true => "ProtocolConflict",
                false => "HostnameConflict",
            }
        }));
        if prior.is_none() {
            standing.push(listener);
        }
    }
    found
}

fn distinct(a: &Listener, b: &Listener) -> bool {
    let raw = |of: &Listener| matches!(&*of.protocol, "TCP" | "UDP");
    let named = |of: &Listener| matches!(&*of.protocol, "HTTP" | "HTTPS" | "TLS");
    let host = |of: &Listener| of.hostname.clone().unwrap_or_else(|| "*".into());
    if a.port != b.port {
        return true;
    }
    match (raw(a) || raw(b), named(a) && named(b)) {
        (true, _) if (raw(a) || named(a)) && (raw(b) || named(b)) => false,
        (_, true) => host(a) != host(b),
        _ => a.protocol != b.protocol,
    }
}

/// The port of a listener of a ListenerSet.
pub(crate) fn with_port(listener: &Listener) -> (Listener, Option<Problem>) {
    let mut listener = listener.clone();
    let mut problem = None;
    if listener.port == 0 {
        match &*listener.protocol {
            "HTTP" => listener.port = 80,
            "HTTPS" => listener.port = 443,
            protocol => {
                let message = format!("protocol {protocol} requires a port to be set");
                problem = Some(Problem::new("UnsupportedProtocol", message));
            }
        }
    }
    (listener, problem)
}

/// Whether the Gateway takes listeners from that ListenerSet.
pub(crate) fn takes_listeners(
    known: &Known<'_>,
    of: &Object,
    gateway: &Gateway,
    set: &Object,
) -> bool {
    let namespace = &set.reference.namespace;
    let labels = known.namespaces.get(namespace).copied();
    let allowed = gateway.allowed_listeners.as_ref();
    allowed.is_some_and(|from| from.admits(&of.reference.namespace, namespace, labels))
}

/// Namespace and name of the Gateway of a ListenerSet; `None`: not a Gateway.
pub(crate) fn parent_of<'a>(set: &'a ListenerSet, own: &'a Name) -> Option<(&'a Name, &'a Name)> {
    let of_gateway = set.parent.group_kind() == (GROUP, "Gateway");
    let to = &set.parent.to;
    of_gateway.then(|| (to.namespace_or(own), &to.name.text))
}
