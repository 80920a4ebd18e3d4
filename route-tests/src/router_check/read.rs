//! Reading the test files of Envoy's route table check tool.

use crate::route_configuration::HeaderMatcher;
use crate::route_configuration::proto::{duration, in_snake_case, number, refuse};
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use serde_json::{Map, Value, json};
use source::{Diagnostic, Fields, Node, Span, Value as Yaml};

/// Envoy's `ValidationItem`.
#[derive(Debug)]
pub(super) struct CheckTest {
    pub(super) name: String,
    pub(super) span: Span,
    pub(super) input: Input,
    pub(super) assertions: Vec<Assertion>,
}

/// Envoy's `ValidationInput`.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) head: RequestHead,
    /// As the upstream sends them.
    pub(super) response_headers: Headers,
    /// The stream's one random value.
    pub(super) random_value: u64,
    pub(super) ssl: bool,
    pub(super) internal: bool,
    /// The one runtime key that is set.
    pub(super) runtime: String,
    /// By namespace.
    pub(super) metadata: Value,
}

/// One field of Envoy's `ValidationAssert`. An empty text: there is none.
#[derive(Debug)]
pub(super) enum Assertion {
    Text(Field, String),
    RedirectCode(u64),
    /// Of the route.
    Timeout(Nanos),
    RequestHeader(HeaderMatcher),
    ResponseHeader(HeaderMatcher),
    /// The deprecated forms: name and value.
    RequestField(String, String),
    ResponseField(String, String),
}

/// What a text is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    ClusterName,
    VirtualClusterName,
    VirtualHostName,
    PathRewrite,
    HostRewrite,
    PathRedirect,
}

const TEXTS: [Field; 6] = [
    Field::ClusterName,
    Field::VirtualClusterName,
    Field::VirtualHostName,
    Field::PathRewrite,
    Field::HostRewrite,
    Field::PathRedirect,
];

impl Field {
    pub(super) fn name(self) -> &'static str {
        match self {
            Field::ClusterName => "cluster_name",
            Field::VirtualClusterName => "virtual_cluster_name",
            Field::VirtualHostName => "virtual_host_name",
            Field::PathRewrite => "path_rewrite",
            Field::HostRewrite => "host_rewrite",
            Field::PathRedirect => "path_redirect",
        }
    }
}

pub(super) fn read(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<CheckTest> {
    let document = in_snake_case(document);
    let what = "a file of route table check tests";
    let Some(mut fields) = Fields::of(&document, what, diagnostics) else {
        return Vec::new();
    };
    if let Some(node) = fields.optional("runtime") {
        let warning = Diagnostic::warning("runtime guards of a whole file have no influence here");
        fields
            .diagnostics
            .push(warning.at(&node.span, "passed over"));
    }
    let tests = fields.list("tests");
    if tests.is_empty() {
        let problem = Diagnostic::error("`tests` needs at least one test");
        fields
            .diagnostics
            .push(problem.at(&document.span, "has none"));
    }
    let tests = tests
        .iter()
        .filter_map(|node| read_test(node, fields.diagnostics))
        .collect();
    fields.finish();
    tests
}

fn read_test(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<CheckTest> {
    let mut fields = Fields::of(node, "a route table check test", diagnostics)?;
    let name = needed_text(&mut fields, "test_name", 1);
    let input = fields.required("input");
    let input = input.and_then(|node| read_input(node, fields.diagnostics));
    let validate = fields.required("validate");
    let assertions = validate.and_then(|node| read_assertions(node, fields.diagnostics));
    fields.finish();
    Some(CheckTest {
        name: name?,
        span: node.span.clone(),
        input: input?,
        assertions: assertions?,
    })
}

fn read_input(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Input> {
    let mut fields = Fields::of(node, "an input", diagnostics)?;
    let authority = needed_text(&mut fields, "authority", 1);
    let path = needed_text(&mut fields, "path", 1);
    let method = needed_text(&mut fields, "method", 3);
    let random_value = number(&mut fields, "random_value", i64::MAX as u64).unwrap_or(0);
    let ssl = fields.boolean("ssl").unwrap_or(false);
    let internal = fields.boolean("internal").unwrap_or(false);
    let runtime = fields.text("runtime").unwrap_or_default();
    let scheme = if ssl { "https" } else { "http" };
    let mut headers = Headers::default();
    headers.append("x-forwarded-proto".into(), scheme.as_bytes());
    if internal {
        headers.append("x-envoy-internal".into(), b"true");
    }
    headers
        .0
        .extend(read_headers(&mut fields, "additional_request_headers"));
    let response_headers = Headers(read_headers(&mut fields, "additional_response_headers"));
    let metadata = read_metadata(&mut fields);
    fields.finish();
    Some(Input {
        head: RequestHead {
            method: method?.into(),
            scheme: scheme.into(),
            authority: authority?.into(),
            path: path?.into(),
            headers,
            id: None,
        },
        response_headers,
        random_value,
        ssl,
        internal,
        runtime,
        metadata: Value::Object(metadata),
    })
}

/// Envoy's `set_metadata`: what is there already stays, unless it may be overwritten.
fn read_metadata(fields: &mut Fields<'_, '_>) -> Map<String, Value> {
    let mut metadata = Map::new();
    for node in fields.list("dynamic_metadata") {
        let Some(mut entry) = Fields::of(node, "dynamic metadata", fields.diagnostics) else {
            continue;
        };
        refuse(&mut entry, &["typed_value"]);
        let namespace = entry.required_text("metadata_namespace");
        let overwrite = entry.boolean("allow_overwrite").unwrap_or(false);
        let value = entry.optional("value").map(json_of);
        entry.finish();
        let (Some(namespace), Some(value)) = (namespace, value) else {
            continue;
        };
        match (metadata.get_mut(&namespace), value) {
            (None, value) => {
                metadata.insert(namespace, value);
            }
            (Some(Value::Object(there)), Value::Object(more)) if overwrite => there.extend(more),
            (Some(_), _) => {}
        }
    }
    metadata
}

fn json_of(node: &Node) -> Value {
    match &node.value {
        Yaml::Null => Value::Null,
        Yaml::Bool(value) => json!(value),
        Yaml::Int(value) => json!(value),
        Yaml::Float(value) => json!(value),
        Yaml::String(text) => json!(text),
        Yaml::Seq(items) => items.iter().map(json_of).collect(),
        Yaml::Map(map) => {
            let entries = map.entries.iter();
            let entries = entries.map(|entry| (entry.key.clone(), json_of(&entry.value)));
            Value::Object(entries.collect())
        }
    }
}

/// `length_min` in bytes, as the tool demands it.
fn needed_text(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
    length_min: usize,
) -> Option<String> {
    let node = fields.required(key)?;
    let text = fields.text(key)?;
    if text.len() < length_min {
        let message = format!("`{key}` is text of {length_min} characters at least");
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "too short"));
        return None;
    }
    Some(text)
}

fn read_headers(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<(Name, HeaderText)> {
    let pairs = read_pairs(fields, key).into_iter();
    pairs
        .map(|(name, value)| (name.into(), HeaderText::new(value.as_bytes())))
        .collect()
}

/// Envoy's `HeaderValue`s, with names in lower case.
fn read_pairs(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for node in fields.list(key) {
        let Some(mut header) = Fields::of(node, "a header", fields.diagnostics) else {
            continue;
        };
        refuse(&mut header, &["raw_value"]);
        let name = header.required_text("key");
        let value = header.text("value").unwrap_or_default();
        header.finish();
        pairs.extend(name.map(|name| (name.to_ascii_lowercase(), value)));
    }
    pairs
}

fn read_assertions(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Assertion>> {
    let mut fields = Fields::of(node, "a validation", diagnostics)?;
    let mut assertions = Vec::new();
    for field in TEXTS {
        let text = fields.text(field.name());
        assertions.extend(text.map(|text| Assertion::Text(field, text)));
    }
    let code = number(&mut fields, "code_redirect", 999);
    assertions.extend(code.map(Assertion::RedirectCode));
    let timeout = duration(&mut fields, "timeout");
    assertions.extend(timeout.map(Assertion::Timeout));
    let matchers = read_matchers(&mut fields, "request_header_matches");
    assertions.extend(matchers.into_iter().map(Assertion::RequestHeader));
    let matchers = read_matchers(&mut fields, "response_header_matches");
    assertions.extend(matchers.into_iter().map(Assertion::ResponseHeader));
    for (name, value) in read_pairs(&mut fields, "request_header_fields") {
        assertions.push(Assertion::RequestField(name, value));
    }
    for (name, value) in read_pairs(&mut fields, "response_header_fields") {
        assertions.push(Assertion::ResponseField(name, value));
    }
    refuse(&mut fields, &["route_metadata"]);
    fields.finish();
    if node.as_map().is_some_and(|map| map.entries.is_empty()) {
        let warning = Diagnostic::warning("a test that validates nothing always passes");
        diagnostics.push(warning.at(&node.span, "is empty"));
    }
    Some(assertions)
}

fn read_matchers(fields: &mut Fields<'_, '_>, key: &'static str) -> Vec<HeaderMatcher> {
    let nodes = fields.list(key).iter();
    nodes
        .filter_map(|node| HeaderMatcher::read(node, fields.diagnostics))
        .collect()
}
