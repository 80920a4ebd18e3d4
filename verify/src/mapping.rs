//! Where the addresses and names of many configurations live on one machine: addresses on loopback,
//! ports that collide with nobody's, names with a prefix for each configuration.

use crate::Failure;
use control_plane::Resources;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    Condition, Discovery, Endpoint, FilterChain, Forward, Listener, LoadAssignment,
    LocalityEndpoints, Name, NetworkFilter, Rbac, Route, RouteAction, RouteSource, RouteTable,
    TlsInspector,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;

/// Injected delays are cut to this.
pub(crate) const LONGEST_DELAY: Nanos = Nanos::from_millis(50);

/// Below the ports that systems hand out by themselves.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Real addresses for those of all configurations of one run; one to one.
pub(crate) struct Places {
    addresses: BTreeMap<IpAddr, Ipv4Addr>,
    /// By configuration.
    ports: BTreeMap<(usize, u16), u16>,
    endpoints: BTreeMap<Place, SocketAddr>,
    next_port: u16,
    /// Keep the ports from others on this machine for as long as the run lasts.
    reservations: Vec<TcpListener>,
}

/// What an upstream of ours stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Address(SocketAddr),
    Named(Name, u16),
}

impl Places {
    pub(crate) fn new() -> Places {
        let spread = (std::process::id() % 200) as u16 * 100;
        Places {
            addresses: BTreeMap::new(),
            ports: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            next_port: PORTS.start + spread,
            reservations: Vec::new(),
        }
    }

    /// A port nobody else has.
    pub(crate) fn free_port(&mut self) -> Result<u16, Failure> {
        for _ in PORTS {
            let port = self.next_port;
            self.next_port = if port + 1 < PORTS.end {
                port + 1
            } else {
                PORTS.start
            };
            if let Ok(reservation) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                self.reservations.push(reservation);
                return Ok(port);
            }
        }
        Err(Failure::Machine("no port of loopback is free".to_owned()))
    }

    fn ip(&mut self, ip: IpAddr) -> IpAddr {
        let number = self.addresses.len() as u32 + 1;
        let real = self.addresses.entry(ip);
        let real = real.or_insert_with(|| Ipv4Addr::from_bits(0x7f40_0000 | number));
        IpAddr::V4(*real)
    }

    fn port(&mut self, config: usize, port: u16) -> Result<u16, Failure> {
        if let Some(known) = self.ports.get(&(config, port)) {
            return Ok(*known);
        }
        let real = self.free_port()?;
        self.ports.insert((config, port), real);
        Ok(real)
    }

    /// Where a connection of `config` to `destination` goes.
    pub(crate) fn destination(
        &mut self,
        config: usize,
        destination: SocketAddr,
    ) -> Result<SocketAddr, Failure> {
        Ok(SocketAddr::new(
            self.ip(destination.ip()),
            self.port(config, destination.port())?,
        ))
    }

    fn endpoint(&mut self, place: Place) -> Result<SocketAddr, Failure> {
        if let Some(known) = self.endpoints.get(&place) {
            return Ok(*known);
        }
        // Not a reserved one: it is listened on at once, by the upstreams.
        let real = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| Ok((listener.local_addr()?, listener)))
            .map_err(|error| Failure::Machine(error.to_string()))?;
        self.reservations.push(real.1);
        self.endpoints.insert(place, real.0);
        Ok(real.0)
    }

    /// Every upstream made so far.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = SocketAddr> {
        self.endpoints.values().copied()
    }

    /// Lets go of the listener that has kept `address` so far.
    pub(crate) fn release(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let held = |one: &TcpListener| one.local_addr().is_ok_and(|local| local == address);
        let at = self.reservations.iter().position(held)?;
        Some(self.reservations.swap_remove(at))
    }

    /// `resources` with all of it where it is on this machine.
    pub(crate) fn map(
        &mut self,
        config: usize,
        resources: &Resources,
    ) -> Result<Resources, Failure> {
        let mut mapped = Resources::default();
        for cluster in &resources.clusters {
            let mut one = (**cluster).clone();
            one.discovery = match one.discovery {
                Discovery::Eds => Discovery::Eds,
                Discovery::Static(assignment) => Discovery::Static(self.assignment(&assignment)?),
                Discovery::StrictDns { host, port } | Discovery::LogicalDns { host, port } => {
                    let mut only = Endpoint::new(self.endpoint(Place::Named(host.clone(), port))?);
                    only.hostname = Some(host);
                    let local = LocalityEndpoints {
                        locality: "".into(),
                        priority: 0,
                        weight: 0,
                        endpoints: vec![only],
                    };
                    Discovery::Static(LoadAssignment::new(one.name.clone(), vec![local]))
                }
                Discovery::OriginalDst { port } => {
                    let port = port.map(|port| self.port(config, port)).transpose()?;
                    Discovery::OriginalDst { port }
                }
            };
            mapped.clusters.push(Arc::new(one));
        }
        for assignment in &resources.endpoints {
            mapped
                .endpoints
                .push(Arc::new(self.assignment(assignment)?));
        }
        for listener in &resources.listeners {
            mapped
                .listeners
                .push(Arc::new(self.listener(config, listener)?));
        }
        mapped.routes = resources
            .routes
            .iter()
            .map(|table| Arc::new(in_time(table)))
            .collect();
        Ok(mapped)
    }

    fn assignment(&mut self, assignment: &LoadAssignment) -> Result<LoadAssignment, Failure> {
        let mut mapped = assignment.clone();
        for endpoint in mapped.localities.iter_mut().flat_map(|l| &mut l.endpoints) {
            endpoint.address = self.endpoint(Place::Address(endpoint.address))?;
        }
        Ok(mapped)
    }

    fn listener(&mut self, config: usize, listener: &Listener) -> Result<Listener, Failure> {
        let mut mapped = listener.clone();
        mapped.address = mapped.address.map(|ip| self.ip(ip));
        mapped.port = self.port(config, mapped.port)?;
        for chain in mapped.chains_mut() {
            let matches = &mut chain.matches;
            let port = matches.destination_port.map(|port| self.port(config, port));
            matches.destination_port = port.transpose()?;
            for (ip, length) in &mut matches.prefix_ranges {
                if *length == if ip.is_ipv4() { 32 } else { 128 } {
                    (*ip, *length) = (self.ip(*ip), 32);
                }
            }
            self.access(config, &mut chain.rbac)?;
            if let NetworkFilter::Http(manager) = &mut chain.filter {
                self.access(config, &mut manager.rbac)?;
                if let RouteSource::Inline(table) = &manager.routes {
                    manager.routes = RouteSource::Inline(Arc::new(in_time(table)));
                }
            }
        }
        match &mut mapped.tls_inspector {
            TlsInspector::AllPorts => {}
            TlsInspector::AllPortsBut(ports) | TlsInspector::Only(ports) => {
                for port in ports {
                    *port = self.port(config, *port)?;
                }
            }
        }
        Ok(mapped)
    }

    fn access(&mut self, config: usize, filters: &mut [Rbac]) -> Result<(), Failure> {
        let policies = filters.iter_mut().flat_map(|filter| &mut filter.policies);
        for policy in policies {
            for one in policy.permissions.iter_mut().chain(&mut policy.principals) {
                self.condition(config, one)?;
            }
        }
        Ok(())
    }

    fn condition(&mut self, config: usize, condition: &mut Condition) -> Result<(), Failure> {
        match condition {
            Condition::DestinationPort(port) => *port = self.port(config, *port)?,
            Condition::DestinationIp(range) if range.is_one_address() => {
                range.address = self.ip(range.address);
                range.prefix_length = 32;
            }
            Condition::And(inner) | Condition::Or(inner) => {
                for one in inner {
                    self.condition(config, one)?;
                }
            }
            Condition::Not(inner) => self.condition(config, inner)?,
            _ => {}
        }
        Ok(())
    }
}

/// The table with its faults' delays cut.
fn in_time(table: &RouteTable) -> RouteTable {
    each_route(table, |_, _, route| {
        let mut route = route.clone();
        let delay = route.fault.as_mut().and_then(|fault| fault.delay.as_mut());
        if let Some(delay) = delay {
            delay.fixed = delay.fixed.min(LONGEST_DELAY);
        }
        route
    })
}

fn each_route(table: &RouteTable, change: impl Fn(usize, usize, &Route) -> Route) -> RouteTable {
    let mut hosts = table.virtual_hosts.clone();
    for (host_at, host) in hosts.iter_mut().enumerate() {
        for (at, route) in Arc::make_mut(host).routes.iter_mut().enumerate() {
            *route = Arc::new(change(host_at, at, route));
        }
    }
    RouteTable::sharing(table.name.clone(), hosts, table.ignore_port_in_host)
}

/// What tells a route of a table from all others, in words.
pub(crate) fn label(table: &RouteTable, host_at: usize, at: usize) -> String {
    let host = &table.virtual_hosts[host_at];
    let name = &host.routes[at].name;
    format!("{}[{host_at}] route {at} `{name}`", host.name)
}

/// The prefix of names of configuration number `config`.
pub(crate) fn prefix(config: usize) -> String {
    format!("c{config}/")
}

/// Mapped resources with names that no other configuration has, and routes named by their place.
pub(crate) fn named_apart(config: usize, resources: &Resources) -> Resources {
    let renamed = |name: &Name| -> Name { format!("{}{name}", prefix(config)).into() };
    let mut apart = Resources::default();
    for cluster in &resources.clusters {
        let mut one = (**cluster).clone();
        one.name = renamed(&one.name);
        if let Discovery::Static(assignment) = &mut one.discovery {
            assignment.cluster = one.name.clone();
        }
        apart.clusters.push(Arc::new(one));
    }
    for assignment in &resources.endpoints {
        let mut one = (**assignment).clone();
        one.cluster = renamed(&one.cluster);
        apart.endpoints.push(Arc::new(one));
    }
    let table = |table: &RouteTable| {
        let mut one = each_route(table, |host_at, at, route| {
            let mut route = route.clone();
            route.name = label(table, host_at, at).into();
            if let RouteAction::Forward(forward) = &mut route.action {
                rename_clusters(forward, renamed);
            }
            route
        });
        one.name = renamed(&one.name);
        Arc::new(one)
    };
    let chain = |chain: &mut FilterChain| match &mut chain.filter {
        NetworkFilter::Tcp(tcp) => {
            for (cluster, _) in &mut tcp.clusters {
                *cluster = renamed(cluster);
            }
        }
        NetworkFilter::Http(manager) => {
            manager.routes = match &manager.routes {
                RouteSource::Rds(name) => RouteSource::Rds(renamed(name)),
                RouteSource::Inline(inline) => RouteSource::Inline(table(inline)),
            };
        }
    };
    for listener in &resources.listeners {
        let mut one = (**listener).clone();
        one.name = renamed(&one.name);
        one.chains_mut().for_each(chain);
        apart.listeners.push(Arc::new(one));
    }
    apart.routes = resources.routes.iter().map(|one| table(one)).collect();
    apart
}

fn rename_clusters(forward: &mut Forward, renamed: impl Fn(&Name) -> Name) {
    for entry in &mut forward.clusters {
        entry.cluster = renamed(&entry.cluster);
    }
    for mirror in &mut forward.mirrors {
        mirror.cluster = renamed(&mirror.cluster);
    }
}
