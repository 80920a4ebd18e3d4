//! A scenario made ready to run: every name resolved, every file read, every mistake reported. A
//! plan is the same for every seed and engine.

mod behavior;
mod expect;
mod files;
mod graph;
mod mixer;
mod nodes;
mod places;
mod streams;
mod targets;
mod timeline;
mod topology;
mod traffic;

pub use behavior::{PlanBehavior, PlanCall, PlanScript};
pub use expect::{Caller, Of, PlanExpectation, PlanMetric};
pub use files::{ReadSources, read_scenario, read_sources, set_mesh_config};
pub use mixer::{PlanMixer, PlanMixerChange};
pub use places::Place;
pub(crate) use places::is_localhost;
pub use targets::{PlanService, Target};
pub use timeline::{PlanChange, PlanEvent, PlanHappening};
pub use topology::{PlanExternal, PlanPod, PlanWorkload};
pub(crate) use traffic::ANSWERED_AT_ONCE;
pub use traffic::{Entry, PlanLoad, PlanTraffic};

use crate::distribution::Distribution;
use control_plane::{ControlPlane, Objects, PushSettings};
use proxy_core::head::RequestHead;
use proxy_core::time::Nanos;
use scenarios::model::{ConfigSource, Link, Scenario};
use source::{Diagnostic, Level, Node, SourceFile};
use std::sync::Arc;

/// A scenario made ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: String,
    /// The scenario's own seed, used unless another is asked for.
    pub seed: u64,
    /// Of the proxies' own draws (picks, retries' waits); `None`: the run's. The world's draws stay.
    pub proxies_seed: Option<u64>,
    pub duration: Nanos,
    /// What happens before this is not counted.
    pub warmup: Nanos,
    /// Before any proxy has connected.
    pub control_plane: ControlPlane,
    /// From a push's leaving to its arrival, drawn for each proxy.
    pub push_delay: Distribution,
    /// Worker threads of every proxy.
    pub concurrency: u32,
    /// Added to each request on its way through a proxy.
    pub overhead: Nanos,
    pub workloads: Vec<PlanWorkload>,
    /// Every pod that exists at some time.
    pub pods: Vec<PlanPod>,
    /// Services outside the mesh that have a behaviour.
    pub externals: Vec<PlanExternal>,
    pub services: Vec<PlanService>,
    pub traffic: Vec<PlanTraffic>,
    /// Heads of traffic, by [`proxy_core::ids::HeadId`].
    pub heads: Vec<Arc<RequestHead>>,
    /// In order of time.
    pub timeline: Vec<PlanEvent>,
    pub network: PlanNetwork,
    /// `None`: no proxy asks one.
    pub mixer: Option<PlanMixer>,
    pub expectations: Vec<PlanExpectation>,
}

/// Latencies between localities.
#[derive(Clone, Debug)]
pub struct PlanNetwork {
    /// Between localities that no link names.
    pub default: Distribution,
    /// One way, both ways alike.
    pub links: Vec<(String, String, Distribution)>,
}

impl PlanNetwork {
    /// The latency, one way, between two localities (`region/zone`). Where several links fit, the
    /// one that names more of the localities wins; then the first.
    pub fn between(&self, a: &str, b: &str) -> &Distribution {
        let within = |place: &str, named: &str| {
            place == named
                || place
                    .strip_prefix(named)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let fits = |(x, y, _): &&(String, String, Distribution)| {
            (within(a, x) && within(b, y)) || (within(a, y) && within(b, x))
        };
        self.links
            .iter()
            .filter(fits)
            .rev()
            .max_by_key(|(x, y, _)| x.len() + y.len())
            .map_or(&self.default, |(_, _, latency)| latency)
    }
}

/// Replaces parts of a scenario before it is planned.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Used instead of the scenario's own `config`.
    pub config: Option<Vec<ConfigSource>>,
    /// Pods have addresses of 127.0.0.0/8 instead of 10.0.0.0/8: a real proxy on this machine reaches
    /// what stands in for them there.
    pub on_loopback: bool,
    /// Objects that are invalid are left out instead of being errors, at the start and in the timeline.
    pub allow_invalid: bool,
}

impl Plan {
    /// Resolves `scenario`. Everything found wrong is added to `diagnostics`; with an error among
    /// it there is no plan.
    pub fn new(
        scenario: &Scenario,
        overrides: Overrides,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Plan> {
        let config = overrides.config.as_ref().unwrap_or(&scenario.config);
        let before = diagnostics.len();
        let failed = |diagnostics: &[Diagnostic]| diagnostics[before..].iter().any(is_error);
        let judge_objects = |diagnostics: &mut [Diagnostic]| {
            if overrides.allow_invalid {
                control_plane::allow_invalid(&mut diagnostics[before..]);
            }
        };
        let mut objects = topology::objects(scenario, &mut read_sources, diagnostics);
        judge_objects(diagnostics);
        let unknown = failed(diagnostics);
        for source in config {
            objects.apply(&files::config(
                &scenario.folder,
                source,
                &mut read_sources,
                diagnostics,
            ));
        }
        judge_objects(diagnostics);
        // What names things that could not be read is not wrong itself.
        if unknown {
            return None;
        }
        if !failed(diagnostics) {
            objects.check_references(diagnostics);
        }
        let timeline = timeline::config_steps(scenario, &objects, diagnostics);
        judge_objects(diagnostics);
        let mut places = topology::Places::of(scenario, &objects, diagnostics);
        if overrides.on_loopback {
            places.move_to_loopback(&scenario.name);
        }
        nodes::place(&mut places.pods);
        if places.workloads.is_empty() {
            return None;
        }
        let services = targets::services(&objects, &places);
        let behaviors = behavior::Resolver {
            objects: &objects,
            services: &services,
            places: &places,
        };
        let (workloads, externals) = behaviors.all(scenario, diagnostics);
        graph::check_ends(&workloads, &externals, &services, &places, diagnostics);
        let mut heads = Vec::new();
        let traffic = traffic::all(scenario, &behaviors, &mut heads, diagnostics);
        let later = timeline.iter().flatten();
        let configurations = std::iter::once(&objects).chain(later);
        let mixer = mixer::mixer(scenario, configurations, diagnostics);
        let happenings = timeline::all(scenario, timeline, &workloads, &traffic, diagnostics);
        let names = expect::Names {
            workloads: &workloads,
            services: &services,
            traffic: &traffic,
            pods: &places.pods,
        };
        let expectations = expect::all(scenario, &names, diagnostics);
        let network = network(&scenario.network);
        if failed(diagnostics) {
            return None;
        }
        let settings = PushSettings {
            debounce: scenario.control_plane.debounce,
            debounce_max: scenario.control_plane.debounce_max,
            cost: scenario.control_plane.push_cost,
            throttle: scenario.control_plane.push_throttle,
        };
        let present = places.pods.iter().filter(|pod| pod.at_start);
        let pods = present.map(|pod| pod.pod.clone()).collect();
        Some(Plan {
            name: scenario.name.clone(),
            seed: scenario.seed,
            proxies_seed: None,
            duration: scenario.duration,
            warmup: scenario.warmup,
            control_plane: ControlPlane::new(settings, objects, pods),
            push_delay: Distribution::from(&scenario.control_plane.push_delay),
            concurrency: scenario.proxies.concurrency,
            overhead: scenario.proxies.overhead,
            workloads,
            pods: places.pods,
            externals,
            services,
            traffic,
            heads,
            timeline: happenings,
            network,
            mixer,
            expectations,
        })
    }

    /// The Service behind a cluster that Istio named `outbound|PORT|SUBSET|HOST`.
    pub fn service_behind(&self, cluster: &str) -> Option<u32> {
        let host = cluster.strip_prefix("outbound|")?.rsplit('|').next()?;
        let found = self.services.iter().position(|s| *s.info.host == *host)?;
        Some(found as u32)
    }
}

/// The objects that `scenario` starts with: its topology and its configuration.
pub fn objects(scenario: &Scenario, diagnostics: &mut Vec<Diagnostic>) -> Objects {
    objects_from(scenario, &mut read_sources, diagnostics)
}

/// The same, with the files that it names read by `read`.
pub fn objects_from(
    scenario: &Scenario,
    read: &mut ReadSources<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Objects {
    let mut objects = topology::objects(scenario, read, diagnostics);
    for source in &scenario.config {
        objects.apply(&files::config(&scenario.folder, source, read, diagnostics));
    }
    objects
}

/// Something that a scenario starts with.
pub enum Piece {
    File(Arc<SourceFile>),
    /// An object written in the scenario.
    Object(Node),
}

/// What [`objects`] are read from, in the same order; what cannot be read is left out.
pub fn pieces(scenario: &Scenario) -> Vec<Piece> {
    let topology = topology::sources(scenario);
    let mut pieces: Vec<Piece> = topology.into_iter().map(Piece::File).collect();
    for source in &scenario.config {
        match source {
            ConfigSource::Inline(node) => pieces.push(Piece::Object(node.clone())),
            ConfigSource::Path(path) => {
                let files = files::sources_at(&scenario.folder, path, &mut Vec::new());
                pieces.extend(files.into_iter().map(Piece::File));
            }
        }
    }
    pieces
}

fn is_error(diagnostic: &Diagnostic) -> bool {
    diagnostic.level == Level::Error
}

fn network(network: &scenarios::model::Network) -> PlanNetwork {
    let latency = |link: &Link| Distribution::from(&link.latency);
    PlanNetwork {
        default: latency(&network.default),
        links: network
            .links
            .iter()
            .map(|(from, to, link)| (from.text.clone(), to.text.clone(), latency(link)))
            .collect(),
    }
}
