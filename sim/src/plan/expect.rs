//! Expectations with their names and times resolved.

use super::targets::PlanService;
use super::topology::{PlanPod, PlanWorkload, is_named};
use super::traffic::PlanTraffic;
use proxy_core::telemetry::Flag;
use proxy_core::time::Nanos;
use scenarios::model::{Anchor, Bound, Expectation, Metric, Named, Point, Scenario};
use source::Diagnostic;

/// Something that must hold.
#[derive(Clone, Debug)]
pub struct PlanExpectation {
    /// As written, for the report.
    pub text: String,
    /// Where it is written.
    pub file: String,
    /// Counted from 1.
    pub line: u32,
    pub of: Of,
    pub metric: PlanMetric,
    pub bound: Bound,
    /// Requests that begin from here on,
    pub from: Nanos,
    /// and before this.
    pub until: Nanos,
}

/// Which requests count.
#[derive(Clone, Debug, PartialEq)]
pub enum Of {
    /// Requests of a traffic source, by index.
    Traffic(u32),
    /// Calls to a Service (`None`: any) from some callers (`None`: any).
    Calls {
        to: Option<u32>,
        from: Option<Vec<Caller>>,
    },
}

/// Who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Caller {
    /// Index of a workload.
    Workload(u32),
    Traffic(u32),
}

/// What is measured.
#[derive(Clone, Debug, PartialEq)]
pub enum PlanMetric {
    /// Share of requests answered below 500.
    SuccessRate,
    Requests,
    /// By pod: whether it counts.
    ShareOf(Vec<bool>),
    RequestsOf(Vec<bool>),
    /// Share of requests answered with that status.
    CodeShare(u16),
    /// Share of requests with that response flag.
    FlagShare(Flag),
    /// Tries after the first, per request.
    RetriesPerRequest,
    /// Reports of requests to a Service that reached Mixer.
    Reports,
    /// Mean latency, in milliseconds.
    Mean,
    /// That quantile of the latency (0 to 1), in milliseconds.
    Quantile(f64),
}

/// What names may mean.
pub(super) struct Names<'a> {
    pub(super) workloads: &'a [PlanWorkload],
    pub(super) services: &'a [PlanService],
    pub(super) traffic: &'a [PlanTraffic],
    pub(super) pods: &'a [PlanPod],
}

pub(super) fn all(
    scenario: &Scenario,
    names: &Names<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PlanExpectation> {
    let mut planned = Vec::new();
    for expectation in &scenario.expect {
        match plan(scenario, expectation, names) {
            Ok(expectation) => planned.push(expectation),
            Err(diagnostic) => diagnostics.push(diagnostic),
        }
    }
    planned
}

fn plan(
    scenario: &Scenario,
    expectation: &Expectation,
    names: &Names<'_>,
) -> Result<PlanExpectation, Diagnostic> {
    let of = of(expectation, names)?;
    let to = match &of {
        Of::Calls { to, .. } => *to,
        Of::Traffic(_) => None,
    };
    let metric = match &expectation.metric {
        Metric::SuccessRate => PlanMetric::SuccessRate,
        Metric::Requests => PlanMetric::Requests,
        Metric::ShareOf(name) => PlanMetric::ShareOf(names.pods_meant(name, to)?),
        Metric::RequestsOf(name) => PlanMetric::RequestsOf(names.pods_meant(name, to)?),
        Metric::CodeShare(status) => PlanMetric::CodeShare(*status),
        Metric::FlagShare(name) => PlanMetric::FlagShare(flag(name)?),
        Metric::RetriesPerRequest => PlanMetric::RetriesPerRequest,
        Metric::Reports => PlanMetric::Reports,
        Metric::Mean => PlanMetric::Mean,
        Metric::Quantile(quantile) => PlanMetric::Quantile(*quantile),
    };
    Ok(PlanExpectation {
        text: expectation.text.clone(),
        file: expectation.span.file.name.to_string(),
        line: expectation.span.line(),
        of,
        metric,
        bound: expectation.bound,
        from: time_of(scenario, &expectation.during.from),
        until: time_of(scenario, &expectation.during.to),
    })
}

fn of(expectation: &Expectation, names: &Names<'_>) -> Result<Of, Diagnostic> {
    let selector = &expectation.of;
    if let Some(traffic) = &selector.traffic {
        let found = names.traffic.iter().position(|t| t.name == traffic.text);
        let known = names.traffic.iter().map(|t| t.name.as_str());
        return match found {
            Some(number) => Ok(Of::Traffic(number as u32)),
            None => Err(unknown("traffic", traffic, known)),
        };
    }
    let to = selector
        .to
        .as_ref()
        .map(|to| names.service(to))
        .transpose()?;
    let from = selector
        .from
        .as_ref()
        .map(|from| names.callers(from))
        .transpose()?;
    Ok(Of::Calls { to, from })
}

fn flag(name: &Named) -> Result<Flag, Diagnostic> {
    let found = Flag::ALL
        .into_iter()
        .find(|flag| flag.as_str() == name.text);
    found.ok_or_else(|| unknown("response flag", name, Flag::ALL.iter().map(|f| f.as_str())))
}

fn unknown<'a>(what: &str, name: &Named, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    Diagnostic::error(format!("no {what} is called `{}`", name.text))
        .at(&name.span, "not known here")
        .nearest(&name.text, known)
}

/// The parser has checked that the events exist.
fn time_of(scenario: &Scenario, point: &Point) -> Nanos {
    let anchor = match &point.anchor {
        Anchor::RunStart => Nanos::ZERO,
        Anchor::Start => scenario.warmup,
        Anchor::End => scenario.duration,
        Anchor::Event(name) => scenario
            .timeline
            .iter()
            .find(|event| event.name.text == name.text)
            .map_or(Nanos::ZERO, |event| event.at),
    };
    Nanos(anchor.0.saturating_add_signed(point.offset_ns))
}

impl Names<'_> {
    fn is_service(service: &PlanService, name: &str) -> bool {
        [
            service.bare_name(),
            service.short_name(),
            &service.info.host,
        ]
        .contains(&name)
    }

    fn service(&self, name: &Named) -> Result<u32, Diagnostic> {
        let found = self
            .services
            .iter()
            .position(|s| Self::is_service(s, &name.text));
        let known = self.services.iter().map(PlanService::bare_name);
        found
            .map(|number| number as u32)
            .ok_or_else(|| unknown("service", name, known))
    }

    /// A workload, all workloads of a Service, or a traffic source.
    fn callers(&self, name: &Named) -> Result<Vec<Caller>, Diagnostic> {
        let mut callers: Vec<Caller> = Vec::new();
        for (number, workload) in (0u32..).zip(self.workloads) {
            if is_named(&workload.namespace, &workload.name, &name.text) {
                callers.push(Caller::Workload(number));
            }
        }
        if callers.is_empty() {
            let services = self
                .services
                .iter()
                .filter(|s| Self::is_service(s, &name.text));
            callers.extend(
                services
                    .flat_map(|s| &s.pods)
                    .map(|&pod| Caller::Workload(self.pods[pod as usize].workload)),
            );
        }
        for (number, traffic) in (0u32..).zip(self.traffic) {
            if traffic.name == name.text {
                callers.push(Caller::Traffic(number));
            }
        }
        callers.sort_unstable();
        callers.dedup();
        if callers.is_empty() {
            let workloads = self.workloads.iter().map(|w| w.name.as_str());
            let known = workloads.chain(self.services.iter().map(PlanService::bare_name));
            return Err(unknown("workload, service or traffic", name, known));
        }
        Ok(callers)
    }

    /// The pods that a version, workload or pod name means, of the Service `to` if given.
    fn pods_meant(&self, name: &Named, to: Option<u32>) -> Result<Vec<bool>, Diagnostic> {
        let within = |pod: u32| to.is_none_or(|to| self.services[to as usize].pods.contains(&pod));
        let version = |pod: &PlanPod| {
            pod.pod
                .labels
                .iter()
                .find(|(k, _)| &**k == "version")
                .map(|(_, v)| v.to_string())
        };
        let matches = |pod: &PlanPod| {
            let workload = &self.workloads[pod.workload as usize];
            version(pod).as_deref() == Some(&name.text)
                || is_named(&workload.namespace, &workload.name, &name.text)
                || *pod.pod.name == *name.text
        };
        let all = (0u32..).zip(self.pods);
        let meant: Vec<bool> = all.map(|(at, pod)| within(at) && matches(pod)).collect();
        if meant.contains(&true) {
            return Ok(meant);
        }
        let mut known: Vec<String> = Vec::new();
        for (_, pod) in (0u32..).zip(self.pods).filter(|(at, _)| within(*at)) {
            known.extend(version(pod));
            known.push(self.workloads[pod.workload as usize].name.clone());
        }
        known.sort();
        known.dedup();
        let what = match to {
            Some(to) => {
                let service = self.services[to as usize].bare_name();
                format!("version or workload of `{service}`")
            }
            None => "version or workload".to_owned(),
        };
        let diagnostic = unknown(&what, name, known.iter().map(String::as_str));
        Err(match diagnostic.help {
            Some(_) => diagnostic,
            None => diagnostic.help(format!("there are: {}", known.join(", "))),
        })
    }
}
