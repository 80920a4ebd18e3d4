//! Traffic sources.

use super::behavior::{Resolver, headers};
use super::targets::{PlanService, Target};
use super::topology::unknown_workload;
use crate::distribution::Distribution;
use crate::event::arrivals::{RatePiece, Spread};
use control_plane::ProxyKind;
use proxy_core::head::{HeaderText, RequestHead};
use proxy_core::ids::HeadId;
use proxy_core::time::Nanos;
use scenarios::model::{
    ArrivalSpacing, Load, Named, Origin, RatePoint, Scenario, Traffic, Variant,
};
use source::Diagnostic;
use std::sync::Arc;

/// A source of requests.
#[derive(Clone, Debug)]
pub struct PlanTraffic {
    pub name: String,
    pub entry: Entry,
    pub load: PlanLoad,
    /// Cumulative weights and the heads they choose.
    pub variants: Vec<(u64, HeadId)>,
    /// Speaks TLS.
    pub tls: bool,
    /// How long the client waits; `None`: as long as it takes.
    pub timeout: Option<Nanos>,
    /// Tries that the client makes after a failed first one.
    pub retries: u32,
    /// When the first request may come,
    pub from: Nanos,
    /// and until when.
    pub until: Nanos,
}

impl PlanTraffic {
    /// The head that a uniform 64-bit value chooses.
    #[inline]
    pub fn choose(&self, value: u64) -> HeadId {
        let total = self.variants.last().map_or(1, |(sum, _)| *sum);
        let at = value % total;
        let chosen = self.variants.iter().find(|(sum, _)| at < *sum);
        chosen
            .or(self.variants.first())
            .map_or(HeadId(0), |(_, head)| *head)
    }
}

/// How requests are spaced.
#[derive(Clone, Debug)]
pub enum PlanLoad {
    /// Requests come whether or not earlier ones are answered.
    Open {
        pieces: Vec<RatePiece>,
        spread: Spread,
    },
    /// Each user waits for the answer, thinks, and asks again.
    Closed { users: u32, think: Distribution },
}

/// What passes before a user asks again who neither thought nor waited: their own proxy refused at
/// once. Otherwise they would ask for ever at the same instant.
pub(crate) const ANSWERED_AT_ONCE: Nanos = Nanos::from_micros(100);

/// Where requests enter.
#[derive(Clone, Debug)]
pub enum Entry {
    /// At a gateway's pods, by the port they listen on.
    Gateway { pods: Vec<u32>, port: u16 },
    /// At the applications of a workload's pods.
    Workload { pods: Vec<u32>, target: Target },
    /// From a client that has no proxy.
    Direct { target: Target },
}

pub(super) fn all(
    scenario: &Scenario,
    resolver: &Resolver<'_>,
    heads: &mut Vec<Arc<RequestHead>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<PlanTraffic> {
    let externals: Vec<&str> = scenario
        .behavior
        .external
        .iter()
        .map(|(host, _)| host.text.as_str())
        .collect();
    let mut planned = Vec::new();
    for traffic in &scenario.traffic {
        let entry = entry(traffic, resolver, &externals).unwrap_or_else(|diagnostic| {
            diagnostics.push(diagnostic);
            // There will be no plan, but what names this traffic is not wrong too.
            Entry::Gateway {
                pods: Vec::new(),
                port: 0,
            }
        });
        planned.push(plan(traffic, entry, scenario.duration, heads));
    }
    planned
}

fn plan(
    traffic: &Traffic,
    entry: Entry,
    duration: Nanos,
    heads: &mut Vec<Arc<RequestHead>>,
) -> PlanTraffic {
    let mut variants = Vec::new();
    let mut sum = 0;
    let alike = [(1, Variant::default())];
    let mix = if traffic.mix.is_empty() {
        &alike[..]
    } else {
        &traffic.mix
    };
    for (weight, variant) in mix {
        let id = HeadId(heads.len() as u32);
        heads.push(Arc::new(head(traffic, variant, id)));
        sum += u64::from(*weight);
        variants.push((sum, id));
    }
    let until = traffic.until.unwrap_or(duration).min(duration);
    PlanTraffic {
        name: traffic.name.text.clone(),
        entry,
        load: load(&traffic.load, traffic.from, until),
        variants,
        tls: traffic.scheme == "https",
        timeout: traffic.timeout,
        retries: traffic.retries,
        from: traffic.from,
        until,
    }
}

fn head(traffic: &Traffic, variant: &Variant, id: HeadId) -> RequestHead {
    let mut lines = headers(&traffic.headers);
    for (name, value) in headers(&variant.headers).0 {
        lines.set(name, HeaderText::as_bytes(&value));
    }
    RequestHead {
        method: variant
            .method
            .as_ref()
            .unwrap_or(&traffic.method)
            .as_str()
            .into(),
        scheme: traffic.scheme.as_str().into(),
        authority: traffic.authority.as_str().into(),
        path: variant
            .path
            .as_ref()
            .unwrap_or(&traffic.path)
            .as_str()
            .into(),
        headers: lines,
        id: Some(id),
    }
}

fn load(load: &Load, from: Nanos, until: Nanos) -> PlanLoad {
    match load {
        Load::Closed { users, think } => PlanLoad::Closed {
            users: *users,
            think: Distribution::from(think),
        },
        Load::Open { rate, arrivals } => PlanLoad::Open {
            pieces: pieces(rate, from, until),
            spread: match arrivals {
                ArrivalSpacing::Poisson => Spread::Poisson,
                ArrivalSpacing::Constant => Spread::Constant,
            },
        },
    }
}

/// From points to pieces: each piece is level, or leads in a straight line to the next point.
fn pieces(points: &[RatePoint], from: Nanos, until: Nanos) -> Vec<RatePiece> {
    let mut pieces = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let end_per_s = match points.get(at + 1) {
            Some(next) if next.ramp => next.per_s,
            _ => point.per_s,
        };
        pieces.push(RatePiece {
            from: point.at.max(from),
            start_per_s: point.per_s,
            end_per_s,
        });
    }
    pieces.push(RatePiece {
        from: until,
        start_per_s: 0.0,
        end_per_s: 0.0,
    });
    pieces
}

fn entry(
    traffic: &Traffic,
    resolver: &Resolver<'_>,
    externals: &[&str],
) -> Result<Entry, Diagnostic> {
    let host = traffic.authority.split(':').next().unwrap_or_default();
    let lookup = resolver.lookup(externals);
    match &traffic.origin {
        Origin::Via(gateway) => gateway_entry(traffic, gateway, resolver),
        Origin::Direct => {
            let target = lookup.find(host, traffic.port, "default", &traffic.target)?;
            Ok(Entry::Direct { target })
        }
        Origin::From(workload) => {
            let places = resolver.places();
            let number = places
                .workload(&workload.text)
                .ok_or_else(|| unknown_workload(workload, places.names()))?;
            let namespace = &places.workloads[number].namespace;
            let target = lookup.find(host, traffic.port, namespace, &traffic.target)?;
            Ok(Entry::Workload {
                pods: places.pods_of(number),
                target,
            })
        }
    }
}

fn gateway_entry(
    traffic: &Traffic,
    gateway: &Named,
    resolver: &Resolver<'_>,
) -> Result<Entry, Diagnostic> {
    let places = resolver.places();
    let is_gateway = |pods: &[u32]| {
        let kind = |&pod: &u32| places.pods[pod as usize].pod.proxy;
        !pods.is_empty() && pods.iter().all(|pod| kind(pod) == ProxyKind::Gateway)
    };
    let named = |service: &&PlanService| {
        [
            service.bare_name(),
            service.short_name(),
            &service.info.host,
        ]
        .contains(&gateway.text.as_str())
    };
    let service = resolver
        .services
        .iter()
        .filter(|s| is_gateway(&s.pods))
        .find(named);
    if let Some(service) = service {
        let port = service
            .info
            .ports
            .iter()
            .find(|port| port.number == traffic.port);
        let Some(port) = port else {
            let ports: Vec<String> = service
                .info
                .ports
                .iter()
                .map(|port| port.number.to_string())
                .collect();
            let message = format!("gateway `{}` has no port {}", gateway.text, traffic.port);
            return Err(Diagnostic::error(message).at(
                &traffic.target.span,
                format!("the ports of its Service: {}", ports.join(", ")),
            ));
        };
        return Ok(Entry::Gateway {
            pods: service.pods.clone(),
            port: port.target,
        });
    }
    let workload = places
        .workload(&gateway.text)
        .map(|number| places.pods_of(number));
    if let Some(pods) = workload.as_ref().filter(|pods| is_gateway(pods)) {
        return Ok(Entry::Gateway {
            pods: pods.clone(),
            port: traffic.port,
        });
    }
    let gateways = resolver.services.iter().filter(|s| is_gateway(&s.pods));
    let known: Vec<&str> = gateways.map(PlanService::bare_name).collect();
    let is_there = workload.is_some() || resolver.services.iter().any(|s| named(&s));
    if !is_there {
        return Err(
            Diagnostic::error(format!("no gateway is called `{}`", gateway.text))
                .at(&gateway.span, "names no gateway's Service or Deployment")
                .nearest(&gateway.text, known),
        );
    }
    let wrong = Diagnostic::error(format!("`{}` is not a gateway", gateway.text))
        .at(&gateway.span, "its pods are no gateway's");
    Err(match known.is_empty() {
        true => wrong,
        false => wrong.help(format!("gateways are: {}", known.join(", "))),
    })
}
