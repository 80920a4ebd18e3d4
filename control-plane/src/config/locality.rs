//! Which localities a proxy prefers.

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
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<LocalitySetting> {
        let mut fields = Fields::of(node, "a locality setting", diagnostics)?;
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
        if let Some(node) = fields.optional("to") {
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
