//! What Mixer was asked and told.

use crate::layout::table;
use crate::numbers::count;
use record::MixerRecord;
use std::collections::BTreeMap;

/// Its calls in a line, and the reported responses by service, version and status.
pub(crate) fn mixer(mixer: Option<&MixerRecord>, color: bool) -> String {
    let Some(mixer) = mixer else {
        return String::new();
    };
    let mut calls = format!(
        "Mixer: {} checks ({} denied, {} without an answer), {} reports ({} lost)\n",
        count(mixer.checks),
        count(mixer.denied),
        count(mixer.failed),
        count(mixer.reports),
        count(mixer.reports_lost),
    );
    let mut counts: BTreeMap<[&str; 3], u64> = BTreeMap::new();
    for series in mixer.metrics.iter().filter(|m| m.name == "request_count") {
        let label = |name: &str| series.labels.get(name).map_or("", String::as_str);
        let key = [label("service"), label("version"), label("response_code")];
        *counts.entry(key).or_default() += series.count;
    }
    let rows = counts.iter().map(|(labels, n)| {
        let [service, version, code] = labels.map(str::to_owned);
        vec![service, version, code, count(*n)]
    });
    if !counts.is_empty() {
        let headings = ["reported", "version", "status", "requests"];
        calls.push_str(&table(&headings, &[2, 3], rows.collect(), color));
    }
    calls
}
