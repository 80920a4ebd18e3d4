//! One run on a terminal.

use crate::layout::{BAD, FAINT, GOOD, TITLE, mark, paint, table, verdicts};
use crate::mixer::mixer;
use crate::numbers::{count, millis, share, success};
use record::{CallRecord, HappeningRecord, RunRecord, TrafficRecord, Verdict};

/// Of what followed from the scenario's events, so many lines are shown after each event.
const CONSEQUENCES_MAX: usize = 4;

pub(crate) fn of_one(record: &RunRecord, color: bool, repeat: &str) -> String {
    let mut sections = vec![heading(record, "", color), traffic(record, color)];
    sections.push(calls(&record.calls, color));
    sections.push(mixer(record.mixer.as_ref(), color));
    sections.push(timeline(&record.timeline, color));
    sections.push(expectations(&record.expectations, color));
    sections.push(footer(record, color, repeat));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

/// Name and length; `what` says which seeds, where there are several.
pub(crate) fn heading(record: &RunRecord, what: &str, color: bool) -> String {
    let warmup = if record.warmup_s > 0.0 {
        format!(", the first {} s not counted", record.warmup_s)
    } else {
        String::new()
    };
    let name = paint(&record.scenario, TITLE, color);
    format!("{name}: {what}{} s simulated{warmup}\n", record.simulated_s)
}

fn traffic(record: &RunRecord, color: bool) -> String {
    let rows = record.traffic.iter().map(|(name, traffic)| {
        let latency = &traffic.latency_ms;
        vec![
            name.clone(),
            count(traffic.requests),
            success(traffic.succeeded, traffic.requests),
            millis(latency.p50),
            millis(latency.p95),
            millis(latency.p99),
            millis(latency.p99_9),
            failures(traffic),
        ]
    });
    let mut headings = vec![
        "traffic", "requests", "success", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms",
    ];
    let mut rows: Vec<Vec<String>> = rows.collect();
    if rows
        .iter()
        .any(|row| row.last().is_some_and(|failures| !failures.is_empty()))
    {
        headings.push("failures");
    } else {
        rows.iter_mut().for_each(|row| row.truncate(headings.len()));
    }
    table(&headings, &[1, 2, 3, 4, 5, 6], rows, color)
}

/// Statuses that are failures, and the flags that tell why.
fn failures(traffic: &TrafficRecord) -> String {
    let failed = |code: &str| code == "0" || code.starts_with('5');
    let codes = traffic
        .codes
        .iter()
        .filter(|(code, n)| failed(code) && **n > 0);
    let parts: Vec<String> = codes
        .map(|(code, n)| match code.as_str() {
            "0" => format!("{}× no answer", count(*n)),
            _ => format!("{}× {code}", count(*n)),
        })
        .collect();
    let flags: Vec<String> = traffic
        .flags
        .iter()
        .map(|(flag, n)| format!("{}× {flag}", count(*n)))
        .collect();
    match (parts.is_empty(), flags.is_empty()) {
        (true, _) => String::new(),
        (false, true) => parts.join(", "),
        (false, false) => format!("{} (flags: {})", parts.join(", "), flags.join(", ")),
    }
}

/// Who called whom, and who served what share.
pub(crate) fn calls(calls: &[CallRecord], color: bool) -> String {
    let called: Vec<&CallRecord> = calls.iter().filter(|call| call.requests > 0).collect();
    if called.is_empty() {
        return String::new();
    }
    let rows = called.iter().map(|call| {
        vec![
            call.from.clone(),
            format!("→ {}", call.to),
            count(call.requests),
            success(call.succeeded, call.requests),
            served_by(call),
        ]
    });
    let headings = ["from", "to", "requests", "success", "served by"];
    table(&headings, &[2, 3], rows.collect(), color)
}

fn served_by(call: &CallRecord) -> String {
    let served: u64 = call.served_by.values().sum();
    let nobody = call.requests.saturating_sub(served);
    let mut parts: Vec<String> = call
        .served_by
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(workload, n)| format!("{workload} {}", share(*n, call.requests)))
        .collect();
    if nobody > 0 {
        parts.push(format!("nobody {}", share(nobody, call.requests)));
    }
    parts.join(", ")
}

/// The scenario's events, and the first of what followed from each.
fn timeline(timeline: &[HappeningRecord], color: bool) -> String {
    if timeline.is_empty() {
        return String::new();
    }
    let mut rows = Vec::new();
    let mut consequences = 0;
    for happening in timeline {
        if !happening.name.is_empty() {
            left_out(&mut rows, consequences);
            consequences = 0;
        } else {
            consequences += 1;
        }
        if consequences <= CONSEQUENCES_MAX {
            let at = format!("{:.2}", happening.at_s);
            rows.push(vec![at, happening.name.clone(), happening.what.clone()]);
        }
    }
    left_out(&mut rows, consequences);
    table(&["at s", "event", "what happened"], &[0], rows, color)
}

fn left_out(rows: &mut Vec<Vec<String>>, consequences: usize) {
    if consequences > CONSEQUENCES_MAX {
        let more = count((consequences - CONSEQUENCES_MAX) as u64);
        rows.push(vec![
            String::new(),
            String::new(),
            format!("... and {more} more"),
        ]);
    }
}

fn expectations(expectations: &[Verdict], color: bool) -> String {
    if expectations.is_empty() {
        return String::new();
    }
    let rows = expectations.iter().map(|verdict| {
        let place = format!("{}:{}", verdict.file, verdict.line);
        vec![
            format!("{} {}", mark(verdict.passed), verdict.name),
            verdict.observed.clone(),
            verdict.bound.clone(),
            if verdict.passed { String::new() } else { place },
        ]
    });
    verdicts(
        &["expectation", "observed", "bound", ""],
        &[1],
        rows.collect(),
        color,
    )
}

fn footer(record: &RunRecord, color: bool, repeat: &str) -> String {
    let all = record.expectations.len();
    let held = record
        .expectations
        .iter()
        .filter(|verdict| verdict.passed)
        .count();
    let verdict = match (all, all - held) {
        (0, _) => "nothing was expected".to_owned(),
        (_, 0) => paint(&format!("all {all} expectations held"), GOOD, color),
        (_, failed) => paint(
            &format!("{failed} of {all} expectations did not hold"),
            BAD,
            color,
        ),
    };
    let digest = format!("seed {}, digest {}", record.seed, record.digest);
    format!(
        "{verdict}\n{}\n{}\n",
        paint(&digest, FAINT, color),
        again(repeat, color)
    )
}

/// How to get the same again.
pub(crate) fn again(repeat: &str, color: bool) -> String {
    paint(&format!("repeat: {repeat}"), FAINT, color)
}
