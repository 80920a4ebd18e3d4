//! The Mixer of the plan, if proxies ask one.

use crate::distribution::Distribution;
use control_plane::{MixerPolicy, Objects};
use scenarios::model::{self, Happening, Metric, Scenario};
use source::{Diagnostic, Span};

/// Mixer at the start of the run.
#[derive(Clone, Debug)]
pub struct PlanMixer {
    pub policy: MixerPolicy,
    /// From a question to the arrival of its answer; reports are counted at once.
    pub latency: Distribution,
    /// Calls that fail, in parts per million.
    pub failure_ppm: u32,
}

/// A change of Mixer; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct PlanMixerChange {
    pub running: Option<bool>,
    pub latency: Option<Distribution>,
    pub failure_ppm: Option<u32>,
}

impl From<&model::MixerChange> for PlanMixerChange {
    fn from(change: &model::MixerChange) -> PlanMixerChange {
        PlanMixerChange {
            running: change.running,
            latency: change.latency.as_ref().map(Distribution::from),
            failure_ppm: change.failure_ppm,
        }
    }
}

impl PlanMixerChange {
    /// Back to how Mixer was at the start.
    pub(super) fn end(&self, scenario: &Scenario) -> PlanMixerChange {
        let first = written(scenario);
        PlanMixerChange {
            running: self.running.map(|_| true),
            latency: self.latency.as_ref().map(|_| (&first.latency).into()),
            failure_ppm: self.failure_ppm.map(|_| first.failure_ppm),
        }
    }
}

fn written(scenario: &Scenario) -> model::Mixer {
    let written = scenario.mixer.as_ref();
    written.map_or_else(model::Mixer::default, |(_, mixer)| mixer.clone())
}

/// `None` where no proxy asks one, at the start or later, which the scenario may not know.
pub(super) fn mixer<'a>(
    scenario: &Scenario,
    mut configurations: impl Iterator<Item = &'a Objects>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<PlanMixer> {
    let first = configurations.next()?;
    let asked = |objects: &Objects| objects.mesh_config().has_mixer();
    if asked(first) || configurations.any(asked) {
        let mixer = written(scenario);
        return Some(PlanMixer {
            // What is wrong with it is said with the other references.
            policy: MixerPolicy::of(first, &mut Vec::new()),
            latency: Distribution::from(&mixer.latency),
            failure_ppm: mixer.failure_ppm,
        });
    }
    diagnostics.extend(without_effect(scenario).map(|(span, label)| {
        Diagnostic::warning("no proxy asks Mixer")
            .at(span, label)
            .help("give the MeshConfig (ConfigMap `istio`) a `mixerAddress`")
    }));
    None
}

/// What a scenario says of Mixer, where it has none.
fn without_effect(scenario: &Scenario) -> impl Iterator<Item = (&Span, &'static str)> {
    let written = scenario.mixer.iter().map(|(span, _)| span);
    let events = scenario.timeline.iter();
    let events = events.filter(|event| matches!(event.what, Happening::Mixer { .. }));
    let effects = written.chain(events.map(|event| &event.name.span));
    let expected = scenario.expect.iter();
    let expected = expected.filter(|expectation| expectation.metric == Metric::Reports);
    effects
        .map(|span| (span, "has no effect here"))
        .chain(expected.map(|expectation| (&expectation.span, "nothing is reported here")))
}
