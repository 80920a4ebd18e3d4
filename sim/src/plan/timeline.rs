//! What happens when.

use super::files;
use super::mixer::PlanMixerChange;
use super::streams;
use super::topology::{PlanWorkload, is_named, unknown_workload};
use super::traffic::{PlanLoad, PlanTraffic};
use crate::distribution::Distribution;
use control_plane::{ObjectRef, Objects};
use proxy_core::time::Nanos;
use scenarios::model::{
    BehaviorChange, Happening, MixerChange, Named, Pods, Scenario, TimelineEvent,
};
use source::{Diagnostic, Level, Node};

/// Something that happens.
#[derive(Clone, Debug)]
pub struct PlanEvent {
    pub at: Nanos,
    /// Of the scenario's event; empty for what follows from one by itself.
    pub name: String,
    /// For the report.
    pub what: String,
    pub happening: PlanHappening,
}

/// What happens. Pods are indices.
#[derive(Clone, Debug)]
pub enum PlanHappening {
    /// All objects from now on.
    Config(Objects),
    /// From now on the workload has so many pods.
    Scale { workload: u32, replicas: u32 },
    /// The pods stop answering at once; the control plane learns of it later.
    Crash {
        pods: Vec<u32>,
        noticed_after: Nanos,
        /// Counted from the crash; `None`: they stay away.
        restart_after: Option<Nanos>,
    },
    /// Pods that are down or draining are up again; the others stay as they are.
    Restart { pods: Vec<u32> },
    /// The pods are out of the endpoints; what still reaches them is answered.
    Drain { pods: Vec<u32> },
    /// `None` fields stay as they are.
    Behave { pods: Vec<u32>, change: PlanChange },
    /// What `Behave` changed is as it was planned again.
    Restore { pods: Vec<u32>, change: PlanChange },
    /// The control plane ends.
    Stop,
    /// It runs again.
    Start,
    /// The streams of the pods' proxies to the control plane break.
    Disconnect { pods: Vec<u32> },
    /// They are back.
    Reconnect { pods: Vec<u32> },
    /// Mixer changes.
    Mixer(PlanMixerChange),
    /// An open-loop source has another rate.
    Rate { traffic: u32, per_s: f64 },
    /// A closed-loop source has another number of users.
    Users { traffic: u32, users: u32 },
}

/// A change of behaviour.
#[derive(Clone, Debug, Default)]
pub struct PlanChange {
    pub service_time: Option<Distribution>,
    /// Factor on the service time.
    pub slower_by: Option<f64>,
    /// Statuses with their probabilities in parts per million; what is left is 200.
    pub respond: Option<Vec<(u16, u32)>>,
    pub workers: Option<u32>,
}

/// The objects after each event that changes the configuration, by the event's place.
pub(super) fn config_steps(
    scenario: &Scenario,
    before: &Objects,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Option<Objects>> {
    let mut objects = before.clone();
    let mut steps = Vec::new();
    for event in &scenario.timeline {
        let changed = change_config(scenario, event, &mut objects, diagnostics);
        if changed {
            // A rehearsal may break references on purpose: worth a warning, not a refusal.
            let mut found = Vec::new();
            objects.check_references(&mut found);
            for mut diagnostic in found {
                diagnostic.level = diagnostic.level.min(Level::Warning);
                if !diagnostics.contains(&diagnostic) {
                    diagnostics.push(diagnostic);
                }
            }
        }
        steps.push(changed.then(|| objects.clone()));
    }
    steps
}

fn change_config(
    scenario: &Scenario,
    event: &TimelineEvent,
    objects: &mut Objects,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    match &event.what {
        Happening::Apply(source) => {
            objects.apply(&files::config(
                &scenario.folder,
                source,
                &mut files::read_sources,
                diagnostics,
            ));
        }
        Happening::DeleteFrom(path) => {
            let named = files::objects_at(
                &scenario.folder,
                path,
                &mut files::read_sources,
                diagnostics,
            );
            for object in named.refs() {
                if !objects.delete(&object) {
                    diagnostics.push(missing(&object, path, objects));
                }
            }
        }
        Happening::Delete {
            kind,
            namespace,
            name,
        } => {
            let object = reference(objects, kind, namespace.as_ref(), name);
            if !objects.delete(&object) {
                diagnostics.push(missing(&object, name, objects));
            }
        }
        Happening::Patch {
            kind,
            namespace,
            name,
            merge,
        } => {
            let object = reference(objects, kind, namespace.as_ref(), name);
            if objects.refs().contains(&object) {
                objects.patch(&object, merge, diagnostics);
            } else {
                diagnostics.push(missing(&object, name, objects));
            }
        }
        _ => return false,
    }
    true
}

/// A `Gateway` that Istio does not have may be one of the Gateway API.
fn reference(
    objects: &Objects,
    kind: &Named,
    namespace: Option<&String>,
    name: &Named,
) -> ObjectRef {
    let of = |kind: &str| ObjectRef {
        kind: kind.into(),
        namespace: namespace.map_or("default", String::as_str).into(),
        name: name.text.as_str().into(),
    };
    let stated = of(&kind.text);
    let other = of(&format!("{}.gateway.networking.k8s.io", kind.text));
    let known = objects.refs();
    match !known.contains(&stated) && known.contains(&other) {
        true => other,
        false => stated,
    }
}

fn missing(object: &ObjectRef, named: &Named, objects: &Objects) -> Diagnostic {
    let all = objects.refs();
    let alike = all.iter().filter(|other| other.kind == object.kind);
    let missing = Diagnostic::error(format!("there is no {object}"))
        .at(&named.span, "not there at this time");
    match alike.clone().find(|other| other.name == object.name) {
        Some(elsewhere) => missing.help(format!("there is {elsewhere}")),
        None => missing.nearest(&object.name, alike.map(|other| &*other.name)),
    }
}

/// Every event, with what ends by itself, in order of time.
pub(super) fn all(
    scenario: &Scenario,
    steps: Vec<Option<Objects>>,
    workloads: &[PlanWorkload],
    traffic: &[PlanTraffic],
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PlanEvent> {
    let mut events = Vec::new();
    for (event, objects) in scenario.timeline.iter().zip(steps) {
        let resolver = Happen { workloads, traffic };
        let what = describe(&event.what);
        let name = event.name.text.clone();
        match resolver.plan(&event.what, objects) {
            Err(diagnostic) => diagnostics.push(diagnostic),
            Ok(happening) => {
                if let Some((lasts, happening)) = end(scenario, &event.what, &happening) {
                    let what = format!("end of {name}");
                    events.push(PlanEvent {
                        at: event.at + lasts,
                        name: String::new(),
                        what,
                        happening,
                    });
                }
                events.push(PlanEvent {
                    at: event.at,
                    name,
                    what,
                    happening,
                });
            }
        }
    }
    events.sort_by_key(|event| event.at);
    streams::check(scenario, &events, diagnostics);
    events
}

/// How an event that lasts ends, and after how long.
fn end(
    scenario: &Scenario,
    happening: &Happening,
    planned: &PlanHappening,
) -> Option<(Nanos, PlanHappening)> {
    let (Happening::Behave { lasts, .. }
    | Happening::Stop { lasts, .. }
    | Happening::Mixer { lasts, .. }
    | Happening::Disconnect { lasts, .. }) = happening
    else {
        return None;
    };
    let end = match planned {
        PlanHappening::Behave { pods, change } => PlanHappening::Restore {
            pods: pods.clone(),
            change: change.clone(),
        },
        PlanHappening::Disconnect { pods } => PlanHappening::Reconnect { pods: pods.clone() },
        PlanHappening::Mixer(change) => PlanHappening::Mixer(change.end(scenario)),
        _ => PlanHappening::Start,
    };
    lasts.map(|lasts| (lasts, end))
}

struct Happen<'a> {
    workloads: &'a [PlanWorkload],
    traffic: &'a [PlanTraffic],
}

impl Happen<'_> {
    fn plan(
        &self,
        happening: &Happening,
        objects: Option<Objects>,
    ) -> Result<PlanHappening, Diagnostic> {
        Ok(match happening {
            Happening::Apply(_)
            | Happening::DeleteFrom(_)
            | Happening::Delete { .. }
            | Happening::Patch { .. } => PlanHappening::Config(objects.unwrap_or_default()),
            Happening::Scale { workload, replicas } => PlanHappening::Scale {
                workload: self.workload(workload)?,
                replicas: *replicas,
            },
            Happening::Crash {
                workload,
                pods,
                noticed_after,
                restart_after,
            } => PlanHappening::Crash {
                pods: self.pods(workload, *pods)?,
                noticed_after: *noticed_after,
                restart_after: *restart_after,
            },
            Happening::Restart { workload, pods } => PlanHappening::Restart {
                pods: self.pods(workload, *pods)?,
            },
            Happening::Drain { workload, pods } => PlanHappening::Drain {
                pods: self.pods(workload, *pods)?,
            },
            Happening::Stop { .. } => PlanHappening::Stop,
            Happening::Start(_) => PlanHappening::Start,
            Happening::Mixer { change, .. } => PlanHappening::Mixer(change.into()),
            Happening::Disconnect { workload, pods, .. } => PlanHappening::Disconnect {
                pods: self.pods(workload, *pods)?,
            },
            Happening::Reconnect { workload, pods } => PlanHappening::Reconnect {
                pods: self.pods(workload, *pods)?,
            },
            Happening::Behave {
                workload,
                pods,
                change,
                ..
            } => PlanHappening::Behave {
                pods: self.pods(workload, *pods)?,
                change: plan_change(change),
            },
            Happening::Traffic {
                traffic,
                rate,
                users,
            } => self.change(traffic, *rate, *users)?,
        })
    }

    fn change(
        &self,
        name: &Named,
        rate: Option<f64>,
        users: Option<u32>,
    ) -> Result<PlanHappening, Diagnostic> {
        let found = self.traffic.iter().position(|t| t.name == name.text);
        let Some(number) = found else {
            return Err(
                Diagnostic::error(format!("no traffic is called `{}`", name.text))
                    .at(&name.span, "not a name under `traffic`")
                    .nearest(&name.text, self.traffic.iter().map(|t| t.name.as_str())),
            );
        };
        let traffic = number as u32;
        let wrong = |message: &str| {
            Diagnostic::error(format!("traffic `{}` {message}", name.text))
                .at(&name.span, "cannot be changed like this")
        };
        match (&self.traffic[number].load, rate, users) {
            (PlanLoad::Open { .. }, Some(per_s), None) => {
                Ok(PlanHappening::Rate { traffic, per_s })
            }
            (PlanLoad::Closed { .. }, None, Some(users)) => {
                Ok(PlanHappening::Users { traffic, users })
            }
            (PlanLoad::Open { .. }, ..) => Err(wrong("is open-loop: it has a `rate`, no `users`")),
            (PlanLoad::Closed { .. }, ..) => {
                Err(wrong("is closed-loop: it has `users`, no `rate`"))
            }
        }
    }

    fn workload(&self, name: &Named) -> Result<u32, Diagnostic> {
        let found = self
            .workloads
            .iter()
            .position(|w| is_named(&w.namespace, &w.name, &name.text));
        let known = self.workloads.iter().map(|w| w.name.as_str());
        found
            .map(|number| number as u32)
            .ok_or_else(|| unknown_workload(name, known))
    }

    fn pods(&self, name: &Named, pods: Pods) -> Result<Vec<u32>, Diagnostic> {
        let all = &self.workloads[self.workload(name)? as usize].pods;
        let few = |missing: String| {
            let message = match all.len() {
                1 => format!("`{}` has 1 pod", name.text),
                number => format!("`{}` has {number} pods", name.text),
            };
            Diagnostic::error(message).at(&name.span, missing)
        };
        match pods {
            Pods::All => Ok(all.clone()),
            Pods::First(count) => all
                .get(..count as usize)
                .map(<[u32]>::to_vec)
                .ok_or_else(|| few(format!("there are no {count}"))),
            Pods::Ordinal(ordinal) => all
                .get(ordinal as usize)
                .map(|&pod| vec![pod])
                .ok_or_else(|| few(format!("there is no pod {ordinal}: the first is 0"))),
        }
    }
}

fn plan_change(change: &BehaviorChange) -> PlanChange {
    PlanChange {
        service_time: change.service_time.as_ref().map(Distribution::from),
        slower_by: change.slower_by,
        respond: change.respond.clone(),
        workers: change.workers,
    }
}

fn kind_and_name(object: &Node) -> String {
    let text = |path: &[&str]| object.at(path).and_then(Node::as_str).unwrap_or("?");
    format!("{} {}", text(&["kind"]), text(&["metadata", "name"]))
}

/// In a few words.
fn describe(happening: &Happening) -> String {
    use scenarios::model::ConfigSource;
    let some = |pods: &Pods| match pods {
        Pods::All => String::new(),
        Pods::First(count) => format!(" ({count} pods)"),
        Pods::Ordinal(ordinal) => format!(" (pod {ordinal})"),
    };
    match happening {
        Happening::Apply(ConfigSource::Path(path)) => format!("apply {}", path.text),
        Happening::Apply(ConfigSource::Inline(node)) => {
            let items = node.at(&["items"]).and_then(Node::as_seq);
            let objects = items.unwrap_or(std::slice::from_ref(node)).iter();
            let names: Vec<String> = objects.map(kind_and_name).collect();
            format!("apply {}", names.join(", "))
        }
        Happening::DeleteFrom(path) => format!("delete {}", path.text),
        Happening::Delete { kind, name, .. } => format!("delete {} {}", kind.text, name.text),
        Happening::Patch { kind, name, .. } => format!("patch {} {}", kind.text, name.text),
        Happening::Scale { workload, replicas } => format!("scale {} to {replicas}", workload.text),
        Happening::Crash { workload, pods, .. } => format!("crash {}{}", workload.text, some(pods)),
        Happening::Restart { workload, pods } => format!("restart {}{}", workload.text, some(pods)),
        Happening::Drain { workload, pods } => format!("drain {}{}", workload.text, some(pods)),
        Happening::Stop { .. } => "the control plane stops".to_owned(),
        Happening::Start(_) => "the control plane starts".to_owned(),
        Happening::Mixer { change, .. } => describe_mixer(change),
        Happening::Disconnect { workload, pods, .. } => {
            format!("disconnect {}{}", workload.text, some(pods))
        }
        Happening::Reconnect { workload, pods } => {
            format!("reconnect {}{}", workload.text, some(pods))
        }
        Happening::Behave {
            workload,
            pods,
            change,
            ..
        } => {
            format!(
                "{}{}: {}",
                workload.text,
                some(pods),
                describe_change(change)
            )
        }
        Happening::Traffic {
            traffic,
            rate,
            users,
        } => match (rate, users) {
            (Some(rate), _) => format!("{} at {rate}/s", traffic.text),
            (_, Some(users)) => format!("{} with {users} users", traffic.text),
            (None, None) => traffic.text.clone(),
        },
    }
}

fn describe_mixer(change: &MixerChange) -> String {
    let parts = [
        change.running.map(|running| match running {
            true => "starts".to_owned(),
            false => "stops".to_owned(),
        }),
        change
            .latency
            .as_ref()
            .map(|_| "has another latency".to_owned()),
        change
            .failure_ppm
            .map(|ppm| format!("fails {}% of its calls", f64::from(ppm) / 1e4)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("Mixer {}", parts.join(", "))
}

fn describe_change(change: &BehaviorChange) -> String {
    let mut parts = Vec::new();
    if change.service_time.is_some() {
        parts.push("service time changes".to_owned());
    }
    if let Some(factor) = change.slower_by {
        parts.push(format!("{factor} times slower"));
    }
    if let Some(respond) = &change.respond {
        let statuses: Vec<String> = respond
            .iter()
            .map(|(status, ppm)| format!("{status} for {}%", f64::from(*ppm) / 1e4))
            .collect();
        parts.push(match statuses.is_empty() {
            true => "answers 200".to_owned(),
            false => format!("answers {}", statuses.join(", ")),
        });
    }
    if let Some(workers) = change.workers {
        parts.push(format!("{workers} workers"));
    }
    parts.join(", ")
}
