//! Reading the test files of istio-config-validator.

use super::message::{self, Shape};
use serde_json::Value;
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Span};

/// Requests, and what the rule that takes them has to say, or must not.
#[derive(Debug)]
pub(super) struct TestCase {
    pub(super) description: String,
    pub(super) span: Span,
    pub(super) want_match: bool,
    pub(super) inputs: Vec<Input>,
    /// In the order in which they are held against the rule.
    pub(super) asserted: Vec<Asserted>,
    pub(super) delegate: Option<Asserted>,
}

/// One of the requests that a test case stands for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Input {
    pub(super) authority: String,
    pub(super) method: String,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
}

/// What a field of the rule should be.
#[derive(Debug)]
pub(super) struct Asserted {
    pub(super) field: &'static str,
    pub(super) shape: Shape,
    pub(super) node: Node,
    pub(super) value: Value,
}

const ASSERTED: [(&str, Shape); 5] = [
    ("route", message::ROUTE),
    ("rewrite", message::REWRITE),
    ("fault", message::FAULT),
    ("headers", message::HEADERS),
    ("redirect", message::REDIRECT),
];

pub(super) fn read(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Vec<TestCase> {
    let Some(mut fields) = Fields::of(document, "a file of test cases", diagnostics) else {
        return Vec::new();
    };
    let cases = fields.list("testCases").iter();
    let cases = cases
        .filter_map(|node| read_case(node, fields.diagnostics))
        .collect();
    fields.finish();
    cases
}

fn read_case(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<TestCase> {
    let mut fields = Fields::of(node, "a test case", diagnostics)?;
    let description = fields.text("description").unwrap_or_default();
    let want_match = fields.boolean("wantMatch").unwrap_or(false);
    let request = fields.required("request");
    let inputs = request.and_then(|node| read_request(node, fields.diagnostics));
    let mut asserted = Vec::new();
    for (field, shape) in ASSERTED {
        asserted.extend(read_asserted(&mut fields, field, shape));
    }
    let delegate = read_asserted(&mut fields, "delegate", message::DELEGATE);
    fields.finish();
    if asserted.is_empty() && delegate.is_none() {
        let warning = Diagnostic::warning("a test case that asserts nothing always passes");
        diagnostics.push(warning.at(&node.span, "neither `route` nor anything else"));
    }
    Some(TestCase {
        description,
        span: node.span.clone(),
        want_match,
        inputs: inputs?,
        asserted,
        delegate,
    })
}

fn read_asserted(
    fields: &mut Fields<'_, '_>,
    field: &'static str,
    shape: Shape,
) -> Option<Asserted> {
    let node = fields.optional(field)?;
    Some(Asserted {
        field,
        shape,
        node: node.clone(),
        value: message::read(node, shape, fields.diagnostics),
    })
}

/// Every combination, the URIs outermost.
fn read_request(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Input>> {
    let mut fields = Fields::of(node, "a request", diagnostics)?;
    let mut lists = Vec::new();
    for (key, name) in [
        ("authority", "authority"),
        ("method", "method"),
        ("uri", "URI"),
    ] {
        let texts = fields.texts(key);
        if fields.list(key).is_empty() {
            let problem = Diagnostic::error(format!("{name} list is empty"));
            let label = format!("`{key}` needs at least one");
            fields.diagnostics.push(problem.at(&node.span, label));
        }
        lists.push(texts);
    }
    let headers = fields.text_map("headers");
    let paths: Vec<String> = fields
        .list("uri")
        .iter()
        .filter_map(|node| path_of(node, fields.diagnostics))
        .collect();
    fields.finish();
    let mut inputs = Vec::new();
    for path in &paths {
        for authority in &lists[0] {
            for method in &lists[1] {
                inputs.push(Input {
                    authority: authority.clone(),
                    method: method.clone(),
                    path: path.clone(),
                    headers: headers.clone(),
                });
            }
        }
    }
    Some(inputs)
}

/// Path and query of a URI, which may be a whole URL.
fn path_of(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    // Anything but text has been reported.
    let uri = node.as_str()?;
    let bare = uri.split('#').next().unwrap_or_default();
    let path = match bare.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => bare,
    };
    if !path.starts_with('/') {
        diagnostics.push(expected(node, "a URI has a path that begins with `/`"));
        return None;
    }
    Some(path.to_owned())
}
