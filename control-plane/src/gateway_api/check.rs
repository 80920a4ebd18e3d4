//! Routes that name things that are not there, or that nothing takes.

use super::attach::{Attachment, attachments};
use super::backends::{Found, find};
use super::known::{Known, Problem, controller_of};
use super::reference::{GROUP, ParentRef};
use super::route::{Backend, Route};
use super::{GATEWAY, Spec};
use crate::object::{Body, Object};
use proxy_core::xds::Name;
use source::Diagnostic;

/// Warns of parents that do not take `object`, if it is a route, and of backends that it cannot reach.
/// Services are missed only where there are any (`hosts_known`).
pub(crate) fn check_route(
    known: &Known<'_>,
    object: &Object,
    hosts_known: bool,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Body::GatewayApi(Spec::Route(route)) = &object.body else {
        return;
    };
    let parents = &known.objects.gateway_api().parents;
    let attached = attachments(known, parents, object, route);
    for reference in &route.parents {
        if hosts_known || reference.group_kind().0 == GROUP {
            diagnostics.extend(refused(known, object, reference, &attached));
        }
    }
    if !hosts_known {
        return;
    }
    let own = &object.reference.namespace;
    let granting = attached.iter().any(|attachment| !attachment.in_mesh());
    for backend in backends(route) {
        let problem = match find(known, backend, route.kind, own, granting) {
            Found::There(_, problem) => problem,
            Found::Refused(problem) => Some(problem),
        };
        diagnostics.extend(problem.map(|problem| unreached(known, own, backend, problem)));
    }
}

/// With those of mirrors.
fn backends(route: &Route) -> impl Iterator<Item = &Backend> {
    route.rules.iter().flat_map(|rule| {
        let mirrors = rule.filters.mirrors.iter().map(|(backend, _)| backend);
        rule.backends.iter().chain(mirrors)
    })
}

fn refused(
    known: &Known<'_>,
    object: &Object,
    reference: &ParentRef,
    attached: &[Attachment<'_>],
) -> Option<Diagnostic> {
    let own = &object.reference.namespace;
    let name = &reference.to.name;
    if reference.group_kind() == (GROUP, "Gateway") {
        let namespace = reference.to.namespace_or(own);
        let Some(gateway) = known.find(GATEWAY, namespace, &name.text) else {
            let names = known.objects.of_kind(GATEWAY);
            let names = names.filter(|o| o.reference.namespace == *namespace);
            return Some(
                Diagnostic::warning(format!("there is no Gateway {namespace}/{}", name.text))
                    .at(&name.span, "no such Gateway of the Gateway API")
                    .nearest(&name.text, names.map(|object| &*object.reference.name)),
            );
        };
        let Body::GatewayApi(Spec::Gateway(spec)) = &gateway.body else {
            return None;
        };
        // Another controller's.
        controller_of(known.objects, &spec.class)?;
    }
    let mine = || attached.iter().filter(|a| a.reference == reference);
    if mine().any(|attachment| attachment.denied.is_none()) {
        return None;
    }
    let problem = mine().find_map(|attachment| attachment.denied.as_ref())?;
    Some(
        Diagnostic::warning(format!("the route is not accepted: {}", problem.message))
            .at(&name.span, problem.reason),
    )
}

fn unreached(known: &Known<'_>, own: &Name, backend: &Backend, problem: Problem) -> Diagnostic {
    let name = &backend.to.name;
    let diagnostic = Diagnostic::warning(problem.message).at(&name.span, problem.reason);
    if problem.reason != "BackendNotFound" {
        return diagnostic;
    }
    let namespace = backend.to.namespace_or(own);
    let services = known.registry.services.iter();
    let services = services.filter(|service| service.namespace == *namespace);
    diagnostic.nearest(&name.text, services.map(|service| &*service.name))
}
