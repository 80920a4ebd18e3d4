//! A request that is asked about.

use crate::model::{Pod, ProxyIdentity, ProxyKind};
use crate::objects::Objects;
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::xds::Name;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where a connection goes whose host has no known address: class E, which nobody has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 240, 1, 7));

/// A request, or the beginning of a TCP connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Request {
    pub method: String,
    pub scheme: String,
    pub authority: String,
    /// With query.
    pub path: String,
    pub headers: Vec<(String, String)>,
    /// Where the connection was going. Default: an address of nobody, the port of the authority.
    pub address: Option<SocketAddr>,
    pub protocol: RequestProtocol,
    pub tls: RequestTls,
    pub sni: Option<String>,
    /// Default: outbound, or gateway at a gateway.
    pub direction: Option<RequestDirection>,
    /// Where it comes from. Default: this machine.
    pub source: Option<IpAddr>,
    /// Who sends it by mutual TLS, as policies say it: `cluster.local/ns/NAMESPACE/sa/ACCOUNT`.
    pub principal: Option<String>,
}

/// What the client speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestProtocol {
    #[default]
    Http,
    Tcp,
}

/// How the client secures it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestTls {
    #[default]
    None,
    Tls,
    /// Istio's own.
    Mtls,
}

/// Which way it goes through the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestDirection {
    Outbound,
    Inbound,
    Gateway,
}

impl Default for Request {
    fn default() -> Request {
        Request {
            method: "GET".into(),
            scheme: "http".into(),
            authority: String::new(),
            path: "/".into(),
            headers: Vec::new(),
            address: None,
            protocol: RequestProtocol::Http,
            tls: RequestTls::None,
            sni: None,
            direction: None,
            source: None,
            principal: None,
        }
    }
}

impl Request {
    /// A GET of a URL; `http` where it has no scheme. Fails, saying why, for a URL without host,
    /// with a port that is none, or of another scheme.
    pub fn to_url(url: &str) -> Result<Request, String> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        if scheme != "http" && scheme != "https" {
            return Err(format!("`{url}`: the scheme is neither http nor https"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let (host, _) =
            host_and_port(authority, scheme).map_err(|why| format!("`{url}`: {why}"))?;
        let path = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/{path}"),
        };
        let tls = scheme == "https";
        Ok(Request {
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path,
            tls: if tls {
                RequestTls::Tls
            } else {
                RequestTls::None
            },
            sni: tls.then(|| host.to_owned()),
            ..Request::default()
        })
    }

    /// Sets the address, where none is given, to what the host of the authority means to a client
    /// beside `proxy`: the service's own address; at a gateway, the port that the gateway's pods
    /// listen on where clients connect to that of its Service.
    pub fn resolve(&mut self, objects: &Objects, proxy: &ProxyIdentity) {
        if self.address.is_some() {
            return;
        }
        let Ok((host, port)) = host_and_port(&self.authority, &self.scheme) else {
            return;
        };
        self.address = Some(match (self.direction, proxy.kind) {
            (Some(RequestDirection::Gateway), _) | (None, ProxyKind::Gateway) => {
                SocketAddr::new(proxy.ip, listening_port(objects, proxy, port))
            }
            (Some(RequestDirection::Inbound), _) => SocketAddr::new(proxy.ip, port),
            _ => {
                let service = objects.service(host, &proxy.namespace);
                let address = service.and_then(|service| service.address);
                let ip = address.or_else(|| host.parse().ok()).unwrap_or(NOBODY);
                SocketAddr::new(ip, port)
            }
        });
    }

    /// Makes it come from `pod`: to a sidecar that is asked about it from outside, by mutual TLS if the
    /// pod has a proxy.
    pub fn come_from(&mut self, pod: &Pod, proxy: &ProxyIdentity) {
        self.source = Some(pod.ip);
        if proxy.kind != ProxyKind::Sidecar {
            return;
        }
        self.direction = Some(RequestDirection::Inbound);
        if matches!(pod.proxy, ProxyKind::Sidecar | ProxyKind::Gateway)
            && self.tls == RequestTls::None
        {
            self.tls = RequestTls::Mtls;
            let principal = pod.principal();
            let principal = principal.strip_prefix("spiffe://").unwrap_or(&principal);
            self.principal = Some(principal.to_owned());
        }
    }

    /// Adds a header written as `NAME: VALUE`; that of `host` is the authority instead. Fails for a
    /// line without a colon.
    pub fn add_header(&mut self, line: &str) -> Result<(), String> {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("`{line}` is not a header: NAME: VALUE"))?;
        match name.trim().to_ascii_lowercase().as_str() {
            "host" => self.authority = value.trim().to_owned(),
            name => self
                .headers
                .push((name.to_owned(), value.trim().to_owned())),
        }
        Ok(())
    }

    /// Its head, as the proxy reads it.
    pub fn head(&self) -> RequestHead {
        let lines = self.headers.iter().map(|(name, value)| {
            let name = Name::from(name.to_ascii_lowercase());
            (name, HeaderText::new(value.as_bytes()))
        });
        RequestHead {
            method: self.method.as_str().into(),
            scheme: self.scheme.as_str().into(),
            authority: self.authority.as_str().into(),
            path: self.path.as_str().into(),
            headers: Headers(lines.collect()),
            id: None,
        }
    }

    /// Where the connection was going.
    pub fn destination(&self) -> SocketAddr {
        self.address.unwrap_or_else(|| {
            let port = host_and_port(&self.authority, &self.scheme);
            SocketAddr::new(
                NOBODY,
                port.map_or(default_port(&self.scheme), |(_, port)| port),
            )
        })
    }
}

/// The host, without the brackets of an IPv6 address, and the port, by the scheme if not given.
fn host_and_port<'a>(authority: &'a str, scheme: &str) -> Result<(&'a str, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !authority.ends_with(']') => {
            let number = port.parse();
            (host, number.map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (authority, default_port(scheme)),
    };
    if host.is_empty() {
        return Err("no host".to_owned());
    }
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    Ok((bare.unwrap_or(host), port))
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

/// Where the pods listen that a Service in front of the gateway has at `port`.
fn listening_port(objects: &Objects, gateway: &ProxyIdentity, port: u16) -> u16 {
    let services = objects.services();
    let before = services.iter().filter(|service| {
        service.namespace == gateway.namespace
            && !service.selector.is_empty()
            && service.selector.iter().all(|l| gateway.labels.contains(l))
    });
    let mut ports = before.flat_map(|service| &service.ports);
    let found = ports.find(|known| known.number == port);
    found.map_or(port, |known| known.target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let url = |url: &str| {
            Request::to_url(url)
                .map(|r| (r.authority.clone(), r.path.clone(), r.destination().port()))
        };
        let parts =
            |authority: &str, path: &str, port| Ok((authority.to_owned(), path.to_owned(), port));
        assert_eq!(
            url("reviews:9080/a?b=c#d"),
            parts("reviews:9080", "/a?b=c", 9080)
        );
        assert_eq!(url("http://reviews"), parts("reviews", "/", 80));
        assert_eq!(url("https://reviews?x"), parts("reviews", "/?x", 443));
        assert_eq!(url("http://[::1]/"), parts("[::1]", "/", 80));
        assert_eq!(url("http://[::1]:81/"), parts("[::1]:81", "/", 81));
        for wrong in [
            "ftp://a",
            "http://",
            "http:///x",
            "http://:80",
            "a:b",
            "a:99999",
        ] {
            assert!(url(wrong).is_err(), "{wrong}");
        }
        let https = Request::to_url("https://a:8443/").unwrap();
        assert_eq!(
            (https.tls, https.sni.as_deref()),
            (RequestTls::Tls, Some("a"))
        );
    }
}
