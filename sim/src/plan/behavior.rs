//! How applications behave, with defaults filled in and calls resolved.

use super::targets::{Lookup, PlanService, Target};
use super::topology::{
    Places, PlanExternal, PlanWorkload, external_address, is_named, unknown_workload,
};
use crate::distribution::Distribution;
use control_plane::Objects;
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use scenarios::model::{Behavior, Call, Discipline, Named, OnError, Scenario, Script};
use source::Diagnostic;
use std::sync::Arc;

/// How one application behaves.
#[derive(Clone, Debug)]
pub struct PlanBehavior {
    /// Requests that a pod works on at the same time.
    pub workers: u32,
    /// `None`: no limit.
    pub queue_limit: Option<u32>,
    /// In which order queued requests are taken.
    pub discipline: Discipline,
    /// A worker is free while its calls are outstanding.
    pub asynchronous: bool,
    /// Request headers passed on to calls, in lower case.
    pub propagate: Vec<Name>,
    /// Path prefixes and their scripts, longest prefix first; the last one takes every path.
    pub scripts: Vec<(String, PlanScript)>,
}

impl PlanBehavior {
    /// The script for a path.
    #[inline]
    pub fn script_for(&self, path: &str) -> u32 {
        if self.scripts.len() == 1 {
            return 0;
        }
        let found = self
            .scripts
            .iter()
            .position(|(prefix, _)| path.starts_with(prefix.as_str()));
        found.unwrap_or(self.scripts.len() - 1) as u32
    }
}

/// What is done for one request.
#[derive(Clone, Debug)]
pub struct PlanScript {
    /// Work before the first step.
    pub service_time: Distribution,
    /// Steps in order, the calls of each at the same time.
    pub steps: Vec<Vec<PlanCall>>,
    /// Statuses with their probabilities in parts per million; what is left is 200.
    pub respond: Vec<(u16, u32)>,
}

/// A call to another service.
#[derive(Clone, Debug)]
pub struct PlanCall {
    pub target: Target,
    /// Before the headers that are passed on are added.
    pub head: Arc<RequestHead>,
    /// What a failed call does to the request it was made for.
    pub on_error: OnError,
    /// `None`: the caller waits for as long as it takes.
    pub timeout: Option<Nanos>,
    /// How often the call is made, in parts per million of the requests.
    pub probability_ppm: u32,
    /// For messages about the call graph.
    pub written: Named,
}

/// Resolves behaviours.
pub(super) struct Resolver<'a> {
    pub(super) objects: &'a Objects,
    pub(super) services: &'a [PlanService],
    pub(super) places: &'a Places,
}

impl Resolver<'_> {
    /// Every workload and outside service with its behaviour.
    pub(super) fn all(
        &self,
        scenario: &Scenario,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (Vec<PlanWorkload>, Vec<PlanExternal>) {
        let written = &scenario.behavior;
        for (name, _) in &written.workloads {
            if self.places.workload(&name.text).is_none() {
                diagnostics.push(unknown_workload(name, self.places.names()));
            }
        }
        let externals: Vec<&str> = written
            .external
            .iter()
            .map(|(h, _)| h.text.as_str())
            .collect();
        let mut resolve = |own: Option<&Behavior>, namespace: &str| {
            let behavior = own.unwrap_or(&Behavior::default()).over(&written.default);
            self.behavior(&behavior, namespace, &externals, diagnostics)
        };
        let workloads =
            self.places
                .workloads
                .iter()
                .enumerate()
                .map(|(number, workload)| {
                    let own = written.workloads.iter().find(|(name, _)| {
                        is_named(&workload.namespace, &workload.name, &name.text)
                    });
                    PlanWorkload {
                        namespace: workload.namespace.to_string(),
                        name: workload.name.to_string(),
                        pods: self.places.pods_of(number),
                        behavior: resolve(own.map(|(_, behavior)| behavior), &workload.namespace),
                    }
                });
        let workloads = workloads.collect();
        let outside = written
            .external
            .iter()
            .map(|(host, behavior)| PlanExternal {
                host: host.text.clone(),
                address: external_address(&host.text),
                behavior: resolve(Some(behavior), "default"),
            });
        (workloads, outside.collect())
    }

    /// What a client in `namespace` may call.
    pub(super) fn lookup<'b>(&'b self, externals: &'b [&'b str]) -> Lookup<'b> {
        Lookup {
            objects: self.objects,
            services: self.services,
            externals,
        }
    }

    pub(super) fn places(&self) -> &Places {
        self.places
    }

    fn behavior(
        &self,
        behavior: &Behavior,
        namespace: &str,
        externals: &[&str],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> PlanBehavior {
        let mut script =
            |script: &Script| self.script(script, namespace, &self.lookup(externals), diagnostics);
        let mut handlers = behavior.handlers.clone();
        handlers.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        let mut scripts: Vec<(String, PlanScript)> = handlers
            .into_iter()
            .map(|(prefix, own)| (prefix, script(&own.over(&behavior.script))))
            .collect();
        scripts.push((String::new(), script(&behavior.script)));
        let propagate = behavior.propagate.iter().flatten();
        PlanBehavior {
            workers: behavior.workers.unwrap_or(Behavior::BUILT_IN_WORKERS),
            queue_limit: behavior.queue_limit.flatten(),
            discipline: behavior.discipline.unwrap_or(Discipline::Fifo),
            asynchronous: behavior.asynchronous.unwrap_or(false),
            propagate: propagate
                .map(|name| name.to_ascii_lowercase().into())
                .collect(),
            scripts,
        }
    }

    fn script(
        &self,
        script: &Script,
        namespace: &str,
        lookup: &Lookup<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> PlanScript {
        let steps = script.calls.iter().flatten().map(|step| {
            let calls = step.calls.iter().filter_map(|call| {
                let host = call.host.split(':').next().unwrap_or_default();
                match lookup.find(host, call.port, namespace, &call.target) {
                    Ok(target) => Some(plan_call(call, target)),
                    Err(diagnostic) => {
                        if !diagnostics.contains(&diagnostic) {
                            diagnostics.push(diagnostic);
                        }
                        None
                    }
                }
            });
            calls.collect()
        });
        let steps = steps.collect();
        let service_time = script.service_time.as_ref();
        PlanScript {
            service_time: service_time
                .map_or(Distribution::Constant(Nanos::ZERO), Distribution::from),
            steps,
            respond: script.respond.clone().unwrap_or_default(),
        }
    }
}

fn plan_call(call: &Call, target: Target) -> PlanCall {
    PlanCall {
        head: Arc::new(RequestHead {
            method: call.method.as_str().into(),
            scheme: "http".into(),
            authority: Arc::clone(&target.authority),
            path: call.path.as_str().into(),
            headers: headers(&call.headers),
            id: None,
        }),
        target,
        on_error: call.on_error,
        timeout: call.timeout,
        probability_ppm: call.probability_ppm,
        written: call.target.clone(),
    }
}

/// Headers as written, names in lower case.
pub(super) fn headers(written: &[(String, String)]) -> Headers {
    let line = |(name, value): &(String, String)| {
        (
            name.to_ascii_lowercase().into(),
            HeaderText::new(value.as_bytes()),
        )
    };
    Headers(written.iter().map(line).collect())
}
