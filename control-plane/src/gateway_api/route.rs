//! HTTPRoute, GRPCRoute, TLSRoute and TCPRoute as typed values.

use super::filters::Filters;
use super::matches::{grpc_match, http_match};
use super::reference::{GROUP, ObjectReference, ParentRef};
use crate::config::{HttpMatch, Named, Retries, count, named_list, parse_duration, port};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node, Span};

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RouteKind {
    Http,
    Grpc,
    Tls,
    Tcp,
}

/// A route of any kind.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Route {
    pub(crate) kind: RouteKind,
    pub(crate) parents: Vec<ParentRef>,
    /// Lower case; empty: every host.
    pub(crate) hostnames: Vec<Named>,
    pub(crate) rules: Vec<Rule>,
}

/// One rule of a route. Of TLS and TCP routes: backends only.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Rule {
    pub(crate) name: Option<Name>,
    pub(crate) span: Span,
    pub(crate) matches: Vec<HttpMatch>,
    pub(crate) filters: Filters,
    pub(crate) backends: Vec<Backend>,
    pub(crate) timeout: Option<Nanos>,
    pub(crate) backend_timeout: Option<Nanos>,
    pub(crate) retries: Option<Retries>,
}

/// Gateway API `HTTPBackendRef`, `GRPCBackendRef` or `BackendRef`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Backend {
    pub(crate) to: ObjectReference,
    pub(crate) port: Option<u16>,
    pub(crate) weight: u32,
    pub(crate) filters: Filters,
    pub(crate) span: Span,
}

impl RouteKind {
    pub(crate) const ALL: [RouteKind; 4] = [
        RouteKind::Http,
        RouteKind::Grpc,
        RouteKind::Tls,
        RouteKind::Tcp,
    ];

    /// As objects call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
            RouteKind::Tls => "TLSRoute",
            RouteKind::Tcp => "TCPRoute",
        }
    }

    pub(crate) fn routes_http(self) -> bool {
        matches!(self, RouteKind::Http | RouteKind::Grpc)
    }
}

impl Route {
    pub(crate) fn read(
        kind: RouteKind,
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Route> {
        let mut fields = Fields::of(node, kind.name(), diagnostics)?;
        let parents = fields.list("parentRefs").iter();
        let parents: Vec<ParentRef> = parents
            .filter_map(|node| ParentRef::read(node, fields.diagnostics))
            .collect();
        let mut hostnames = Vec::new();
        if kind != RouteKind::Tcp {
            hostnames = named_list(&mut fields, "hostnames");
            for host in &mut hostnames {
                host.text = host.text.to_ascii_lowercase().into();
            }
        }
        let stated = fields.optional("rules");
        let rules = fields.list("rules").iter();
        let mut rules: Vec<Rule> = rules
            .filter_map(|node| Rule::read(kind, node, fields.diagnostics))
            .collect();
        if stated.is_none() && kind == RouteKind::Http {
            // What the API server fills in.
            rules.push(Rule::of_everything(fields.span()));
        }
        fields.unsupported(&["useDefaultGateways"]);
        fields.finish();
        Some(Route {
            kind,
            parents,
            hostnames,
            rules,
        })
    }
}

impl Rule {
    /// Matches everything, and has no backend.
    fn of_everything(span: &Span) -> Rule {
        Rule {
            name: None,
            span: span.clone(),
            matches: vec![super::matches::every_path()],
            filters: Filters::default(),
            backends: Vec::new(),
            timeout: None,
            backend_timeout: None,
            retries: None,
        }
    }

    fn read(kind: RouteKind, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Rule> {
        let mut fields = Fields::of(node, "a rule", diagnostics)?;
        let name = fields.text("name").filter(|name| !name.is_empty());
        let mut rule = Rule {
            name: name.map(Name::from),
            matches: Vec::new(),
            ..Rule::of_everything(&node.span)
        };
        let backends = fields.list("backendRefs").iter();
        rule.backends = backends
            .filter_map(|node| Backend::read(kind, node, fields.diagnostics))
            .collect();
        if kind.routes_http() {
            for node in fields.list("matches") {
                rule.matches.extend(match kind {
                    RouteKind::Grpc => grpc_match(node, fields.diagnostics),
                    _ => http_match(node, fields.diagnostics),
                });
            }
            // What the API server fills in.
            if kind == RouteKind::Http && fields.list("matches").is_empty() {
                rule.matches.push(super::matches::every_path());
            }
            rule.filters = Filters::read(&mut fields, kind);
            fields.unsupported(&["sessionPersistence"]);
        }
        if kind == RouteKind::Http {
            if let Some(node) = fields.optional("timeouts") {
                let mut inner = Fields::of(node, "timeouts", fields.diagnostics)?;
                rule.timeout = duration(&mut inner, "request");
                rule.backend_timeout = duration(&mut inner, "backendRequest");
                inner.finish();
            }
            if let Some(node) = fields.optional("retry") {
                rule.retries = Some(read_retry(node, fields.diagnostics)?);
            }
        }
        fields.finish();
        Some(rule)
    }
}

/// Zero is as good as none.
fn duration(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Nanos> {
    let node = fields.optional(key)?;
    let found = node.as_str().and_then(parse_duration);
    if found.is_none() {
        let message = format!("`{key}` is a duration such as `1.5s` or `100ms`");
        let label = format!("found {}", node.kind());
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, label));
    }
    found.filter(|span| *span > Nanos::ZERO)
}

/// Retries as Istio carries them out: on lost connections as well as on the codes named.
fn read_retry(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Retries> {
    let mut fields = Fields::of(node, "a retry policy", diagnostics)?;
    let mut retry_on = "connect-failure,refused-stream,unavailable,cancelled".to_owned();
    for node in fields.list("codes") {
        match node.as_scalar().and_then(|text| text.parse::<u16>().ok()) {
            Some(code) if (400..600).contains(&code) => {
                retry_on.push_str(&format!(",{code}"));
            }
            _ => fields.diagnostics.push(
                Diagnostic::error("a code to retry on is a status from 400 to 599")
                    .at(&node.span, format!("found {}", node.kind())),
            ),
        }
    }
    // Istio's default where the API leaves it open.
    let attempts = count(&mut fields, "attempts").unwrap_or(2);
    let back_off = duration(&mut fields, "backoff");
    fields.finish();
    Some(Retries {
        attempts,
        per_try_timeout: None,
        retry_on: (attempts > 0).then_some(retry_on),
        back_off,
        remote_localities: false,
        ignore_previous_hosts: None,
    })
}

impl Backend {
    fn read(kind: RouteKind, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Backend> {
        let mut fields = Fields::of(node, "a backendRef", diagnostics)?;
        let to = ObjectReference::read(&mut fields);
        let number = port(&mut fields, "port");
        let weight = count(&mut fields, "weight").unwrap_or(1);
        let filters = match kind.routes_http() {
            true => Filters::read(&mut fields, kind),
            false => Filters::default(),
        };
        fields.finish();
        Some(Backend {
            to: to?,
            port: number,
            weight,
            filters,
            span: node.span.clone(),
        })
    }

    /// Of a mirror.
    pub(crate) fn read_mirrored(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Backend> {
        Backend::read(RouteKind::Tcp, node, diagnostics)
    }

    /// Group and kind: a Service unless stated.
    pub(crate) fn group_kind(&self) -> (&str, &str) {
        self.to.group_kind("", "Service")
    }
}

/// Whether a kind of routes is named, in the group of the Gateway API.
pub(crate) fn is_kind(group: &str, name: &str, kind: RouteKind) -> bool {
    group == GROUP && name == kind.name()
}
