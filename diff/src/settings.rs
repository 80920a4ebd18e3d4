//! Settings by name, and what differs between two lists of them.

use crate::report::{Kind, Treatment};
use proxy_core::time::Nanos;
use proxy_core::xds::ConfigRef;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a route or a cluster does, setting by setting. What is off or absent is left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings(BTreeMap<(Kind, String), String>);

/// One setting that differs; `none` where a side lacks it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct SettingChange {
    #[serde(skip)]
    pub kind: Kind,
    pub setting: String,
    pub old: String,
    pub new: String,
}

impl Settings {
    pub(crate) fn set(&mut self, kind: Kind, name: &str, value: impl ToString) {
        self.0.insert((kind, name.to_owned()), value.to_string());
    }

    pub(crate) fn set_some(&mut self, kind: Kind, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.set(kind, name, value);
        }
    }

    pub(crate) fn set_flag(&mut self, kind: Kind, name: &str, flag: bool) {
        if flag {
            self.set(kind, name, "true");
        }
    }

    /// What differs from `self` to `new`.
    pub(crate) fn changes(&self, new: &Settings) -> Vec<SettingChange> {
        let change = |(kind, name): &(Kind, String), old: Option<&String>, new: Option<&String>| {
            let shown = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
            SettingChange {
                kind: *kind,
                setting: name.clone(),
                old: shown(old),
                new: shown(new),
            }
        };
        let mut changes: Vec<SettingChange> = Vec::new();
        for (key, old) in &self.0 {
            if new.0.get(key) != Some(old) {
                changes.push(change(key, Some(old), new.0.get(key)));
            }
        }
        let added = new.0.iter().filter(|(key, _)| !self.0.contains_key(key));
        changes.extend(added.map(|(key, value)| change(key, None, Some(value))));
        changes.sort();
        changes
    }
}

/// Blocks that are there when a setting of theirs is.
const BLOCKS: [(&str, &str); 2] = [
    ("retries.", "retries.attempts"),
    ("outlierDetection.", "outlierDetection.interval"),
];

/// The destination, and the settings that differ as one side has them. A block that the side lacks is
/// said to be absent once.
pub(crate) fn summary(
    destination: &str,
    settings: &[SettingChange],
    value: impl Fn(&SettingChange) -> &String,
) -> String {
    let lacks = |key: &str| {
        let mut all = settings.iter();
        all.any(|one| one.setting == key && value(one) == "none")
    };
    let lacking = BLOCKS.iter().filter(|(_, key)| lacks(key));
    let lacking: Vec<&str> = lacking.map(|(block, _)| *block).collect();
    let others = settings.iter().filter(|one| {
        let of_lacking = lacking.iter().any(|block| one.setting.starts_with(block));
        one.setting != "destination" && !(of_lacking && value(one) == "none")
    });
    let others = others.map(|one| format!("{} {}", one.setting, value(one)));
    let absent = lacking
        .iter()
        .map(|block| format!("{} none", block.trim_end_matches('.')));
    let first = Some(destination.to_owned()).filter(|text| !text.is_empty());
    let parts: Vec<String> = first.into_iter().chain(others).chain(absent).collect();
    parts.join("; ")
}

/// The same, with the rules responsible.
pub(crate) fn treatment(
    destination: &str,
    settings: &[SettingChange],
    value: impl Fn(&SettingChange) -> &String,
    rules: Vec<ConfigRef>,
) -> Treatment {
    Treatment {
        summary: summary(destination, settings, value),
        rules,
    }
}

/// A time as people write it.
pub(crate) fn span(time: Nanos) -> String {
    let nanos = time.0;
    match nanos {
        0 => "0s".to_owned(),
        _ if nanos.is_multiple_of(1_000_000_000) => format!("{}s", nanos / 1_000_000_000),
        _ if nanos.is_multiple_of(1_000_000) => format!("{}ms", nanos / 1_000_000),
        _ if nanos.is_multiple_of(1_000) => format!("{}us", nanos / 1_000),
        _ => format!("{nanos}ns"),
    }
}

/// `None` and zero say that there is no limit.
pub(crate) fn limit(time: Option<Nanos>) -> Option<String> {
    time.filter(|time| *time != Nanos::ZERO).map(span)
}

/// A share of requests.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let hundredths = (10_000 * u128::from(part) + u128::from(whole) / 2) / u128::from(whole.max(1));
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match rest {
        0 => format!("{whole} %"),
        _ => format!("{whole}.{rest:02} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_have_both_values() {
        let (mut old, mut new) = (Settings::default(), Settings::default());
        for side in [&mut old, &mut new] {
            side.set(Kind::Timeout, "timeout", "10s");
        }
        old.set(Kind::Retries, "retries.attempts", 2);
        new.set(Kind::Retries, "retries.attempts", 3);
        new.set_flag(Kind::Policy, "fullScan", true);
        new.set_flag(Kind::Policy, "off", false);
        let changes = old.changes(&new);
        let told: Vec<(&str, &str, &str)> = changes
            .iter()
            .map(|one| (&*one.setting, &*one.old, &*one.new))
            .collect();
        assert_eq!(
            told,
            [("retries.attempts", "2", "3"), ("fullScan", "none", "true")]
        );
        assert_eq!(old.changes(&old), []);
    }

    #[test]
    fn times_and_shares() {
        assert_eq!(span(Nanos::from_millis(1500)), "1500ms");
        assert_eq!(span(Nanos::from_secs(3)), "3s");
        assert_eq!(limit(Some(Nanos::ZERO)), None);
        assert_eq!(percent(1, 3), "33.33 %");
        assert_eq!(percent(90, 100), "90 %");
    }
}
