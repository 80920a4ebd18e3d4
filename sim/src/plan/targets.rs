//! Where calls and traffic go.

use super::topology::{Places, external_address};
use control_plane::{Objects, ServiceInfo};
use proxy_core::xds::Name;
use scenarios::model::Named;
use source::Diagnostic;
use std::net::{IpAddr, SocketAddr};

/// A Service with the pods that may stand behind it.
#[derive(Clone, Debug)]
pub struct PlanService {
    pub info: ServiceInfo,
    /// Pods that its selector matches.
    pub pods: Vec<u32>,
}

impl PlanService {
    /// `NAME.NAMESPACE` of a Kubernetes Service, the host of a ServiceEntry.
    pub fn short_name(&self) -> &str {
        let host = &*self.info.host;
        host.strip_suffix(".svc.cluster.local").unwrap_or(host)
    }

    /// Without its namespace.
    pub fn bare_name(&self) -> &str {
        if self.info.external {
            return &self.info.host;
        }
        self.short_name().split('.').next().unwrap_or_default()
    }
}

/// Where a request is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Where a client connects to: the Service's address, or the outside service's.
    pub address: SocketAddr,
    /// Host header.
    pub authority: Name,
    /// Index of the Service; `None`: outside the mesh, unknown to it.
    pub service: Option<u32>,
    /// Where the pods behind it listen.
    pub target_port: u16,
    /// The Service has no address of its own: clients connect to its pods.
    pub headless: bool,
}

pub(super) fn services(objects: &Objects, places: &Places) -> Vec<PlanService> {
    let pods_of = |info: &ServiceInfo| {
        let selects = |pod: &control_plane::Pod| {
            !info.selector.is_empty()
                && pod.namespace == info.namespace
                && info
                    .selector
                    .iter()
                    .all(|wanted| pod.labels.contains(wanted))
        };
        let all = (0u32..).zip(&places.pods);
        all.filter(|(_, pod)| selects(&pod.pod))
            .map(|(index, _)| index)
            .collect()
    };
    let with_pods = |info| PlanService {
        pods: pods_of(&info),
        info,
    };
    objects.services().into_iter().map(with_pods).collect()
}

/// What `host` and `port` mean to a client in `namespace`.
pub(super) struct Lookup<'a> {
    pub(super) objects: &'a Objects,
    pub(super) services: &'a [PlanService],
    /// Hosts of services outside the mesh that have a behaviour.
    pub(super) externals: &'a [&'a str],
}

impl Lookup<'_> {
    pub(super) fn find(
        &self,
        host: &str,
        port: u16,
        namespace: &str,
        named: &Named,
    ) -> Result<Target, Diagnostic> {
        let outside = self
            .externals
            .contains(&host)
            .then(|| external_address(host));
        let service = self.objects.service(host, namespace);
        let authority: Name = if port == 80 {
            host.into()
        } else {
            format!("{host}:{port}").into()
        };
        let Some(info) = service else {
            return match outside {
                Some(ip) => Ok(Target {
                    address: SocketAddr::new(ip, port),
                    authority,
                    service: None,
                    target_port: port,
                    headless: false,
                }),
                None => Err(self.unknown_host(host, named)),
            };
        };
        let Some(found) = info.ports.iter().find(|p| p.number == port) else {
            let ports: Vec<String> = info.ports.iter().map(|p| p.number.to_string()).collect();
            let message = format!("service `{host}` has no port {port}");
            return Err(Diagnostic::error(message)
                .at(&named.span, format!("its ports: {}", ports.join(", "))));
        };
        if info.external && outside.is_none() {
            let message = format!("`{host}` is outside the mesh and has no behaviour");
            return Err(Diagnostic::error(message)
                .at(&named.span, "nothing would answer")
                .help(outside_help(host)));
        }
        let number = self.services.iter().position(|s| s.info.host == info.host);
        let ip = outside.or(info.address);
        Ok(Target {
            address: SocketAddr::new(ip.unwrap_or(IpAddr::from([0, 0, 0, 0])), port),
            authority,
            service: number.map(|n| n as u32),
            target_port: found.target,
            headless: ip.is_none(),
        })
    }

    fn unknown_host(&self, host: &str, named: &Named) -> Diagnostic {
        let known = self
            .services
            .iter()
            .flat_map(|s| [s.bare_name(), s.short_name()]);
        let unknown = Diagnostic::error(format!("no service is called `{host}`"))
            .at(&named.span, "a host that no service has")
            .nearest(host, known.chain(self.externals.iter().copied()));
        match unknown.help {
            None if host.contains('.') => unknown.help(outside_help(host)),
            _ => unknown,
        }
    }
}

fn outside_help(host: &str) -> String {
    format!(
        "if it is outside the mesh, say how it behaves: `external: {{{host}: {{service_time: 20ms}}}}`"
    )
}
