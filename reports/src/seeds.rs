//! Several runs of one scenario, summed up.

use crate::layout::{BAD, GOOD, mark, paint, table, verdicts};
use crate::numbers::{count, interval, mean_and_half_width};
use crate::summary::{again, calls, heading};
use record::{CallRecord, RunRecord, TrafficRecord};

/// Seeds named at most in a row.
const SEEDS_NAMED_MAX: usize = 8;

pub(crate) fn of_several(records: &[RunRecord], color: bool, repeat: &str) -> String {
    let [first, .., last] = records else {
        return String::new();
    };
    let what = format!(
        "{} seeds ({} to {}), each ",
        records.len(),
        first.seed,
        last.seed
    );
    let mut sections = vec![heading(first, &what, color), traffic(records, color)];
    sections.push(calls(&summed_calls(records), color));
    sections.push(expectations(records, color));
    sections.push(footer(records, color, repeat));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn traffic(records: &[RunRecord], color: bool) -> String {
    let Some(first) = records.first() else {
        return String::new();
    };
    let rows = first.traffic.keys().map(|name| {
        let runs: Vec<&TrafficRecord> = records
            .iter()
            .filter_map(|record| record.traffic.get(name))
            .collect();
        let over = |figure: fn(&TrafficRecord) -> Option<f64>| {
            let values: Vec<f64> = runs.iter().filter_map(|run| figure(run)).collect();
            mean_and_half_width(&values)
        };
        let millis = |figure| match over(figure) {
            Some((mean, half_width)) => interval(mean, half_width),
            None => "-".to_owned(),
        };
        let success = match over(|run| Some(run.success_rate? * 100.0)) {
            // 100 % is all of them.
            Some((mean, half_width)) if mean < 100.0 => {
                interval(mean.min(99.999), half_width) + " %"
            }
            Some(_) => "100 %".to_owned(),
            None => "-".to_owned(),
        };
        vec![
            name.clone(),
            count(runs.iter().map(|run| run.requests).sum()),
            success,
            millis(|run| run.latency_ms.p50),
            millis(|run| run.latency_ms.p99),
        ]
    });
    let headings = ["traffic", "requests in all", "success", "p50 ms", "p99 ms"];
    table(&headings, &[1, 2, 3, 4], rows.collect(), color)
        + "mean ± half the width of its 95 % confidence interval over the seeds\n"
}

/// The calls of all runs, in the order in which they first appear.
fn summed_calls(records: &[RunRecord]) -> Vec<CallRecord> {
    let mut sums: Vec<CallRecord> = Vec::new();
    for call in records.iter().flat_map(|record| &record.calls) {
        let same = sums
            .iter_mut()
            .find(|sum| sum.from == call.from && sum.to == call.to);
        let Some(sum) = same else {
            sums.push(call.clone());
            continue;
        };
        sum.requests += call.requests;
        sum.succeeded += call.succeeded;
        for (workload, n) in &call.served_by {
            *sum.served_by.entry(workload.clone()).or_default() += n;
        }
    }
    sums
}

/// Each expectation: with how many seeds it held, and with which it did not.
fn expectations(records: &[RunRecord], color: bool) -> String {
    let Some(first) = records
        .first()
        .filter(|record| !record.expectations.is_empty())
    else {
        return String::new();
    };
    let rows = first.expectations.iter().enumerate().map(|(at, verdict)| {
        let failing: Vec<&RunRecord> = records
            .iter()
            .filter(|record| {
                record
                    .expectations
                    .get(at)
                    .is_some_and(|verdict| !verdict.passed)
            })
            .collect();
        let held = records.len() - failing.len();
        let seen = failing
            .first()
            .and_then(|record| record.expectations.get(at));
        let why = seen.map_or_else(String::new, |seen| {
            format!(
                "not with {}; the first saw {}",
                seeds(&failing),
                seen.observed
            )
        });
        vec![
            format!("{} {}", mark(failing.is_empty()), verdict.name),
            format!("{held}/{}", records.len()),
            verdict.bound.clone(),
            why,
        ]
    });
    verdicts(
        &["expectation", "held", "bound", ""],
        &[1],
        rows.collect(),
        color,
    )
}

fn seeds(records: &[&RunRecord]) -> String {
    let mut names: Vec<String> = records
        .iter()
        .take(SEEDS_NAMED_MAX)
        .map(|record| record.seed.to_string())
        .collect();
    if records.len() > SEEDS_NAMED_MAX {
        names.push(format!("{} more", records.len() - SEEDS_NAMED_MAX));
    }
    let word = if records.len() == 1 { "seed" } else { "seeds" };
    format!("{word} {}", names.join(", "))
}

fn footer(records: &[RunRecord], color: bool, repeat: &str) -> String {
    let failing: Vec<&RunRecord> = records.iter().filter(|record| !record.passed).collect();
    let all = records.len();
    let verdict = match all - failing.len() {
        held if held == all => paint(
            &format!("all expectations held with all {all} seeds"),
            GOOD,
            color,
        ),
        0 => paint(
            &format!("not all expectations held with any of {all} seeds"),
            BAD,
            color,
        ),
        held => {
            let text = format!(
                "all expectations held with {held} of {all} seeds; not with {}",
                seeds(&failing)
            );
            paint(&text, BAD, color)
        }
    };
    format!("{verdict}\n{}\n", again(repeat, color))
}
