//! The local rate limit filter (Envoy `extensions.filters.http.local_ratelimit.v3`), and what makes
//! its descriptors.

use super::{Fraction, HeaderMatch, HeaderMutations, Name};
use crate::time::Nanos;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where in the chain of HTTP filters a local rate limit stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FilterPlace {
    First,
    /// After the JWT filter.
    BeforeRbac,
    BeforeFault,
    BeforeCors,
    BeforeRouter,
}

/// A local rate limit among the filters of a connection manager.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalRateLimitFilter {
    pub place: FilterPlace,
    /// Unless the route or its virtual host has its own.
    pub config: Arc<LocalRateLimit>,
}

/// Envoy `LocalRateLimit`: tokens, one for each request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalRateLimit {
    /// What every request takes a token from; `None`: no request needs one.
    pub bucket: Option<TokenBucket>,
    /// Of the requests, those that take a token.
    pub enabled: Fraction,
    /// Of those without a token, the refused ones.
    pub enforced: Fraction,
    /// Buckets for each downstream connection instead of some for all.
    pub per_connection: bool,
    /// Of the refusal.
    pub status: u16,
    /// gRPC requests are refused with RESOURCE_EXHAUSTED instead of UNAVAILABLE.
    pub resource_exhausted: bool,
    /// Of the refusal.
    pub response_headers: HeaderMutations,
    /// Responses say how full the bucket is (`x-ratelimit-limit`, `-remaining`, `-reset`).
    pub x_ratelimit_headers: bool,
    pub descriptors: Vec<RateLimitDescriptor>,
    /// What makes a request's descriptors, instead of what its route says.
    pub rate_limits: Vec<RateLimitActions>,
    /// A request with a descriptor takes a token from [`LocalRateLimit::bucket`] as well.
    pub always_consume_default_bucket: bool,
}

impl Default for LocalRateLimit {
    /// With Envoy's defaults: it does nothing.
    fn default() -> LocalRateLimit {
        LocalRateLimit {
            bucket: None,
            enabled: Fraction::ppm(0),
            enforced: Fraction::ppm(0),
            per_connection: false,
            status: 429,
            resource_exhausted: false,
            response_headers: HeaderMutations::default(),
            x_ratelimit_headers: false,
            descriptors: Vec::new(),
            rate_limits: Vec::new(),
            always_consume_default_bucket: true,
        }
    }
}

/// Envoy `TokenBucket`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenBucket {
    /// 0 refuses everything.
    pub max_tokens: u32,
    pub tokens_per_fill: u32,
    pub fill_interval: Nanos,
}

/// Envoy `LocalRateLimitDescriptor`: a bucket for the requests with such a descriptor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateLimitDescriptor {
    /// Keys and values.
    pub entries: Vec<(Name, Name)>,
    pub bucket: TokenBucket,
}

/// Envoy `config.route.v3.RateLimit.actions`: each makes an entry of one descriptor.
pub type RateLimitActions = Vec<RateLimitAction>;

/// Envoy `config.route.v3.RateLimit.Action`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RateLimitAction {
    /// The client's address, under `remote_address`.
    RemoteAddress,
    /// A header's value; without one there is no descriptor, or no entry.
    RequestHeader {
        /// Lower case.
        header: Name,
        key: Name,
        skip_if_absent: bool,
    },
    GenericKey {
        key: Name,
        value: Name,
    },
    /// No descriptor unless all of the headers match, or not, as expected.
    HeaderValueMatch {
        key: Name,
        value: Name,
        headers: Vec<HeaderMatch>,
        expect_match: bool,
    },
}
