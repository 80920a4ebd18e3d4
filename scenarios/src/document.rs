//! The file as a whole, and what its parts say of each other.

use crate::behavior::{behaviors, by_name};
use crate::expect::expectations;
use crate::fields::{named, one_of, read, require};
use crate::model::{
    Anchor, Behavior, Behaviors, DataPlane, Expectation, Happening, Load, Named, Point, Scenario,
    TimelineEvent, Traffic,
};
use crate::network::{control_plane, mixer, network, proxies};
use crate::overrides;
use crate::timeline::timeline;
use crate::topology::{config, topology};
use crate::traffic::traffic;
use crate::units::{duration, positive_duration};
use proxy_core::time::Nanos;
use source::{Diagnostic, Dialect, Fields, Level, Node, SourceFile};
use std::path::Path;
use std::sync::Arc;

/// The Istio versions whose defaults are modelled.
pub const ISTIO_VERSIONS: [&str; 3] = ["1.30", "1.31", "1.32"];

const DATA_PLANES: [(&str, DataPlane); 2] = [
    ("envoy-2017", DataPlane::Envoy2017),
    ("linkerd-1.1.1", DataPlane::Linkerd111),
];

const SEED: u64 = 1;

/// Reads a scenario; paths in it are relative to `folder`. Every mistake is reported; `None` if
/// there is any.
pub fn parse(
    file: &Arc<SourceFile>,
    folder: &Path,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    parse_with(file, folder, &[], diagnostics)
}

/// The same after setting values in it: keys with dots between them (`traffic.web.rate`), items of
/// lists by number, and what to put there, as YAML.
pub fn parse_with(
    file: &Arc<SourceFile>,
    folder: &Path,
    sets: &[(String, String)],
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let mut found = Vec::new();
    let scenario = document(file, &mut found).and_then(|mut node| {
        for (path, value) in sets {
            overrides::set(&mut node, path, value, &mut found);
        }
        scenario(file, folder, &node, &mut found)
    });
    let failed = found
        .iter()
        .any(|diagnostic| diagnostic.level == Level::Error);
    diagnostics.append(&mut found);
    scenario.filter(|_| !failed)
}

fn document(file: &Arc<SourceFile>, diagnostics: &mut Vec<Diagnostic>) -> Option<Node> {
    let (documents, mut found) = source::parse(file, Dialect::Yaml12);
    let malformed = !found.is_empty();
    diagnostics.append(&mut found);
    let mut documents = documents.into_iter();
    let first = documents.next();
    if first.is_none() && !malformed {
        diagnostics.push(
            Diagnostic::error("a scenario file holds a scenario")
                .at(&file.span(0..0), "it is empty"),
        );
    }
    if let Some(second) = documents.next() {
        diagnostics.push(
            Diagnostic::error("a scenario file holds one document")
                .at(&second.span, "a second one begins here"),
        );
    }
    first
}

fn scenario(
    file: &Arc<SourceFile>,
    folder: &Path,
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Scenario> {
    let mut fields = Fields::of(node, "a scenario", diagnostics)?;
    let name = require(&mut fields, "name", named);
    let istio = read(&mut fields, "istio", istio);
    let data_plane = read(&mut fields, "data_plane", |node, what, diagnostics| {
        one_of(node, what, &DATA_PLANES, diagnostics)
    });
    let duration = length(&mut fields);
    let warmup = warmup(&mut fields, duration);
    let seed = fields.integer("seed", 0..=i64::MAX);
    let topology = require(&mut fields, "topology", topology);
    let config = read(&mut fields, "config", config);
    let network = read(&mut fields, "network", network);
    let control_plane = read(&mut fields, "control_plane", control_plane);
    let proxies = read(&mut fields, "proxies", proxies);
    let mixer = read(&mut fields, "mixer", |node, what, diagnostics| {
        Some((node.span.clone(), mixer(node, what, diagnostics)?))
    });
    let behavior = read(&mut fields, "behavior", behaviors);
    let external = read(&mut fields, "external", by_name);
    let traffic = require(&mut fields, "traffic", traffic);
    let timeline = read(&mut fields, "timeline", timeline).unwrap_or_default();
    let events = fields.optional("timeline").map(keys).unwrap_or_default();
    let expect = read(&mut fields, "expect", |node, what, diagnostics| {
        expectations(node, what, &events, diagnostics)
    })
    .unwrap_or_default();
    let sources = fields.optional("traffic").map(keys).unwrap_or_default();
    let times = Times {
        warmup,
        duration,
        timeline: &timeline,
    };
    check_timeline(
        &times,
        traffic.as_deref().unwrap_or_default(),
        &sources,
        fields.diagnostics,
    );
    check_expectations(&times, &expect, &sources, fields.diagnostics);
    fields.finish();
    let none = Behaviors {
        default: Behavior::default(),
        workloads: Vec::new(),
        external: Vec::new(),
    };
    Some(Scenario {
        name: name?.text,
        file: Arc::clone(file),
        folder: folder.to_owned(),
        istio,
        data_plane,
        duration: duration?,
        warmup,
        seed: seed
            .and_then(|seed| u64::try_from(seed).ok())
            .unwrap_or(SEED),
        topology: topology?,
        config: config.unwrap_or_default(),
        network: network.unwrap_or_default(),
        control_plane: control_plane.unwrap_or_default(),
        proxies: proxies.unwrap_or_default(),
        mixer,
        behavior: Behaviors {
            external: external.unwrap_or_default(),
            ..behavior.unwrap_or(none)
        },
        traffic: traffic?,
        timeline,
        expect,
    })
}

fn keys(node: &Node) -> Vec<&str> {
    let entries = node.as_map().map_or(&[][..], |map| &map.entries);
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

fn istio(node: &Node, what: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Named> {
    let version = named(node, what, diagnostics)?;
    if !ISTIO_VERSIONS.contains(&version.text.as_str()) {
        diagnostics.push(
            Diagnostic::error(format!("Istio {} is not modelled", version.text))
                .at(&node.span, "not a version whose defaults are known")
                .help(format!("known versions: {}", ISTIO_VERSIONS.join(", "))),
        );
    }
    Some(version)
}

fn length(fields: &mut Fields<'_, '_>) -> Option<Nanos> {
    require(fields, "duration", positive_duration)
}

fn warmup(fields: &mut Fields<'_, '_>, length: Option<Nanos>) -> Nanos {
    let warmup = read(fields, "warmup", duration).unwrap_or(Nanos::ZERO);
    if length.is_some_and(|length| warmup >= length)
        && let Some(node) = fields.optional("warmup")
    {
        let diagnostic = Diagnostic::error("`warmup` is shorter than `duration`")
            .at(&node.span, "nothing would be counted");
        fields.diagnostics.push(diagnostic);
    }
    warmup
}

/// When things are, as far as it could be read.
struct Times<'a> {
    warmup: Nanos,
    duration: Option<Nanos>,
    timeline: &'a [TimelineEvent],
}

impl Times<'_> {
    fn ns(&self, point: &Point) -> Option<i128> {
        let anchor = match &point.anchor {
            Anchor::RunStart => Nanos::ZERO,
            Anchor::Start => self.warmup,
            Anchor::End => self.duration?,
            Anchor::Event(name) => {
                self.timeline
                    .iter()
                    .find(|event| event.name.text == name.text)?
                    .at
            }
        };
        Some(i128::from(anchor.0) + i128::from(point.offset_ns))
    }
}

fn check_timeline(
    times: &Times<'_>,
    traffic: &[Traffic],
    sources: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) {
    for event in times.timeline {
        if times.duration.is_some_and(|duration| event.at >= duration) {
            let message = format!("`{}` is after the end of the run", event.name.text);
            diagnostics.push(Diagnostic::error(message).at(&event.name.span, "would never happen"));
        }
        let Happening::Traffic {
            traffic: name,
            rate,
            ..
        } = &event.what
        else {
            continue;
        };
        check_source(name, sources, diagnostics);
        let Some(source) = traffic.iter().find(|source| source.name.text == name.text) else {
            continue;
        };
        let (label, open) = match source.load {
            Load::Open { .. } => ("it has a `rate`", true),
            Load::Closed { .. } => ("it has `users`", false),
        };
        if rate.is_some() != open {
            let message = format!("`{}` cannot change like this", name.text);
            diagnostics.push(Diagnostic::error(message).at(&name.span, label));
        }
    }
}

/// Where there is no source at all, that is reported already.
fn check_source(name: &Named, sources: &[&str], diagnostics: &mut Vec<Diagnostic>) {
    if sources.is_empty() || sources.contains(&name.text.as_str()) {
        return;
    }
    let diagnostic = Diagnostic::error(format!("no traffic source `{}`", name.text))
        .at(&name.span, "not a key of `traffic`")
        .nearest(&name.text, sources.iter().copied());
    diagnostics.push(match diagnostic.help {
        None => diagnostic.help(format!("known sources: {}", sources.join(", "))),
        Some(_) => diagnostic,
    });
}

fn check_expectations(
    times: &Times<'_>,
    expect: &[Expectation],
    sources: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) {
    for expectation in expect {
        if let Some(name) = &expectation.of.traffic {
            check_source(name, sources, diagnostics);
        }
        let window = &expectation.during;
        let (Some(from), Some(to), Some(duration)) =
            (times.ns(&window.from), times.ns(&window.to), times.duration)
        else {
            continue;
        };
        if times.warmup >= duration {
            continue;
        }
        let label = if from >= to {
            "ends before it begins"
        } else if from < i128::from(times.warmup.0) {
            "begins in the warm-up, which is not counted"
        } else if to > i128::from(duration.0) {
            "ends after the run"
        } else {
            continue;
        };
        let seconds = |ns: i128| ns as f64 / 1e9;
        let message = format!("no such window: {}s to {}s", seconds(from), seconds(to));
        diagnostics.push(Diagnostic::error(message).at(&window.span, label));
    }
}
