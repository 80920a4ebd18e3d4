//! The route table of an Istio proxy that a request would meet.

use super::read::Input;
use crate::configuration::Proxy;
use control_plane::{Objects, ProxyKind, Request, Resources};
use proxy_core::contract::{Direction, DownstreamTls, Opened, Protocol};
use proxy_core::ids::DownstreamId;
use proxy_core::router::find_chain;
use proxy_core::xds::{NetworkFilter, RouteSource, RouteTable};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// `None`: nothing there routes HTTP. The port is that of the authority; without one, 80, or 443 for TLS
/// to a gateway.
pub(super) fn table_of(proxy: &Proxy, objects: &Objects, input: &Input) -> Option<Arc<RouteTable>> {
    let gateway = proxy.identity.kind == ProxyKind::Gateway;
    let secure = input.ssl && gateway;
    let scheme = if secure { "https" } else { "http" };
    let authority = input.head.authority.to_string();
    let mut request = Request {
        scheme: scheme.to_owned(),
        authority,
        ..Request::default()
    };
    request.resolve(objects, &proxy.identity);
    let name = request.authority.split(':').next().unwrap_or_default();
    let opened = Opened {
        downstream: DownstreamId {
            index: 0,
            generation: 0,
        },
        peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)),
        original_dst: request.address?,
        direction: match gateway {
            true => Direction::Gateway,
            false => Direction::Outbound,
        },
        tls: secure.then(|| DownstreamTls {
            sni: Some(name.into()),
            mutual: false,
            principal: None,
        }),
        protocol: Protocol::Http1,
    };
    let choice = find_chain(&proxy.resources.listeners, &opened, true)?;
    match &choice.chain()?.filter {
        NetworkFilter::Http(manager) => named(&proxy.resources, &manager.routes),
        NetworkFilter::Tcp(_) => None,
    }
}

fn named(resources: &Resources, source: &RouteSource) -> Option<Arc<RouteTable>> {
    match source {
        RouteSource::Inline(table) => Some(Arc::clone(table)),
        RouteSource::Rds(name) => {
            let mut tables = resources.routes.iter();
            tables.find(|table| table.name == *name).cloned()
        }
    }
}
