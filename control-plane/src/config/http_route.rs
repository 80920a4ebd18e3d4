//! An HTTP rule of a VirtualService: what happens to requests that match.

use super::cors::read_cors;
use super::http_action::read_action;
use super::http_extras::{HeaderChanges, Retries, read_fault};
use super::syntax::{demand_of, dns_label, is_authority, wildcard_host};
use super::{
    HttpAction, HttpMatch, Named, count, duration, named, percent_ppm, port_selector, regex,
    required_named, schema_warning, written,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{ConfigRef, CorsPolicy, Fault, Name, PathRewrite};
use source::{Diagnostic, Fields, Node, Span};
use std::sync::Arc;

/// Istio `HTTPRoute`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HttpRoute {
    pub(crate) name: Name,
    pub(crate) span: Span,
    /// Where it was stated, unless in the VirtualService itself.
    pub(crate) origin: Option<ConfigRef>,
    pub(crate) matches: Vec<HttpMatch>,
    pub(crate) action: HttpAction,
    pub(crate) path_rewrite: PathRewrite,
    pub(crate) authority_rewrite: Option<Name>,
    pub(crate) timeout: Option<Nanos>,
    pub(crate) retries: Option<Retries>,
    pub(crate) fault: Option<Fault>,
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    pub(crate) mirrors: Vec<MirrorTo>,
    pub(crate) headers: HeaderChanges,
}

/// Istio `Destination`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Destination {
    pub(crate) host: Named,
    pub(crate) subset: Option<Named>,
    pub(crate) port: Option<u16>,
    pub(crate) span: Span,
}

/// Istio `HTTPRouteDestination`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RouteDestination {
    pub(crate) destination: Destination,
    pub(crate) weight: u32,
    pub(crate) headers: HeaderChanges,
}

/// A mirror and the share of requests it gets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MirrorTo {
    pub(crate) destination: Destination,
    pub(crate) fraction_ppm: u32,
}

impl HttpRoute {
    /// A rule for every request that does nothing but `action`.
    pub(crate) fn new(span: &Span, action: HttpAction) -> HttpRoute {
        HttpRoute {
            name: "".into(),
            span: span.clone(),
            origin: None,
            matches: Vec::new(),
            action,
            path_rewrite: PathRewrite::None,
            authority_rewrite: None,
            timeout: None,
            retries: None,
            fault: None,
            mirrors: Vec::new(),
            headers: HeaderChanges::default(),
            cors: None,
        }
    }

    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpRoute> {
        let mut fields = Fields::of(node, "an HTTP route", diagnostics)?;
        let name = fields.text("name").unwrap_or_default().into();
        let matches = fields
            .list("match")
            .iter()
            .filter_map(|node| HttpMatch::read(node, fields.diagnostics))
            .collect();
        let action = read_action(&mut fields);
        let (path_rewrite, authority_rewrite) = match fields.optional("rewrite") {
            Some(node) => read_rewrite(node, fields.diagnostics)?,
            None => (PathRewrite::None, None),
        };
        let timeout = duration(&mut fields, "timeout");
        let retries = fields
            .optional("retries")
            .and_then(|node| Retries::read(node, fields.diagnostics));
        let fault_node = fields.optional("fault");
        let fault = fault_node.and_then(|node| read_fault(node, fields.diagnostics));
        let mirrors = read_mirrors(&mut fields);
        let headers = HeaderChanges::read(&mut fields);
        let cors = fields
            .optional("corsPolicy")
            .and_then(|node| read_cors(node, fields.diagnostics))
            .map(Arc::new);
        check_authorities(&mut fields);
        fields.finish();
        Some(HttpRoute {
            name,
            span: node.span.clone(),
            origin: None,
            matches,
            action: action?,
            path_rewrite,
            authority_rewrite,
            timeout,
            retries,
            fault,
            cors,
            mirrors,
            headers,
        })
    }

    /// Every destination, mirrors included.
    pub(crate) fn destinations(&self) -> impl Iterator<Item = &Destination> {
        let routed = match &self.action {
            HttpAction::Route(routed) => routed.as_slice(),
            _ => &[],
        };
        routed
            .iter()
            .map(|to| &to.destination)
            .chain(self.mirrors.iter().map(|mirror| &mirror.destination))
    }
}

/// Refuses several weights that are all zero.
pub(super) fn check_weights(
    fields: &mut Fields<'_, '_>,
    weights: impl ExactSizeIterator<Item = u32>,
) {
    let node = fields.optional("route");
    let (Some(node), true) = (node, weights.len() > 1) else {
        return;
    };
    if weights.into_iter().all(|weight| weight == 0) {
        fields.diagnostics.push(
            Diagnostic::error("the weights of a route are all zero")
                .at(&node.span, "no destination can be chosen")
                .help("give at least one destination a weight above 0"),
        );
    }
}

/// The authority is changed in one place only: by `rewrite`, or by one of the rule's own headers.
fn check_authorities(fields: &mut Fields<'_, '_>) {
    let rewrite = fields
        .optional("rewrite")
        .and_then(|node| node.at(&["authority"]));
    let changes = fields
        .optional("headers")
        .and_then(|node| node.at(&["request"]));
    let maps = ["set", "add"].map(|key| changes.and_then(|node| node.at(&[key])?.as_map()));
    let entries = maps.into_iter().flatten().flat_map(|map| &map.entries);
    let places: Vec<&Node> = rewrite
        .filter(|node| !written(node).is_empty())
        .into_iter()
        .chain(entries.filter(|e| is_authority(&e.key)).map(|e| &e.value))
        .collect();
    if let [_, second, ..] = places[..] {
        let message = "the authority is set more than once";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&second.span, "a second one"));
    }
}

impl RouteDestination {
    /// All of a rule's requests.
    pub(crate) fn to(destination: Destination) -> RouteDestination {
        RouteDestination {
            destination,
            weight: 100,
            headers: HeaderChanges::default(),
        }
    }

    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RouteDestination> {
        let mut fields = Fields::of(node, "a route", diagnostics)?;
        let destination = fields
            .required("destination")
            .and_then(|node| Destination::read(node, fields.diagnostics));
        let weight = count(&mut fields, "weight").unwrap_or(0);
        let headers = HeaderChanges::read(&mut fields);
        fields.finish();
        Some(RouteDestination {
            destination: destination?,
            weight,
            headers,
        })
    }
}

impl Destination {
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Destination> {
        let mut fields = Fields::of(node, "a destination", diagnostics)?;
        let host = required_named(&mut fields, "host");
        if let Some(host) = &host {
            let verdict = match &*host.text {
                "*" => Err("every host".to_owned()),
                text => wildcard_host(text),
            };
            demand_of(fields.diagnostics, host, "a destination's host", verdict);
        }
        let subset = named(&mut fields, "subset").filter(|subset| !subset.text.is_empty());
        if let Some(subset) = &subset {
            let verdict = dns_label(&subset.text);
            demand_of(fields.diagnostics, subset, "the name of a subset", verdict);
        }
        let port = port_selector(&mut fields);
        fields.finish();
        Some(Destination {
            host: host?,
            subset,
            port,
            span: node.span.clone(),
        })
    }
}

fn read_rewrite(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(PathRewrite, Option<Name>)> {
    let mut fields = Fields::of(node, "a rewrite", diagnostics)?;
    let authority = fields.text("authority").filter(|text| !text.is_empty());
    let uri = fields.text("uri").filter(|text| !text.is_empty());
    let expression = fields.optional("uriRegexRewrite");
    let mut path = uri.map_or(PathRewrite::None, |uri| PathRewrite::Prefix(uri.into()));
    let complaint = match (&path, expression) {
        (PathRewrite::None, None) if authority.is_none() => Some((
            "a rewrite needs `uri`, `uriRegexRewrite` or `authority`",
            "changes nothing",
        )),
        (PathRewrite::Prefix(_), Some(_)) => Some((
            "a rewrite has either `uri` or `uriRegexRewrite`",
            "has both",
        )),
        _ => None,
    };
    if let Some((message, label)) = complaint {
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, label));
    }
    if let Some(node) = expression {
        let mut inner = Fields::of(node, "a uriRegexRewrite", fields.diagnostics)?;
        let pattern = inner.required("match");
        let pattern = pattern.and_then(|node| regex(node, inner.diagnostics));
        let substitution = inner.required_text("rewrite");
        if substitution.as_deref() == Some("") {
            let message = "a uriRegexRewrite needs a `rewrite` that is not empty";
            inner
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, "`rewrite` is empty"));
        }
        inner.finish();
        path = PathRewrite::Regex {
            pattern: pattern?,
            substitution: substitution?.into(),
        };
    }
    fields.finish();
    Some((path, authority.map(Name::from)))
}

fn read_mirrors(fields: &mut Fields<'_, '_>) -> Vec<MirrorTo> {
    for key in ["mirrorPercent", "mirror_percent"] {
        if let Some(node) = fields.optional(key) {
            fields.diagnostics.push(
                schema_warning(format!("`{key}` is outdated"))
                    .at(&node.span, "use `mirrorPercentage`"),
            );
        }
    }
    let old = percent_ppm(fields, "mirrorPercent").or(percent_ppm(fields, "mirror_percent"));
    let single = percent_ppm(fields, "mirrorPercentage").or(old);
    let mut mirrors = Vec::new();
    if let Some(node) = fields.optional("mirror")
        && let Some(destination) = Destination::read(node, fields.diagnostics)
    {
        mirrors.push(MirrorTo {
            destination,
            fraction_ppm: single.unwrap_or(1_000_000),
        });
    }
    let several = fields.list("mirrors");
    if let (Some(first), false) = (several.first(), mirrors.is_empty()) {
        fields.diagnostics.push(
            Diagnostic::error("`mirror` and `mirrors` exclude each other")
                .at(&first.span, "beside `mirror`"),
        );
    }
    for node in several {
        let Some(mut inner) = Fields::of(node, "a mirror", fields.diagnostics) else {
            continue;
        };
        let destination = inner.required("destination");
        let destination = destination.and_then(|n| Destination::read(n, inner.diagnostics));
        let fraction_ppm = percent_ppm(&mut inner, "percentage").unwrap_or(1_000_000);
        inner.finish();
        if let Some(destination) = destination {
            mirrors.push(MirrorTo {
                destination,
                fraction_ppm,
            });
        }
    }
    mirrors.retain(|mirror| mirror.fraction_ppm > 0);
    mirrors
}
