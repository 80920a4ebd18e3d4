//! What may be expected of a request.

use super::read::{named_of, one_or_more, texts_or_nothing};
use crate::brief::in_one_line;
use control_plane::Action;
use proxy_core::time::Nanos;
use proxy_core::xds::RetryOn;
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Span};

/// One thing that is expected.
#[derive(Debug, PartialEq)]
pub(crate) struct Want {
    pub(crate) key: &'static str,
    pub(crate) what: What,
    /// As written, in one line.
    pub(crate) written: String,
    pub(crate) span: Span,
}

#[derive(Debug, PartialEq)]
pub(crate) enum What {
    Action(Action),
    /// All clusters, in any order.
    Clusters(Vec<String>),
    /// All destinations, in any order.
    To(Vec<To>),
    Status(u16),
    Flags(Vec<String>),
    Details(String),
    Redirect(String),
    Path(String),
    Authority(String),
    /// As it goes upstream; `None`: not there.
    RequestHeader(String, Option<String>),
    ResponseHeader(String, Option<String>),
    /// `None`: no limit.
    Timeout(Option<Nanos>),
    Retries(Retries),
    Delay(Option<Nanos>),
    Abort(Option<u16>),
    Route(String),
    VirtualHost(String),
    /// `NAMESPACE/NAME` of an object that had a say, with or without its kind before it.
    Rule(String),
}

/// A destination; what is not stated may be anything.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct To {
    pub(crate) host: Option<String>,
    pub(crate) subset: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) weight: Option<u32>,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Retries {
    /// 0: none.
    pub(crate) attempts: u32,
    pub(crate) per_try_timeout: Option<Nanos>,
    pub(crate) on: Option<(RetryOn, Vec<u16>)>,
}

/// The expectations in the map `key`; `None` if it is not there.
pub(super) fn read_wants(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Vec<Want>> {
    let node = fields.optional(key)?;
    let mut fields = Fields::of(node, "an expectation", fields.diagnostics)?;
    let mut wants = Wants {
        fields: &mut fields,
        wants: Vec::new(),
    };
    wants.read();
    let wants = wants.wants;
    if wants.is_empty() && node.as_map().is_some_and(|map| map.entries.is_empty()) {
        let problem = Diagnostic::error(format!("`{key}` expects nothing"));
        fields.diagnostics.push(problem.at(&node.span, "is empty"));
    }
    fields.finish();
    Some(wants)
}

struct Wants<'f, 'n, 'd> {
    fields: &'f mut Fields<'n, 'd>,
    wants: Vec<Want>,
}

impl Wants<'_, '_, '_> {
    fn read(&mut self) {
        self.add("action", read_action);
        self.add_list("to", |nodes, diagnostics| {
            let all = nodes.iter().map(|node| To::read(node, diagnostics));
            Some(What::To(all.collect::<Option<_>>()?))
        });
        self.add_list("cluster", |nodes, diagnostics| {
            Some(What::Clusters(texts(nodes, "cluster", diagnostics)?))
        });
        self.add("status", |node, diagnostics| {
            Some(What::Status(
                number(node, "status", 100..=599, diagnostics)? as u16,
            ))
        });
        self.add_list("flags", |nodes, diagnostics| {
            Some(What::Flags(texts(nodes, "flags", diagnostics)?))
        });
        self.add_text("details", What::Details);
        self.add_text("redirect", What::Redirect);
        self.add_text("path", What::Path);
        self.add_text("authority", What::Authority);
        self.add_headers("headers", What::RequestHeader);
        self.add_headers("response_headers", What::ResponseHeader);
        self.add("timeout", |node, diagnostics| {
            Some(What::Timeout(limit(node, "timeout", diagnostics)?))
        });
        self.add("retries", |node, diagnostics| {
            Some(What::Retries(read_retries(node, diagnostics)?))
        });
        self.add("delay", |node, diagnostics| {
            Some(What::Delay(limit(node, "delay", diagnostics)?))
        });
        self.add("abort", |node, diagnostics| {
            Some(What::Abort(match node.as_str() {
                Some("none") => None,
                _ => Some(number(node, "abort", 200..=599, diagnostics)? as u16),
            }))
        });
        self.add_text("route", What::Route);
        self.add_text("virtual_host", What::VirtualHost);
        self.add_text("rule", What::Rule);
    }

    fn add(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Node, &mut Vec<Diagnostic>) -> Option<What>,
    ) {
        let Some(node) = self.fields.optional(key) else {
            return;
        };
        if let Some(what) = read(node, self.fields.diagnostics) {
            self.wants.push(Want {
                key,
                what,
                written: in_one_line(node),
                span: node.span.clone(),
            });
        }
    }

    fn add_list(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&[Node], &mut Vec<Diagnostic>) -> Option<What>,
    ) {
        let nodes = one_or_more(self.fields, key);
        self.add(key, |_, diagnostics| read(nodes, diagnostics));
    }

    fn add_text(&mut self, key: &'static str, what: impl FnOnce(String) -> What) {
        self.add(key, |node, diagnostics| {
            Some(what(named_of(node, &format!("`{key}`"), diagnostics)?.text))
        });
    }

    fn add_headers(&mut self, key: &'static str, what: fn(String, Option<String>) -> What) {
        let Some(node) = self.fields.optional(key) else {
            return;
        };
        for (name, value) in texts_or_nothing(self.fields, key) {
            let written = match &value {
                Some(value) => format!("{name}: {value}"),
                None => format!("no {name}"),
            };
            self.wants.push(Want {
                key,
                what: what(name, value),
                written,
                span: node.span.clone(),
            });
        }
    }
}

fn read_action(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<What> {
    Some(What::Action(match node.as_str() {
        Some("forward") => Action::Forward,
        Some("redirect") => Action::Redirect,
        Some("direct_response") => Action::DirectResponse,
        Some("none") => Action::None,
        _ => {
            let want = "`action` is forward, redirect, direct_response or none";
            diagnostics.push(expected(node, want));
            return None;
        }
    }))
}

impl To {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<To> {
        if let Some(host) = node.as_str() {
            return Some(To {
                host: Some(host.to_owned()),
                ..To::default()
            });
        }
        let mut fields = Fields::of(node, "a destination", diagnostics)?;
        let to = To {
            host: fields.text("host"),
            subset: fields.text("subset"),
            port: fields.integer("port", 1..=65535).map(|port| port as u16),
            weight: fields
                .integer("weight", 0..=i64::from(u32::MAX))
                .map(|w| w as u32),
        };
        fields.finish();
        Some(to)
    }
}

fn read_retries(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Retries> {
    let most = i64::from(u32::MAX);
    if node.as_map().is_none() {
        return Some(Retries {
            attempts: number(node, "retries", 0..=most, diagnostics)? as u32,
            per_try_timeout: None,
            on: None,
        });
    }
    let mut fields = Fields::of(node, "retries", diagnostics)?;
    fields.required("attempts");
    let attempts = fields.integer("attempts", 0..=most);
    let per_try = fields.optional("per_try_timeout");
    let per_try = per_try.and_then(|node| limit(node, "per_try_timeout", fields.diagnostics));
    let on = fields.optional("on");
    let on = on.and_then(|node| read_retry_on(node, fields.diagnostics));
    fields.finish();
    Some(Retries {
        attempts: attempts? as u32,
        per_try_timeout: per_try.flatten(),
        on,
    })
}

/// Conditions and statuses, separated by commas.
fn read_retry_on(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(RetryOn, Vec<u16>)> {
    let text = named_of(node, "`on`", diagnostics)?.text;
    let mut conditions = (RetryOn::default(), Vec::new());
    for token in text.split(',').map(str::trim) {
        if let Ok(status) = token.parse() {
            conditions.1.push(status);
            conditions.0 = conditions.0 | RetryOn::RETRIABLE_STATUS_CODES;
        } else if let Some(condition) = RetryOn::from_token(token) {
            conditions.0 = conditions.0 | condition;
        } else {
            let message = format!("`{token}` is not a condition to retry on");
            diagnostics.push(Diagnostic::error(message).at(&node.span, "unknown to Envoy"));
            return None;
        }
    }
    Some(conditions)
}

/// A duration, or `none`.
fn limit(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<Nanos>> {
    match node.as_str() {
        Some("none") => Some(None),
        _ => scenarios::duration(node, what, diagnostics).map(Some),
    }
}

fn number(
    node: &Node,
    key: &str,
    range: std::ops::RangeInclusive<i64>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<i64> {
    match node.value {
        source::Value::Int(value) if range.contains(&value) => Some(value),
        _ => {
            let (first, last) = (range.start(), range.end());
            let want = format!("`{key}` is a whole number from {first} to {last}");
            diagnostics.push(expected(node, &want));
            None
        }
    }
}

fn texts(nodes: &[Node], key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<String>> {
    let what = format!("`{key}`");
    let all = nodes
        .iter()
        .map(|node| Some(named_of(node, &what, diagnostics)?.text));
    all.collect()
}
