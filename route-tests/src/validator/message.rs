//! Parts of VirtualServices as values to compare: defaults left out, spans and numbers in one form, as
//! two protobuf messages are equal.

use serde_json::{Map, Value, json};
use source::fields::expected;
use source::{Diagnostic, Node, Value as Yaml, nearest};

/// What a field holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    Scalar,
    Duration,
    Texts,
    /// From text to text.
    TextMap,
    List(&'static Shape),
    /// How people call it, and its fields.
    Message(&'static str, &'static [(&'static str, Shape)]),
}

const HEADER_OPERATIONS: Shape = Shape::Message(
    "operations on headers",
    &[
        ("set", Shape::TextMap),
        ("add", Shape::TextMap),
        ("remove", Shape::Texts),
    ],
);

/// Istio `Headers`.
pub(super) const HEADERS: Shape = Shape::Message(
    "headers",
    &[
        ("request", HEADER_OPERATIONS),
        ("response", HEADER_OPERATIONS),
    ],
);

const PORT: Shape = Shape::Message("a port", &[("number", Shape::Scalar)]);

const DESTINATION: Shape = Shape::Message(
    "a destination",
    &[
        ("host", Shape::Scalar),
        ("subset", Shape::Scalar),
        ("port", PORT),
    ],
);

/// Istio `HTTPRouteDestination`s.
pub(super) const ROUTE: Shape = Shape::List(&Shape::Message(
    "a route",
    &[
        ("destination", DESTINATION),
        ("weight", Shape::Scalar),
        ("headers", HEADERS),
    ],
));

/// Istio `HTTPRedirect`.
pub(super) const REDIRECT: Shape = Shape::Message(
    "a redirect",
    &[
        ("uri", Shape::Scalar),
        ("authority", Shape::Scalar),
        ("port", Shape::Scalar),
        ("derivePort", Shape::Scalar),
        ("scheme", Shape::Scalar),
        ("redirectCode", Shape::Scalar),
        ("prefixRewrite", Shape::Scalar),
    ],
);

/// Istio `HTTPRewrite`.
pub(super) const REWRITE: Shape = Shape::Message(
    "a rewrite",
    &[
        ("uri", Shape::Scalar),
        ("authority", Shape::Scalar),
        (
            "uriRegexRewrite",
            Shape::Message(
                "a uriRegexRewrite",
                &[("match", Shape::Scalar), ("rewrite", Shape::Scalar)],
            ),
        ),
    ],
);

const PERCENT: Shape = Shape::Message("a percentage", &[("value", Shape::Scalar)]);

/// Istio `HTTPFaultInjection`.
pub(super) const FAULT: Shape = Shape::Message(
    "a fault",
    &[
        (
            "delay",
            Shape::Message(
                "a delay",
                &[
                    ("percent", Shape::Scalar),
                    ("percentage", PERCENT),
                    ("fixedDelay", Shape::Duration),
                    ("exponentialDelay", Shape::Duration),
                ],
            ),
        ),
        (
            "abort",
            Shape::Message(
                "an abort",
                &[
                    ("percentage", PERCENT),
                    ("httpStatus", Shape::Scalar),
                    ("grpcStatus", Shape::Scalar),
                    ("http2Error", Shape::Scalar),
                ],
            ),
        ),
    ],
);

/// Istio `Delegate`.
pub(super) const DELEGATE: Shape = Shape::Message(
    "a delegate",
    &[("name", Shape::Scalar), ("namespace", Shape::Scalar)],
);

/// The value of `node`; what does not fit the shape is reported and left out.
pub(super) fn read(node: &Node, shape: Shape, diagnostics: &mut Vec<Diagnostic>) -> Value {
    let mut wrong = |want: &str| {
        diagnostics.push(expected(node, want));
        Value::Null
    };
    match (shape, &node.value) {
        (_, Yaml::Null) => Value::Null,
        (Shape::Scalar | Shape::Duration, Yaml::Seq(_) | Yaml::Map(_)) => wrong("text or a number"),
        (Shape::Scalar, _) => scalar(node),
        (Shape::Duration, _) => {
            let span = scenarios::duration(node, "a delay", diagnostics);
            span.map_or(Value::Null, |span| json!(span.0))
        }
        (Shape::Texts, Yaml::Seq(items)) => {
            let items = items
                .iter()
                .map(|item| read(item, Shape::Scalar, diagnostics));
            items.collect()
        }
        (Shape::TextMap, Yaml::Map(map)) => {
            let entries = map.entries.iter();
            let entries = entries.map(|entry| {
                let value = read(&entry.value, Shape::Scalar, diagnostics);
                (entry.key.clone(), value)
            });
            Value::Object(entries.collect())
        }
        (Shape::List(of), Yaml::Seq(items)) => {
            let items = items.iter().map(|item| read(item, *of, diagnostics));
            items.collect()
        }
        (Shape::Message(what, fields), Yaml::Map(_)) => message(node, what, fields, diagnostics),
        (Shape::Texts | Shape::List(_), _) => wrong("a list"),
        (Shape::TextMap, _) => wrong("a map"),
        (Shape::Message(what, _), _) => wrong(&format!("{what} is a map")),
    }
}

/// Fields with their default are as good as not there. Names may be in snake case, as in all of proto
/// JSON.
fn message(
    node: &Node,
    what: &str,
    fields: &[(&'static str, Shape)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Value {
    let mut read_fields = Map::new();
    let entries = node.as_map().map_or(&[][..], |map| &map.entries);
    for entry in entries {
        let name = camel_case(&entry.key);
        let Some((name, shape)) = fields.iter().find(|(field, _)| *field == name) else {
            let names = fields.iter().map(|(field, _)| *field);
            let message = format!("unknown key `{}`", entry.key);
            let problem = Diagnostic::error(message);
            let problem = problem.at(&entry.key_span, format!("not a key of {what}"));
            diagnostics.push(match nearest(&entry.key, names.clone()) {
                Some(name) => problem.help(format!("did you mean `{name}`?")),
                None => {
                    let known: Vec<&str> = names.collect();
                    problem.help(format!("known keys: {}", known.join(", ")))
                }
            });
            continue;
        };
        let value = read(&entry.value, *shape, diagnostics);
        if !is_default(&value, *shape) {
            read_fields.insert((*name).to_owned(), value);
        }
    }
    Value::Object(read_fields)
}

/// A message that is there is none, however empty.
fn is_default(value: &Value, shape: Shape) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty() && !matches!(shape, Shape::Message(..)),
    }
}

fn scalar(node: &Node) -> Value {
    match &node.value {
        Yaml::Int(value) => json!(value),
        Yaml::Float(value) if *value == (*value as i64) as f64 => json!(*value as i64),
        Yaml::Float(value) => json!(value),
        Yaml::Bool(value) => json!(value),
        _ => json!(node.as_scalar().unwrap_or_default()),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}
