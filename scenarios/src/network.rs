//! Latencies between pods, the control plane, Mixer, and what all proxies share.

use crate::distribution::distribution;
use crate::fields::{count, items, named, read, require};
use crate::model::{ControlPlane, Distribution, Link, Mixer, Named, Network, Proxies};
use crate::units::{duration, ppm};
use proxy_core::time::Nanos;
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

impl Default for Network {
    fn default() -> Network {
        let latency = Distribution::Constant(Nanos::from_micros(250));
        let default = Link { latency };
        let links = Vec::new();
        Network { default, links }
    }
}

impl Default for ControlPlane {
    fn default() -> ControlPlane {
        ControlPlane {
            debounce: Nanos::from_millis(100),
            debounce_max: Nanos::from_secs(10),
            push_cost: Nanos::ZERO,
            push_throttle: 100,
            push_delay: Distribution::Lognormal {
                p50: Nanos::from_millis(10),
                p99: Nanos::from_millis(100),
            },
        }
    }
}

impl Default for Proxies {
    fn default() -> Proxies {
        let overhead = Nanos::ZERO;
        Proxies {
            concurrency: 2,
            overhead,
        }
    }
}

impl Default for Mixer {
    fn default() -> Mixer {
        Mixer {
            latency: Distribution::Lognormal {
                p50: Nanos::from_millis(1),
                p99: Nanos::from_millis(5),
            },
            failure_ppm: 0,
        }
    }
}

pub(crate) fn mixer(node: &Node, _: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Mixer> {
    let mut fields = Fields::of(node, "Mixer", diagnostics)?;
    let default = Mixer::default();
    let mixer = Mixer {
        latency: read(&mut fields, "latency", distribution).unwrap_or(default.latency),
        failure_ppm: read(&mut fields, "failure_rate", ppm).unwrap_or(default.failure_ppm),
    };
    fields.finish();
    Some(mixer)
}

pub(crate) fn network(node: &Node, _: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Network> {
    let mut fields = Fields::of(node, "the network", diagnostics)?;
    let mut network = Network::default();
    if let Some(latency) = read(&mut fields, "latency", distribution) {
        network.default = Link { latency };
    }
    network.links = read(&mut fields, "links", |node, what, diagnostics| {
        let links = items(node, what, diagnostics);
        Some(
            links
                .iter()
                .filter_map(|node| link(node, diagnostics))
                .collect(),
        )
    })
    .unwrap_or_default();
    fields.finish();
    Some(network)
}

fn link(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(Named, Named, Link)> {
    let mut fields = Fields::of(node, "a link", diagnostics)?;
    let between = require(&mut fields, "between", |node, what, diagnostics| {
        let Some([from, to]) = node.as_seq() else {
            diagnostics.push(expected(
                node,
                &format!("`{what}` is a list of two localities"),
            ));
            return None;
        };
        let from = locality(from, what, diagnostics);
        let to = locality(to, what, diagnostics);
        Some((from?, to?))
    });
    let latency = require(&mut fields, "latency", distribution);
    fields.finish();
    let (from, to) = between?;
    Some((from, to, Link { latency: latency? }))
}

/// `region` or `region/zone`.
pub(crate) fn locality(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Named> {
    let name = named(node, what, diagnostics)?;
    let parts: Vec<&str> = name.text.split('/').collect();
    if parts.len() > 2 || parts.iter().any(|part| part.is_empty()) {
        let message = format!("`{what}`: a locality is `REGION` or `REGION/ZONE`");
        diagnostics.push(Diagnostic::error(message).at(&node.span, "neither"));
        return None;
    }
    Some(name)
}

pub(crate) fn control_plane(
    node: &Node,
    _: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ControlPlane> {
    let mut fields = Fields::of(node, "the control plane", diagnostics)?;
    let default = ControlPlane::default();
    let read_duration =
        |fields: &mut Fields<'_, '_>, key, default| read(fields, key, duration).unwrap_or(default);
    let control_plane = ControlPlane {
        debounce: read_duration(&mut fields, "debounce", default.debounce),
        debounce_max: read_duration(&mut fields, "debounce_max", default.debounce_max),
        push_cost: read_duration(&mut fields, "push_cost", default.push_cost),
        push_throttle: count(&mut fields, "push_throttle", 1..=1_000_000)
            .unwrap_or(default.push_throttle),
        push_delay: read(&mut fields, "push_delay", distribution).unwrap_or(default.push_delay),
    };
    if control_plane.debounce > control_plane.debounce_max {
        let diagnostic = Diagnostic::error("`debounce` is longer than `debounce_max`")
            .at(fields.span(), "quiet is awaited for at most `debounce_max`");
        fields.diagnostics.push(diagnostic);
    }
    fields.finish();
    Some(control_plane)
}

pub(crate) fn proxies(node: &Node, _: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Proxies> {
    let mut fields = Fields::of(node, "the proxies", diagnostics)?;
    let default = Proxies::default();
    let proxies = Proxies {
        concurrency: count(&mut fields, "concurrency", 1..=128).unwrap_or(default.concurrency),
        overhead: read(&mut fields, "overhead", duration).unwrap_or(default.overhead),
    };
    fields.finish();
    Some(proxies)
}
