//! What a data plane of 2017 makes nothing of, and rules without effect.

use super::{egress_rules, host_of, key, policy};
use crate::codes::NOT_FOUND;
use crate::config::{DataPlane, EgressRule, RouteRule, ServiceReference};
use crate::names::full_name;
use crate::object::{Body, Object};
use crate::objects::Objects;
use crate::rules::Rules;
use proxy_core::xds::{Name, StringMatch};
use source::{Diagnostic, Node, Span};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Says of every rule of 2017 what comes to nothing, and why.
pub(crate) fn check(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    let kinds = [
        "RouteRule",
        "DestinationPolicy",
        "EgressRule",
        "IngressRule",
    ];
    if kinds
        .iter()
        .all(|kind| objects.of_kind(kind).next().is_none())
    {
        return;
    }
    let context = Context {
        objects,
        rules: Rules::new(&objects.discovered()),
        hosts_known: objects.of_kind("Service").next().is_some(),
        egress: egress_rules(objects)
            .into_iter()
            .map(|(object, rule)| (rule.lower_host(), object))
            .collect(),
    };
    for object in kinds.iter().flat_map(|kind| objects.of_kind(kind)) {
        let mut found = context.of_object(object);
        for diagnostic in &mut found {
            diagnostic.resource = Some(object.reference.to_string());
        }
        diagnostics.append(&mut found);
    }
}

struct Context<'o> {
    objects: &'o Objects,
    rules: Rules,
    /// Without any Service the rules are taken on their own.
    hosts_known: bool,
    /// The EgressRules that count, by host.
    egress: BTreeMap<Name, &'o Arc<Object>>,
}

fn warning(message: impl Into<String>, span: &Span, label: impl Into<String>) -> Diagnostic {
    Diagnostic::warning(message).at(span, label)
}

impl Context<'_> {
    fn data_plane(&self) -> DataPlane {
        self.rules.of_2017.data_plane()
    }

    fn of_object(&self, object: &Arc<Object>) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        match &object.body {
            Body::RouteRule(rule) => {
                found.extend(self.unknown(&rule.destination));
                let others = rule
                    .route
                    .iter()
                    .filter_map(|share| share.destination.as_ref());
                found.extend(others.filter_map(|to| self.unknown(to)));
                found.extend(self.owned_by_today(rule));
                found.extend(self.covered(object, rule));
                match self.data_plane() {
                    DataPlane::Envoy2017 => found.extend(literal_headers(rule)),
                    DataPlane::Linkerd111 => found.extend(ignored_by_linkerd(object, rule)),
                }
            }
            Body::DestinationPolicy(_) => found.extend(self.of_policy(object)),
            Body::EgressRule(rule) => found.extend(self.of_egress(object, rule)),
            Body::IngressRule(rule) => found.extend(self.unknown(&rule.destination)),
            _ => {}
        }
        found
    }

    /// A host that no service has.
    fn unknown(&self, to: &ServiceReference) -> Option<Diagnostic> {
        let registry = self.objects.registry();
        let host = host_of(to);
        if !self.hosts_known || registry.with_host(&host).next().is_some() {
            return None;
        }
        let message = format!("no service has the host `{host}`");
        let hosts: Vec<&str> = registry.hosts().map(|host| &**host).collect();
        let error = Diagnostic::error(message).code(NOT_FOUND);
        Some(
            error
                .at(&to.host.span, "nobody calls it")
                .nearest(&host, hosts),
        )
    }

    /// A VirtualService or DestinationRule for the same host.
    fn owned_by_today(&self, rule: &RouteRule) -> Vec<Diagnostic> {
        let host = host_of(&rule.destination);
        let place = &rule.destination.host.span;
        let mut found = Vec::new();
        let mut services = self.rules.virtual_services.iter();
        let owns = services.find(|other| other.spec().in_mesh() && other.hosts.contains(&host));
        if let Some(other) = owns {
            let origin = other.origin();
            let message = format!(
                "requests to {host} are routed by VirtualService {}/{}",
                origin.namespace, origin.name
            );
            found.push(warning(
                message,
                place,
                "this RouteRule has no effect in the mesh",
            ));
        }
        let policy = self
            .objects
            .of_kind("DestinationRule")
            .find(|object| match &object.body {
                Body::DestinationRule(of) => {
                    full_name(&of.host.text, &object.reference.namespace) == host
                }
                _ => false,
            });
        if let Some(object) = policy {
            let message = format!("{} is for the same host", object.reference);
            let label = "the clusters of RouteRules have nothing of it";
            found.push(warning(message, place, label));
        }
        found
    }

    /// An earlier rule that takes every request.
    fn covered(&self, object: &Arc<Object>, rule: &RouteRule) -> Option<Diagnostic> {
        let host = host_of(&rule.destination);
        let before = self.rules.of_2017.routes_of(&host);
        let mut before = before.take_while(|(other, _)| other.reference != object.reference);
        let (first, of_first) =
            before.find(|(_, other)| other.condition.takes_all(self.data_plane()))?;
        let message = format!(
            "no request reaches this RouteRule: {} comes first",
            first.reference
        );
        let label = match of_first.precedence > rule.precedence {
            true => format!(
                "precedence {} is higher, and it takes every request",
                of_first.precedence
            ),
            false => "as high a precedence, an earlier name, and it takes every request".to_owned(),
        };
        Some(warning(message, &rule.destination.host.span, label))
    }

    fn of_policy(&self, object: &Arc<Object>) -> Vec<Diagnostic> {
        let of = policy(object);
        let place = &of.destination.host.span;
        if self.data_plane() == DataPlane::Linkerd111 {
            let message = "Linkerd 1.1.1 did not ask for DestinationPolicies";
            return vec![warning(message, place, "has no effect")];
        }
        let host = host_of(&of.destination);
        let versions: Vec<_> = self.rules.of_2017.versions_of(&host).collect();
        let without = of.versions.iter().filter(|version| {
            let known = versions.iter().any(|known| known.labels == version.labels);
            !version.labels.is_empty() && !known
        });
        let mut found: Vec<Diagnostic> = without
            .map(|version| {
                let message = "no RouteRule sends to exactly these labels";
                warning(message, &version.span, "the policy has no effect")
            })
            .collect();
        found.extend(self.unknown(&of.destination));
        found
    }

    fn of_egress(&self, object: &Arc<Object>, rule: &EgressRule) -> Option<Diagnostic> {
        let place = &rule.host.span;
        if self.data_plane() == DataPlane::Linkerd111 {
            let message = "Linkerd 1.1.1 did not ask for EgressRules";
            return Some(warning(
                message,
                place,
                "every host outside the mesh may be called",
            ));
        }
        let counts = self.egress.get(&rule.lower_host())?;
        let message = format!("{} is for the same host", counts.reference);
        let other = key(counts) != key(object);
        other.then(|| warning(message, place, "the one that is first by name counts"))
    }
}

/// Conditions that Pilot took for headers of those names, which no request has.
fn literal_headers(rule: &RouteRule) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (name, value) in &rule.condition.headers {
        let what = match (&*name.text, value) {
            ("method" | "scheme" | "authority", _) => format!("`{}`", name.text),
            ("uri", StringMatch::Regex(_)) => "a regular expression for `uri`".to_owned(),
            _ => continue,
        };
        let message = format!("Pilot made of {what} the condition on a header of that name");
        found.push(warning(
            message,
            &name.span,
            "no ordinary request has such a header",
        ));
    }
    found
}

/// What Linkerd 1.1.1 did not read, or did otherwise.
fn ignored_by_linkerd(object: &Object, rule: &RouteRule) -> Vec<Diagnostic> {
    let at = |path: &[&str]| -> Option<&Node> { object.document.at(path) };
    let mut found = Vec::new();
    let not_read: [(&[&str], &str); 5] = [
        (&["spec", "match", "source"], "every caller is meant"),
        (&["spec", "redirect"], "requests go to every version"),
        (&["spec", "httpReqTimeout"], "there is no timeout"),
        (&["spec", "httpReqRetries"], "there are no retries"),
        (&["spec", "httpFault"], "no fault is injected"),
    ];
    for (path, label) in not_read {
        if let Some(node) = at(path) {
            let key = path.last().copied().unwrap_or_default();
            let message = format!("Linkerd 1.1.1 did not look at `{key}`");
            found.push(warning(message, &node.span, label));
        }
    }
    for (name, _) in &rule.condition.headers {
        if &*name.text == "scheme" {
            let message = "requests of HTTP/1 had no scheme for Linkerd 1.1.1";
            found.push(warning(message, &name.span, "hardly any request matches"));
        }
    }
    let uri = rule
        .rewrite
        .as_ref()
        .and_then(|rewrite| rewrite.uri.as_ref());
    let prefix = matches!(rule.condition.header("uri"), Some(StringMatch::Prefix(_)));
    if let (Some(uri), false) = (uri, prefix) {
        let message = "Linkerd 1.1.1 replaced the query along with the path";
        found.push(warning(message, &uri.span, "the query is kept here"));
    }
    found
}
