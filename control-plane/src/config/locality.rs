//! Which localities a proxy prefers.

use super::{Named, named_list, refuse, schema_warning};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// Istio `LocalityLoadBalancerSetting`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LocalitySetting {
    pub(crate) enabled: bool,
    /// Of the proxies' localities; the first entry that fits counts. `None`: not stated.
    pub(crate) distribute: Option<Vec<Distribute>>,
    /// From region to region.
    pub(crate) failover: Vec<(Name, Name)>,
    /// Labels, the most important first.
    pub(crate) failover_priority: Vec<PriorityLabel>,
}

/// Istio `LocalityLoadBalancerSetting.Distribute`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Distribute {
    pub(crate) from: Name,
    /// Localities with the percentage of the load that they get together.
    pub(crate) to: Vec<(Name, u32)>,
}

/// A label that near endpoints share with the proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PriorityLabel {
    pub(crate) key: Name,
    /// What endpoints are to have (`key=value`), whatever the proxy has.
    pub(crate) value: Option<Name>,
}

impl Default for LocalitySetting {
    /// Istio's where nothing is configured: on, and failing over by distance.
    fn default() -> LocalitySetting {
        LocalitySetting {
            enabled: true,
            distribute: None,
            failover: Vec::new(),
            failover_priority: Vec::new(),
        }
    }
}

impl LocalitySetting {
    /// `fails_over`: outliers are detected beside it; `None` if that is not for this to say.
    pub(super) fn read(
        node: &Node,
        fails_over: Option<bool>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<LocalitySetting> {
        let mut fields = Fields::of(node, "a locality setting", diagnostics)?;
        check(&mut fields, fails_over);
        let mut setting = LocalitySetting {
            enabled: fields.boolean("enabled").unwrap_or(true),
            ..LocalitySetting::default()
        };
        let distribute = fields.list("distribute");
        if !distribute.is_empty() {
            let read = |node| Distribute::read(node, fields.diagnostics);
            setting.distribute = Some(distribute.iter().filter_map(read).collect());
        }
        for node in fields.list("failover") {
            let mut inner = Fields::of(node, "a failover", fields.diagnostics)?;
            let (from, to) = (inner.text("from"), inner.text("to"));
            inner.finish();
            setting
                .failover
                .extend(from.zip(to).map(|(from, to)| (from.into(), to.into())));
        }
        let labels = fields.texts("failoverPriority").into_iter();
        setting.failover_priority = labels
            .map(|label| match label.split_once('=') {
                Some((key, value)) => PriorityLabel {
                    key: key.into(),
                    value: Some(value.into()),
                },
                None => PriorityLabel {
                    key: label.into(),
                    value: None,
                },
            })
            .collect();
        fields.finish();
        Some(setting)
    }

    /// Whether the localities of a priority share its load by their weights. Without outlier
    /// detection nothing fails over.
    pub(crate) fn weighs(&self, outlier_detection: bool) -> bool {
        self.distribute.is_some()
            || (outlier_detection
                && !(self.failover.is_empty() && self.failover_priority.is_empty()))
    }
}

impl Distribute {
    fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Distribute> {
        let mut fields = Fields::of(node, "a distribution", diagnostics)?;
        let from = fields.text("from").unwrap_or_default();
        let mut to = Vec::new();
        let shares = fields.optional("to");
        if shares.is_none() {
            let message = "a distribution needs `to`, with shares that add up to 100";
            refuse(fields.diagnostics, &node.span, message, "goes nowhere");
        }
        if let Some(node) = shares {
            let entries = node.as_map().map_or(&[][..], |map| &map.entries);
            let places: Vec<Named> = entries
                .iter()
                .map(|entry| Named {
                    text: entry.key.as_str().into(),
                    span: entry.key_span.clone(),
                })
                .collect();
            check_localities(&places, fields.diagnostics);
            for entry in node.as_map().map(|map| &map.entries[..]).unwrap_or(&[]) {
                let share = match entry.value.value {
                    source::Value::Int(share @ 1..=100) => u32::try_from(share).ok(),
                    _ => None,
                };
                match share {
                    Some(share) => to.push((entry.key.as_str().into(), share)),
                    None => fields.diagnostics.push(source::fields::expected(
                        &entry.value,
                        "a share is a whole number from 1 to 100",
                    )),
                }
            }
            let sum: u32 = to.iter().map(|(_, share)| share).sum();
            if sum != 100 {
                let message = format!("the shares of a distribution add up to {sum}, not to 100");
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(&node.span, "percentages"));
            }
        }
        fields.finish();
        Some(Distribute {
            from: from.into(),
            to,
        })
    }
}

fn check(fields: &mut Fields<'_, '_>, fails_over: Option<bool>) {
    let distribute = fields.list("distribute");
    let mut from = Vec::new();
    for node in distribute {
        if let Some(place) = node.at(&["from"])
            && let Some(text) = place.as_scalar()
        {
            from.push(Named {
                text: text.into(),
                span: place.span.clone(),
            });
        }
    }
    check_localities(&from, fields.diagnostics);
    let failover = fields.list("failover");
    if let ([_, ..], Some(first)) = (distribute, failover.first()) {
        let message = "`distribute` and `failover` exclude each other";
        refuse(
            fields.diagnostics,
            &first.span,
            message,
            "beside `distribute`",
        );
    }
    let labels = named_list(fields, "failoverPriority");
    let topological = labels.iter().find(|label| is_topology(&label.text));
    if let ([_, ..], Some(label)) = (failover, topological) {
        let message = "`failover` goes by the topology already";
        let why = "a label of the topology, beside `failover`";
        refuse(fields.diagnostics, &label.span, message, why);
    }
    check_failover(fields, fails_over);
}

/// Whether a label says where an endpoint is.
pub(super) fn is_topology(label: &str) -> bool {
    matches!(
        label,
        "topology.kubernetes.io/region"
            | "topology.kubernetes.io/zone"
            | "topology.istio.io/subzone"
    )
}

/// Checks the regions of `failover`, and that something fails over at all.
pub(super) fn check_failover(fields: &mut Fields<'_, '_>, fails_over: Option<bool>) {
    let failover = fields.list("failover");
    let first = failover.first().or(fields.list("failoverPriority").first());
    if let (Some(node), Some(false)) = (first, fails_over) {
        let message = "without `outlierDetection` nothing fails over";
        fields
            .diagnostics
            .push(schema_warning(message).at(&node.span, "has no effect"));
    }
    for node in failover {
        let region = |key: &str| {
            node.at(&[key])
                .and_then(Node::as_scalar)
                .unwrap_or_default()
        };
        let (from, to) = (region("from"), region("to"));
        let mut complain = |message: &str| {
            let label = format!("from `{from}` to `{to}`");
            refuse(fields.diagnostics, &node.span, message, label);
        };
        if from == to {
            complain("load fails over to another region");
        }
        if from.contains('/') || to.contains('/') {
            complain("load fails over from region to region, without zones");
        }
        if from.contains('*') || to.contains('*') {
            complain("a region to fail over knows no `*`");
        }
    }
}

/// Checks the localities of a list, none of which may be within another. As in Istio, the first
/// that is wrong ends it.
fn check_localities(places: &[Named], diagnostics: &mut Vec<Diagnostic>) {
    for (at, place) in places.iter().enumerate() {
        let text = &*place.text;
        let stars = text.matches('*').count();
        let earlier = places[..at].iter().find(|earlier| {
            let around = || stars == 0 && is_within_locality(&earlier.text, text);
            is_within_locality(text, &earlier.text) || around()
        });
        let why = if stars > 1 || (stars == 1 && !text.ends_with('*')) {
            "one `*`, at the end".to_owned()
        } else if text.splitn(3, '/').any(str::is_empty) {
            "REGION/ZONE/SUBZONE, of which no part is empty".to_owned()
        } else if let Some(earlier) = earlier {
            format!("overlaps with `{}`", earlier.text)
        } else {
            continue;
        };
        refuse(
            diagnostics,
            &place.span,
            format!("`{text}` is no locality for this"),
            why,
        );
        return;
    }
}

/// Whether `locality` (`region/zone/subzone`) is within `pattern`, whose parts may be `*` and whose
/// trailing parts may be left out.
pub(crate) fn is_within_locality(locality: &str, pattern: &str) -> bool {
    let part = |text: &str, at| text.split('/').nth(at).unwrap_or("").to_owned();
    (0..3).all(|at| match part(pattern, at).as_str() {
        "*" => true,
        "" if at > 0 => true,
        wanted => wanted == part(locality, at),
    })
}
