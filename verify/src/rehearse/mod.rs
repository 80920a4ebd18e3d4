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
//! | `folder`, `resources`, `envoy`, `logs` | Envoy's configuration, its process, and what it wrote |
//! | [`compare`] | windows, figures and their bounds |
//! | `report` | the agreement as text |

mod client;
mod clock;
pub mod compare;
mod envoy;
mod folder;
mod happenings;
mod logs;
mod play;
mod pods;
mod report;
mod resources;
pub mod runs;
pub mod script;

use compare::{Change, Figure, Window};
use play::Played;
use proxy_core::time::Nanos;
use runs::Run;
use script::Script;
use serde::Serialize;
use sim::Plan;
use std::fmt;
use std::io;
use std::path::Path;

/// A request's place in the script, on its way through Envoy.
const REQUEST: &str = "x-rehearsal";
/// Envoy's count of tries.
const ATTEMPT: &str = "x-envoy-attempt-count";
/// Runs of the core.
const RUNS: u64 = 100;
/// Envoy plays in real time.
const LONGEST: Nanos = Nanos::from_secs(60);
/// What a pass through Envoy itself may take.
const PASS: Nanos = Nanos::from_millis(1);
/// Before this the configuration may not have arrived.
const SETTLED: Nanos = Nanos::from_millis(500);

/// Why a scenario cannot be rehearsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    Refused(Refusal),
    /// Envoy did not do its part.
    Envoy(String),
    Io(io::Error),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        Failure::Refused(refusal)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(Refusal(why)) => write!(f, "cannot be rehearsed: {why}"),
            Failure::Envoy(what) => f.write_str(what),
            Failure::Io(error) => write!(f, "{error}"),
        }
    }
}

/// How a rehearsal came out.
#[derive(Debug, Serialize)]
pub struct Rehearsal {
    pub scenario: String,
    pub seed: u64,
    /// The proxy that was compared, `POD.NAMESPACE`.
    pub proxy: String,
    pub windows: Vec<Window>,
    /// When hosts were ejected and came back.
    pub ejections: Vec<Figure>,
    /// How late the latest request was sent, and answers on average: with more than some milliseconds
    /// the machine was too busy for the figures to mean much.
    pub sent_late_ms: f64,
    pub answered_late_ms: f64,
}

impl Rehearsal {
    /// Whether every figure agrees.
    pub fn agrees(&self) -> bool {
        let windows = self.windows.iter().flat_map(|window| &window.figures);
        windows.chain(&self.ejections).all(Figure::agrees)
    }
}

/// Rehearses `plan`, whose pods are on loopback, with `seed` and the Envoy at `binary`, as `proxy`
/// (`POD.NAMESPACE`) lives through it; by default the one that sends most requests.
pub fn rehearse(
    plan: &Plan,
    proxy: Option<&str>,
    seed: u64,
    binary: &Path,
) -> Result<Rehearsal, Failure> {
    if plan.duration > LONGEST {
        let message = format!(
            "it takes {} s in real time, and {} s is the most: shorten it with `--set duration=...`",
            plan.duration.as_secs_f64(),
            LONGEST.as_secs_f64()
        );
        return Err(Refusal(message).into());
    }
    let busiest = || script::busiest_proxy(plan, seed);
    let proxy = proxy.map(str::to_owned).or_else(busiest);
    let proxy = proxy.ok_or_else(|| Refusal("no proxy sends a request".to_owned()))?;
    let script = Script::of(plan, &proxy, seed)?;
    let changes = changes(plan, &script);
    let played = play::play(plan, script, seed, binary)?;
    let core: Vec<Run> = (1..=RUNS)
        .map(|draws| {
            let slower = Nanos(slowest(&played).0 * draws / RUNS);
            runs::run_core(plan, &proxy, seed, draws, slower)
        })
        .collect();
    let from = SETTLED.max(plan.warmup);
    Ok(Rehearsal {
        scenario: plan.name.clone(),
        seed,
        windows: compare::windows(&changes, from, plan.duration, &played.run, &core),
        ejections: compare::ejections(&played.run, &core),
        proxy,
        sent_late_ms: played.sent_late.as_millis_f64(),
        answered_late_ms: played.answered_late.as_millis_f64(),
    })
}

/// A real proxy, and what stands in around it, take time that the scenario does not know of: the core's
/// runs take from nothing up to twice what was seen, so that what hangs on it varies with it.
fn slowest(played: &Played) -> Nanos {
    PASS + played.answered_late * 2
}

/// Everything that changes from outside: the timeline, and pushes that follow from it.
fn changes(plan: &Plan, script: &Script) -> Vec<Change> {
    let timeline = plan.timeline.iter().map(|event| Change { at: event.at, what: event.what.clone() });
    let pushes = script.pushes.iter().skip(1).map(|push| Change { at: push.at, what: "push".to_owned() });
    let pods = happenings::of_plan(plan).into_iter().map(|event| Change { at: event.at, what: "pods".to_owned() });
    let mut changes: Vec<Change> = timeline.chain(pushes).chain(pods).collect();
    // Of several at one time the timeline's says most.
    changes.sort_by_key(|change| change.at);
    changes.dedup_by_key(|change| change.at);
    changes
}
