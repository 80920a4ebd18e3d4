//! The whole translation: objects in, rules and statuses out.

use super::addresses::Addresses;
use super::attach::{Attachment, attachments};
use super::connections::l4_rules;
use super::gateway::{Gateway, ListenerSet};
use super::http::{Converted, http_rules};
use super::known::{Controller, Known, Problem, controller_of};
use super::listeners::{
    Outcome, Owner, Parent, backend_certificate, conflicted, conflicts, outcome, parent_of,
    services_of, takes_listeners, with_port,
};
use super::merge::{Merged, l4_virtual_services};
use super::policies::{self, shown_kind};
use super::status::{
    Conditions, GATEWAY_CONTROLLER, GatewayApiStatus, ListenerStatus, ParentStatus, StatusBody,
    StatusMetadata, StatusReference,
};
use super::{GATEWAY, Spec};
use crate::model::Pod;
use crate::object::{Body, Object};
use crate::objects::Objects;
use proxy_core::xds::Name;
use source::Node;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What the objects of the Gateway API become.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translated {
    /// Gateways, VirtualServices and DestinationRules of Istio.
    pub(crate) objects: Vec<Arc<Object>>,
    /// By kind, namespace and name.
    pub(crate) statuses: Vec<GatewayApiStatus>,
}

/// Translates all objects of the Gateway API.
pub(crate) fn translated(objects: &Objects) -> Translated {
    let any = |object: &Arc<Object>| matches!(object.body, Body::GatewayApi(_));
    if !objects.stored().any(any) {
        return Translated::default();
    }
    let known = Known::new(objects);
    let pods = objects.pods();
    let mut made = Translated::default();
    let mut parents = Vec::new();
    let mut statuses: BTreeMap<(Name, Name, Name), StatusBody> = BTreeMap::new();
    for object in objects.stored() {
        match &object.body {
            Body::GatewayApi(Spec::Gateway(gateway)) => {
                if let Some(controller) = controller_of(objects, &gateway.class) {
                    let of = GatewayContext {
                        known: &known,
                        pods: &pods,
                        object,
                        gateway,
                        controller,
                    };
                    of.translate(&mut made, &mut parents, &mut statuses);
                }
            }
            Body::GatewayApi(Spec::GatewayClass(_))
                if controller_of(objects, &object.reference.name).is_some() =>
            {
                let mut conditions = Conditions::default();
                let message = "Handled by Istio controller";
                conditions.set("Accepted", true, "Accepted", message);
                let body = StatusBody {
                    conditions: conditions.finish(),
                    ..StatusBody::default()
                };
                statuses.insert(key(object), body);
            }
            _ => {}
        }
    }
    let mut reached = BTreeMap::new();
    routes(&known, &parents, &mut made, &mut statuses, &mut reached);
    let ordered = policies::ordered(&known);
    let found: Vec<(&Arc<Object>, policies::Outcome)> = ordered
        .iter()
        .map(|(object, policy)| {
            let outcome = policies::outcome(&known, object, policy, &ordered, &reached);
            (*object, outcome)
        })
        .collect();
    made.objects.extend(policies::destination_rules(&found));
    for (object, outcome) in found {
        let body = StatusBody {
            ancestors: Some(outcome.ancestors),
            ..StatusBody::default()
        };
        statuses.insert(key(object), body);
    }
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

fn key(object: &Object) -> (Name, Name, Name) {
    let reference = &object.reference;
    (
        reference.kind.clone(),
        reference.namespace.clone(),
        reference.name.clone(),
    )
}

/// All routes: their rules, their statuses, and the counts of the listeners.
fn routes(
    known: &Known<'_>,
    parents: &[Parent],
    made: &mut Translated,
    statuses: &mut BTreeMap<(Name, Name, Name), StatusBody>,
    reached: &mut BTreeMap<(Name, Name, Name), BTreeSet<(Name, Name)>>,
) {
    let mut merged = Merged::default();
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
        let attached = attachments(known, parents, object, route);
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
fn count(attached: &[Attachment<'_>], statuses: &mut BTreeMap<(Name, Name, Name), StatusBody>) {
    let taken = attached.iter().filter(|a| a.denied.is_none());
    let listeners: BTreeMap<&Name, &Parent> = taken
        .filter_map(|attachment| match attachment.to {
            super::attach::To::Listener(parent) => Some((&parent.internal, parent)),
            super::attach::To::Mesh => None,
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
    let mut by_reference: BTreeMap<String, Vec<&Attachment<'_>>> = BTreeMap::new();
    for attachment in attached {
        let key = attachment.reference.key(own);
        by_reference.entry(key).or_default().push(attachment);
    }
    let mut statuses = Vec::new();
    for attachments in by_reference.into_values().rev() {
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

/// A Gateway being translated.
struct GatewayContext<'a> {
    known: &'a Known<'a>,
    pods: &'a [Pod],
    object: &'a Arc<Object>,
    gateway: &'a Gateway,
    controller: Controller,
}

impl GatewayContext<'_> {
    fn translate(
        &self,
        made: &mut Translated,
        parents: &mut Vec<Parent>,
        statuses: &mut BTreeMap<(Name, Name, Name), StatusBody>,
    ) {
        if self.controller == Controller::Remote {
            statuses.insert(key(self.object), self.remote());
            return;
        }
        let (services, address_problem) = services_of(self.object, self.gateway, self.controller);
        let sets = self.listener_sets();
        let unusable = services.is_empty() && address_problem.is_some();
        let mut listeners: Vec<ListenerStatus> = Vec::new();
        let mut valid = 0;
        let mut ports = BTreeSet::new();
        let own = &self.gateway.listeners;
        let of_sets: Vec<Vec<_>> = sets
            .iter()
            .map(|(_, set)| set.listeners.iter().map(with_port).collect())
            .collect();
        let all = own.iter().chain(of_sets.iter().flatten().map(|(l, _)| l));
        let lost = match self.controller {
            Controller::Gateway => conflicts(all),
            _ => vec![None; own.len()],
        };
        let mut lost = lost.into_iter();
        if !unusable {
            for listener in own {
                let owner = self.owner("Gateway", self.object, &services);
                let outcome = match lost.next().flatten() {
                    Some(reason) => conflicted(listener, reason),
                    None => outcome(self.known, &owner, listener, None),
                };
                valid += usize::from(outcome.valid);
                ports.extend(outcome.port);
                listeners.push(self.keep(outcome, made, parents));
            }
        }
        let mut attached_sets = 0;
        for ((set, _), of_set) in sets.iter().zip(&of_sets) {
            let owner = self.owner("ListenerSet", set, &services);
            let mut status = StatusBody::default();
            let mut own_ports = BTreeSet::new();
            let mut valid_here = 0;
            for (listener, problem) in of_set.iter().filter(|_| !unusable) {
                let outcome = match lost.next().flatten() {
                    Some(reason) => conflicted(listener, reason),
                    None => outcome(self.known, &owner, listener, problem.clone()),
                };
                valid_here += usize::from(outcome.valid);
                own_ports.extend(outcome.port);
                if outcome.valid {
                    ports.extend(outcome.port);
                }
                status.listeners.push(match outcome.valid {
                    true => self.keep(outcome, made, parents),
                    false => outcome.status,
                });
            }
            attached_sets += usize::from(valid_here > 0);
            let listens = valid_here > 0 || unusable;
            status.conditions =
                self.set_conditions(&services, &own_ports, address_problem.as_ref(), listens);
            statuses.insert(key(set), status);
        }
        let mut status = self.status(
            &services,
            &ports,
            address_problem,
            (valid, own.len()),
            unusable,
        );
        status.listeners = listeners;
        status.attached_listener_sets = (attached_sets > 0).then_some(attached_sets);
        statuses.insert(key(self.object), status);
        self.refused_sets(statuses);
    }

    fn keep(
        &self,
        outcome: Outcome,
        made: &mut Translated,
        parents: &mut Vec<Parent>,
    ) -> ListenerStatus {
        made.objects.extend(outcome.gateway);
        parents.extend(outcome.parent);
        outcome.status
    }

    fn owner<'o>(
        &'o self,
        kind: &'static str,
        object: &'o Arc<Object>,
        services: &'o [Name],
    ) -> Owner<'o> {
        Owner {
            kind,
            object,
            gateway_object: self.object,
            gateway: self.gateway,
            controller: self.controller,
            services,
        }
    }

    /// The ListenerSets that name this Gateway.
    fn all_sets(&self) -> impl Iterator<Item = (&Arc<Object>, &ListenerSet)> {
        let own = &self.object.reference;
        self.known.objects.stored().filter_map(move |object| {
            let Body::GatewayApi(Spec::ListenerSet(set)) = &object.body else {
                return None;
            };
            let parent = parent_of(set, &object.reference.namespace)?;
            (parent == (&own.namespace, &own.name)).then_some((object, set))
        })
    }

    /// Those that it takes, in order of precedence.
    fn listener_sets(&self) -> Vec<(&Arc<Object>, &ListenerSet)> {
        if self.controller != Controller::Gateway {
            return Vec::new();
        }
        let taken = self
            .all_sets()
            .filter(|(set, _)| takes_listeners(self.known, self.object, self.gateway, set));
        let mut sets: Vec<_> = taken.collect();
        sets.sort_by_key(|(set, _)| {
            let reference = &set.reference;
            let name = format!("{}/{}", reference.namespace, reference.name);
            (set.age.clone(), name)
        });
        sets
    }

    /// Says to each ListenerSet that it does not take that this is so.
    fn refused_sets(&self, statuses: &mut BTreeMap<(Name, Name, Name), StatusBody>) {
        let class = &self.gateway.class;
        let message = match self.controller {
            Controller::Gateway => {
                "The parent Gateway does not allow this reference; check the 'spec.allowedRoutes'"
                    .to_owned()
            }
            _ => format!("The \"{class}\" GatewayClass does not support ListenerSet"),
        };
        for (set, _) in self.all_sets() {
            statuses.entry(key(set)).or_insert_with(|| {
                let mut conditions = Conditions::default();
                conditions.set("Accepted", false, "NotAllowed", message.clone());
                conditions.set("Programmed", false, "NotAllowed", message.clone());
                StatusBody {
                    conditions: conditions.finish(),
                    ..StatusBody::default()
                }
            });
        }
    }

    fn addresses(&self, services: &[Name], ports: &BTreeSet<u16>) -> Addresses {
        let namespace = &self.object.reference.namespace;
        Addresses::find(self.known, self.pods, namespace, services, ports)
    }

    fn set_conditions(
        &self,
        services: &[Name],
        ports: &BTreeSet<u16>,
        problem: Option<&Problem>,
        valid: bool,
    ) -> Vec<super::status::StatusCondition> {
        let mut conditions = Conditions::default();
        conditions.set("Accepted", true, "Accepted", "Resource accepted");
        self.addresses(services, ports)
            .programmed(&mut conditions, services);
        let invalid = "None of the ListenerSet's listeners are valid";
        if let Some(problem) = problem {
            let message = format!("Parent not accepted: {}", problem.message);
            conditions.fail("Accepted", Problem::new(problem.reason, message));
        } else if !valid {
            conditions.fail("Accepted", Problem::new("ListenersNotValid", invalid));
        }
        if !valid {
            conditions.fail("Programmed", Problem::new("ListenersNotValid", invalid));
        }
        conditions.finish()
    }

    fn status(
        &self,
        services: &[Name],
        ports: &BTreeSet<u16>,
        address_problem: Option<Problem>,
        (valid, all): (usize, usize),
        unusable: bool,
    ) -> StatusBody {
        let mut conditions = Conditions::default();
        conditions.set("Accepted", true, "Accepted", "Resource accepted");
        let problem = address_problem.or_else(|| self.parameters_problem().filter(|_| !unusable));
        let reason = "ListenersNotValid";
        if let Some(problem) = problem {
            conditions.fail("Accepted", problem);
        } else if valid == 0 && all > 0 {
            let message = "None of the Gateway's listeners are valid";
            conditions.fail("Accepted", Problem::new(reason, message));
        } else if valid < all {
            let message = "One or more of the Gateway's listeners are invalid";
            conditions.set("Accepted", true, reason, message);
        }
        let resolved = "All references resolved";
        conditions.set("ResolvedRefs", true, "ResolvedRefs", resolved);
        if let Some(problem) = backend_certificate(self.known, self.object, self.gateway) {
            conditions.fail("ResolvedRefs", problem);
        }
        if self.gateway.frontend.insecure() {
            let message =
                "Gateway is operating in AllowInsecureFallback mode for frontend validation";
            conditions.set(
                "InsecureFrontendValidationMode",
                true,
                "ConfigurationChanged",
                message,
            );
        }
        let addresses = self.addresses(services, ports);
        addresses.programmed(&mut conditions, services);
        StatusBody {
            addresses: addresses.shown(self.gateway),
            conditions: conditions.finish(),
            ..StatusBody::default()
        }
    }

    /// The parameters of the infrastructure are a ConfigMap that is there.
    fn parameters_problem(&self) -> Option<Problem> {
        let (group, kind, name) = self.gateway.parameters.as_ref()?;
        let namespace = &self.object.reference.namespace;
        let message = if (&**group, &**kind) != ("", "ConfigMap") {
            format!(
                "Unsupported parametersRef group/kind {group}/{kind}, only ConfigMap is supported"
            )
        } else if self.known.find("ConfigMap", namespace, name).is_none() {
            format!("parametersRef ConfigMap {namespace}/{name} does not exist")
        } else {
            return None;
        };
        Some(Problem::new("InvalidParameters", message))
    }

    /// Of a Gateway that another cluster has.
    fn remote(&self) -> StatusBody {
        let mut conditions = Conditions::default();
        conditions.set("Accepted", true, "Accepted", "Resource accepted");
        let message = "This Gateway is remote; Istio will not program it";
        conditions.set("Programmed", true, "Programmed", message);
        let addresses = self.gateway.addresses.iter();
        StatusBody {
            addresses: addresses
                .map(|(kind, value)| super::status::StatusAddress {
                    kind: match kind {
                        super::gateway::AddressType::Ip => "IPAddress",
                        _ => "Hostname",
                    },
                    value: value.clone(),
                })
                .collect(),
            conditions: conditions.finish(),
            ..StatusBody::default()
        }
    }
}
