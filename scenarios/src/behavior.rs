//! How applications behave.

use crate::distribution::distribution;
use crate::fields::{count, entries, items, key, one_of, read, require};
use crate::model::{Behavior, Behaviors, Call, CallStep, Discipline, Named, OnError, Script};
use crate::request::{header_name, headers, request};
use crate::units::{WHOLE_PPM, positive_duration, ppm};
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Value};

const WORKERS_MAX: u32 = 1_000_000;

const DISCIPLINES: [(&str, Discipline); 3] = [
    ("fifo", Discipline::Fifo),
    ("lifo", Discipline::Lifo),
    ("processor-sharing", Discipline::ProcessorSharing),
];

const ON_ERROR: [(&str, OnError); 2] = [("fail", OnError::Fail), ("degrade", OnError::Degrade)];

/// By workload; `default` is for all.
pub(crate) fn behaviors(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Behaviors> {
    let mut default = Behavior::default();
    let mut workloads = by_name(node, what, diagnostics)?;
    if let Some(at) = workloads
        .iter()
        .position(|(name, _)| name.text == "default")
    {
        default = workloads.remove(at).1;
    }
    Some(Behaviors {
        default,
        workloads,
        external: Vec::new(),
    })
}

/// Behaviours by workload or host.
pub(crate) fn by_name(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(Named, Behavior)>> {
    let entries = entries(node, what, diagnostics);
    let behaviors = entries
        .iter()
        .filter_map(|entry| Some((key(entry), behavior(&entry.value, diagnostics)?)));
    Some(behaviors.collect())
}

fn behavior(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Behavior> {
    let mut fields = Fields::of(node, "a behavior", diagnostics)?;
    let behavior = Behavior {
        workers: workers(&mut fields),
        queue_limit: read(&mut fields, "queue", queue),
        discipline: read(&mut fields, "discipline", |node, what, diagnostics| {
            one_of(node, what, &DISCIPLINES, diagnostics)
        }),
        asynchronous: fields.boolean("async"),
        propagate: read(&mut fields, "propagate", propagate),
        script: script(&mut fields),
        handlers: read(&mut fields, "handlers", handlers).unwrap_or_default(),
    };
    fields.finish();
    Some(behavior)
}

pub(crate) fn workers(fields: &mut Fields<'_, '_>) -> Option<u32> {
    count(fields, "workers", 1..=WORKERS_MAX)
}

fn queue(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<u32>> {
    match &node.value {
        Value::String(text) if text == "unlimited" => return Some(None),
        Value::Int(limit) => {
            if let Ok(limit) = u32::try_from(*limit) {
                return Some(Some(limit));
            }
        }
        _ => {}
    }
    let want = format!("`{what}` is a number of waiting requests, or `unlimited`");
    diagnostics.push(expected(node, &want));
    None
}

fn propagate(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for item in items(node, what, diagnostics) {
        match item
            .as_scalar()
            .map_or(Err("not a header name"), header_name)
        {
            Ok(name) => names.push(name),
            Err(label) => {
                let message = format!("`{what}` is a list of request headers");
                diagnostics.push(Diagnostic::error(message).at(&item.span, label));
            }
        }
    }
    Some(names)
}

fn script(fields: &mut Fields<'_, '_>) -> Script {
    Script {
        service_time: read(fields, "service_time", distribution),
        calls: read(fields, "calls", calls),
        respond: read(fields, "respond", respond),
    }
}

fn handlers(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(String, Script)>> {
    let mut handlers = Vec::new();
    for entry in entries(node, what, diagnostics) {
        if !entry.key.starts_with('/') {
            let message = format!("a key of `{what}` is the beginning of a path");
            diagnostics.push(
                Diagnostic::error(message)
                    .at(&entry.key_span, "does not begin with `/`")
                    .help(format!("did you mean `/{}`?", entry.key)),
            );
        }
        if let Some(mut fields) = Fields::of(&entry.value, "a handler", diagnostics) {
            handlers.push((entry.key.clone(), script(&mut fields)));
            fields.finish();
        }
    }
    Some(handlers)
}

/// Statuses with their probabilities.
pub(crate) fn respond(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(u16, u32)>> {
    let mut statuses = Vec::new();
    for entry in entries(node, what, diagnostics) {
        let share = ppm(&entry.value, &entry.key, diagnostics);
        match status_of(&entry.key) {
            Some(status) => statuses.extend(share.map(|share| (status, share))),
            None => {
                let message = format!("a key of `{what}` is a status from 200 to 599");
                diagnostics.push(Diagnostic::error(message).at(&entry.key_span, "not a status"));
            }
        }
    }
    let sum: u64 = statuses.iter().map(|(_, share)| u64::from(*share)).sum();
    if sum > u64::from(WHOLE_PPM) {
        let message = format!("the percentages of `{what}` sum to at most 100 %");
        let label = format!("they sum to {} %", sum as f64 / 10_000.0);
        diagnostics.push(Diagnostic::error(message).at(&node.span, label));
    }
    Some(statuses)
}

fn status_of(text: &str) -> Option<u16> {
    text.parse()
        .ok()
        .filter(|status| (200..=599).contains(status) && text.len() == 3)
}

fn calls(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<CallStep>> {
    let items = items(node, what, diagnostics);
    Some(
        items
            .iter()
            .filter_map(|item| step(item, diagnostics))
            .collect(),
    )
}

fn step(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<CallStep> {
    if node
        .as_map()
        .is_none_or(|map| map.get("parallel").is_none())
    {
        let calls = vec![call(node, diagnostics)?];
        return Some(CallStep { calls });
    }
    let mut fields = Fields::of(node, "parallel calls", diagnostics)?;
    let calls = require(&mut fields, "parallel", |node, what, diagnostics| {
        let items = items(node, what, diagnostics);
        if items.is_empty() && node.as_seq().is_some() {
            let message = format!("`{what}` has at least one call");
            diagnostics.push(Diagnostic::error(message).at(&node.span, "none is here"));
        }
        Some(
            items
                .iter()
                .filter_map(|item| call(item, diagnostics))
                .collect(),
        )
    });
    fields.finish();
    calls.map(|calls| CallStep { calls })
}

fn call(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Call> {
    let mut fields = Fields::of(node, "a call", diagnostics)?;
    let request = request(&mut fields, "a call");
    let headers = read(&mut fields, "headers", headers).unwrap_or_default();
    let on_error = read(&mut fields, "on_error", |node, what, diagnostics| {
        one_of(node, what, &ON_ERROR, diagnostics)
    })
    .unwrap_or(OnError::Fail);
    let timeout = read(&mut fields, "timeout", positive_duration);
    let probability_ppm = read(&mut fields, "probability", ppm).unwrap_or(WHOLE_PPM);
    if let Some(request) = request.as_ref().filter(|request| request.scheme == "https") {
        let diagnostic = Diagnostic::error("calls are plain HTTP; the proxies encrypt them")
            .at(&request.target.span, "not modelled");
        fields.diagnostics.push(diagnostic);
    }
    fields.finish();
    let request = request?;
    Some(Call {
        method: request.method,
        target: request.target,
        host: request.host,
        port: request.port,
        path: request.path,
        headers,
        on_error,
        timeout,
        probability_ppm,
    })
}

impl Behavior {
    /// Workers of an application whose behaviour does not say.
    pub const BUILT_IN_WORKERS: u32 = 1_000;

    /// This behaviour with what it leaves out taken from `default`.
    pub fn over(&self, default: &Behavior) -> Behavior {
        let mut handlers = self.handlers.clone();
        for (prefix, script) in &default.handlers {
            if handlers.iter().all(|(own, _)| own != prefix) {
                handlers.push((prefix.clone(), script.clone()));
            }
        }
        Behavior {
            workers: self.workers.or(default.workers),
            queue_limit: self.queue_limit.or(default.queue_limit),
            discipline: self.discipline.or(default.discipline),
            asynchronous: self.asynchronous.or(default.asynchronous),
            propagate: self.propagate.clone().or_else(|| default.propagate.clone()),
            script: self.script.over(&default.script),
            handlers,
        }
    }
}

impl Script {
    /// This script with what it leaves out taken from `default`.
    pub fn over(&self, default: &Script) -> Script {
        Script {
            service_time: self
                .service_time
                .clone()
                .or_else(|| default.service_time.clone()),
            calls: self.calls.clone().or_else(|| default.calls.clone()),
            respond: self.respond.clone().or_else(|| default.respond.clone()),
        }
    }
}
