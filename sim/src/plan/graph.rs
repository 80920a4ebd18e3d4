//! A call graph must end: no chain of calls that are always made may come back to where it began.

use super::PlanCall;
use super::targets::PlanService;
use super::topology::{Places, PlanWorkload};
use source::Diagnostic;

/// A workload and one of its scripts.
type Place = (usize, u32);

struct Search<'a> {
    workloads: &'a [PlanWorkload],
    services: &'a [PlanService],
    places: &'a Places,
    done: Vec<Place>,
    trail: Vec<(Place, &'a PlanCall)>,
}

/// Reports each cycle once.
pub(super) fn check_ends(
    workloads: &[PlanWorkload],
    services: &[PlanService],
    places: &Places,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut search = Search {
        workloads,
        services,
        places,
        done: Vec::new(),
        trail: Vec::new(),
    };
    for (number, workload) in workloads.iter().enumerate() {
        for script in 0..workload.behavior.scripts.len() as u32 {
            search.visit((number, script), diagnostics);
        }
    }
}

impl<'a> Search<'a> {
    fn visit(&mut self, place: Place, diagnostics: &mut Vec<Diagnostic>) {
        if self.done.contains(&place) {
            return;
        }
        if let Some(at) = self.trail.iter().position(|(seen, _)| *seen == place) {
            diagnostics.push(self.cycle(at));
            return;
        }
        let workloads = self.workloads;
        let (_, script) = &workloads[place.0].behavior.scripts[place.1 as usize];
        for call in script
            .steps
            .iter()
            .flatten()
            .filter(|call| call.probability_ppm >= 1_000_000)
        {
            self.trail.push((place, call));
            for next in self.reached_by(call) {
                self.visit(next, diagnostics);
            }
            self.trail.pop();
        }
        self.done.push(place);
    }

    /// Where a call may arrive: routing rules may send it to any workload of its service.
    fn reached_by(&self, call: &PlanCall) -> Vec<Place> {
        let Some(service) = call.target.service else {
            return Vec::new();
        };
        let mut found: Vec<Place> = Vec::new();
        for &pod in &self.services[service as usize].pods {
            let workload = self.places.pods[pod as usize].workload as usize;
            let place = (
                workload,
                self.workloads[workload]
                    .behavior
                    .script_for(&call.head.path),
            );
            if !found.contains(&place) {
                found.push(place);
            }
        }
        found
    }

    fn cycle(&self, from: usize) -> Diagnostic {
        let steps = &self.trail[from..];
        let names: Vec<&str> = steps
            .iter()
            .map(|((w, _), _)| &*self.workloads[*w].name)
            .collect();
        let first = names.first().copied().unwrap_or_default();
        let written = &self.trail[self.trail.len() - 1].1.written;
        Diagnostic::error("the calls never end")
            .at(
                &written.span,
                format!("calls `{first}` again: {} → {first}", names.join(" → ")),
            )
            .help("a call with a `probability` below 100% may come back")
    }
}
