//! Mixer: what proxies ask it, and what they tell it.

use super::World;
use super::schedule::Event;
use crate::distribution::Distribution;
use crate::plan::{Caller, Place, Plan, PlanMixer, PlanMixerChange};
use crate::random::{Purpose, WorldDraws};
use control_plane::{MixerAttributes, MixerParty, MixerPolicy, Objects, Quotas};
use proxy_core::contract::{Input, Verdict};
use proxy_core::head::RequestHead;
use proxy_core::ids::{ClusterId, ExchangeId};
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use proxy_core::xds::{Mixer, Name};
use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

/// Mixer as it is now.
#[derive(Debug)]
pub(super) struct MixerState {
    policy: MixerPolicy,
    quotas: Quotas,
    running: bool,
    latency: Distribution,
    failure_ppm: u32,
    draws: WorldDraws,
}

/// A verdict on its way to the proxy that asked.
#[derive(Debug)]
pub(super) struct PendingVerdict {
    proxy: u32,
    worker: u16,
    exchange: ExchangeId,
    verdict: Verdict,
}

/// The two calls of one exchange, for their draws.
#[derive(Clone, Copy)]
enum Call {
    Check,
    Report,
}

/// What a proxy says of one exchange.
pub(super) struct Subject {
    pub(super) exchange: ExchangeId,
    pub(super) mixer: Arc<Mixer>,
    pub(super) head: Arc<RequestHead>,
    pub(super) peer: SocketAddr,
    pub(super) principal: Option<Name>,
    pub(super) cluster: Option<ClusterId>,
    /// Status and duration, once there is a response.
    pub(super) response: Option<(u16, Nanos)>,
}

impl MixerState {
    pub(super) fn new(plan: &PlanMixer, seed: u64) -> MixerState {
        MixerState {
            policy: plan.policy.clone(),
            quotas: Quotas::default(),
            running: true,
            latency: plan.latency.clone(),
            failure_ppm: plan.failure_ppm,
            draws: WorldDraws::new(seed, "mixer"),
        }
    }

    /// Quotas taken from before count on, if their amounts are the same.
    pub(super) fn configure(&mut self, objects: &Objects) {
        self.policy = MixerPolicy::of(objects, &mut Vec::new());
    }

    pub(super) fn change(&mut self, change: &PlanMixerChange) {
        self.running = change.running.unwrap_or(self.running);
        if let Some(latency) = &change.latency {
            self.latency = latency.clone();
        }
        self.failure_ppm = change.failure_ppm.unwrap_or(self.failure_ppm);
    }

    /// How long a call takes, if it comes to an end; `None`: it fails at once.
    fn delay(&self, key: u64) -> Option<Nanos> {
        let latency = || self.latency.sample(self.draws, key, Purpose::Mixer);
        self.running.then(latency)
    }

    fn fails(&self, key: u64) -> bool {
        let draw = self.draws.unit(key, Purpose::MixerFailure, 0);
        draw * 1e6 < f64::from(self.failure_ppm)
    }
}

impl World<'_, '_> {
    /// A proxy asks about a request.
    pub(super) fn ask_mixer(&mut self, proxy: u32, worker: u16, subject: &Subject) {
        let key = self.key_of_call(proxy, worker, subject.exchange, Call::Check);
        let Some(mixer) = &self.mixer else { return };
        let (delay, failed) = match mixer.delay(key) {
            None => (Nanos::ZERO, true),
            Some(delay) => (delay, mixer.fails(key)),
        };
        let verdict = match failed {
            true => Verdict::Failed,
            false => self.verdict(proxy, worker, subject),
        };
        // Later, the proxy waits no more.
        let counted = match delay > subject.mixer.timeout {
            true => &Verdict::Failed,
            false => &verdict,
        };
        self.tally.mixer_asked(self.queue.now(), counted);
        let (answer, _) = self.verdicts.insert(PendingVerdict {
            proxy,
            worker,
            exchange: subject.exchange,
            verdict,
        });
        let at = self.queue.now() + delay;
        self.queue.at(at, Event::MixerAnswers { answer });
    }

    fn verdict(&mut self, proxy: u32, worker: u16, subject: &Subject) -> Verdict {
        let now = self.queue.now();
        let Some(mut mixer) = self.mixer.take() else {
            return Verdict::Failed;
        };
        let attributes = self.attributes(proxy, worker, subject);
        let verdict = mixer.policy.check(&mut mixer.quotas, now, &attributes);
        self.mixer = Some(mixer);
        verdict
    }

    pub(super) fn mixer_answers(&mut self, answer: u32) {
        self.verdicts.remove(answer);
        let pending = &mut self.verdicts[answer];
        let (proxy, worker, exchange) = (pending.proxy, pending.worker, pending.exchange);
        let verdict = std::mem::replace(&mut pending.verdict, Verdict::Failed);
        self.feed(proxy, worker, Input::Answered { exchange, verdict });
    }

    /// A proxy tells of a response.
    pub(super) fn tell_mixer(&mut self, proxy: u32, worker: u16, subject: &Subject) {
        let key = self.key_of_call(proxy, worker, subject.exchange, Call::Report);
        let Some(mixer) = &self.mixer else { return };
        let now = self.queue.now();
        if !mixer.running || mixer.fails(key) {
            return self.tally.mixer_missed(now);
        }
        let attributes = self.attributes(proxy, worker, subject);
        let samples = mixer.policy.report(&attributes);
        let service = attributes.destination.service.as_deref();
        let service = service.and_then(|host| self.plan.service_called(host));
        let pod = attributes.source.pod.map(|pod| pod.ip);
        let caller = match pod.and_then(|ip| self.places.get(&ip)) {
            Some(Place::Pod(pod)) => {
                let pod = &self.plan.pods[*pod as usize];
                Some(Caller::Workload(pod.workload))
            }
            _ => None,
        };
        let duration = subject
            .response
            .map_or(Nanos::ZERO, |(_, duration)| duration);
        let started_at = Nanos(now.0.saturating_sub(duration.0));
        self.tally.mixer_told(now, started_at, samples);
        if let Some(service) = service {
            self.tally.reported(service, caller, started_at);
        }
    }

    /// The key of a request is the same at every proxy on its way; a call's is not.
    fn key_of_call(&self, proxy: u32, worker: u16, exchange: ExchangeId, call: Call) -> u64 {
        let state = &self.proxies[proxy as usize];
        let key = state.workers[worker as usize].exchanges[exchange.index].key;
        mix(key ^ mix(hash_text(&state.name) ^ call as u64))
    }

    /// What Mixer knows of a request: what the proxy says, and what it finds out about the pods.
    fn attributes<'a>(
        &'a self,
        proxy: u32,
        worker: u16,
        subject: &'a Subject,
    ) -> MixerAttributes<'a> {
        let stated = subject.mixer.attribute("destination.service");
        let core = self.core(proxy).map(|core| core.worker(u32::from(worker)));
        let cluster = subject.cluster.and_then(|id| core?.cluster_name(id));
        let called = match &stated {
            Some(host) => Some(Called { version: "", host }),
            None => cluster.and_then(|name| Called::of(name)),
        };
        let service: Option<Name> = called.as_ref().map(|called| called.host.into());
        // A Linkerd knows neither pod, and says what it knows itself.
        let source_app = subject.mixer.attribute("source.labels.app");
        let (source, destination) = match source_app {
            Some(app) => (
                MixerParty {
                    labels: Some(Cow::Owned(vec![("app".into(), app.clone())])),
                    ..MixerParty::default()
                },
                MixerParty {
                    service,
                    labels: called.as_ref().map(|called| Cow::Owned(called.labels())),
                    ..MixerParty::default()
                },
            ),
            None => {
                let pod = self.proxies[proxy as usize].pod;
                let own = MixerParty::of_pod(&self.plan.pods[pod as usize].pod);
                let peer = match self.places.get(&subject.peer.ip()) {
                    Some(Place::Pod(pod)) => MixerParty::of_pod(&self.plan.pods[*pod as usize].pod),
                    _ => MixerParty::default(),
                };
                let user = subject.principal.clone();
                (MixerParty { user, ..peer }, MixerParty { service, ..own })
            }
        };
        MixerAttributes {
            source,
            destination,
            request: &subject.head,
            response: subject.response,
        }
    }
}

/// What a cluster's name (`outbound|PORT|VERSION|HOST`) says of where a request goes.
struct Called<'a> {
    version: &'a str,
    host: &'a str,
}

impl Called<'_> {
    fn of(cluster: &str) -> Option<Called<'_>> {
        let mut parts = cluster.strip_prefix("outbound|")?.split('|').skip(1);
        Some(Called {
            version: parts.next()?,
            host: parts.next()?,
        })
    }

    /// As Linkerd tells them: the first part of the host, and the version asked for.
    fn labels(&self) -> Vec<(Name, Name)> {
        let app = self.host.split('.').next().unwrap_or(self.host);
        let mut labels = self
            .version
            .split(',')
            .filter_map(|label| label.split_once('='));
        let version = match labels.find(|(key, _)| *key == "version") {
            Some((_, version)) => version,
            None if self.version.is_empty() => "unknown",
            None => self.version,
        };
        vec![
            ("app".into(), app.into()),
            ("version".into(), version.into()),
        ]
    }
}

impl Plan {
    /// The Service of that host.
    pub(crate) fn service_called(&self, host: &str) -> Option<u32> {
        let found = self.services.iter().position(|s| *s.info.host == *host)?;
        Some(found as u32)
    }
}
