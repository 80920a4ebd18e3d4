//! What is said of one request.

use proxy_core::head::Headers;
use proxy_core::xds::{ConfigRef, Name, Route};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    pub listener: Option<Name>,
    pub virtual_host: Option<Name>,
    pub route: Option<Name>,
    pub action: Action,
    pub clusters: Vec<ClusterShare>,
    /// Where it is certain.
    pub endpoint: Option<SocketAddr>,
    /// Where the proxy itself answers.
    pub status: Option<u16>,
    /// Envoy's response flags (`NR`, `NC`, `UH`).
    pub flags: Vec<Name>,
    /// Envoy's response code details.
    pub details: Option<Name>,
    pub upstream: Option<Upstream>,
    /// Those that the proxy adds to the response.
    pub response_headers: Vec<(Name, String)>,
    /// The objects that had a say.
    pub config: Vec<ConfigRef>,
    /// The rules that came before the one that matched, in order. Those that the proxy is not told of
    /// are known to an [`Explainer`](super::Explainer) only.
    pub passed_over: Vec<PassedOver>,
    /// What holds for the request on its way; of an [`Explainer`](super::Explainer) only.
    pub settings: Vec<Setting>,
    /// The decisions in order, in words.
    pub trail: Vec<String>,
    /// The route that matched, as the proxy has it.
    #[serde(skip)]
    pub matched: Option<Arc<Route>>,
}

/// A rule that was not the one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PassedOver {
    /// Its name, if it has one.
    pub route: Name,
    pub config: Option<ConfigRef>,
    /// The first of its conditions that does not hold, in words.
    pub why: String,
}

/// Something that is set for a request, by a field or by default.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub name: &'static str,
    /// In words, with units.
    pub value: String,
    /// Where several clusters differ.
    pub cluster: Option<Name>,
    /// Where it is stated.
    pub file: Option<Name>,
    pub line: Option<u32>,
    /// Whose default it is, where it is not stated.
    pub default: Option<&'static str>,
}

/// What a proxy does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Forward,
    Redirect,
    DirectResponse,
    None,
}

/// A cluster and its weight; 100 if it is the only one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClusterShare {
    pub name: Name,
    pub weight: u32,
}

/// The request as it goes upstream.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Upstream {
    pub authority: Name,
    pub path: Name,
    pub headers: Headers,
}
