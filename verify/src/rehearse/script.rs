//! What is played: the configuration pushed to one proxy of a scenario and the requests it was
//! handed, each with its time, taken down while the event engine runs the scenario.

use super::refuse::Refusal;
use control_plane::ProxyKind;
use proxy_core::contract::{Direction, Input, MainInput, Opened, Out};
use proxy_core::head::RequestHead;
use proxy_core::ids::DownstreamId;
use proxy_core::proxy::{Step, Witness};
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;
use sim::plan::PlanPod;
use sim::{Observers, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A rehearsal's script.
#[derive(Debug)]
pub struct Script {
    /// `POD.NAMESPACE`.
    pub proxy: String,
    /// Its pod's place in the plan.
    pub pod: u32,
    pub pushes: Vec<Push>,
    /// In order of time.
    pub arrivals: Vec<Arc<Arrival>>,
}

/// Configuration that reached the proxy at one time.
#[derive(Debug)]
pub struct Push {
    pub at: Nanos,
    pub deltas: Vec<XdsDelta>,
}

/// A request that reached the proxy.
#[derive(Debug)]
pub struct Arrival {
    pub at: Nanos,
    /// The connection it came on.
    pub opened: Arc<Opened>,
    pub key: u64,
    pub head: Arc<RequestHead>,
    /// How long its client waits; `None`: as long as it takes.
    pub timeout: Option<Nanos>,
}

/// The proxy that sends most requests in the run with `seed`.
pub fn busiest_proxy(plan: &Plan, seed: u64) -> Option<String> {
    let mut sent: BTreeMap<String, u64> = BTreeMap::new();
    let mut count = |line: &sim::LogLine<'_>| {
        if !line.cluster.is_some_and(is_inbound) {
            *sent.entry(line.proxy.to_owned()).or_default() += 1;
        }
    };
    let observers = Observers {
        access_log: Some(&mut count),
        ..Observers::default()
    };
    sim::event::run(plan, seed, observers);
    let most = sent.values().copied().max()?;
    sent.into_iter()
        .find(|(_, requests)| *requests == most)
        .map(|(proxy, _)| proxy)
}

/// Whether a cluster leads to the application beside the proxy.
pub(super) fn is_inbound(cluster: &str) -> bool {
    cluster.starts_with("inbound|")
}

impl Script {
    /// Takes down what a proxy is handed in the run with `seed`: that of the pod called `proxy`
    /// (`NAME`, `NAMESPACE/NAME` or `NAME.NAMESPACE`), or of the first pod of the workload so called.
    pub fn of(plan: &Plan, proxy: &str, seed: u64) -> Result<Script, Refusal> {
        let names = |name: &str, namespace: &str| {
            [
                name.to_owned(),
                format!("{namespace}/{name}"),
                format!("{name}.{namespace}"),
            ]
        };
        let is_it = |(_, pod): &(u32, &PlanPod)| {
            let workload = &plan.workloads[pod.workload as usize];
            let of_pod = names(&pod.pod.name, &pod.pod.namespace);
            of_pod.iter().any(|name| name == proxy)
                || names(&workload.name, &workload.namespace)
                    .iter()
                    .any(|name| name == proxy)
        };
        let pods = (0u32..).zip(&plan.pods);
        let with_proxy = pods.filter(|(_, pod)| pod.pod.proxy != ProxyKind::None);
        let Some((pod, planned)) = with_proxy.clone().find(is_it) else {
            let all: Vec<&str> = with_proxy.map(|(_, pod)| &*pod.pod.name).collect();
            let all = all.join(", ");
            return Err(Refusal(format!(
                "no pod with a proxy is called `{proxy}`: there are {all}"
            )));
        };
        let proxy = format!("{}.{}", planned.pod.name, planned.pod.namespace);
        let proxy = proxy.as_str();
        let mut scribe = Scribe::default();
        let observers = Observers {
            witness: Some((proxy, &mut scribe)),
            ..Observers::default()
        };
        sim::event::run(plan, seed, observers);
        let arrivals = scribe.requests.into_iter().map(|(at, opened, key, head)| {
            let timeout = client_timeout(plan, planned, &head);
            Arc::new(Arrival {
                at,
                opened,
                key,
                head,
                timeout,
            })
        });
        Ok(Script {
            proxy: proxy.to_owned(),
            pod,
            arrivals: arrivals.collect(),
            pushes: scribe.pushes,
        })
    }
}

/// How long the client of a request waits: the traffic source's or the calling application's limit.
fn client_timeout(plan: &Plan, pod: &PlanPod, head: &RequestHead) -> Option<Nanos> {
    let of_source = plan.traffic.iter().find(|traffic| {
        let mut variants = traffic.variants.iter();
        variants.any(|(_, variant)| Some(*variant) == head.id)
    });
    if let Some(traffic) = of_source {
        return traffic.timeout;
    }
    let workload = &plan.workloads[pod.workload as usize];
    let scripts = workload.behavior.scripts.iter();
    let calls = scripts.flat_map(|(_, script)| script.steps.iter().flatten());
    let is_it = |own: &RequestHead| {
        (&own.method, &own.authority, &own.path) == (&head.method, &head.authority, &head.path)
    };
    calls
        .filter(|call| is_it(&call.head))
        .find_map(|call| call.timeout)
}

/// Takes down what a proxy is told.
#[derive(Default)]
struct Scribe {
    opened: BTreeMap<(u32, u32, u32), Arc<Opened>>,
    pushes: Vec<Push>,
    requests: Vec<(Nanos, Arc<Opened>, u64, Arc<RequestHead>)>,
}

impl Witness for Scribe {
    fn saw(&mut self, now: Nanos, step: Step<'_>, _: &Out) {
        let connection = |worker, id: &DownstreamId| (worker, id.index, id.generation);
        match step {
            Step::Main(MainInput::Xds { delta, .. }) => match self.pushes.last_mut() {
                Some(push) if push.at == now => push.deltas.push(delta.clone()),
                _ => self.pushes.push(Push {
                    at: now,
                    deltas: vec![delta.clone()],
                }),
            },
            Step::Worker(worker, Input::Opened(opened)) => {
                let key = connection(worker, &opened.downstream);
                self.opened.insert(key, Arc::new(opened.clone()));
            }
            Step::Worker(
                worker,
                Input::Request {
                    downstream,
                    key,
                    head,
                    ..
                },
            ) => {
                let opened = self.opened.get(&connection(worker, downstream));
                if let Some(opened) = opened.filter(|o| o.direction != Direction::Inbound) {
                    self.requests
                        .push((now, Arc::clone(opened), *key, Arc::clone(head)));
                }
            }
            _ => {}
        }
    }
}
