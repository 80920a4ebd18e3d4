//! Counts what happens while a run goes on, for the record. Engines report here; nothing is kept of
//! a single request, so memory does not grow with their number.

use crate::mixer_tally::MixerTally;
use crate::plan::{Caller, Of, Plan, PlanMetric};
use crate::verdict::{Observation, verdict};
use control_plane::MetricSample;
use indexmap::IndexMap;
use proxy_core::contract::{StateChange, Verdict};
use proxy_core::random::hash_text;
use proxy_core::telemetry::{AccessLog, Details, Flag, Flags};
use proxy_core::time::Nanos;
use proxy_core::xds::{Name, RouteAction};
use record::{
    CallRecord, ClusterRecord, Digest, EndpointRecord, HappeningRecord, Latencies, RunRecord,
    TrafficRecord, WorkloadRecord,
};
use rustc_hash::FxBuildHasher;
use std::net::SocketAddr;

/// Happenings kept at most; what follows is counted, not kept.
const HAPPENINGS_MAX: usize = 1_000;

/// How a request of a source, or a call, ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) started_at: Nanos,
    pub(crate) duration: Nanos,
    /// 0: no answer.
    pub(crate) status: u16,
    pub(crate) flags: Flags,
    /// Tries of the proxy.
    pub(crate) attempts: u32,
    /// The pod that the last try went to.
    pub(crate) pod: Option<u32>,
}

impl Ended {
    /// Answered below 500.
    pub(crate) fn succeeded(&self) -> bool {
        (1..500).contains(&self.status)
    }
}

#[derive(Debug, Default)]
struct TrafficTally {
    requests: u64,
    succeeded: u64,
    codes: Vec<(u16, u64)>,
    flags: Vec<(Flag, u64)>,
    latencies: Latencies,
    expectations: Vec<u32>,
}

#[derive(Debug)]
struct CallTally {
    requests: u64,
    succeeded: u64,
    /// By workload.
    served_by: Vec<(u32, u64)>,
    expectations: Vec<u32>,
}

/// The counts of one run.
pub(crate) struct Tally<'p> {
    plan: &'p Plan,
    digest: Digest,
    traffic: Vec<TrafficTally>,
    pods: Vec<EndpointRecord>,
    /// By pod; the plan's own pods are too large to look this up there at each request.
    workloads: Vec<u32>,
    clusters: IndexMap<Name, ClusterRecord, FxBuildHasher>,
    calls: IndexMap<(Caller, u32), CallTally, FxBuildHasher>,
    observations: Vec<Observation>,
    mixer: MixerTally,
    happenings: Vec<HappeningRecord>,
    happenings_left_out: u64,
}

impl<'p> Tally<'p> {
    pub(crate) fn new(plan: &'p Plan) -> Tally<'p> {
        let observing = |number: u32| {
            let mine = plan.expectations.iter().enumerate();
            mine.filter(|(_, e)| e.of == Of::Traffic(number))
                .map(|(at, _)| at as u32)
                .collect()
        };
        let traffic = (0..plan.traffic.len() as u32)
            .map(|number| TrafficTally {
                expectations: observing(number),
                ..Default::default()
            })
            .collect();
        Tally {
            plan,
            digest: Digest::default(),
            traffic,
            pods: vec![EndpointRecord::default(); plan.pods.len()],
            workloads: plan.pods.iter().map(|pod| pod.workload).collect(),
            clusters: IndexMap::default(),
            calls: IndexMap::default(),
            observations: plan.expectations.iter().map(Observation::new).collect(),
            mixer: MixerTally::default(),
            happenings: Vec::new(),
            happenings_left_out: 0,
        }
    }

    /// A request of a source ended, as its client sees it.
    pub(crate) fn traffic_ended(&mut self, traffic: u32, ended: &Ended) {
        let tally = &mut self.traffic[traffic as usize];
        for &at in &tally.expectations {
            self.observations[at as usize].see(&self.plan.expectations[at as usize], ended);
        }
        if ended.started_at < self.plan.warmup {
            return;
        }
        tally.requests += 1;
        tally.succeeded += u64::from(ended.succeeded());
        count(&mut tally.codes, ended.status);
        for flag in ended.flags.iter() {
            count(&mut tally.flags, flag);
        }
        tally.latencies.add(ended.duration.0);
    }

    /// The place of calls from `caller` to a Service.
    pub(crate) fn calls_between(&mut self, caller: Caller, service: u32) -> u32 {
        if let Some(at) = self.calls.get_index_of(&(caller, service)) {
            return at as u32;
        }
        let observes = |of: &Of| match of {
            Of::Traffic(_) => false,
            Of::Calls { to, from } => {
                to.is_none_or(|to| to == service)
                    && from.as_ref().is_none_or(|from| from.contains(&caller))
            }
        };
        let all = self.plan.expectations.iter().enumerate();
        let expectations = all
            .filter(|(_, e)| observes(&e.of))
            .map(|(at, _)| at as u32)
            .collect();
        let tally = CallTally {
            requests: 0,
            succeeded: 0,
            served_by: Vec::new(),
            expectations,
        };
        self.calls.insert_full((caller, service), tally).0 as u32
    }

    /// A call ended, as the caller's proxy (or the caller without one) sees it.
    pub(crate) fn call_ended(&mut self, calls: u32, ended: &Ended) {
        let Some((_, tally)) = self.calls.get_index_mut(calls as usize) else {
            return;
        };
        for &at in &tally.expectations {
            self.observations[at as usize].see(&self.plan.expectations[at as usize], ended);
        }
        if ended.started_at < self.plan.warmup {
            return;
        }
        tally.requests += 1;
        tally.succeeded += u64::from(ended.succeeded());
        if let Some(pod) = ended.pod {
            count(&mut tally.served_by, self.workloads[pod as usize]);
        }
    }

    /// The place of a cluster, summed over proxies.
    pub(crate) fn cluster(&mut self, name: &Name) -> u32 {
        let at = self.clusters.get_index_of(name);
        let add = || {
            self.clusters
                .insert_full(name.clone(), ClusterRecord::default())
                .0
        };
        at.unwrap_or_else(add) as u32
    }

    /// An exchange was sent to a cluster.
    pub(crate) fn cluster_used(&mut self, cluster: u32, started_at: Nanos, attempts: u32) {
        if started_at >= self.plan.warmup {
            let tally = &mut self.clusters[cluster as usize];
            tally.requests += 1;
            tally.attempts += u64::from(attempts);
            tally.retries += u64::from(attempts.saturating_sub(1));
        }
    }

    /// An application answered, or broke off.
    pub(crate) fn served(&mut self, pod: u32, started_at: Nanos, failed: bool) {
        if started_at >= self.plan.warmup {
            self.pods[pod as usize].requests += 1;
            self.pods[pod as usize].failures += u64::from(failed);
        }
    }

    /// Mixer was asked about a request.
    pub(crate) fn mixer_asked(&mut self, now: Nanos, verdict: &Verdict) {
        if now >= self.plan.warmup {
            self.mixer.asked(verdict);
        }
    }

    /// Mixer was told of a response.
    pub(crate) fn mixer_told(&mut self, now: Nanos, started_at: Nanos, samples: Vec<MetricSample>) {
        if started_at >= self.plan.warmup {
            self.mixer.told(samples);
        }
        self.digest.add([4, now.0]);
    }

    /// A report was lost.
    pub(crate) fn mixer_missed(&mut self, now: Nanos) {
        if now >= self.plan.warmup {
            self.mixer.missed();
        }
        self.digest.add([5, now.0]);
    }

    /// A report was about a Service, and came from that caller as far as Mixer can tell.
    pub(crate) fn reported(&mut self, service: u32, caller: Option<Caller>, started_at: Nanos) {
        let expectations = self.plan.expectations.iter().zip(&mut self.observations);
        for (expectation, seen) in expectations {
            let meant = match &expectation.of {
                Of::Traffic(_) => false,
                Of::Calls { to, from } => {
                    to.is_none_or(|to| to == service)
                        && from
                            .as_ref()
                            .is_none_or(|from| caller.is_some_and(|caller| from.contains(&caller)))
                }
            };
            if meant && expectation.metric == PlanMetric::Reports {
                seen.see_report(expectation, started_at);
            }
        }
    }

    /// A proxy's state changed. `cluster` is its name.
    pub(crate) fn changed(
        &mut self,
        now: Nanos,
        proxy: (u32, &str),
        change: &StateChange,
        cluster: &Name,
    ) {
        let at = self.cluster(cluster) as usize;
        let counted = now >= self.plan.warmup;
        let (kind, address) = match change {
            StateChange::Ejected {
                address, reason, ..
            } => {
                self.clusters[at].ejections += u64::from(counted);
                let pod = self.pod_name(*address);
                let what = format!("{} ejects {pod} from {cluster} ({reason:?})", proxy.1);
                self.happened(now, "", what);
                (1, Some(*address))
            }
            StateChange::Unejected { address, .. } => {
                let pod = self.pod_name(*address);
                self.happened(
                    now,
                    "",
                    format!("{} takes {pod} back into {cluster}", proxy.1),
                );
                (2, Some(*address))
            }
            StateChange::EjectionOverflow { address, .. } => (3, Some(*address)),
            StateChange::Overflow { .. } => {
                self.clusters[at].overflows += u64::from(counted);
                (4, None)
            }
            StateChange::Warmed { .. } => (5, None),
            StateChange::HealthChecked {
                address, healthy, ..
            } => {
                let pod = self.pod_name(*address);
                let finds = if *healthy { "healthy" } else { "unhealthy" };
                self.happened(
                    now,
                    "",
                    format!("{} finds {pod} {finds} in {cluster}", proxy.1),
                );
                (6 + u64::from(*healthy), Some(*address))
            }
            StateChange::Degraded {
                address, degraded, ..
            } => (8 + u64::from(*degraded), Some(*address)),
        };
        let address = address.map_or(0, address_hash);
        self.digest.add([
            2,
            now.0,
            u64::from(proxy.0),
            kind,
            hash_text(cluster),
            address,
        ]);
    }

    /// An exchange ended: into the digest.
    #[inline]
    pub(crate) fn logged(
        &mut self,
        now: Nanos,
        proxy: u32,
        log: &AccessLog,
        cluster_hash: u64,
        endpoint_hash: u64,
    ) {
        self.digest.add([
            1,
            now.0,
            u64::from(proxy),
            log.key,
            log.started_at.0,
            u64::from(log.status) | u64::from(log.attempts) << 16,
            log.flags.0,
            details_code(&log.details),
            cluster_hash,
            endpoint_hash,
        ]);
    }

    /// Something worth a line in the report.
    pub(crate) fn happened(&mut self, now: Nanos, name: &str, what: String) {
        if self.happenings.len() < HAPPENINGS_MAX {
            let at_s = now.as_secs_f64();
            self.happenings.push(HappeningRecord {
                at_s,
                name: name.to_owned(),
                what,
            });
        } else {
            self.happenings_left_out += 1;
        }
        self.digest.add([3, now.0]);
    }

    fn pod_name(&self, address: SocketAddr) -> String {
        let pod = self.plan.pods.iter().find(|pod| pod.pod.ip == address.ip());
        pod.map_or_else(|| address.to_string(), |pod| pod.pod.name.to_string())
    }

    /// The record. `busy` is, for each pod, the share of its workers' time that was spent.
    pub(crate) fn finish(
        mut self,
        seed: u64,
        engine: &'static str,
        busy: &[Option<f64>],
    ) -> RunRecord {
        if self.happenings_left_out > 0 {
            let what = format!("{} more happenings are left out", self.happenings_left_out);
            let at_s = self.plan.duration.as_secs_f64();
            self.happenings.push(HappeningRecord {
                at_s,
                name: String::new(),
                what,
            });
        }
        let expectations: Vec<_> = self
            .plan
            .expectations
            .iter()
            .zip(&self.observations)
            .map(|(expectation, seen)| verdict(expectation, seen))
            .collect();
        RunRecord {
            schema: record::SCHEMA,
            version: env!("CARGO_PKG_VERSION"),
            scenario: self.plan.name.clone(),
            seed,
            engine,
            digest: self.digest.hex(),
            simulated_s: self.plan.duration.as_secs_f64(),
            warmup_s: self.plan.warmup.as_secs_f64(),
            traffic: self.traffic_records(),
            workloads: self.workload_records(busy),
            calls: self.call_records(),
            clusters: self.cluster_records(),
            mixer: self.plan.mixer.as_ref().map(|_| self.mixer.finish()),
            timeline: self.happenings,
            passed: expectations.iter().all(|verdict| verdict.passed),
            expectations,
        }
    }

    fn traffic_records(&self) -> IndexMap<String, TrafficRecord> {
        let record = |tally: &TrafficTally| TrafficRecord {
            requests: tally.requests,
            succeeded: tally.succeeded,
            success_rate: (tally.requests > 0)
                .then(|| tally.succeeded as f64 / tally.requests as f64),
            codes: sorted(&tally.codes, u16::to_string),
            flags: sorted(&tally.flags, |flag| flag.as_str().to_owned()),
            latency_ms: tally.latencies.summary(),
        };
        let names = self.plan.traffic.iter().map(|traffic| traffic.name.clone());
        names.zip(self.traffic.iter().map(record)).collect()
    }

    fn workload_records(&self, busy: &[Option<f64>]) -> IndexMap<String, WorkloadRecord> {
        let record = |pods: &[u32]| {
            let mut record = WorkloadRecord::default();
            let mut shares = Vec::new();
            for &pod in pods {
                let tally = self.pods[pod as usize];
                record.requests += tally.requests;
                shares.extend(busy[pod as usize]);
                let name = self.plan.pods[pod as usize].pod.name.to_string();
                record.endpoints.insert(name, tally);
            }
            if !shares.is_empty() {
                record.utilisation = Some(shares.iter().sum::<f64>() / shares.len() as f64);
            }
            record
        };
        self.plan
            .workloads
            .iter()
            .map(|w| (w.full_name(), record(&w.pods)))
            .collect()
    }

    fn call_records(&self) -> Vec<CallRecord> {
        let mut order: Vec<_> = self.calls.iter().filter(|(_, t)| t.requests > 0).collect();
        order.sort_by_key(|(between, _)| **between);
        let record = |(&(caller, service), tally): (&(Caller, u32), &CallTally)| CallRecord {
            from: match caller {
                Caller::Workload(number) => self.plan.workloads[number as usize].name.clone(),
                Caller::Traffic(number) => self.plan.traffic[number as usize].name.clone(),
            },
            to: self.plan.services[service as usize].bare_name().to_owned(),
            requests: tally.requests,
            succeeded: tally.succeeded,
            served_by: sorted(&tally.served_by, |workload| {
                self.plan.workloads[*workload as usize].name.clone()
            }),
        };
        order.into_iter().map(record).collect()
    }

    fn cluster_records(&self) -> IndexMap<String, ClusterRecord> {
        let mut used: Vec<_> = self
            .clusters
            .iter()
            .filter(|(_, tally)| **tally != ClusterRecord::default())
            .map(|(name, tally)| (name.to_string(), *tally))
            .collect();
        used.sort_by(|a, b| a.0.cmp(&b.0));
        used.into_iter().collect()
    }
}

fn count<K: PartialEq>(counts: &mut Vec<(K, u64)>, key: K) {
    match counts.iter_mut().find(|(seen, _)| *seen == key) {
        Some((_, n)) => *n += 1,
        None => counts.push((key, 1)),
    }
}

fn sorted<K: Ord + Copy>(
    counts: &[(K, u64)],
    name: impl Fn(&K) -> String,
) -> IndexMap<String, u64> {
    let mut order = counts.to_vec();
    order.sort_unstable_by_key(|(key, _)| *key);
    order.iter().map(|(key, n)| (name(key), *n)).collect()
}

/// An address as part of a digest.
pub(crate) fn address_hash(address: SocketAddr) -> u64 {
    let port = u64::from(address.port());
    match address.ip() {
        std::net::IpAddr::V4(ip) => u64::from(ip.to_bits()) << 16 | port,
        std::net::IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            ((bits >> 64) as u64 ^ (bits as u64).rotate_left(17)) ^ port
        }
    }
}

/// The cluster that the route of an exchange chose, whether or not it came to be used.
pub(crate) fn cluster_meant(log: &AccessLog) -> Option<Name> {
    let route = log.decision.as_deref()?.route()?;
    let RouteAction::Forward(forward) = &route.action else {
        return None;
    };
    let entry = forward.clusters.get(log.weighted_choice as usize)?;
    Some(entry.cluster.clone())
}

fn details_code(details: &Details) -> u64 {
    match details {
        Details::ViaUpstream => 1,
        Details::DirectResponse => 2,
        Details::RouteNotFound => 3,
        Details::ClusterNotFound => 4,
        Details::NoHealthyUpstream => 5,
        Details::ResponseTimeout => 6,
        Details::UpstreamPerTryTimeout => 7,
        Details::FaultFilterAbort => 8,
        Details::PathNormalizationFailed => 9,
        Details::DownstreamRemoteDisconnect => 10,
        Details::UpstreamPerTryIdleTimeout => 11,
        Details::UpstreamMaxStreamDurationReached => 12,
        Details::MaxDurationTimeout => 13,
        Details::StreamIdleTimeout => 14,
        Details::RetryBufferExceeded => 15,
        Details::LocalRateLimited => 16,
        Details::DropOverload => 17,
        Details::UnconditionalDropOverload => 18,
        Details::CorsResponse => 19,
        Details::MixerDenied(code) => 400 + u64::from(*code),
        Details::RbacAccessDenied(policy) => 20 ^ policy.as_deref().map_or(0, hash_text),
        Details::JwtAuthnAccessDenied(problem) => 300 + *problem as u64,
        Details::ResetBeforeResponse(reset) => 100 + *reset as u64,
        Details::ResetAfterResponse(reset) => 200 + *reset as u64,
    }
}
