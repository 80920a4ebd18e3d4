//! A call graph must end: no chain of calls that are always made may come back to where it began.

use super::targets::PlanService;
use super::topology::{Places, PlanExternal, PlanWorkload};
use super::{PlanBehavior, PlanCall};
use source::Diagnostic;

/// An application (a workload, or beyond those a service outside the mesh) and one of its scripts.
type Place = (usize, u32);

struct Search<'a> {
    workloads: &'a [PlanWorkload],
    externals: &'a [PlanExternal],
    services: &'a [PlanService],
    places: &'a Places,
    done: Vec<Place>,
    trail: Vec<(Place, &'a PlanCall)>,
}

/// Reports each cycle once.
pub(super) fn check_ends(
    workloads: &[PlanWorkload],
    externals: &[PlanExternal],
    services: &[PlanService],
    places: &Places,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut search = Search {
        workloads,
        externals,
        services,
        places,
        done: Vec::new(),
        trail: Vec::new(),
    };
    for number in 0..workloads.len() + externals.len() {
        let (_, behavior) = search.application(number);
        for script in 0..behavior.scripts.len() as u32 {
            search.visit((number, script), diagnostics);
        }
    }
}

impl<'a> Search<'a> {
    /// Its name and behaviour.
    fn application(&self, number: usize) -> (&'a str, &'a PlanBehavior) {
        match self.workloads.get(number) {
            Some(workload) => (&workload.name, &workload.behavior),
            None => {
                let external = &self.externals[number - self.workloads.len()];
                (&external.host, &external.behavior)
            }
        }
    }

    fn visit(&mut self, place: Place, diagnostics: &mut Vec<Diagnostic>) {
        if self.done.contains(&place) {
            return;
        }
        if let Some(at) = self.trail.iter().position(|(seen, _)| *seen == place) {
            diagnostics.push(self.cycle(at));
            return;
        }
        let (_, behavior) = self.application(place.0);
        let (_, script) = &behavior.scripts[place.1 as usize];
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
        let outside = self.externals.iter().position(|external| {
            // A service of the mesh has an address of its own.
            external.address == call.target.address.ip()
        });
        let service = call
            .target
            .service
            .map(|number| &self.services[number as usize]);
        let pods = service.map_or(&[][..], |service| &service.pods);
        let inside = pods
            .iter()
            .map(|&pod| self.places.pods[pod as usize].workload as usize);
        let outside = outside.map(|number| self.workloads.len() + number);
        let mut found: Vec<Place> = Vec::new();
        for number in inside.chain(outside) {
            let (_, behavior) = self.application(number);
            let place = (number, behavior.script_for(&call.head.path));
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
            .map(|((number, _), _)| self.application(*number).0)
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
