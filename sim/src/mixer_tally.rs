//! What Mixer was asked and told.

use control_plane::MetricSample;
use indexmap::IndexMap;
use proxy_core::contract::Verdict;
use proxy_core::xds::Name;
use record::{MetricRecord, MixerRecord};
use rustc_hash::FxBuildHasher;

/// Series kept at most; what follows is counted, not kept.
const SERIES_MAX: usize = 10_000;

type Series = (Name, Vec<(Name, String)>);

/// The counts of one run, without its warm-up.
#[derive(Debug, Default)]
pub(crate) struct MixerTally {
    record: MixerRecord,
    series: IndexMap<Series, (u64, f64), FxBuildHasher>,
}

impl MixerTally {
    pub(crate) fn asked(&mut self, verdict: &Verdict) {
        self.record.checks += 1;
        match verdict {
            Verdict::Allowed => {}
            Verdict::Denied { .. } => self.record.denied += 1,
            Verdict::Failed => self.record.failed += 1,
        }
    }

    pub(crate) fn told(&mut self, samples: Vec<MetricSample>) {
        self.record.reports += 1;
        for sample in samples {
            let series = (sample.name, sample.labels);
            if !self.series.contains_key(&series) && self.series.len() == SERIES_MAX {
                self.record.series_left_out += 1;
                continue;
            }
            let (count, sum) = self.series.entry(series).or_default();
            *count += 1;
            *sum += sample.value;
        }
    }

    pub(crate) fn missed(&mut self) {
        self.record.reports_lost += 1;
    }

    /// The record; series by name and labels.
    pub(crate) fn finish(mut self) -> MixerRecord {
        self.series.sort_unstable_keys();
        let metrics = self.series.into_iter();
        let metrics = metrics.map(|((name, labels), (count, sum))| MetricRecord {
            name: name.to_string(),
            labels: labels
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
            count,
            sum,
        });
        MixerRecord {
            metrics: metrics.collect(),
            ..self.record
        }
    }
}
