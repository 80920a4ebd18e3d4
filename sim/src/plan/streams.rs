//! What the timeline does to the control plane and to its streams fits together.

use super::timeline::{PlanEvent, PlanHappening};
use scenarios::model::{Happening, Scenario};
use source::Diagnostic;
use std::collections::BTreeSet;

/// Reports what is stopped, started, disconnected or reconnected though it is so already.
pub(super) fn check(scenario: &Scenario, events: &[PlanEvent], diagnostics: &mut Vec<Diagnostic>) {
    let mut stopped = false;
    let mut broken: BTreeSet<u32> = BTreeSet::new();
    for event in events {
        let wrong = match &event.happening {
            PlanHappening::Stop if stopped => "the control plane is stopped already",
            PlanHappening::Start if !stopped => "the control plane runs already",
            PlanHappening::Disconnect { pods } if pods.iter().any(|pod| broken.contains(pod)) => {
                "a pod is disconnected already"
            }
            PlanHappening::Reconnect { pods } if pods.iter().any(|pod| !broken.contains(pod)) => {
                "a pod is connected already"
            }
            _ => "",
        };
        match &event.happening {
            PlanHappening::Stop => stopped = true,
            PlanHappening::Start => stopped = false,
            PlanHappening::Disconnect { pods } => broken.extend(pods),
            PlanHappening::Reconnect { pods } => broken.retain(|pod| !pods.contains(pod)),
            _ => {}
        }
        if !wrong.is_empty() {
            diagnostics.push(complaint(scenario, event, wrong));
        }
    }
}

/// At the event, or at the one that ends by itself.
fn complaint(scenario: &Scenario, event: &PlanEvent, wrong: &str) -> Diagnostic {
    let name = event.what.strip_prefix("end of ").unwrap_or(&event.name);
    let message = format!("{wrong} at this time ({} s)", event.at.as_secs_f64());
    let diagnostic = Diagnostic::error(message);
    let written = scenario.timeline.iter().find(|e| e.name.text == name);
    let Some(written) = written else {
        return diagnostic;
    };
    let (Happening::Stop { place, .. }
    | Happening::Start(place)
    | Happening::Disconnect {
        workload: place, ..
    }
    | Happening::Reconnect {
        workload: place, ..
    }) = &written.what
    else {
        return diagnostic;
    };
    match event.name.is_empty() {
        true => diagnostic.at(&place.span, format!("when `{name}` ends")),
        false => diagnostic.at(&place.span, format!("in `{name}`")),
    }
}
