//! RouteRule.

use super::resilience::{read_fault, read_retry, read_timeout};
use super::{Condition, Fault2017, ServiceReference, SimpleRetry, Spelling};
use crate::config::{Labels, Named, named, refuse, selection};
use proxy_core::time::Nanos;
use source::{Diagnostic, Fields, Node, Span};

/// Istio `RouteRule`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteRule {
    pub(crate) destination: ServiceReference,
    /// Higher comes first.
    pub(crate) precedence: i32,
    pub(crate) condition: Condition,
    /// Empty: every version.
    pub(crate) route: Vec<Share>,
    pub(crate) redirect: Option<Redirection>,
    pub(crate) rewrite: Option<Rewriting>,
    /// Of the whole request; `None`: Envoy's 15 s.
    pub(crate) timeout: Option<Nanos>,
    pub(crate) retry: Option<SimpleRetry>,
    pub(crate) fault: Option<Fault2017>,
}

/// Istio `DestinationWeight`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Share {
    /// `None`: the rule's.
    pub(crate) destination: Option<ServiceReference>,
    pub(crate) labels: Labels,
    pub(crate) weight: u32,
    pub(crate) span: Span,
}

/// Istio `HTTPRedirect`; one of the two at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Redirection {
    pub(crate) uri: Option<Named>,
    pub(crate) authority: Option<Named>,
}

/// Istio `HTTPRewrite`; one of the two at least.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rewriting {
    pub(crate) uri: Option<Named>,
    pub(crate) authority: Option<Named>,
}

impl RouteRule {
    pub(crate) fn read(
        node: &Node,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<RouteRule> {
        let mut fields = Fields::of(node, "a RouteRule", diagnostics)?;
        let place = fields.required("destination");
        let destination = ServiceReference::read(&mut fields, "destination", spelling, namespace);
        if let (Some(destination), Some(node)) = (&destination, place) {
            destination.without_labels("a RouteRule", node, fields.diagnostics);
        }
        let precedence = fields.integer("precedence", i64::from(i32::MIN)..=i64::from(i32::MAX));
        let condition = fields.optional("match");
        let condition = condition
            .and_then(|node| Condition::read(node, spelling, namespace, fields.diagnostics));
        let route: Vec<Share> = fields
            .list("route")
            .iter()
            .filter_map(|node| Share::read(node, spelling, namespace, fields.diagnostics))
            .collect();
        check_weights(&mut fields, &route);
        let redirect = read_texts(&mut fields, "redirect", "a redirect");
        let rewrite = read_texts(&mut fields, "rewrite", "a rewrite");
        let timeout = read_timeout(&mut fields);
        let retry = read_retry(&mut fields);
        let fault = read_fault(&mut fields);
        check_redirect(&mut fields);
        check_others(&mut fields, spelling);
        fields.finish();
        Some(RouteRule {
            destination: destination?,
            precedence: precedence.and_then(|n| i32::try_from(n).ok()).unwrap_or(0),
            condition: condition.unwrap_or_default(),
            route,
            redirect: redirect.map(|(uri, authority)| Redirection { uri, authority }),
            rewrite: rewrite.map(|(uri, authority)| Rewriting { uri, authority }),
            timeout,
            retry,
            fault,
        })
    }
}

impl Share {
    fn read(
        node: &Node,
        spelling: Spelling,
        namespace: &str,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Share> {
        let mut fields = Fields::of(node, "a destination of a route", diagnostics)?;
        // Of 0.2 there are releases with a name, and with a service.
        let place = fields.optional("destination");
        let spelled = match place {
            Some(node) if node.as_map().is_none() => Spelling::V01,
            _ => spelling,
        };
        let destination = place.and_then(|node| {
            ServiceReference::of(node, "destination", spelled, namespace, fields.diagnostics)
        });
        let labels = match spelling {
            Spelling::V01 => selection::valid_labels(&mut fields, "tags"),
            Spelling::V02 => selection::valid_labels(&mut fields, "labels"),
        };
        let weight = fields.integer("weight", 0..=100);
        fields.finish();
        Some(Share {
            destination,
            labels,
            weight: weight.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            span: node.span.clone(),
        })
    }
}

/// 100 together; a lone one may leave it out.
fn check_weights(fields: &mut Fields<'_, '_>, route: &[Share]) {
    let total: u32 = route.iter().map(|share| share.weight).sum();
    let Some(node) = fields.optional("route") else {
        return;
    };
    if total != 100 && !(route.len() == 1 && total == 0) && !route.is_empty() {
        let message = "the weights of a route are 100 together";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            format!("they are {total}"),
        );
    }
}

/// `uri` and `authority`, of which one at least is there.
fn read_texts(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    what: &'static str,
) -> Option<(Option<Named>, Option<Named>)> {
    let node = fields.optional(key)?;
    let mut inner = Fields::of(node, what, fields.diagnostics)?;
    let filled = |named: &Named| !named.text.is_empty();
    let uri = named(&mut inner, "uri").filter(filled);
    let authority = named(&mut inner, "authority").filter(filled);
    if uri.is_none() && authority.is_none() {
        let message = format!("{what} needs `uri`, `authority` or both");
        refuse(inner.diagnostics, &node.span, message, "changes nothing");
    }
    inner.finish();
    Some((uri, authority))
}

/// A redirect stands alone.
fn check_redirect(fields: &mut Fields<'_, '_>) {
    if fields.optional("redirect").is_none() {
        return;
    }
    for key in ["route", "httpFault", "rewrite"] {
        let node = fields.optional(key);
        let node = node.filter(|node| node.as_seq().is_none_or(|items| !items.is_empty()));
        if let Some(node) = node {
            let message = format!("a rule has either `redirect` or `{key}`");
            refuse(fields.diagnostics, &node.span, message, "beside `redirect`");
        }
    }
    if let (Some(true), Some(node)) = (
        fields.boolean("websocketUpgrade"),
        fields.optional("websocketUpgrade"),
    ) {
        let message = "a redirect upgrades no WebSocket";
        refuse(fields.diagnostics, &node.span, message, "beside `redirect`");
    }
}

/// What changes no request here, and what Pilot refused.
fn check_others(fields: &mut Fields<'_, '_>, spelling: Spelling) {
    if let Some(node) = fields.optional("l4Fault") {
        let message = "faults of connections were never carried out";
        refuse(fields.diagnostics, &node.span, message, "refused by Pilot");
    }
    if spelling == Spelling::V02 {
        if fields.boolean("websocketUpgrade") == Some(true)
            && let Some(node) = fields.optional("websocketUpgrade")
        {
            fields.diagnostics.push(
                Diagnostic::warning("WebSockets are not told from other requests")
                    .at(&node.span, "has no effect here"),
            );
        }
        // Of 0.3 and later.
        fields.unsupported(&["mirror", "corsPolicy", "appendHeaders"]);
    }
}
