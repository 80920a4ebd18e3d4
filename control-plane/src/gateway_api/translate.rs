//! The whole translation: objects in, rules and statuses out.

use super::attach::{Attachment, To, attachments};
use super::connections::l4_rules;
use super::http::{Converted, http_rules};
use super::known::{Known, Problem, controller_of};
use super::listeners::{Parent, Parents};
use super::merge::{Merged, l4_virtual_services};
use super::of_gateway::GatewayContext;
use super::policies::{self, Reached, shown_kind};
use super::status::{
    Conditions, GATEWAY_CONTROLLER, GatewayApiStatus, ParentStatus, StatusBody, StatusMetadata,
    StatusReference,
};
use super::{GATEWAY, Spec};
use crate::object::{Body, Object};
use crate::objects::Objects;
use proxy_core::xds::Name;
use source::Node;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the objects of the Gateway API become.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translated {
    /// Gateways, VirtualServices and DestinationRules of Istio.
    pub(crate) objects: Vec<Arc<Object>>,
    pub(crate) parents: Parents,
    /// By kind, namespace and name.
    pub(crate) statuses: Vec<GatewayApiStatus>,
}

/// The statuses found so far, by kind, namespace and name.
pub(crate) type Statuses = BTreeMap<(Name, Name, Name), StatusBody>;

/// Translates all objects of the Gateway API.
pub(crate) fn translated(objects: &Objects) -> Translated {
    let any = |object: &Arc<Object>| matches!(object.body, Body::GatewayApi(_));
    if !objects.stored().any(any) {
        return Translated::default();
    }
    let known = Known::new(objects);
    let mut made = Translated::default();
    let mut statuses = Statuses::new();
    gateways(&known, &mut made, &mut statuses);
    let reached = routes(&known, &mut made, &mut statuses);
    backend_policies(&known, &reached, &mut made, &mut statuses);
    for ((kind, namespace, name), status) in statuses {
        let object = objects.find(&kind, &namespace, &name);
        let version = object.and_then(|object| object.document.at(&["apiVersion"]));
        made.statuses.push(GatewayApiStatus {
            api_version: version.and_then(Node::as_scalar).unwrap_or_default().into(),
            kind: shown_kind(&kind),
            metadata: StatusMetadata { namespace, name },
            status,
        });
    }
    made
}

/// All Gateways and their classes.
fn gateways(known: &Known<'_>, made: &mut Translated, statuses: &mut Statuses) {
    let objects = known.objects;
    for class in objects.of_kind("GatewayClass") {
        if controller_of(objects, &class.reference.name).is_some() {
            let mut conditions = Conditions::default();
            let message = "Handled by Istio controller";
            conditions.set("Accepted", true, "Accepted", message);
            let body = StatusBody {
                conditions: conditions.finish(),
                ..StatusBody::default()
            };
            statuses.insert(key(class), body);
        }
    }
    let mut of_kind = objects.of_kind(GATEWAY).peekable();
    let pods = match of_kind.peek() {
        Some(_) => objects.pods(),
        None => Vec::new(),
    };
    for object in of_kind {
        if let Body::GatewayApi(Spec::Gateway(gateway)) = &object.body
            && let Some(controller) = controller_of(objects, &gateway.class)
        {
            let of = GatewayContext {
                known,
                pods: &pods,
                object,
                gateway,
                controller,
            };
            of.translate(made, statuses);
        }
    }
}

/// All BackendTLSPolicies.
fn backend_policies(
    known: &Known<'_>,
    reached: &Reached,
    made: &mut Translated,
    statuses: &mut Statuses,
) {
    let ordered = policies::ordered(known);
    let outcome =
        |object: &Arc<Object>, policy| policies::outcome(known, object, policy, &ordered, reached);
    let found = ordered.iter();
    let found: Vec<(&Arc<Object>, policies::Outcome)> = found
        .map(|(object, policy)| (*object, outcome(object, policy)))
        .collect();
    made.objects.extend(policies::destination_rules(&found));
    for (object, outcome) in found {
        let body = StatusBody {
            ancestors: Some(outcome.ancestors),
            ..StatusBody::default()
        };
        statuses.insert(key(object), body);
    }
}

/// By what statuses are found.
pub(crate) fn key(object: &Object) -> (Name, Name, Name) {
    let reference = &object.reference;
    (
        reference.kind.clone(),
        reference.namespace.clone(),
        reference.name.clone(),
    )
}

/// All routes: their rules, their statuses, and the counts of the listeners. Tells what they reach.
fn routes(known: &Known<'_>, made: &mut Translated, statuses: &mut Statuses) -> Reached {
    let mut merged = Merged::default();
    let mut reached = Reached::new();
    let parents = std::mem::take(&mut made.parents);
    for object in known.objects.stored() {
        let Body::GatewayApi(Spec::Route(route)) = &object.body else {
            continue;
        };
        let own = &object.reference.namespace;
        let gateways = policies::gateways_of(object, route);
        for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
            let namespace = backend.to.namespace_or(own).clone();
            let kind: Name = backend.group_kind().1.into();
            let entry = reached.entry((kind, namespace, backend.to.name.text.clone()));
            entry.or_default().extend(gateways.iter().cloned());
        }
        let attached = attachments(known, &parents, object, route);
        let needs = |mesh: bool| attached.iter().any(|a| a.in_mesh() == mesh);
        let problems = match route.kind.routes_http() {
            true => {
                let make = |mesh| needed(needs(mesh), || http_rules(known, object, route, mesh));
                let (mesh, gateway) = (make(true), make(false));
                merged.add(known, object, route, &attached, (&mesh, &gateway));
                (mesh.problem, gateway.problem)
            }
            false => {
                let make = |mesh| needed(needs(mesh), || l4_rules(known, object, route, mesh));
                let (mesh, gateway) = (make(true), make(false));
                let rules = (&mesh, &gateway);
                let objects = l4_virtual_services(known, object, route, &attached, rules);
                made.objects.extend(objects);
                (mesh.problem, gateway.problem)
            }
        };
        count(&attached, statuses);
        let body = StatusBody {
            parents: Some(parent_statuses(own, &attached, &problems)),
            ..StatusBody::default()
        };
        statuses.insert(key(object), body);
    }
    made.objects.extend(merged.finish());
    made.parents = parents;
    reached
}

fn needed<T>(needed: bool, make: impl FnOnce() -> Converted<T>) -> Converted<T> {
    match needed {
        true => make(),
        false => Converted {
            rules: Vec::new(),
            problem: None,
        },
    }
}

/// A route counts once for each listener that takes it.
fn count(attached: &[Attachment<'_>], statuses: &mut Statuses) {
    let taken = attached.iter().filter(|a| a.denied.is_none());
    let listeners: BTreeMap<&Name, &Parent> = taken
        .filter_map(|attachment| match attachment.to {
            To::Listener(parent) => Some((&parent.internal, parent)),
            To::Mesh => None,
        })
        .collect();
    for parent in listeners.into_values() {
        let kind: Name = match parent.kind {
            "Gateway" => GATEWAY.into(),
            kind => kind.into(),
        };
        let status = statuses.get_mut(&(kind, parent.namespace.clone(), parent.name.clone()));
        let mut listeners = status.into_iter().flat_map(|status| &mut status.listeners);
        if let Some(listener) = listeners.find(|listener| listener.name == parent.section) {
            listener.attached_routes += 1;
        }
    }
}

/// One for each reference: if any listener takes the route it is accepted, else the gravest reason
/// of all is given.
fn parent_statuses(
    own: &Name,
    attached: &[Attachment<'_>],
    (mesh, gateway): &(Option<Problem>, Option<Problem>),
) -> Vec<ParentStatus> {
    let same =
        |a: &Attachment<'_>, b: &Attachment<'_>| a.reference.key(own) == b.reference.key(own);
    let mut statuses = Vec::new();
    for attachments in attached.chunk_by(same).rev() {
        let accepted = attachments.iter().filter(|a| a.denied.is_none()).count();
        let mut conditions = Conditions::default();
        let message = match accepted {
            0 | 1 => "Route was valid".to_owned(),
            several => format!("Route was valid, bound to {several} parents"),
        };
        conditions.set("Accepted", true, "Accepted", message);
        conditions.set(
            "ResolvedRefs",
            true,
            "ResolvedRefs",
            "All references resolved",
        );
        let problem = match attachments.iter().any(|a| a.in_mesh()) {
            true => mesh,
            false => gateway,
        };
        if let Some(problem) = problem {
            conditions.fail("ResolvedRefs", problem.clone());
        }
        if accepted == 0 {
            let problems = attachments.iter().filter_map(|a| a.denied.as_ref());
            if let Some(problem) = gravest(problems) {
                conditions.fail("Accepted", problem);
            }
        }
        let reference = attachments
            .first()
            .map(|a| StatusReference::of(a.reference));
        statuses.extend(reference.map(|parent_ref| ParentStatus {
            parent_ref,
            controller_name: GATEWAY_CONTROLLER,
            conditions: conditions.finish(),
        }));
    }
    statuses
}

/// The messages of those that are equally grave are joined.
fn gravest<'a>(problems: impl Iterator<Item = &'a Problem>) -> Option<Problem> {
    let rank = |problem: &Problem| match problem.reason {
        "NotAllowedByListeners" => 0,
        "NoMatchingListenerHostname" => 1,
        _ => 2,
    };
    let mut gravest: Option<Problem> = None;
    for problem in problems {
        match &mut gravest {
            Some(found) if rank(problem) > rank(found) => {}
            Some(found) if rank(problem) == rank(found) => {
                found.message.push_str(&format!("; {}", problem.message));
            }
            _ => gravest = Some(problem.clone()),
        }
    }
    gravest
}
