//! What a scenario says, as typed values. Names that refer to something keep their place in the
//! file, so that whoever resolves them can point there.

use proxy_core::time::Nanos;
use source::{Node, SourceFile, Span};
use std::path::PathBuf;
use std::sync::Arc;

/// A name or path as written, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub text: String,
    pub span: Span,
}

/// A whole scenario.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    pub name: String,
    pub file: Arc<SourceFile>,
    /// Paths in the file are relative to this folder.
    pub folder: PathBuf,
    /// Whose defaults apply (`"1.32"`).
    pub istio: Option<Named>,
    /// `None`: that of `istio`.
    pub data_plane: Option<DataPlane>,
    pub duration: Nanos,
    /// From the start; what begins in it is not counted.
    pub warmup: Nanos,
    pub seed: u64,
    pub topology: Topology,
    /// Applied before the start, in order.
    pub config: Vec<ConfigSource>,
    pub network: Network,
    pub control_plane: ControlPlane,
    pub proxies: Proxies,
    /// Where it was written; `None`: it was not, and the defaults hold.
    pub mixer: Option<(Span, Mixer)>,
    pub behavior: Behaviors,
    pub traffic: Vec<Traffic>,
    /// In order of time; of the file where times are equal.
    pub timeline: Vec<TimelineEvent>,
    pub expect: Vec<Expectation>,
}

/// The data planes of 2017.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlane {
    Envoy2017,
    Linkerd111,
}

/// Who is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topology {
    /// Kubernetes manifests: files or folders.
    pub manifests: Vec<Named>,
    /// Services written tersely in the scenario.
    pub services: Vec<Service>,
    /// Nodes in each locality, where pods use the proxies of nodes and no Node is listed.
    pub nodes: Option<(u32, Span)>,
}

/// A Service with the Deployments behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub name: Named,
    /// Default: `default`.
    pub namespace: String,
    pub port: u16,
    /// Istio's protocol name (`http`, `http2`, `grpc`, `tcp`); default `http`.
    pub protocol: String,
    pub proxy: ProxyKind,
    /// `topology.kubernetes.io` labels of the pods, `region/zone`.
    pub locality: Option<String>,
    /// Extra pod labels.
    pub labels: Vec<(String, String)>,
    /// Version and replicas. Without versions: one Deployment called as the Service, with an empty
    /// version here; otherwise one called `SERVICE-VERSION` for each, labelled `version`.
    pub versions: Vec<(String, u32)>,
}

/// What stands before the application of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    Sidecar,
    /// The pod is the proxy.
    Gateway,
    /// What the application sends goes through the proxy of its node, as with Linkerd 1.x.
    Node,
    None,
}

/// Where Istio configuration comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum ConfigSource {
    /// A file or folder.
    Path(Named),
    /// An object (or a `kind: List`) written in the scenario.
    Inline(Node),
}

/// Latencies between pods, each way.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub default: Link,
    /// From and to locality (`region` or `region/zone`), both ways.
    pub links: Vec<(Named, Named, Link)>,
}

/// One way between two places.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// One way.
    pub latency: Distribution,
}

/// Istio's control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlPlane {
    /// Quiet time before a push; default 100 ms.
    pub debounce: Nanos,
    /// Longest wait for quiet; default 10 s.
    pub debounce_max: Nanos,
    /// From the beginning of a proxy's push until it leaves; default 0.
    pub push_cost: Nanos,
    /// Pushes made at a time (`PILOT_PUSH_THROTTLE`); default 100.
    pub push_throttle: u32,
    /// From a push to its arrival at a proxy, drawn for each proxy and push; default 10 ms to 100 ms.
    pub push_delay: Distribution,
}

/// What all proxies share.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxies {
    /// Worker threads (Istio `concurrency`); default 2.
    pub concurrency: u32,
    /// Added to each request on its way through a proxy; default 0.
    pub overhead: Nanos,
}

/// The Mixer that proxies of 2017 ask about requests and tell of responses.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixer {
    /// From a proxy's question to the answer's arrival, the network included.
    pub latency: Distribution,
    /// Calls that fail, in parts per million.
    pub failure_ppm: u32,
}

/// How applications behave.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviors {
    pub default: Behavior,
    /// By workload (Deployment), `NAME` or `NAMESPACE/NAME`.
    pub workloads: Vec<(Named, Behavior)>,
    /// Services outside the mesh, by host name: there is one instance, without a proxy.
    pub external: Vec<(Named, Behavior)>,
}

/// How one application behaves; what is `None` comes from the default behaviour, then from
/// built-in values.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Behavior {
    /// Requests worked on at a time.
    pub workers: Option<u32>,
    /// Requests that may wait; more are answered 503. `Some(None)`: no limit.
    pub queue_limit: Option<Option<u32>>,
    pub discipline: Option<Discipline>,
    /// A worker is free while its calls are outstanding.
    pub asynchronous: Option<bool>,
    /// Request headers passed on to calls.
    pub propagate: Option<Vec<String>>,
    pub script: Script,
    /// Scripts for paths that begin with a prefix; the longest wins. What they leave out comes from
    /// `script`.
    pub handlers: Vec<(String, Script)>,
}

/// What is done for one request: work, then calls in order, then the answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub service_time: Option<Distribution>,
    pub calls: Option<Vec<CallStep>>,
    /// Statuses with their probabilities in parts per million; what is left is 200.
    pub respond: Option<Vec<(u16, u32)>>,
}

/// Which waiting request is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discipline {
    Fifo,
    Lifo,
    /// All at once, sharing the workers.
    ProcessorSharing,
}

/// One step of a script: calls made at the same time.
#[derive(Clone, Debug, PartialEq)]
pub struct CallStep {
    pub calls: Vec<Call>,
}

/// A call to another service.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    pub method: String,
    /// As written after the method; for messages.
    pub target: Named,
    /// `details` or `details.default`: without the port.
    pub host: String,
    pub port: u16,
    /// With query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub on_error: OnError,
    /// Of the calling application; `None`: it waits as long as it takes.
    pub timeout: Option<Nanos>,
    /// Parts per million of the requests that make the call.
    pub probability_ppm: u32,
}

/// What a call that failed (no answer, or 5xx) does to the request it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// 500, and no further calls.
    Fail,
    /// Goes on as if it had succeeded.
    Degrade,
}

/// A duration that varies.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    Constant(Nanos),
    Exponential {
        mean: Nanos,
    },
    /// Through a median and a 99th percentile.
    Lognormal {
        p50: Nanos,
        p99: Nanos,
    },
    /// `scv`: squared coefficient of variation, more than 0.
    Gamma {
        mean: Nanos,
        scv: f64,
    },
    /// (probability, value), rising in both; straight in between.
    Quantiles(Vec<(f64, Nanos)>),
    /// Each equally likely.
    Samples(Vec<Nanos>),
}

/// A source of requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    pub name: Named,
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host header, with the port if one was written.
    pub authority: String,
    pub port: u16,
    /// With query.
    pub path: String,
    pub target: Named,
    pub headers: Vec<(String, String)>,
    pub origin: Origin,
    pub load: Load,
    /// Parts per million (a million in all) and what differs; empty: all requests are alike.
    pub mix: Vec<(u32, Variant)>,
    /// Of the client; `None`: it waits as long as it takes.
    pub timeout: Option<Nanos>,
    /// Tries after the first that a client makes when it gets no answer or a 5xx.
    pub retries: u32,
    /// Default: the start of the run.
    pub from: Nanos,
    /// Default: its end.
    pub until: Option<Nanos>,
}

/// Where requests come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// A client outside the mesh, through the Service or workload of a gateway.
    Via(Named),
    /// The application of a workload, through its sidecar if it has one.
    From(Named),
    /// A client without a sidecar inside the network, straight to the host.
    Direct,
}

/// How requests are spaced.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// Whatever the answers.
    Open {
        rate: Vec<RatePoint>,
        arrivals: ArrivalSpacing,
    },
    /// Each user waits for an answer, thinks, and asks again.
    Closed { users: u32, think: Distribution },
}

/// How open-loop requests are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivalSpacing {
    Poisson,
    Constant,
}

/// From `at` on, requests a second: a step there, or a straight line from the point before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatePoint {
    pub at: Nanos,
    pub per_s: f64,
    /// The rate goes in a straight line from the point before to here.
    pub ramp: bool,
}

/// What some of a source's requests have that others have not.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Variant {
    pub method: Option<String>,
    pub path: Option<String>,
    /// Added to the source's own.
    pub headers: Vec<(String, String)>,
}

/// Something that happens.
#[derive(Clone, Debug, PartialEq)]
pub struct TimelineEvent {
    pub name: Named,
    pub at: Nanos,
    pub what: Happening,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// `kubectl apply`.
    Apply(ConfigSource),
    /// `kubectl delete -f`: the objects named in it.
    DeleteFrom(Named),
    /// `kubectl delete KIND [NAMESPACE/]NAME`.
    Delete {
        kind: Named,
        namespace: Option<String>,
        name: Named,
    },
    /// `kubectl patch --type merge`.
    Patch {
        kind: Named,
        namespace: Option<String>,
        name: Named,
        merge: Node,
    },
    Scale {
        workload: Named,
        replicas: u32,
    },
    /// Pods of a workload end at once: connections break, new ones are refused, endpoints follow
    /// after `noticed_after`. They are back after `restart_after`, if at all.
    Crash {
        workload: Named,
        pods: Pods,
        noticed_after: Nanos,
        restart_after: Option<Nanos>,
    },
    /// Crashed pods are back.
    Restart {
        workload: Named,
        pods: Pods,
    },
    /// Pods leave their endpoints and finish what they have.
    Drain {
        workload: Named,
        pods: Pods,
    },
    /// The behaviour of pods changes; what is `None` stays. With `lasts` it changes back.
    Behave {
        workload: Named,
        pods: Pods,
        change: BehaviorChange,
        lasts: Option<Nanos>,
    },
    /// The control plane ends: nothing is pushed until it starts. With `lasts` it starts by itself.
    Stop {
        place: Named,
        lasts: Option<Nanos>,
    },
    /// The control plane is back, and all proxies get what has changed.
    Start(Named),
    /// Mixer stops, starts, slows down, fails. With `lasts` it is then as it was at the start.
    Mixer {
        change: MixerChange,
        lasts: Option<Nanos>,
    },
    /// The streams of pods' proxies to the control plane break; they keep what they have. With
    /// `lasts` they come back by themselves.
    Disconnect {
        workload: Named,
        pods: Pods,
        lasts: Option<Nanos>,
    },
    /// Broken streams are back.
    Reconnect {
        workload: Named,
        pods: Pods,
    },
    /// A source's rate or number of users changes.
    Traffic {
        traffic: Named,
        rate: Option<f64>,
        users: Option<u32>,
    },
}

/// A change of Mixer; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MixerChange {
    /// Stopped, questions fail at once and reports are lost.
    pub running: Option<bool>,
    pub latency: Option<Distribution>,
    pub failure_ppm: Option<u32>,
}

/// Which pods of a workload, by ordinal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pods {
    All,
    /// The first so many.
    First(u32),
    /// That one.
    Ordinal(u32),
}

/// A change of behaviour.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct BehaviorChange {
    /// Replaces all service times.
    pub service_time: Option<Distribution>,
    /// Multiplies all service times; 1 is normal.
    pub slower_by: Option<f64>,
    /// Replaces the statuses of all scripts; an empty list is all 200.
    pub respond: Option<Vec<(u16, u32)>>,
    pub workers: Option<u32>,
}

/// Something that must hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Expectation {
    /// As written, on one line.
    pub text: String,
    pub span: Span,
    pub of: Selector,
    pub metric: Metric,
    pub bound: Bound,
    pub during: Window,
}

/// Which requests count. At least one field is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    /// As its clients see it. Excludes `to` and `from`.
    pub traffic: Option<Named>,
    /// To that Service, as the calling proxies (or, where they have none, the callers) see it.
    pub to: Option<Named>,
    /// From that workload, Service, or traffic source.
    pub from: Option<Named>,
}

/// What is measured. Rates and shares are fractions of 1, latencies milliseconds.
#[derive(Clone, Debug, PartialEq)]
pub enum Metric {
    /// Answered below 500.
    SuccessRate,
    Requests,
    /// Of requests that reached an endpoint: those that reached this version, workload or pod.
    ShareOf(Named),
    RequestsOf(Named),
    /// Answered with this status; 0 is none.
    CodeShare(u16),
    /// Logged with this response flag.
    FlagShare(Named),
    /// Tries beyond the first, for each request.
    RetriesPerRequest,
    /// Responses that Mixer was told of.
    Reports,
    Mean,
    /// 0.99 is p99.
    Quantile(f64),
}

/// In the units of the metric; both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    pub at_least: Option<f64>,
    pub at_most: Option<f64>,
}

/// Which requests count, by when they began: from the first point on, before the second.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    pub from: Point,
    pub to: Point,
    /// Of the window, or of the expectation that has none of its own.
    pub span: Span,
}

/// A point in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    pub anchor: Anchor,
    /// Nanoseconds after (or before) the anchor.
    pub offset_ns: i64,
}

/// What a point is relative to.
#[derive(Clone, Debug, PartialEq)]
pub enum Anchor {
    /// The start of the run; what plain durations are relative to.
    RunStart,
    /// The end of the warm-up.
    Start,
    End,
    /// A named event of the timeline.
    Event(Named),
}
