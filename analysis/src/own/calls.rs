//! Who calls whom in a scenario, and by which routes: every call that its traffic leads to.

use super::views::View;
use control_plane::{
    ControlPlane, Objects, Pod, ProxyIdentity, ProxyKind, PushSettings, Request, RequestTls,
    ServiceInfo, Workload, explain,
};
use indexmap::IndexSet;
use proxy_core::time::Nanos;
use proxy_core::xds::{Cluster, Forward, Route, RouteAction};
use scenarios::model::{Behavior, Call, Load, OnError, Origin, Scenario, Traffic, Variant};
use source::Span;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A call, or the traffic of a source: from one place to all those where it may arrive.
pub(super) struct Hop {
    /// A workload, or a source of traffic.
    pub(super) caller: String,
    pub(super) callee: String,
    /// Where the scenario states it.
    pub(super) span: Span,
    /// By which the caller's proxy sends it; `None`: there is none.
    pub(super) route: Option<Arc<Route>>,
    /// Where the route leads, if that is one cluster.
    pub(super) cluster: Option<Arc<Cluster>>,
    pub(super) endpoints: usize,
    /// How long the application waits.
    pub(super) patience: Option<Nanos>,
    /// Of the application, the first included.
    pub(super) own_tries: u32,
    /// Without an answer the caller fails too.
    pub(super) needed: bool,
    /// What one pod of the caller can have under way at a time, where that is stated.
    pub(super) at_once: Option<u64>,
    /// Numbers of places.
    to: Vec<usize>,
}

impl Hop {
    /// What the proxy does with the request, if it sends it on.
    pub(super) fn forward(&self) -> Option<&Forward> {
        match &self.route.as_ref()?.action {
            RouteAction::Forward(forward) => Some(forward),
            _ => None,
        }
    }
}

/// A script of a workload, with the request headers that it passes on.
type Place = (usize, usize, Vec<(String, String)>);

/// All calls.
#[derive(Default)]
pub(super) struct Calls {
    pub(super) hops: Vec<Hop>,
    places: IndexSet<Place>,
    /// The calls made at each place, by number.
    made_at: Vec<Vec<usize>>,
}

impl Calls {
    pub(super) fn of(scenario: &Scenario, objects: &Objects, pods: &[Pod]) -> Calls {
        let mut calls = Calls::default();
        let mut world = World::new(scenario, objects, pods);
        for traffic in &scenario.traffic {
            calls.add_traffic(&mut world, traffic);
        }
        let mut next = 0;
        while next < calls.made_at.len() {
            calls.expand(&mut world, next);
            next += 1;
        }
        calls
    }

    /// The calls that are made to answer `hop`, wherever it arrives.
    pub(super) fn after(&self, hop: usize) -> impl Iterator<Item = usize> {
        let places = self.hops[hop].to.iter();
        places.flat_map(|place| self.made_at[*place].iter().copied())
    }

    fn add_traffic(&mut self, world: &mut World<'_>, traffic: &Traffic) {
        let Some(from) = world.entry(traffic) else {
            return;
        };
        let alike = [(1, Variant::default())];
        let mix = match traffic.mix.is_empty() {
            true => &alike[..],
            false => &traffic.mix,
        };
        for (_, variant) in mix {
            let request = head_of(traffic, variant);
            let headers = request.headers.clone();
            let routed = world.route(&from, request);
            let users = match &traffic.load {
                Load::Closed { users, .. } => Some(u64::from(*users).div_ceil(from.pods)),
                Load::Open { .. } => None,
            };
            let hop = Hop {
                caller: traffic.name.text.clone(),
                callee: routed.callee.clone(),
                span: traffic.target.span.clone(),
                patience: traffic.timeout,
                own_tries: traffic.retries.saturating_add(1),
                needed: true,
                at_once: users,
                to: self.arrive(world, &routed, &headers),
                endpoints: routed.endpoints,
                route: routed.route,
                cluster: routed.cluster,
            };
            self.hops.push(hop);
        }
    }

    /// The places where a request arrives; new ones are numbered.
    fn arrive(
        &mut self,
        world: &World<'_>,
        routed: &Routed,
        headers: &[(String, String)],
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for &workload in &routed.workloads {
            let behavior = &world.behaviors[workload];
            let script = script_for(behavior, &routed.path);
            let passed = behavior.propagate.iter().flatten();
            let passed = passed.flat_map(|name| {
                headers
                    .iter()
                    .filter(move |(own, _)| own.eq_ignore_ascii_case(name))
                    .cloned()
            });
            // A header that each of a circle of workloads adds would grow without end.
            let passed: IndexSet<(String, String)> = passed.collect();
            let place = (workload, script, passed.into_iter().collect());
            let (number, new) = self.places.insert_full(place);
            if new {
                self.made_at.push(Vec::new());
            }
            if !found.contains(&number) {
                found.push(number);
            }
        }
        found
    }

    /// Follows the calls made at a place.
    fn expand(&mut self, world: &mut World<'_>, number: usize) {
        let (workload, script, headers) = self.places[number].clone();
        let behavior = world.behaviors[workload].clone();
        let from = world.caller(workload);
        let own = behavior
            .handlers
            .get(script)
            .map(|(_, script)| script.over(&behavior.script));
        let steps = own
            .unwrap_or_else(|| behavior.script.clone())
            .calls
            .unwrap_or_default();
        for step in &steps {
            for call in step.calls.iter().filter(|call| call.probability_ppm > 0) {
                let mut request = request_of(call);
                request.headers.extend(headers.iter().cloned());
                let all = request.headers.clone();
                let routed = world.route(&from, request);
                let alike = step
                    .calls
                    .iter()
                    .filter(|other| other.target.text == call.target.text);
                let workers = behavior
                    .workers
                    .filter(|_| behavior.asynchronous != Some(true));
                let hop = Hop {
                    caller: from.name.clone(),
                    callee: routed.callee.clone(),
                    span: call.target.span.clone(),
                    patience: call.timeout,
                    own_tries: 1,
                    needed: call.on_error == OnError::Fail,
                    at_once: workers.map(|workers| u64::from(workers) * alike.count() as u64),
                    to: self.arrive(world, &routed, &all),
                    endpoints: routed.endpoints,
                    route: routed.route,
                    cluster: routed.cluster,
                };
                self.made_at[number].push(self.hops.len());
                self.hops.push(hop);
            }
        }
    }
}

/// Who sends requests.
struct From {
    name: String,
    namespace: String,
    proxy: Option<ProxyIdentity>,
    pods: u64,
}

/// Where a request ends up.
struct Routed {
    callee: String,
    /// As it arrives.
    path: String,
    route: Option<Arc<Route>>,
    cluster: Option<Arc<Cluster>>,
    endpoints: usize,
    workloads: Vec<usize>,
}

struct World<'a> {
    objects: &'a Objects,
    pods: &'a [Pod],
    workloads: Vec<Workload>,
    behaviors: Vec<Behavior>,
    control_plane: ControlPlane,
    /// By name of the proxy.
    views: BTreeMap<String, View>,
}

impl<'a> World<'a> {
    fn new(scenario: &Scenario, objects: &'a Objects, pods: &'a [Pod]) -> World<'a> {
        let workloads = objects.deployments();
        let behaviors = workloads.iter().map(|workload| {
            let mut stated = scenario.behavior.workloads.iter();
            let own = stated.find(|(name, _)| is_called(workload, &name.text));
            let own = own
                .map(|(_, behavior)| behavior.clone())
                .unwrap_or_default();
            let mut behavior = own.over(&scenario.behavior.default);
            behavior
                .handlers
                .sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
            behavior
        });
        World {
            behaviors: behaviors.collect(),
            workloads,
            objects,
            pods,
            control_plane: ControlPlane::new(
                PushSettings::default(),
                objects.clone(),
                pods.to_vec(),
            ),
            views: BTreeMap::new(),
        }
    }

    /// Whose proxy takes the requests of a source first; `None` for a name that is not there.
    fn entry(&self, traffic: &Traffic) -> Option<From> {
        match &traffic.origin {
            Origin::Direct => Some(From {
                name: traffic.name.text.clone(),
                namespace: "default".into(),
                proxy: None,
                pods: 1,
            }),
            Origin::From(name) => {
                let number = self
                    .workloads
                    .iter()
                    .position(|one| is_called(one, &name.text))?;
                Some(self.caller(number))
            }
            Origin::Via(name) => {
                let named = |workload: &&Workload| {
                    is_called(workload, &name.text) || self.is_behind(workload, &name.text)
                };
                let mut gateways = self.workloads.iter().enumerate().filter(|(_, workload)| {
                    workload.proxy == ProxyKind::Gateway && named(workload)
                });
                gateways.next().map(|(number, _)| self.caller(number))
            }
        }
    }

    /// Whether the Service called so selects the workload.
    fn is_behind(&self, workload: &Workload, service: &str) -> bool {
        let found = self.objects.service(service, &workload.namespace);
        found.is_some_and(|service| selects(&service, workload))
    }

    fn caller(&self, number: usize) -> From {
        let workload = &self.workloads[number];
        let mut pods = self.pods.iter();
        let pod =
            pods.find(|pod| pod.namespace == workload.namespace && pod.workload == workload.name);
        From {
            name: workload.name.to_string(),
            namespace: workload.namespace.to_string(),
            proxy: pod
                .filter(|pod| pod.proxy != ProxyKind::None)
                .map(Pod::identity),
            pods: u64::from(workload.replicas.max(1)),
        }
    }

    fn route(&mut self, from: &From, mut request: Request) -> Routed {
        let host = request.authority.split(':').next().unwrap_or_default();
        let service = self.objects.service(host, &from.namespace);
        let mut routed = Routed {
            callee: host.to_owned(),
            path: request.path.clone(),
            route: None,
            cluster: None,
            endpoints: 0,
            workloads: Vec::new(),
        };
        let Some(proxy) = &from.proxy else {
            // Straight to any pod of the service.
            if let Some(service) = service {
                let all = self.workloads.iter().enumerate();
                let all = all.filter(|(_, workload)| selects(&service, workload));
                routed.workloads = all.map(|(number, _)| number).collect();
            }
            return routed;
        };
        request.resolve(self.objects, proxy);
        let view = self
            .views
            .entry(proxy.name.to_string())
            .or_insert_with(|| View::new(self.control_plane.resources(proxy)));
        let answer = explain(&view.resources, &request);
        if let Some(upstream) = answer.upstream {
            routed.path = upstream.path.to_string();
        }
        for share in &answer.clusters {
            let cluster = view.cluster(&share.name);
            let addresses = cluster.and_then(|cluster| view.addresses(cluster));
            for ip in addresses.unwrap_or_default() {
                let pod = self.pods.iter().find(|pod| pod.ip == ip);
                let number = pod.and_then(|pod| {
                    self.workloads.iter().position(|workload| {
                        workload.namespace == pod.namespace && workload.name == pod.workload
                    })
                });
                routed.endpoints += 1;
                if let Some(number) = number.filter(|number| !routed.workloads.contains(number)) {
                    routed.workloads.push(number);
                }
            }
        }
        if let [only] = &answer.clusters[..] {
            routed.cluster = view.cluster(&only.name).cloned();
        }
        routed.route = answer.matched;
        routed
    }
}

/// Whether the Service has pods of the workload behind it.
fn selects(service: &ServiceInfo, workload: &Workload) -> bool {
    let mut wanted = service.selector.iter();
    !service.selector.is_empty()
        && service.namespace == workload.namespace
        && wanted.all(|label| workload.labels.contains(label))
}

fn is_called(workload: &Workload, name: &str) -> bool {
    match name.split_once('/') {
        Some((namespace, name)) => *workload.namespace == *namespace && *workload.name == *name,
        None => *workload.name == *name,
    }
}

/// The handler for a path, by number; beyond the last one the script for all.
fn script_for(behavior: &Behavior, path: &str) -> usize {
    let mut handlers = behavior.handlers.iter();
    let found = handlers.position(|(prefix, _)| path.starts_with(prefix.as_str()));
    found.unwrap_or(behavior.handlers.len())
}

fn head_of(traffic: &Traffic, variant: &Variant) -> Request {
    let headers = traffic.headers.iter().chain(&variant.headers).cloned();
    let tls = traffic.scheme == "https";
    let host = traffic.authority.split(':').next().unwrap_or_default();
    Request {
        method: variant.method.as_ref().unwrap_or(&traffic.method).clone(),
        scheme: traffic.scheme.clone(),
        authority: with_port(&traffic.authority, traffic.port),
        path: variant.path.as_ref().unwrap_or(&traffic.path).clone(),
        headers: headers.collect(),
        tls: if tls {
            RequestTls::Tls
        } else {
            RequestTls::None
        },
        sni: tls.then(|| host.to_owned()),
        ..Request::default()
    }
}

fn request_of(call: &Call) -> Request {
    Request {
        method: call.method.clone(),
        authority: with_port(&call.host, call.port),
        path: call.path.clone(),
        headers: call.headers.clone(),
        ..Request::default()
    }
}

fn with_port(authority: &str, port: u16) -> String {
    match authority.contains(':') || port == 80 {
        true => authority.to_owned(),
        false => format!("{authority}:{port}"),
    }
}
