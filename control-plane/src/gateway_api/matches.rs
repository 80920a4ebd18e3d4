//! The conditions of HTTP and gRPC rules.

use crate::config::{HttpMatch, Static, choice, regex};
use proxy_core::xds::{
    HeaderMatch, Name, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};
use source::{Diagnostic, Fields, Node};

/// How a value is compared.
#[derive(Clone, Copy, PartialEq)]
enum How {
    Exact,
    Prefix,
    Regex,
}

const VALUES: [(&str, How); 2] = [("Exact", How::Exact), ("RegularExpression", How::Regex)];
const PATHS: [(&str, How); 3] = [
    ("Exact", How::Exact),
    ("PathPrefix", How::Prefix),
    ("RegularExpression", How::Regex),
];

/// What a rule has that says nothing about its matches.
pub(crate) fn every_path() -> HttpMatch {
    HttpMatch::of_path(PathMatch::Prefix("/".into()))
}

fn matching(node: &Node, has_uri: bool, request: RouteMatch) -> HttpMatch {
    HttpMatch {
        name: None,
        span: Some(node.span.clone()),
        statics: Static::default(),
        has_uri,
        request,
    }
}

/// Gateway API `HTTPRouteMatch`.
pub(crate) fn http_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpMatch> {
    let mut fields = Fields::of(node, "an HTTP match", diagnostics)?;
    let mut request = RouteMatch::default();
    if let Some(node) = fields.optional("path") {
        request.path = path(node, fields.diagnostics)?;
    }
    request.headers = headers(&mut fields);
    if let Some(method) = fields.text("method") {
        request.headers.push(HeaderMatch {
            name: ":method".into(),
            value: ValueMatch::String(StringMatch::Exact(method.into())),
            invert: false,
            treat_missing_as_empty: false,
        });
    }
    let mut query: Vec<QueryMatch> = Vec::new();
    for node in fields.list("queryParams") {
        let (name, value) = named_value(node, "a query parameter", fields.diagnostics)?;
        // Istio lets the last of a name count.
        query.retain(|other| other.name != name);
        query.push(QueryMatch { name, value });
    }
    query.sort_by(|a, b| a.name.cmp(&b.name));
    request.query = query;
    fields.finish();
    Some(matching(node, true, request))
}

/// A trailing slash of a prefix says nothing.
fn path(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<PathMatch> {
    let mut fields = Fields::of(node, "a path match", diagnostics)?;
    let how = choice(&mut fields, "type", &PATHS).unwrap_or(How::Prefix);
    let value = fields.optional("value");
    let text = fields.text("value").unwrap_or_else(|| "/".to_owned());
    if how != How::Regex && !text.starts_with('/') {
        let span = value.map_or(fields.span(), |node| &node.span);
        fields
            .diagnostics
            .push(Diagnostic::error("a path starts with `/`").at(span, format!("found `{text}`")));
    }
    let path = match (how, value) {
        (How::Regex, Some(value)) => PathMatch::Regex(regex(value, fields.diagnostics)?),
        (How::Exact, _) => PathMatch::Exact(text.into()),
        (_, _) if text == "/" => PathMatch::Prefix(text.into()),
        (_, _) => PathMatch::Prefix(text.strip_suffix('/').unwrap_or(&text).into()),
    };
    fields.finish();
    Some(path)
}

/// Ordered by name; Istio lets the last of a name count.
fn headers(fields: &mut Fields<'_, '_>) -> Vec<HeaderMatch> {
    let mut found: Vec<(Name, ValueMatch)> = Vec::new();
    for node in fields.list("headers") {
        if let Some((name, value)) = named_value(node, "a header", fields.diagnostics) {
            found.retain(|(other, _)| *other != name);
            found.push((name, value));
        }
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    let matches = found.into_iter().map(|(name, value)| HeaderMatch {
        name: name.to_ascii_lowercase().into(),
        value,
        invert: false,
        treat_missing_as_empty: false,
    });
    matches.collect()
}

fn named_value(
    node: &Node,
    what: &'static str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Name, ValueMatch)> {
    let mut fields = Fields::of(node, what, diagnostics)?;
    let how = choice(&mut fields, "type", &VALUES).unwrap_or(How::Exact);
    let name = fields.required_text("name");
    let value = fields.required("value");
    let text = fields.text("value");
    let wanted = match (how, value) {
        (How::Regex, Some(value)) => StringMatch::Regex(regex(value, fields.diagnostics)?),
        _ => StringMatch::Exact(text?.into()),
    };
    fields.finish();
    Some((name?.into(), ValueMatch::String(wanted)))
}

/// Gateway API `GRPCRouteMatch`: the method is the path `/SERVICE/METHOD`.
pub(crate) fn grpc_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpMatch> {
    let mut fields = Fields::of(node, "a gRPC match", diagnostics)?;
    let mut request = RouteMatch::default();
    let method = fields.optional("method");
    if let Some(node) = method {
        request.path = grpc_path(node, fields.diagnostics)?;
    }
    request.headers = headers(&mut fields);
    fields.finish();
    Some(matching(node, method.is_some(), request))
}

fn grpc_path(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<PathMatch> {
    let mut fields = Fields::of(node, "a method match", diagnostics)?;
    let how = choice(&mut fields, "type", &VALUES).unwrap_or(How::Exact);
    let service = fields.text("service");
    let method = fields.text("method");
    if service.is_none() && method.is_none() {
        fields.diagnostics.push(
            Diagnostic::error("a method match needs `service` or `method`")
                .at(&node.span, "matches nothing"),
        );
    }
    fields.finish();
    let pattern = match (how, service, method) {
        (_, None, None) => return None,
        (How::Regex, Some(service), None) => format!("/{service}/.+"),
        (_, None, Some(method)) => format!("/[^/]+/{method}"),
        (How::Regex, Some(service), Some(method)) => format!("/{service}/{method}"),
        (_, Some(service), None) => return Some(PathMatch::Prefix(format!("/{service}/").into())),
        (_, Some(service), Some(method)) => {
            return Some(PathMatch::Exact(format!("/{service}/{method}").into()));
        }
    };
    let whole = Node {
        value: source::Value::String(pattern),
        span: node.span.clone(),
    };
    regex(&whole, diagnostics).map(PathMatch::Regex)
}
