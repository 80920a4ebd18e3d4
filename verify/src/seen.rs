//! What is asked, and what is seen of it at either side.

use control_plane::{Request, RequestDirection, RequestProtocol, Resources};
use proxy_core::contract::Direction;
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::time::Nanos;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// Carries the number of a request through either proxy; both leave it as it is.
pub(crate) const ID: &str = "x-request-id";
/// What the upstream is to do.
pub(crate) const SCRIPT: &str = "x-verify-upstream";
/// Requests with it tell how often their connection upstream was used before. Only where nothing is
/// random: what the core is asked in search of Envoy's choice uses connections too.
pub(crate) const CONNECTION: &str = "x-verify-connection";
/// Envoy's count of tries.
pub(crate) const ATTEMPT: &str = "x-envoy-attempt-count";
/// Ids of requests that are one of many alike begin so.
pub(crate) const SAMPLE: &str = "sample-";

/// One request to both sides.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: String,
    pub(crate) config: usize,
    /// As it was meant, in the configuration's own addresses.
    pub(crate) request: Request,
    pub(crate) direction: Direction,
    pub(crate) head: Arc<RequestHead>,
    /// The client, and where it was connecting to on this machine.
    pub(crate) peer: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Asked {
    pub(crate) fn new(
        (id, config): (String, usize),
        request: &Request,
        resources: &Resources,
        peer: SocketAddr,
        destination: SocketAddr,
    ) -> Asked {
        let own = |(name, value): &(String, String)| {
            let value: Vec<u8> = value
                .chars()
                .map(|c| u8::try_from(c).unwrap_or(b'?'))
                .collect();
            (name.to_ascii_lowercase().into(), HeaderText::new(&value))
        };
        let mut headers = Headers(request.headers.iter().map(own).collect());
        headers.set(ID.into(), id.as_bytes());
        let head = RequestHead {
            method: request.method.as_str().into(),
            scheme: "http".into(),
            authority: request.authority.as_str().into(),
            path: request.path.as_str().into(),
            headers,
            id: None,
        };
        Asked {
            id,
            config,
            request: request.clone(),
            direction: direction(request, resources),
            head: Arc::new(head),
            peer,
            destination,
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.request.protocol == RequestProtocol::Tcp
    }

    pub(crate) fn is_scripted(&self) -> bool {
        self.head.headers.get(SCRIPT).is_some()
    }

    /// The same with upstreams that do as usual.
    pub(crate) fn unscripted(&self) -> Asked {
        let mut asked = self.clone();
        let headers = &mut Arc::make_mut(&mut asked.head).headers;
        headers.0.retain(|(name, _)| &**name != SCRIPT);
        asked
    }

    pub(crate) fn script(&self) -> Script {
        let text = self.head.headers.get(SCRIPT);
        Script::parse(text.and_then(|text| std::str::from_utf8(text).ok()))
    }
}

/// The way a request goes through a proxy with these resources.
pub(crate) fn direction(request: &Request, resources: &Resources) -> Direction {
    let named = |name: &str| resources.listeners.iter().any(|l| &*l.name == name);
    match request.direction {
        Some(RequestDirection::Outbound) => Direction::Outbound,
        Some(RequestDirection::Inbound) => Direction::Inbound,
        Some(RequestDirection::Gateway) => Direction::Gateway,
        None if named("virtualOutbound") => Direction::Outbound,
        None => Direction::Gateway,
    }
}

/// What upstreams do, try after try; the last step goes on. As text, steps are separated by commas:
/// `reset`, or a status, each with `@MILLISECONDS` to wait and `;NAME=VALUE` for headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) status: u16,
    pub(crate) reset: bool,
    pub(crate) after: Nanos,
    pub(crate) headers: Vec<(String, String)>,
}

impl Default for Script {
    fn default() -> Script {
        Script::parse(None)
    }
}

impl Script {
    /// 200 where the text says nothing else.
    pub(crate) fn parse(text: Option<&str>) -> Script {
        Script(
            text.unwrap_or_default()
                .split(',')
                .map(Step::parse)
                .collect(),
        )
    }

    /// What to do once `before` have arrived.
    pub(crate) fn step<'a>(&self, before: impl IntoIterator<Item = &'a Hit>) -> &Step {
        let tries = before.into_iter().filter(|hit| !hit.is_copy()).count();
        &self.0[tries.min(self.0.len() - 1)]
    }
}

impl Step {
    fn parse(text: &str) -> Step {
        let mut parts = text.split(';');
        let first = parts.next().unwrap_or_default();
        let (what, after) = first.split_once('@').unwrap_or((first, "0"));
        let header = |part: &str| {
            let (name, value) = part.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Step {
            status: what.parse().unwrap_or(200),
            reset: what == "reset",
            after: Nanos::from_millis(after.parse().unwrap_or(0)),
            headers: parts.filter_map(header).collect(),
        }
    }

    /// A gRPC status says all that there is, and some statuses go without a body.
    pub(crate) fn has_body(&self) -> bool {
        ![204, 304].contains(&self.status)
            && self.headers.iter().all(|(name, _)| name != "grpc-status")
    }
}

/// What one side made of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Seen {
    /// The connection was closed without an answer.
    pub(crate) closed: bool,
    /// Virtual host and position of the route.
    pub(crate) route: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) status: u16,
    pub(crate) flags: String,
    pub(crate) details: String,
    pub(crate) attempts: u32,
    /// Sorted.
    pub(crate) response_headers: Vec<(String, String)>,
    /// Of the proxy's own answers.
    pub(crate) body: Option<String>,
    /// Everything that went upstream, sorted.
    pub(crate) hits: Vec<Hit>,
}

/// A request as an upstream got it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Hit {
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) endpoint: SocketAddr,
    /// Requests on the same connection before it.
    pub(crate) before: u32,
}

impl Hit {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.iter();
        let (_, value) = lines.find(|(other, _)| other == name)?;
        Some(value)
    }

    /// Of a mirrored request.
    pub(crate) fn is_copy(&self) -> bool {
        self.header("x-envoy-internal").is_some()
    }
}
