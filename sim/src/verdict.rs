//! What an expectation saw, and whether it holds.

use crate::plan::{PlanExpectation, PlanMetric};
use crate::tally::Ended;
use proxy_core::time::Nanos;
use record::{Latencies, Verdict};
use scenarios::model::Bound;

/// What was seen for one expectation.
#[derive(Debug, Default)]
pub(crate) struct Observation {
    requests: u64,
    /// Requests that count for a share: successes, hits of a pod, a code, a flag.
    hits: u64,
    /// Requests that reached a pod.
    reached: u64,
    retries: u64,
    latencies: Option<Latencies>,
}

impl Observation {
    pub(crate) fn new(expectation: &PlanExpectation) -> Observation {
        let latency = matches!(
            expectation.metric,
            PlanMetric::Mean | PlanMetric::Quantile(_)
        );
        Observation {
            latencies: latency.then(Latencies::default),
            ..Default::default()
        }
    }

    /// A request of the kind that the expectation is about ended.
    pub(crate) fn see(&mut self, expectation: &PlanExpectation, ended: &Ended) {
        if ended.started_at < expectation.from || ended.started_at >= expectation.until {
            return;
        }
        self.requests += 1;
        self.reached += u64::from(ended.pod.is_some());
        self.retries += u64::from(ended.attempts.saturating_sub(1));
        let hit = match &expectation.metric {
            PlanMetric::SuccessRate => ended.succeeded(),
            PlanMetric::ShareOf(pods) | PlanMetric::RequestsOf(pods) => {
                ended.pod.is_some_and(|pod| pods[pod as usize])
            }
            PlanMetric::CodeShare(status) => ended.status == *status,
            PlanMetric::FlagShare(flag) => ended.flags.has(*flag),
            PlanMetric::Requests
            | PlanMetric::Reports
            | PlanMetric::RetriesPerRequest
            | PlanMetric::Mean
            | PlanMetric::Quantile(_) => false,
        };
        self.hits += u64::from(hit);
        if let Some(latencies) = &mut self.latencies {
            latencies.add(ended.duration.0);
        }
    }

    /// Mixer was told of a request of that kind.
    pub(crate) fn see_report(&mut self, expectation: &PlanExpectation, started_at: Nanos) {
        let within = expectation.from <= started_at && started_at < expectation.until;
        self.hits += u64::from(within);
    }

    /// `None`: there was nothing to observe.
    fn value(&self, metric: &PlanMetric) -> Option<f64> {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        match metric {
            PlanMetric::SuccessRate | PlanMetric::CodeShare(_) | PlanMetric::FlagShare(_) => {
                share(self.hits, self.requests)
            }
            PlanMetric::ShareOf(_) => share(self.hits, self.reached),
            PlanMetric::RequestsOf(_) | PlanMetric::Reports => Some(self.hits as f64),
            PlanMetric::Requests => Some(self.requests as f64),
            PlanMetric::RetriesPerRequest => share(self.retries, self.requests),
            PlanMetric::Mean => self.latencies.as_ref().and_then(Latencies::mean_ms),
            PlanMetric::Quantile(quantile) => self
                .latencies
                .as_ref()
                .and_then(|latencies| latencies.quantile_ms(*quantile)),
        }
    }
}

/// How the expectation came out. Without anything to observe it does not hold.
pub(crate) fn verdict(expectation: &PlanExpectation, seen: &Observation) -> Verdict {
    let value = seen.value(&expectation.metric);
    let Bound { at_least, at_most } = expectation.bound;
    let holds = |value: f64| {
        at_least.is_none_or(|bound| value >= bound) && at_most.is_none_or(|bound| value <= bound)
    };
    let shown = |value: f64| show(&expectation.metric, value);
    Verdict {
        name: expectation.text.clone(),
        passed: value.is_some_and(holds),
        observed: value.map_or_else(|| "no requests".to_owned(), shown),
        bound: match (at_least, at_most) {
            (Some(least), Some(most)) => format!("{} to {}", shown(least), shown(most)),
            (Some(least), None) => format!("at least {}", shown(least)),
            (None, Some(most)) => format!("at most {}", shown(most)),
            (None, None) => "any".to_owned(),
        },
        file: expectation.file.clone(),
        line: expectation.line,
    }
}

/// A value with its unit.
fn show(metric: &PlanMetric, value: f64) -> String {
    match metric {
        PlanMetric::SuccessRate
        | PlanMetric::ShareOf(_)
        | PlanMetric::CodeShare(_)
        | PlanMetric::FlagShare(_) => format!("{} %", digits(value * 100.0)),
        PlanMetric::Requests | PlanMetric::RequestsOf(_) | PlanMetric::Reports => {
            format!("{value}")
        }
        PlanMetric::RetriesPerRequest => digits(value),
        PlanMetric::Mean | PlanMetric::Quantile(_) => format!("{} ms", digits(value)),
    }
}

/// Up to three decimals, none that say nothing.
fn digits(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
