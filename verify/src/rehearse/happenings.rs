//! What becomes of the pods, by the scenario's timeline: when each comes up, goes down or changes its
//! behaviour. What the timeline does to configuration and endpoints reaches the proxy in its pushes.

use proxy_core::time::Nanos;
use sim::Plan;
use sim::plan::{PlanChange, PlanHappening};

/// How long a pod that was scaled away goes on (Kubernetes' default).
const TERMINATION_GRACE: Nanos = Nanos::from_secs(30);

/// Something that happens to a pod.
#[derive(Clone, Debug)]
pub(super) struct PodEvent {
    pub(super) at: Nanos,
    pub(super) pod: u32,
    pub(super) change: PodChange,
}

#[derive(Clone, Debug)]
pub(super) enum PodChange {
    /// Takes connections, if it did not before.
    Up,
    Down,
    Behave(PlanChange),
    Restore(PlanChange),
}

/// Everything that happens to pods, in order of time.
pub(super) fn of_plan(plan: &Plan) -> Vec<PodEvent> {
    let mut events: Vec<PodEvent> = Vec::new();
    for planned in &plan.timeline {
        let at = planned.at;
        // A pod that is wanted again is not taken away after all.
        let wanted: &[u32] = match &planned.happening {
            PlanHappening::Scale { workload, replicas } => {
                let pods = &plan.workloads[*workload as usize].pods;
                &pods[..(*replicas as usize).min(pods.len())]
            }
            PlanHappening::Restart { pods } => pods,
            _ => &[],
        };
        events.retain(|event| event.at <= at || !wanted.contains(&event.pod));
        let mut add = |at, pods: &[u32], change: PodChange| {
            events.extend(pods.iter().map(|&pod| PodEvent {
                at,
                pod,
                change: change.clone(),
            }));
        };
        match &planned.happening {
            PlanHappening::Scale { workload, .. } => {
                let pods = &plan.workloads[*workload as usize].pods;
                add(at, wanted, PodChange::Up);
                add(
                    at + TERMINATION_GRACE,
                    &pods[wanted.len()..],
                    PodChange::Down,
                );
            }
            PlanHappening::Crash {
                pods,
                restart_after,
                ..
            } => {
                add(at, pods, PodChange::Down);
                if let Some(after) = restart_after {
                    add(at + *after, pods, PodChange::Up);
                }
            }
            PlanHappening::Restart { .. } => add(at, wanted, PodChange::Up),
            PlanHappening::Behave { pods, change } => {
                add(at, pods, PodChange::Behave(change.clone()))
            }
            PlanHappening::Restore { pods, change } => {
                add(at, pods, PodChange::Restore(change.clone()))
            }
            PlanHappening::Config(_)
            | PlanHappening::Drain { .. }
            | PlanHappening::Stop
            | PlanHappening::Start
            | PlanHappening::Mixer(_)
            | PlanHappening::Disconnect { .. }
            | PlanHappening::Reconnect { .. }
            | PlanHappening::Rate { .. }
            | PlanHappening::Users { .. } => {}
        }
    }
    events.sort_by_key(|event| event.at);
    events
}
