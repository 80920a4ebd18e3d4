//! Which listener and filter chain take a downstream connection.

use crate::contract::{Direction, DownstreamTls, Opened};
use crate::xds::{FilterChain, FilterChainMatch, IpRange, Listener, Name};
use std::net::IpAddr;
use std::sync::Arc;

/// The listener that takes a connection, and its chain if one matches.
#[derive(Clone, Debug)]
pub struct ChainChoice {
    pub listener: Arc<Listener>,
    /// Index into the listener's chains; `None` is the default chain, absent if there is none.
    chain: Option<usize>,
    /// Another chain matches alike.
    ambiguous: bool,
}

impl ChainChoice {
    /// Whether another chain matches as well, for which Envoy refuses the listener.
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Which of the listener's chains; `None`: the default one.
    pub fn index(&self) -> Option<usize> {
        self.chain
    }

    /// `None`: the connection is closed.
    pub fn chain(&self) -> Option<&FilterChain> {
        match self.chain {
            Some(at) => self.listener.filter_chains.get(at),
            None => self.listener.default_filter_chain.as_ref(),
        }
    }
}

/// Finds the listener as iptables and `use_original_dst` would: outbound connections arrive at
/// `virtualOutbound`, inbound ones at `virtualInbound`, those of a gateway at the port itself.
pub fn find_chain(listeners: &[Arc<Listener>], opened: &Opened, http: bool) -> Option<ChainChoice> {
    let port = opened.original_dst.port();
    let by_name = |name: &str| listeners.iter().find(|l| &*l.name == name);
    let by_address = |ip: Option<IpAddr>| {
        listeners.iter().find(|l| {
            l.port == port && l.address == ip && !l.use_original_dst && &*l.name != "virtualInbound"
        })
    };
    let exact = || by_address(Some(opened.original_dst.ip())).or_else(|| by_address(None));
    let listener = match opened.direction {
        Direction::Outbound => exact().or_else(|| by_name("virtualOutbound"))?,
        Direction::Inbound => by_name("virtualInbound")?,
        Direction::Gateway => exact()?,
    };
    let best = best_chains(listener, opened, http);
    Some(ChainChoice {
        listener: Arc::clone(listener),
        chain: best.first().copied(),
        ambiguous: best.len() > 1,
    })
}

/// Whether some connection would match two chains alike, for which Envoy refuses the listener.
pub fn has_overlapping_chains(listener: &Listener) -> bool {
    let chains = &listener.filter_chains;
    let matches = |at: usize| &chains[at].matches;
    let mut pairs = (0..chains.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
    pairs.any(|(a, b)| overlap(matches(a), matches(b)))
}

fn overlap(a: &FilterChainMatch, b: &FilterChainMatch) -> bool {
    fn share<T: PartialEq>(a: &[T], b: &[T]) -> bool {
        (a.is_empty() && b.is_empty()) || a.iter().any(|one| b.contains(one))
    }
    a.destination_port == b.destination_port
        && a.transport_protocol == b.transport_protocol
        && share(&a.prefix_ranges, &b.prefix_ranges)
        && share(&a.server_names, &b.server_names)
        && share(&a.application_protocols, &b.application_protocols)
}

/// Envoy narrows by one condition after another, in this order: destination port, destination
/// address, server name, transport protocol, application protocol; at each step the most specific
/// match wins, and there is no way back.
fn best_chains(listener: &Listener, opened: &Opened, http: bool) -> Vec<usize> {
    let port = opened.original_dst.port();
    let candidates: Vec<usize> = (0..listener.filter_chains.len()).collect();
    let chain = |at: &usize| &listener.filter_chains[*at].matches;
    let candidates = narrow(candidates, |at| match chain(at).destination_port {
        Some(p) => (p == port).then_some(1),
        None => Some(0),
    });
    let candidates = narrow(candidates, |at| {
        address_score(chain(at), opened.original_dst.ip())
    });
    let seen = listener.tls_inspector.sees(port);
    let tls = opened.tls.as_ref().filter(|_| seen);
    let sni = tls.and_then(|tls| tls.sni.as_deref());
    let candidates = narrow(candidates, |at| server_name_score(chain(at), sni));
    let transport = if tls.is_some() { "tls" } else { "raw_buffer" };
    let candidates = narrow(candidates, |at| {
        match chain(at).transport_protocol.as_deref() {
            Some(want) => (want == transport).then_some(1),
            None => Some(0),
        }
    });
    // TLS that is not seen as such is no HTTP either.
    let offered = application_protocols(tls, http && (seen || opened.tls.is_none()));
    // What the client offers first counts.
    let rank = |wanted: &Name| offered.iter().rev().position(|one| **one == **wanted);
    narrow(candidates, |at| {
        let wanted = &chain(at).application_protocols;
        match wanted.is_empty() {
            true => Some(0),
            false => wanted.iter().filter_map(rank).max().map(|rank| 1 + rank),
        }
    })
}

/// Keeps the candidates of the highest score; those without one are out.
fn narrow(candidates: Vec<usize>, score: impl Fn(&usize) -> Option<usize>) -> Vec<usize> {
    let best = candidates.iter().filter_map(&score).max();
    candidates
        .into_iter()
        .filter(|at| score(at).is_some() && score(at) == best)
        .collect()
}

fn address_score(matches: &FilterChainMatch, ip: IpAddr) -> Option<usize> {
    if matches.prefix_ranges.is_empty() {
        return Some(0);
    }
    matches
        .prefix_ranges
        .iter()
        .filter(|(address, prefix_length)| {
            let (address, prefix_length) = (*address, *prefix_length);
            IpRange {
                address,
                prefix_length,
            }
            .contains(ip)
        })
        .map(|(_, len)| 1 + usize::from(*len))
        .max()
}

/// Exact names beat wildcards, longer wildcards beat shorter ones.
fn server_name_score(matches: &FilterChainMatch, sni: Option<&str>) -> Option<usize> {
    if matches.server_names.is_empty() {
        return Some(0);
    }
    let sni = sni?;
    let score = |name: &str| match name.strip_prefix('*') {
        None => name.eq_ignore_ascii_case(sni).then_some(usize::MAX),
        Some(suffix) => sni
            .to_ascii_lowercase()
            .ends_with(&suffix.to_ascii_lowercase())
            .then_some(1 + suffix.len()),
    };
    matches
        .server_names
        .iter()
        .filter_map(|name| score(name))
        .max()
}

/// What ALPN, or the inspector of plain text, would find.
fn application_protocols(tls: Option<&DownstreamTls>, http: bool) -> &'static [&'static str] {
    match (tls, http) {
        (Some(tls), true) if tls.mutual => &["istio-http/1.1", "istio-http/1.0", "istio"],
        (Some(tls), false) if tls.mutual => &["istio-peer-exchange", "istio"],
        (Some(_), true) => &["http/1.1"],
        (None, true) => &["http/1.1", "http/1.0"],
        (_, false) => &[],
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contract::Protocol;
    use crate::ids::DownstreamId;
    use crate::xds::{NetworkFilter, TcpProxy, TlsInspector};

    /// As Istio sends them for a port whose protocol is found out.
    #[test]
    fn the_protocol_that_is_offered_first_finds_the_chain() {
        let chain = |protocols: &[&str]| FilterChain {
            name: "".into(),
            matches: FilterChainMatch {
                transport_protocol: Some("tls".into()),
                application_protocols: protocols.iter().map(|&name| name.into()).collect(),
                ..FilterChainMatch::default()
            },
            terminates_tls: true,
            rbac: Vec::new(),
            filter: NetworkFilter::Tcp(TcpProxy {
                clusters: Vec::new(),
            }),
        };
        let listener = Arc::new(Listener {
            name: "virtualInbound".into(),
            address: None,
            port: 15006,
            filter_chains: vec![
                chain(&["istio-http/1.0", "istio-http/1.1", "istio-h2"]),
                chain(&["istio-peer-exchange", "istio"]),
                chain(&[]),
            ],
            default_filter_chain: None,
            use_original_dst: false,
            tls_inspector: TlsInspector::AllPorts,
        });
        let opened = |mutual: bool| Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: ([127, 0, 0, 1], 1).into(),
            original_dst: ([10, 0, 0, 1], 80).into(),
            direction: Direction::Inbound,
            tls: Some(DownstreamTls {
                sni: None,
                mutual,
                principal: None,
            }),
            protocol: Protocol::Http1,
        };
        for (mutual, http, want) in [(true, true, 0), (true, false, 1), (false, true, 2)] {
            let choice = find_chain(&[Arc::clone(&listener)], &opened(mutual), http).unwrap();
            assert_eq!(
                (choice.index(), choice.is_ambiguous()),
                (Some(want), false),
                "{mutual} {http}"
            );
        }
    }
}
