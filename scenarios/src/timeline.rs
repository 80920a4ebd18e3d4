//! What happens, and when.

use crate::behavior::{respond, workers};
use crate::distribution::distribution;
use crate::fields::{count, entries, exactly_one, key, named, read, require};
use crate::model::{BehaviorChange, Happening, MixerChange, Named, Pods, TimelineEvent};
use crate::topology::config_source;
use crate::units::{duration, factor, positive_duration, ppm, rate};
use proxy_core::time::Nanos;
use source::fields::expected;
use source::node::Entry;
use source::{Diagnostic, Fields, Node, Value};

/// What Mixer is called where it stops and starts.
const MIXER: &str = "mixer";
/// Until an orchestrator takes a crashed pod out of its endpoints.
const NOTICED_AFTER: Nanos = Nanos::from_secs(1);

/// The keys that say what happens, and what a map with one is called in messages.
const KINDS: [(&str, &str); 14] = [
    ("apply", "an `apply` event"),
    ("delete", "a `delete` event"),
    ("patch", "a `patch` event"),
    ("scale", "a `scale` event"),
    ("crash", "a `crash` event"),
    ("restart", "a `restart` event"),
    ("drain", "a `drain` event"),
    ("stop", "a `stop` event"),
    ("start", "a `start` event"),
    ("disconnect", "a `disconnect` event"),
    ("reconnect", "a `reconnect` event"),
    ("workload", "a `workload` event"),
    ("traffic", "a `traffic` event"),
    ("mixer", "a `mixer` event"),
];

/// By name; in order of time, and as written where times are equal.
pub(crate) fn timeline(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<TimelineEvent>> {
    let entries = entries(node, what, diagnostics);
    let mut events: Vec<TimelineEvent> = entries
        .iter()
        .filter_map(|entry| event(entry, diagnostics))
        .collect();
    events.sort_by_key(|event| event.at);
    Some(events)
}

fn event(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) -> Option<TimelineEvent> {
    check_name(entry, diagnostics);
    let present = |key: &str| {
        entry
            .value
            .as_map()
            .is_some_and(|map| map.get(key).is_some())
    };
    let mut kinds = KINDS.iter().filter(|(key, _)| present(key));
    let (kind, what) = match (kinds.next(), kinds.next()) {
        (Some(&(kind, what)), None) => (Some(kind), what),
        _ => (None, "an event"),
    };
    let mut fields = Fields::of(&entry.value, what, diagnostics)?;
    let at = require(&mut fields, "at", duration);
    let what = match kind {
        Some(kind) => happening(kind, &mut fields),
        None => {
            no_kind(entry, &mut fields);
            None
        }
    };
    fields.finish();
    Some(TimelineEvent {
        name: key(entry),
        at: at?,
        what: what?,
    })
}

/// Names stand in windows, between `..`, `+` and `-`.
fn check_name(entry: &Entry, diagnostics: &mut Vec<Diagnostic>) {
    let name = &entry.key;
    let label = if ["start", "end"].contains(&name.as_str()) {
        "is a point of every run already"
    } else if !name.starts_with(|c: char| c.is_ascii_alphabetic())
        || !name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    {
        "a letter, and then letters, digits, `-` and `_`"
    } else {
        return;
    };
    let message = format!("`{name}` cannot be the name of an event");
    diagnostics.push(Diagnostic::error(message).at(&entry.key_span, label));
}

/// An unknown key is reported as such; if there is none, what happens is missing or too much.
fn no_kind(entry: &Entry, fields: &mut Fields<'_, '_>) {
    let kinds = KINDS.map(|(key, _)| key);
    let map = entry.value.as_map();
    let known = |key: &str| key == "at" || kinds.contains(&key);
    if map.is_some_and(|map| map.entries.iter().all(|entry| known(&entry.key))) {
        exactly_one(fields, "an event", &kinds);
    }
    fields.ignore(&kinds);
}

fn happening(kind: &'static str, fields: &mut Fields<'_, '_>) -> Option<Happening> {
    match kind {
        "apply" => require(fields, kind, config_source).map(Happening::Apply),
        "delete" => require(fields, kind, delete),
        "patch" => require(fields, kind, patch),
        "scale" => {
            let workload = require(fields, kind, named);
            fields.required("replicas");
            let replicas = count(fields, "replicas", 0..=10_000);
            Some(Happening::Scale {
                workload: workload?,
                replicas: replicas?,
            })
        }
        "crash" => {
            let workload = require(fields, kind, named);
            let pods = pods(fields);
            let noticed_after = read(fields, "noticed_after", duration).unwrap_or(NOTICED_AFTER);
            let restart_after = read(fields, "restart_after", duration);
            Some(Happening::Crash {
                workload: workload?,
                pods,
                noticed_after,
                restart_after,
            })
        }
        "restart" => {
            let (workload, pods) = (require(fields, kind, named), pods(fields));
            Some(Happening::Restart {
                workload: workload?,
                pods,
            })
        }
        "drain" => {
            let (workload, pods) = (require(fields, kind, named), pods(fields));
            Some(Happening::Drain {
                workload: workload?,
                pods,
            })
        }
        "stop" => {
            let place = require(fields, kind, stoppable);
            let lasts = read(fields, "for", positive_duration);
            Some(match place? {
                place if place.text == MIXER => running(false, lasts),
                place => Happening::Stop { place, lasts },
            })
        }
        "start" => require(fields, kind, stoppable).map(|place| match place.text == MIXER {
            true => running(true, None),
            false => Happening::Start(place),
        }),
        "disconnect" => {
            let (workload, pods) = (require(fields, kind, named), pods(fields));
            let lasts = read(fields, "for", positive_duration);
            Some(Happening::Disconnect {
                workload: workload?,
                pods,
                lasts,
            })
        }
        "reconnect" => {
            let (workload, pods) = (require(fields, kind, named), pods(fields));
            Some(Happening::Reconnect {
                workload: workload?,
                pods,
            })
        }
        "workload" => behave(fields),
        "mixer" => mixer(fields),
        _ => traffic(fields),
    }
}

/// Nothing else stops and starts: pods crash and restart.
fn stoppable(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Named> {
    let name = named(node, what, diagnostics)?;
    if !["control-plane", MIXER].contains(&name.text.as_str()) {
        let diagnostic = Diagnostic::error(format!("`{what}` is for the control plane and Mixer"))
            .at(&node.span, "neither `control-plane` nor `mixer`")
            .help("pods of a workload `crash` and `restart`");
        diagnostics.push(diagnostic);
        return None;
    }
    Some(name)
}

fn running(running: bool, lasts: Option<Nanos>) -> Happening {
    let change = MixerChange {
        running: Some(running),
        ..MixerChange::default()
    };
    Happening::Mixer { change, lasts }
}

/// `mixer: {latency: 2s}`.
fn mixer(fields: &mut Fields<'_, '_>) -> Option<Happening> {
    let lasts = read(fields, "for", positive_duration);
    let node = fields.required("mixer")?;
    let mut inner = Fields::of(node, "a change of Mixer", fields.diagnostics)?;
    let change = MixerChange {
        running: None,
        latency: read(&mut inner, "latency", distribution),
        failure_ppm: read(&mut inner, "failure_rate", ppm),
    };
    if node.as_map().is_some_and(|map| map.entries.is_empty()) {
        let message = "a `mixer` event changes `latency` or `failure_rate`";
        let diagnostic = Diagnostic::error(message).at(&node.span, "nothing changes");
        inner.diagnostics.push(diagnostic);
    }
    inner.finish();
    Some(Happening::Mixer { change, lasts })
}

/// A manifest, or one object.
fn delete(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Happening> {
    if node.as_map().is_none() {
        return named(node, what, diagnostics).map(Happening::DeleteFrom);
    }
    let mut fields = Fields::of(node, "an object to delete", diagnostics)?;
    let (kind, namespace, name) = object(&mut fields);
    fields.finish();
    Some(Happening::Delete {
        kind: kind?,
        namespace,
        name: name?,
    })
}

fn patch(node: &Node, _: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Happening> {
    let mut fields = Fields::of(node, "an object to patch", diagnostics)?;
    let (kind, namespace, name) = object(&mut fields);
    let merge = require(&mut fields, "merge", |node, what, diagnostics| {
        if node.as_map().is_none() {
            let want = format!("`{what}` is a map, merged into the object");
            diagnostics.push(expected(node, &want));
        }
        Some(node.clone())
    });
    fields.finish();
    Some(Happening::Patch {
        kind: kind?,
        namespace,
        name: name?,
        merge: merge?,
    })
}

fn object(fields: &mut Fields<'_, '_>) -> (Option<Named>, Option<String>, Option<Named>) {
    let kind = require(fields, "kind", named);
    let namespace = read(fields, "namespace", named).map(|named| named.text);
    let name = require(fields, "name", named);
    (kind, namespace, name)
}

/// `pods: all`, `pods: 2` or `pod: 0`; all unless written.
fn pods(fields: &mut Fields<'_, '_>) -> Pods {
    let several = read(fields, "pods", |node, what, diagnostics| {
        match &node.value {
            Value::String(text) if text == "all" => Some(Pods::All),
            Value::Int(n @ 1..=10_000) => u32::try_from(*n).ok().map(Pods::First),
            _ => {
                let want = format!("`{what}` is `all`, or how many, from 1 on");
                diagnostics.push(expected(node, &want));
                None
            }
        }
    });
    let one = count(fields, "pod", 0..=9_999).map(Pods::Ordinal);
    if several.is_some()
        && let Some(node) = fields.optional("pod")
    {
        let message = "an event names `pods` (how many) or `pod` (which)";
        let diagnostic = Diagnostic::error(message).at(&node.span, "both are here");
        fields.diagnostics.push(diagnostic);
    }
    several.or(one).unwrap_or(Pods::All)
}

fn behave(fields: &mut Fields<'_, '_>) -> Option<Happening> {
    let workload = require(fields, "workload", named);
    let pods = pods(fields);
    let lasts = read(fields, "for", positive_duration);
    let changes = ["service_time", "slower_by", "respond", "workers"];
    let present: Vec<&str> = changes
        .into_iter()
        .filter(|key| fields.optional(key).is_some())
        .collect();
    let change = BehaviorChange {
        service_time: read(fields, "service_time", distribution),
        slower_by: read(fields, "slower_by", factor),
        respond: read(fields, "respond", respond),
        workers: workers(fields),
    };
    if present.is_empty() {
        let message = format!("a `workload` event changes one of {}", changes.join(", "));
        let diagnostic = Diagnostic::error(message).at(fields.span(), "nothing changes");
        fields.diagnostics.push(diagnostic);
    }
    Some(Happening::Behave {
        workload: workload?,
        pods,
        change,
        lasts,
    })
}

fn traffic(fields: &mut Fields<'_, '_>) -> Option<Happening> {
    let traffic = require(fields, "traffic", named);
    exactly_one(fields, "a `traffic` event", &["rate", "users"]);
    let rate = read(fields, "rate", rate);
    let users = count(fields, "users", 0..=1_000_000);
    Some(Happening::Traffic {
        traffic: traffic?,
        rate,
        users,
    })
}
