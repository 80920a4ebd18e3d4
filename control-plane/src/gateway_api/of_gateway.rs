//! One Gateway with its ListenerSets: what they become, and their status.

use super::Spec;
use super::addresses::Addresses;
use super::gateway::{AddressType, Gateway, Listener, ListenerSet};
use super::known::{Controller, Known, Problem};
use super::listener_tls::backend_certificate;
use super::listeners::{
    Outcome, Owner, conflicted, conflicts, outcome, parent_of, services_of, takes_listeners,
    with_port,
};
use super::status::{Conditions, ListenerStatus, StatusAddress, StatusBody, StatusCondition};
use super::translate::{Statuses, Translated, key};
use crate::model::Pod;
use crate::object::{Body, Object};
use proxy_core::xds::Name;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A Gateway being translated.
pub(crate) struct GatewayContext<'a> {
    pub(crate) known: &'a Known<'a>,
    pub(crate) pods: &'a [Pod],
    pub(crate) object: &'a Arc<Object>,
    pub(crate) gateway: &'a Gateway,
    pub(crate) controller: Controller,
}

impl GatewayContext<'_> {
    /// Adds what it and its ListenerSets become.
    pub(crate) fn translate(&self, made: &mut Translated, statuses: &mut Statuses) {
        if self.controller == Controller::Remote {
            statuses.insert(key(self.object), self.remote());
            return;
        }
        let (services, address_problem) = services_of(self.object, self.gateway, self.controller);
        let unusable = services.is_empty() && address_problem.is_some();
        let sets = self.listener_sets();
        let own: Vec<Entry> = self
            .gateway
            .listeners
            .iter()
            .map(|l| (l.clone(), None))
            .collect();
        let of_sets = sets
            .iter()
            .map(|(_, set)| set.listeners.iter().map(with_port).collect());
        let of_sets: Vec<Vec<Entry>> = of_sets.collect();
        let all = own.iter().chain(of_sets.iter().flatten());
        let mut lost = match self.controller {
            Controller::Gateway => conflicts(all.map(|(listener, _)| listener)),
            _ => Vec::new(),
        }
        .into_iter();
        let mut outcomes = |kind, object, entries: &[Entry]| -> Vec<Outcome> {
            let owner = self.owner(kind, object, &services);
            let usable = entries.iter().filter(|_| !unusable);
            let one = |(listener, problem): &Entry| match lost.next().flatten() {
                Some(reason) => conflicted(listener, reason),
                None => outcome(self.known, &owner, listener, problem.clone()),
            };
            usable.map(one).collect()
        };
        let found = outcomes("Gateway", self.object, &own);
        let mut ports: BTreeSet<u16> = found.iter().filter_map(|one| one.port).collect();
        let valid = found.iter().filter(|one| one.valid).count();
        let found = found.into_iter().map(|one| keep(one, made));
        let listeners: Vec<ListenerStatus> = found.collect();
        let mut attached = 0;
        for ((set, _), entries) in sets.iter().zip(&of_sets) {
            let found = outcomes("ListenerSet", set, entries);
            let own_ports = found.iter().filter_map(|one| one.port).collect();
            let valid = found.iter().filter(|one| one.valid);
            ports.extend(valid.clone().filter_map(|one| one.port));
            let stands = valid.count() > 0;
            attached += usize::from(stands);
            let status = StatusBody {
                conditions: self.set_conditions(
                    &services,
                    &own_ports,
                    address_problem.as_ref(),
                    stands || unusable,
                ),
                // Routes do not bind to those that are not valid.
                listeners: found
                    .into_iter()
                    .map(|one| match one.valid {
                        true => keep(one, made),
                        false => one.status,
                    })
                    .collect(),
                ..StatusBody::default()
            };
            statuses.insert(key(set), status);
        }
        let counts = (valid, own.len());
        let status = self.status(&services, &ports, address_problem, counts, unusable);
        let status = StatusBody {
            listeners,
            attached_listener_sets: (attached > 0).then_some(attached),
            ..status
        };
        statuses.insert(key(self.object), status);
        self.refused_sets(statuses);
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
        let sets = self.known.objects.of_kind("ListenerSet");
        sets.filter_map(move |object| {
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
    fn refused_sets(&self, statuses: &mut Statuses) {
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
    ) -> Vec<StatusCondition> {
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
            addresses: addresses.shown(),
            conditions: conditions.finish(),
            ..StatusBody::default()
        }
    }

    /// The parameters of the infrastructure are a ConfigMap that is there.
    fn parameters_problem(&self) -> Option<Problem> {
        let to = self.gateway.parameters.as_ref()?;
        let (group, kind) = to.group_kind("", "");
        let name = &to.name.text;
        let namespace = &self.object.reference.namespace;
        let message = if (group, kind) != ("", "ConfigMap") {
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
                .map(|(kind, value)| StatusAddress {
                    kind: match kind {
                        AddressType::Ip => "IPAddress",
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

/// A listener, and what is wrong with its port.
type Entry = (Listener, Option<Problem>);

/// Adds what a listener becomes.
fn keep(outcome: Outcome, made: &mut Translated) -> ListenerStatus {
    made.objects.extend(outcome.gateway);
    if let Some(parent) = outcome.parent {
        let key = (parent.kind, parent.namespace.clone(), parent.name.clone());
        made.parents.entry(key).or_default().push(parent);
    }
    outcome.status
}
