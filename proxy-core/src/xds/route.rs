//! Route tables: virtual hosts, routes and what they do with a request.

use super::{
    ClaimMatch, ConfigRef, Fraction, HeaderMatch, LocalRateLimit, Name, QueryMatch,
    RateLimitActions, Regex, RetryOn, StringMatch,
};
use crate::router::TableIndex;
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, OnceLock};

/// Envoy `config.route.v3.RouteConfiguration`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RouteTable {
    pub name: Name,
    pub virtual_hosts: Vec<Arc<VirtualHost>>,
    /// `ignore_port_in_host_matching`: the port in `:authority` is left out of the domain match.
    pub ignore_port_in_host: bool,
    /// Built on first use and shared by every proxy that holds the table.
    #[serde(skip)]
    pub(crate) index: OnceLock<TableIndex>,
}

impl RouteTable {
    /// A table of `virtual_hosts`; domains are expected in lower case.
    pub fn new(
        name: Name,
        virtual_hosts: Vec<VirtualHost>,
        ignore_port_in_host: bool,
    ) -> RouteTable {
        let virtual_hosts = virtual_hosts.into_iter().map(Arc::new).collect();
        RouteTable::sharing(name, virtual_hosts, ignore_port_in_host)
    }

    /// A table of virtual hosts that others have too.
    pub fn sharing(
        name: Name,
        virtual_hosts: Vec<Arc<VirtualHost>>,
        ignore_port_in_host: bool,
    ) -> RouteTable {
        RouteTable {
            name,
            virtual_hosts,
            ignore_port_in_host,
            index: OnceLock::new(),
        }
    }

    /// The same table, but for the routes of those virtual hosts for which `changed` has new ones.
    pub fn with_routes(
        &self,
        changed: impl Fn(&VirtualHost) -> Option<Vec<Arc<Route>>>,
    ) -> RouteTable {
        let mut table = self.clone();
        for (number, host) in table.virtual_hosts.iter_mut().enumerate() {
            let Some(routes) = changed(host) else {
                continue;
            };
            Arc::make_mut(host).routes = routes;
            if let Some(index) = table.index.get_mut() {
                index.renew(number, &host.routes);
            }
        }
        table
    }
}

impl PartialEq for RouteTable {
    fn eq(&self, other: &RouteTable) -> bool {
        let hosts = || self.virtual_hosts.iter().zip(&other.virtual_hosts);
        self.name == other.name
            && self.ignore_port_in_host == other.ignore_port_in_host
            && self.virtual_hosts.len() == other.virtual_hosts.len()
            && hosts().all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

/// Envoy `config.route.v3.VirtualHost`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VirtualHost {
    pub name: Name,
    /// Exact, `*suffix`, `prefix*` or `*`; lower case.
    pub domains: Vec<Name>,
    pub routes: Vec<Arc<Route>>,
    /// Plaintext requests get a 301 to https.
    pub require_tls: bool,
    pub request_headers: HeaderMutations,
    pub response_headers: HeaderMutations,
    /// Sends `x-envoy-attempt-count` upstream.
    pub include_attempt_count: bool,
    /// Replaces that of the filter.
    #[serde(default)]
    pub local_rate_limit: Option<Arc<LocalRateLimit>>,
    /// For routes that have none.
    #[serde(default)]
    pub rate_limits: Vec<RateLimitActions>,
}

/// Envoy `config.route.v3.Route`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// Empty where Istio leaves it out.
    pub name: Name,
    pub matches: RouteMatch,
    pub action: RouteAction,
    pub request_headers: HeaderMutations,
    pub response_headers: HeaderMutations,
    /// The per-route configuration of the fault filter.
    pub fault: Option<Fault>,
    /// The per-route configuration of the CORS filter.
    pub cors: Option<Arc<CorsPolicy>>,
    /// Replaces that of the virtual host and of the filter.
    pub local_rate_limit: Option<Arc<LocalRateLimit>>,
    pub origin: Option<ConfigRef>,
}

impl Route {
    /// A route without a name, header changes or filters of its own.
    pub fn new(matches: RouteMatch, action: RouteAction) -> Route {
        Route {
            name: "".into(),
            matches,
            action,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            fault: None,
            cors: None,
            local_rate_limit: None,
            origin: None,
        }
    }
}

/// Envoy `extensions.filters.http.cors.v3.CorsPolicy`, always enabled. Empty texts are left out of
/// answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorsPolicy {
    /// One that matches `*` matches every origin.
    pub allow_origins: Vec<StringMatch>,
    /// Separated by commas; `*`: whichever is asked for.
    pub allow_methods: Name,
    /// Separated by commas; `*`: whichever are asked for.
    pub allow_headers: Name,
    /// Separated by commas.
    pub expose_headers: Name,
    /// In seconds.
    pub max_age: Name,
    pub allow_credentials: bool,
    /// Preflights of origins that are not allowed go to the cluster instead of being answered.
    pub forward_not_matching_preflights: bool,
}

/// All conditions hold together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteMatch {
    pub path: PathMatch,
    /// Exact and prefix only.
    pub case_sensitive: bool,
    pub headers: Vec<HeaderMatch>,
    pub query: Vec<QueryMatch>,
    /// `dynamic_metadata` of the JWT filter.
    #[serde(default)]
    pub claims: Vec<ClaimMatch>,
    /// `runtime_fraction`: the stream's one random value has to fall in it.
    pub fraction: Option<Fraction>,
}

impl Default for RouteMatch {
    fn default() -> RouteMatch {
        RouteMatch {
            path: PathMatch::Prefix("/".into()),
            case_sensitive: true,
            headers: Vec::new(),
            query: Vec::new(),
            claims: Vec::new(),
            fraction: None,
        }
    }
}

/// Matched against the path without query or fragment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PathMatch {
    Exact(Name),
    Prefix(Name),
    /// `/p` matches `/p` and `/p/...`, not `/pq`.
    SeparatedPrefix(Name),
    Regex(Regex),
}

/// What a matched route does. Nearly every route forwards, so the size of that variant is no waste.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RouteAction {
    Forward(Forward),
    Redirect(Redirect),
    DirectResponse { status: u16, body: Name },
}

/// Envoy `config.route.v3.RouteAction`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forward {
    /// At least one; with several the stream's random value picks by weight.
    pub clusters: Vec<WeightedCluster>,
    pub path_rewrite: PathRewrite,
    pub host_rewrite: Option<Name>,
    /// `None`: no limit.
    pub timeout: Option<Nanos>,
    /// Of a stream without any progress; `None`: the connection manager's.
    pub idle_timeout: Option<Nanos>,
    /// Of the whole stream.
    pub max_stream_duration: Option<Nanos>,
    /// `max_grpc_timeout`: `grpc-timeout` of the request replaces `timeout`, up to this (zero: no
    /// limit).
    pub max_grpc_timeout: Option<Nanos>,
    /// A per-try timeout starts another try and lets the first go on.
    pub hedge_on_per_try_timeout: bool,
    /// `metadata_match` of `envoy.lb`: the subset of the cluster's hosts.
    pub subset: Vec<(Name, Name)>,
    pub retry: Option<RetryPolicy>,
    pub hash_policies: Vec<HashPolicy>,
    pub mirrors: Vec<Mirror>,
    /// What makes descriptors for local rate limits.
    #[serde(default)]
    pub rate_limits: Vec<RateLimitActions>,
    /// `cluster_not_found_response_code`: 503, or 500 for Gateway API routes.
    pub cluster_not_found_status: u16,
}

impl Forward {
    /// Everything to `cluster`, with no rewrite, timeout or retry.
    pub fn to(cluster: Name) -> Forward {
        Forward {
            clusters: vec![WeightedCluster::new(cluster, 1)],
            path_rewrite: PathRewrite::None,
            host_rewrite: None,
            timeout: None,
            idle_timeout: None,
            max_stream_duration: None,
            max_grpc_timeout: None,
            hedge_on_per_try_timeout: false,
            subset: Vec::new(),
            retry: None,
            hash_policies: Vec::new(),
            mirrors: Vec::new(),
            rate_limits: Vec::new(),
            cluster_not_found_status: 503,
        }
    }
}

/// Envoy `WeightedCluster.ClusterWeight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WeightedCluster {
    pub cluster: Name,
    pub weight: u32,
    pub request_headers: HeaderMutations,
    pub response_headers: HeaderMutations,
    pub host_rewrite: Option<Name>,
    /// Wins over the route's, key by key.
    pub subset: Vec<(Name, Name)>,
}

impl WeightedCluster {
    /// An entry that changes nothing but the cluster.
    pub fn new(cluster: Name, weight: u32) -> WeightedCluster {
        WeightedCluster {
            cluster,
            weight,
            request_headers: HeaderMutations::default(),
            response_headers: HeaderMutations::default(),
            host_rewrite: None,
            subset: Vec::new(),
        }
    }
}

/// How the path is changed before forwarding; the query is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PathRewrite {
    None,
    /// Replaces the matched prefix, or the whole path of an exact or regex match.
    Prefix(Name),
    Regex {
        pattern: Regex,
        substitution: Name,
    },
}

/// Envoy `RedirectAction`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Redirect {
    pub status: u16,
    pub scheme: Option<Name>,
    pub host: Option<Name>,
    pub port: Option<u16>,
    pub path: RedirectPath,
}

/// Which path a redirect names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RedirectPath {
    Keep,
    /// The whole path; keeps the request's query unless it has its own.
    Replace(Name),
    /// Replaces the matched prefix.
    Prefix(Name),
}

/// Removals first, then overwrites and appends, in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeaderMutations {
    pub remove: Vec<Name>,
    pub add: Vec<HeaderValue>,
}

impl HeaderMutations {
    /// Changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }
}

/// Envoy `HeaderValueOption`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HeaderValue {
    /// Lower case.
    pub name: Name,
    pub value: Name,
    /// Adds a line instead of overwriting.
    pub append: bool,
}

/// Envoy `config.route.v3.RetryPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub retry_on: RetryOn,
    pub num_retries: u32,
    pub retriable_status_codes: Vec<u16>,
    /// Answers with any of these headers are tried again under `retriable-headers`.
    pub retriable_headers: Vec<HeaderMatch>,
    /// Only requests with one of these headers are tried again; empty: all.
    pub retriable_request_headers: Vec<HeaderMatch>,
    pub per_try_timeout: Option<Nanos>,
    /// Of a try without any progress.
    pub per_try_idle_timeout: Option<Nanos>,
    /// The `previous_hosts` predicate.
    pub avoid_previous_hosts: bool,
    /// Further picks when the predicate rejects one; Istio sends 5.
    pub host_selection_retry_max_attempts: u32,
    pub back_off_base: Nanos,
    pub back_off_max: Nanos,
    pub rate_limited_back_off: Option<RateLimitedBackOff>,
    /// The `previous_priorities` retry priority: priorities tried are avoided, worked out anew
    /// every so many tries.
    pub previous_priorities_update_frequency: Option<u32>,
}

/// Envoy `RateLimitedRetryBackOff`: answers say when to come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimitedBackOff {
    /// The first that says something counts.
    pub reset_headers: Vec<ResetHeader>,
    /// Longer waits are not believed.
    pub max_interval: Nanos,
}

/// Envoy `RetryPolicy.ResetHeader`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResetHeader {
    /// Lower case.
    pub name: Name,
    /// A point in time; otherwise a number of seconds.
    pub unix_timestamp: bool,
}

impl RetryPolicy {
    /// With Envoy's defaults.
    pub fn on(retry_on: RetryOn, num_retries: u32) -> RetryPolicy {
        RetryPolicy {
            retry_on,
            num_retries,
            retriable_status_codes: Vec::new(),
            retriable_headers: Vec::new(),
            retriable_request_headers: Vec::new(),
            per_try_timeout: None,
            per_try_idle_timeout: None,
            avoid_previous_hosts: false,
            host_selection_retry_max_attempts: 1,
            back_off_base: Nanos::from_millis(25),
            back_off_max: Nanos::from_millis(250),
            rate_limited_back_off: None,
            previous_priorities_update_frequency: None,
        }
    }
}

/// Envoy `RouteAction.HashPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HashPolicy {
    pub input: HashInput,
    /// Stop once any hash exists.
    pub terminal: bool,
}

/// What a hash policy reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum HashInput {
    Header(Name),
    /// With a `ttl` (zero: session) a missing cookie is made and set.
    Cookie {
        name: Name,
        path: Name,
        ttl: Option<Nanos>,
    },
    SourceIp,
    Query(Name),
}

/// Envoy `RequestMirrorPolicy`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mirror {
    pub cluster: Name,
    /// Of the streams, by the stream's one random value.
    pub fraction: Fraction,
    /// Istio turns Envoy's `-shadow` host suffix off.
    pub shadow_suffix: bool,
}

/// Envoy `HTTPFault`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fault {
    pub delay: Option<FaultDelay>,
    pub abort: Option<FaultAbort>,
    /// Streams with a fault at one time, over all of the proxy; beyond it none is injected.
    pub max_active_faults: Option<u32>,
}

/// Holds the request back before it is routed on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultDelay {
    pub fixed: Nanos,
    pub fraction_ppm: u32,
}

/// Answers the request locally.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultAbort {
    pub status: u16,
    /// Answers 200 with this `grpc-status` instead.
    pub grpc_status: Option<u32>,
    pub fraction_ppm: u32,
}
