//! An HTTP rule of a VirtualService: what happens to requests that match.

use super::cors::read_cors;
use super::http_extras::{HeaderChanges, Retries, read_fault};
use super::{
    HttpMatch, Named, choice, count, duration, named, percent_ppm, port, port_selector, regex,
    required_named,
};
use proxy_core::time::Nanos;
use proxy_core::xds::{ConfigRef, CorsPolicy, Fault, Name, PathRewrite, RedirectPath};
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

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HttpAction {
    Route(Vec<RouteDestination>),
    Redirect {
        status: u16,
        scheme: Option<Name>,
        host: Option<Name>,
        port: Option<RedirectPort>,
        path: RedirectPath,
    },
    DirectResponse {
        status: u16,
        body: Name,
    },
    /// The rules of another VirtualService, which has no hosts, stand here.
    Delegate {
        name: Named,
        namespace: Option<Name>,
    },
}

/// The port a redirect names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RedirectPort {
    Number(u16),
    /// The port of the listener.
    FromRequest,
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
        let forwards = matches!(
            action,
            Some(HttpAction::Route(_) | HttpAction::Delegate { .. })
        );
        for (key, present) in [
            ("fault", fault_node.map(|node| &node.span)),
            ("rewrite", fields.optional("rewrite").map(|node| &node.span)),
        ] {
            if let (Some(span), false, true) = (present, forwards, action.is_some()) {
                let message = format!("`{key}` goes with `route` only");
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(span, "beside redirect or directResponse"));
            }
        }
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

/// Exactly one of `route`, `redirect` and `directResponse`.
fn read_action(fields: &mut Fields<'_, '_>) -> Option<HttpAction> {
    let present: Vec<(&str, &Node)> = ["route", "redirect", "directResponse", "delegate"]
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .collect();
    match present[..] {
        [("route", _)] => {
            let list: Vec<RouteDestination> = fields
                .list("route")
                .iter()
                .filter_map(|node| RouteDestination::read(node, fields.diagnostics))
                .collect();
            check_weights(fields, &list);
            (!list.is_empty()).then_some(HttpAction::Route(list))
        }
        [("delegate", node)] => read_delegate(node, fields.diagnostics),
        [("redirect", node)] => read_redirect(node, fields.diagnostics),
        [(_, node)] => read_direct_response(node, fields.diagnostics),
        [] => {
            let message = "an HTTP route needs `route`, `redirect`, `directResponse` or `delegate`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(fields.span(), "does nothing"));
            None
        }
        [_, (key, node), ..] => {
            let message =
                "an HTTP route has only one of `route`, `redirect`, `directResponse`, `delegate`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, format!("`{key}` as well")));
            None
        }
    }
}

fn read_delegate(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a delegate", diagnostics)?;
    let name = required_named(&mut fields, "name");
    let namespace = fields.text("namespace").map(Name::from);
    fields.finish();
    Some(HttpAction::Delegate {
        name: name?,
        namespace,
    })
}

fn check_weights(fields: &mut Fields<'_, '_>, list: &[RouteDestination]) {
    let node = fields.optional("route");
    let (Some(node), true) = (node, list.len() > 1) else {
        return;
    };
    if list.iter().all(|to| to.weight == 0) {
        fields.diagnostics.push(
            Diagnostic::error("the weights of a route are all zero")
                .at(&node.span, "no destination can be chosen")
                .help("give at least one destination a weight above 0"),
        );
    }
}

impl RouteDestination {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RouteDestination> {
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
        let subset = named(&mut fields, "subset").filter(|subset| !subset.text.is_empty());
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
    let mut path = uri.map_or(PathRewrite::None, |uri| PathRewrite::Prefix(uri.into()));
    if let Some(node) = fields.optional("uriRegexRewrite") {
        let mut inner = Fields::of(node, "a uriRegexRewrite", fields.diagnostics)?;
        let pattern = inner.required("match");
        let pattern = pattern.and_then(|node| regex(node, inner.diagnostics));
        let substitution = inner.required_text("rewrite");
        inner.finish();
        path = PathRewrite::Regex {
            pattern: pattern?,
            substitution: substitution?.into(),
        };
    }
    fields.finish();
    Some((path, authority.map(Name::from)))
}

fn read_redirect(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a redirect", diagnostics)?;
    let text = |fields: &mut Fields<'_, '_>, key| {
        fields.text(key).filter(|t| !t.is_empty()).map(Name::from)
    };
    let path = match (text(&mut fields, "uri"), text(&mut fields, "prefixRewrite")) {
        (Some(uri), _) => RedirectPath::Replace(uri),
        (None, Some(prefix)) => RedirectPath::Prefix(prefix),
        (None, None) => RedirectPath::Keep,
    };
    let host = text(&mut fields, "authority");
    let scheme = text(&mut fields, "scheme");
    // Without either, Istio's default removes the port that the scheme no longer fits.
    let derive = choice(
        &mut fields,
        "derivePort",
        &[
            ("FROM_PROTOCOL_DEFAULT", None),
            ("FROM_REQUEST_PORT", Some(RedirectPort::FromRequest)),
        ],
    );
    let number = port(&mut fields, "port").map(RedirectPort::Number);
    let codes: [(&str, u16); 5] = [
        ("301", 301),
        ("302", 302),
        ("303", 303),
        ("307", 307),
        ("308", 308),
    ];
    let status = match fields.optional("redirectCode").and_then(Node::as_scalar) {
        Some("0") | None => 301,
        Some(_) => choice(&mut fields, "redirectCode", &codes)?,
    };
    fields.finish();
    Some(HttpAction::Redirect {
        status,
        scheme,
        host,
        port: number.or(derive.flatten()),
        path,
    })
}

fn read_direct_response(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a direct response", diagnostics)?;
    fields.required("status");
    let status = fields.integer("status", 200..=600);
    let mut body = String::new();
    if let Some(node) = fields.optional("body") {
        let mut inner = Fields::of(node, "a body", fields.diagnostics)?;
        body = inner.text("string").unwrap_or_default();
        inner.unsupported(&["bytes"]);
        inner.finish();
    }
    fields.finish();
    Some(HttpAction::DirectResponse {
        status: u16::try_from(status?).ok()?,
        body: body.into(),
    })
}

fn read_mirrors(fields: &mut Fields<'_, '_>) -> Vec<MirrorTo> {
    let old = percent_ppm(fields, "mirrorPercent");
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
