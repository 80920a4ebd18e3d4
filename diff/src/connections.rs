//! Classes of connections to a proxy that its listeners and filter chains tell apart, before and after,
//! each with a connection that stands for it.

use control_plane::{Request, RequestDirection, RequestProtocol, RequestTls};
use proxy_core::contract::{Direction, DownstreamTls, Opened, Protocol};
use proxy_core::ids::DownstreamId;
use proxy_core::router::{ChainChoice, find_chain};
use proxy_core::xds::{
    FilterChain, HttpConnectionManager, Listener, Name, NetworkFilter, TcpProxy,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What nobody has: class E.
pub(crate) const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 240, 1, 7));

/// Who connects by mutual TLS, where it does not matter who.
const SOMEBODY: &str = "cluster.local/ns/default/sa/default";

/// A connection, with all that chooses its filter chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Connection {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Secured,
    pub(crate) sni: Option<String>,
    /// What the client speaks looks like HTTP.
    pub(crate) http: bool,
    /// Stands for all ports that nothing names.
    pub(crate) elsewhere: bool,
}

/// How the client secures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Secured {
    Plain,
    Tls,
    Mutual,
}

/// Who takes a connection.
#[derive(Clone, Debug)]
pub(crate) struct Taker {
    choice: Option<ChainChoice>,
}

/// What the taker does with it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Handling<'t> {
    /// Why it comes to nothing.
    Refused(&'static str),
    Http(&'t HttpConnectionManager),
    Tcp(&'t FilterChain, &'t TcpProxy),
}

/// A class of connections that the same chains take.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    pub(crate) witness: Connection,
    pub(crate) old: Taker,
    pub(crate) new: Taker,
}

impl Connection {
    pub(crate) fn opened(&self, direction: Direction) -> Opened {
        let tls = (self.tls != Secured::Plain).then(|| DownstreamTls {
            sni: self.sni.as_deref().map(Name::from),
            mutual: self.tls == Secured::Mutual,
            principal: None,
        });
        Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1),
            original_dst: self.address,
            direction,
            tls,
            protocol: Protocol::Http1,
        }
    }

    /// A request on it, without host and path.
    pub(crate) fn request(&self, direction: Direction) -> Request {
        Request {
            scheme: match self.tls {
                Secured::Tls => "https".into(),
                Secured::Plain | Secured::Mutual => "http".into(),
            },
            address: Some(self.address),
            protocol: match self.http {
                true => RequestProtocol::Http,
                false => RequestProtocol::Tcp,
            },
            tls: match self.tls {
                Secured::Plain => RequestTls::None,
                Secured::Tls => RequestTls::Tls,
                Secured::Mutual => RequestTls::Mtls,
            },
            sni: self.sni.clone(),
            principal: (self.tls == Secured::Mutual).then(|| SOMEBODY.to_owned()),
            direction: Some(match direction {
                Direction::Outbound => RequestDirection::Outbound,
                Direction::Inbound => RequestDirection::Inbound,
                Direction::Gateway => RequestDirection::Gateway,
            }),
            ..Request::default()
        }
    }
}

impl Taker {
    pub(crate) fn handling(&self, connection: &Connection) -> Handling<'_> {
        let Some(choice) = &self.choice else {
            return Handling::Refused("nothing listens");
        };
        if choice.is_ambiguous() {
            return Handling::Refused("two filter chains match alike: the listener is refused");
        }
        let Some(chain) = choice.chain() else {
            return Handling::Refused("no filter chain matches: the connection is closed");
        };
        let plain = connection.tls == Secured::Plain;
        if plain && chain.terminates_tls {
            return Handling::Refused("the TLS handshake fails: the connection is closed");
        }
        match &chain.filter {
            NetworkFilter::Tcp(tcp) => Handling::Tcp(chain, tcp),
            NetworkFilter::Http(_) if !connection.http || !(plain || chain.terminates_tls) => {
                Handling::Refused("the bytes are not the HTTP that is expected: 400")
            }
            NetworkFilter::Http(manager) => Handling::Http(manager),
        }
    }

    /// Which listener, and which of its chains.
    fn place(&self) -> Option<(*const Listener, Option<usize>, bool)> {
        let choice = self.choice.as_ref()?;
        let listener = Arc::as_ptr(&choice.listener);
        Some((listener, choice.index(), choice.is_ambiguous()))
    }

    /// The same chain for the same reason.
    pub(crate) fn is_same(&self, other: &Taker) -> bool {
        self.place() == other.place()
    }
}

/// The listeners of one side, by where they listen.
pub(crate) struct Listeners<'r> {
    direction: Direction,
    own_address: IpAddr,
    by_place: BTreeMap<(Option<IpAddr>, u16), &'r Arc<Listener>>,
    /// Takes what no other does.
    rest: Option<&'r Arc<Listener>>,
}

impl<'r> Listeners<'r> {
    pub(crate) fn of(
        all: &'r [Arc<Listener>],
        direction: Direction,
        own_address: IpAddr,
    ) -> Listeners<'r> {
        let rest = match direction {
            Direction::Outbound => "virtualOutbound",
            Direction::Inbound => "virtualInbound",
            Direction::Gateway => "",
        };
        let mut listeners = Listeners {
            direction,
            own_address,
            by_place: BTreeMap::new(),
            rest: all.iter().find(|listener| &*listener.name == rest),
        };
        let at_places = all.iter().filter(|listener| {
            direction != Direction::Inbound
                && !listener.use_original_dst
                && &*listener.name != "virtualInbound"
        });
        for listener in at_places {
            let place = (listener.address, listener.port);
            listeners.by_place.entry(place).or_insert(listener);
        }
        listeners
    }

    fn at(&self, address: SocketAddr) -> Option<&'r Arc<Listener>> {
        let exact = self.by_place.get(&(Some(address.ip()), address.port()));
        let found = exact.or_else(|| self.by_place.get(&(None, address.port())));
        found.copied().or(self.rest)
    }

    pub(crate) fn taker(&self, connection: &Connection) -> Taker {
        let choice = self.at(connection.address).and_then(|listener| {
            let opened = connection.opened(self.direction);
            find_chain(std::slice::from_ref(listener), &opened, connection.http)
        });
        Taker { choice }
    }

    fn ports(&self) -> impl Iterator<Item = u16> {
        let chains = self.rest.iter().flat_map(|listener| listener.chains());
        let of_chains = chains.filter_map(|chain| chain.matches.destination_port);
        self.by_place.keys().map(|(_, port)| *port).chain(of_chains)
    }
}

/// Every class, as far as chains look.
pub(crate) fn classes(old: &Listeners<'_>, new: &Listeners<'_>) -> Vec<Class> {
    let places: BTreeSet<(Option<IpAddr>, u16)> = match old.direction {
        Direction::Outbound | Direction::Gateway => old
            .by_place
            .keys()
            .chain(new.by_place.keys())
            .copied()
            .collect(),
        Direction::Inbound => old
            .ports()
            .chain(new.ports())
            .map(|port| (None, port))
            .collect(),
    };
    let mut addresses: Vec<(SocketAddr, bool)> = Vec::new();
    let used: BTreeSet<u16> = places.iter().map(|(_, port)| *port).collect();
    let other_port = (1024..u16::MAX).rev().find(|port| !used.contains(port));
    let anywhere = other_port.map(|port| (None, port));
    for (address, port) in places.into_iter().chain(anywhere) {
        let elsewhere = Some(port) == other_port;
        let fixed = match old.direction {
            Direction::Outbound => address,
            Direction::Inbound | Direction::Gateway => Some(address.unwrap_or(old.own_address)),
        };
        match fixed {
            Some(ip) => addresses.push((SocketAddr::new(ip, port), elsewhere)),
            None => {
                let at = SocketAddr::new(NOBODY, port);
                let chains = [old.at(at), new.at(at)].into_iter().flatten();
                let ips = told_apart(chains.flat_map(|listener| listener.chains()));
                let at_port = |ip| (SocketAddr::new(ip, port), elsewhere);
                addresses.extend(ips.into_iter().map(at_port));
            }
        }
    }
    let mut classes: Vec<Class> = Vec::new();
    for (address, elsewhere) in addresses {
        let from = classes.len();
        for witness in at_address(old, new, address, elsewhere) {
            let (before, after) = (old.taker(&witness), new.taker(&witness));
            let known = classes[from..].iter().any(|class| {
                class.old.is_same(&before)
                    && class.new.is_same(&after)
                    && class.witness.tls == witness.tls
                    && class.witness.http == witness.http
            });
            if !known {
                classes.push(Class {
                    witness,
                    old: before,
                    new: after,
                });
            }
        }
    }
    classes
}

/// The connections to one address that some chain may tell apart, the plainest first.
fn at_address(
    old: &Listeners<'_>,
    new: &Listeners<'_>,
    address: SocketAddr,
    elsewhere: bool,
) -> Vec<Connection> {
    let listeners = [old.at(address), new.at(address)];
    let chains = || {
        let listeners = listeners.iter().flatten();
        listeners.flat_map(|listener| listener.chains())
    };
    let names = server_names(chains());
    let secured: &[Secured] = match old.direction {
        // TLS of another kind is the application's own, or fails.
        Direction::Inbound => &[Secured::Plain, Secured::Mutual],
        Direction::Outbound | Direction::Gateway => &[Secured::Plain, Secured::Tls],
    };
    let mut connections = Vec::new();
    for &tls in secured {
        let no_name = [None];
        let names = match tls {
            Secured::Plain => &no_name[..],
            Secured::Tls | Secured::Mutual => &names,
        };
        for sni in names {
            for http in [false, true] {
                connections.push(Connection {
                    address,
                    tls,
                    sni: sni.clone(),
                    http,
                    elsewhere,
                });
            }
        }
    }
    connections
}

/// A server name for each that chains ask for, one that none does, and no name.
fn server_names<'c>(chains: impl Iterator<Item = &'c FilterChain>) -> Vec<Option<String>> {
    let asked: BTreeSet<&Name> = chains
        .flat_map(|chain| &chain.matches.server_names)
        .collect();
    let exact = asked.iter().filter(|name| !name.starts_with('*'));
    let mut names: Vec<Option<String>> = exact.map(|name| Some(name.to_string())).collect();
    for suffix in asked.iter().filter_map(|name| name.strip_prefix('*')) {
        names.push(Some(format!("any{suffix}")));
    }
    if !asked.is_empty() {
        names.push(Some("any.example".to_owned()));
    }
    names.push(None);
    names
}

/// Addresses in each part that the chains' ranges make of all addresses.
fn told_apart<'c>(chains: impl Iterator<Item = &'c FilterChain>) -> Vec<IpAddr> {
    let ranges: BTreeSet<(IpAddr, u8)> = chains
        .flat_map(|chain| chain.matches.prefix_ranges.iter().copied())
        .collect();
    let mut addresses = vec![NOBODY];
    for (address, length) in ranges {
        addresses.extend(edges(address, length));
    }
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The first two addresses of a range, its last one, and those beside it.
fn edges(address: IpAddr, length: u8) -> Vec<IpAddr> {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            let (first, last) = (ip.to_bits() & !mask, ip.to_bits() | mask);
            [
                first,
                first.saturating_add(1),
                last,
                first.saturating_sub(1),
                last.saturating_add(1),
            ]
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
            .into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shr(length.into()).unwrap_or(0);
            let (first, last) = (ip.to_bits() & !mask, ip.to_bits() | mask);
            [first, last, first.saturating_sub(1), last.saturating_add(1)]
                .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
                .into()
        }
    }
}
