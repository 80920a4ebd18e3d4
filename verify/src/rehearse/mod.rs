//! A scenario's timeline played twice: through our core in simulated time, and on a real Envoy in real
//! time, with filesystem xDS swapped when the pushes arrive and stand-ins that fail when the pods do.
//! Then both are compared, window by window.
//!
//! | module | holds |
//! |---|---|
//! | [`script`] | what the event engine handed to one proxy: pushes and requests, with their times |
//! | [`runs`] | the script through the core, over and over with other draws |
//! | `play` | the script on a real Envoy |
//! | `clock`, `client`, `pods`, `happenings` | real time, the clients, and what stands in for pods |
//! | `files`, `logs` | Envoy's configuration, and what it wrote |
//! | [`compare`] | windows, figures and their bounds |
//! | `refuse` | what cannot be played |
//! | `report` | the agreement as text |

mod client;
mod clock;
pub mod compare;
mod files;
mod happenings;
mod logs;
mod play;
mod pods;
mod refuse;
mod report;
pub mod runs;
pub mod script;

use crate::Failure;
use compare::{Change, Figure, Window};
use proxy_core::time::Nanos;
pub use refuse::Refusal;
use runs::Run;
use script::Script;
use serde::Serialize;
use sim::Plan;
use std::path::Path;

/// A request's place in the script, on its way through Envoy.
const REQUEST: &str = "x-rehearsal";
/// Runs of the core.
const RUNS: u64 = 100;
/// What a pass through Envoy itself may take.
const PASS: Nanos = Nanos::from_millis(1);
/// Requests later than this, or answers on average, tell of a busy machine.
const SENT_LATE: Nanos = Nanos::from_millis(100);
const ANSWERED_LATE: Nanos = Nanos::from_millis(5);
/// Before this the configuration may not have arrived.
const SETTLED: Nanos = Nanos::from_millis(500);

/// How a rehearsal came out.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    pub scenario: String,
    pub seed: u64,
    /// The proxy that was compared, `POD.NAMESPACE`.
    pub proxy: String,
    pub agreement: Agreement,
    /// How late the latest request was sent,
    pub sent_late: Nanos,
    /// and answers of stand-ins on average.
    pub answered_late: Nanos,
    /// What Envoy did.
    #[serde(skip)]
    pub envoy: Run,
}

impl Rehearsal {
    /// What passes may have taken longer than in the scenario: a real proxy, and what stands in around
    /// it, take time that the scenario does not know of.
    pub fn slowest(&self) -> Nanos {
        slowest(self.answered_late)
    }

    /// Whether the machine was too busy for a difference to mean anything.
    pub fn was_disturbed(&self) -> bool {
        self.sent_late > SENT_LATE || self.answered_late > ANSWERED_LATE
    }
}

/// Envoy's numbers beside the core's.
#[derive(Debug, Serialize)]
pub struct Agreement {
    pub windows: Vec<Window>,
    /// When hosts were ejected and came back.
    pub ejections: Vec<Figure>,
}

impl Agreement {
    /// Whether every figure agrees.
    pub fn is_full(&self) -> bool {
        self.differing().next().is_none()
    }

    /// What does not agree.
    pub fn differing(&self) -> impl Iterator<Item = &Figure> {
        let windows = self.windows.iter().flat_map(|window| &window.figures);
        let figures = windows.chain(&self.ejections);
        figures.filter(|figure| !figure.agrees())
    }
}

/// Rehearses `plan`, whose pods are on loopback, with `seed` and the Envoy at `binary`, as `proxy`
/// (a pod or workload) lives through it; by default the one that sends most requests.
///
/// # Errors
/// The scenario cannot be played, or Envoy did not do its part.
pub fn rehearse(
    plan: &Plan,
    proxy: Option<&str>,
    seed: u64,
    binary: &Path,
) -> Result<Rehearsal, Failure> {
    refuse::plan(plan)?;
    let busiest = || script::busiest_proxy(plan, seed);
    let proxy = proxy.map(str::to_owned).or_else(busiest);
    let proxy = proxy.ok_or_else(|| Refusal("no proxy sends a request".to_owned()))?;
    let script = Script::of(plan, &proxy, seed)?;
    refuse::script(plan, &script)?;
    refuse::used(
        plan,
        &script,
        &runs::run_core(plan, &script.proxy, seed, 1, Nanos::ZERO),
    )?;
    let played = play::play(plan, &script, seed, binary)?;
    Ok(Rehearsal {
        scenario: plan.name.clone(),
        seed,
        agreement: judge(
            plan,
            &script,
            seed,
            &played.run,
            slowest(played.answered_late),
        ),
        proxy: script.proxy,
        sent_late: played.sent_late,
        answered_late: played.answered_late,
        envoy: played.run,
    })
}

fn slowest(answered_late: Nanos) -> Nanos {
    PASS + answered_late * 2
}

/// Holds `envoy`, what another proxy made of `script`, against the core's runs. Passes through their
/// proxies take from nothing up to `slowest` longer than in the scenario, so that what hangs on it
/// varies with it.
pub fn judge(plan: &Plan, script: &Script, seed: u64, envoy: &Run, slowest: Nanos) -> Agreement {
    let run = |draws| {
        let slower = Nanos(slowest.0 * draws / RUNS);
        runs::run_core(plan, &script.proxy, seed, draws, slower)
    };
    let core: Vec<Run> = (1..=RUNS).map(run).collect();
    let from = SETTLED.max(plan.warmup);
    Agreement {
        windows: compare::windows(&changes(plan, script), from, plan.duration, envoy, &core),
        ejections: compare::ejections(envoy, &core),
    }
}

/// Everything that changes from outside: the timeline, and pushes that follow from it.
fn changes(plan: &Plan, script: &Script) -> Vec<Change> {
    let timeline = plan
        .timeline
        .iter()
        .map(|event| (event.at, event.what.clone()));
    let pushes = script
        .pushes
        .iter()
        .skip(1)
        .map(|push| (push.at, "push".to_owned()));
    let pods = happenings::of_plan(plan)
        .into_iter()
        .map(|event| (event.at, "pods".to_owned()));
    let all = timeline.chain(pushes).chain(pods);
    let mut changes: Vec<Change> = all.map(|(at, what)| Change { at, what }).collect();
    // Of several at one time the timeline's says most.
    changes.sort_by_key(|change| change.at);
    changes.dedup_by_key(|change| change.at);
    changes
}
