//! Whose tokens are accepted: Envoy's JWT filter.

use super::{ConfigRef, Name};
use serde::{Deserialize, Serialize};

/// Envoy `extensions.filters.http.jwt_authn.v3.JwtAuthentication`, with the requirements that Istio
/// writes: a request without any token passes, one with a token has to satisfy a provider, and CORS
/// preflights are not asked.
///
/// Signatures and times of tokens are not checked: keys are not fetched, and a token is taken at its
/// word. Instead of a token its claims may be written down as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JwtAuthentication {
    pub providers: Vec<JwtProvider>,
    /// Accepted tokens have the request routed anew, by what they changed and by their claims.
    pub clear_route_cache: bool,
}

/// Envoy `JwtProvider`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JwtProvider {
    /// Empty: anybody.
    pub issuer: Name,
    /// Empty: any.
    pub audiences: Vec<Name>,
    /// Name (lower case) and prefix of the value. Without any place at all: `authorization` with
    /// `Bearer `, and the query parameter `access_token`.
    pub from_headers: Vec<(Name, Name)>,
    pub from_params: Vec<Name>,
    pub from_cookies: Vec<Name>,
    /// The token stays in the request.
    pub forward: bool,
    /// Gets the claims, in base64.
    pub forward_payload_header: Option<Name>,
    /// Header, and the claim that it gets (`a.b`: `b` within `a`).
    pub claim_to_headers: Vec<(Name, Name)>,
    /// Claims that are lists written as one text.
    pub space_delimited_claims: Vec<Name>,
    pub origin: Option<ConfigRef>,
}
