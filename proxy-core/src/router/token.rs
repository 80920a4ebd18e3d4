//! Envoy's JWT filter: which token a request brings, and what becomes of it.

use super::matching::query_value;
use crate::head::{Headers, RequestHead};
use crate::xds::{JwtAuthentication, JwtProvider, Name};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the filter made of a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Token {
    /// The request brings none, or none is asked for.
    #[default]
    Absent,
    /// Its claims.
    Accepted(Arc<Value>),
    Refused(TokenProblem),
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TokenProblem {
    Malformed,
    UnknownIssuer,
    Audience,
}

impl TokenProblem {
    /// As in the body of the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenProblem::Malformed => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            TokenProblem::UnknownIssuer => "Jwt issuer is not configured",
            TokenProblem::Audience => "Audiences in Jwt are not allowed",
        }
    }

    /// Of the answer.
    pub fn status(self) -> u16 {
        match self {
            TokenProblem::Audience => 403,
            TokenProblem::Malformed | TokenProblem::UnknownIssuer => 401,
        }
    }
}

impl Token {
    /// The claims of an accepted one.
    pub fn claims(&self) -> Option<&Value> {
        match self {
            Token::Accepted(claims) => Some(claims),
            Token::Absent | Token::Refused(_) => None,
        }
    }
}

/// A token as found, and the header that it was found in.
struct Found {
    text: String,
    header: Option<Name>,
}

/// How one provider ends.
enum Verdict {
    Missed,
    Refused(TokenProblem),
    /// Claims, and what they were in the token.
    Accepted(Value, String),
}

impl JwtAuthentication {
    /// What becomes of the token, and the head as it goes on.
    pub(crate) fn authenticate(&self, head: &Arc<RequestHead>) -> (Token, Arc<RequestHead>) {
        if is_preflight(head) {
            return (Token::Absent, Arc::clone(head));
        }
        let mut head = Arc::clone(head);
        // Worse problems hide the others: those of a provider whose token it is.
        let mut problem: Option<TokenProblem> = None;
        for provider in &self.providers {
            provider.sanitize(&mut head);
            match provider.verify(&head) {
                Verdict::Missed => {}
                Verdict::Refused(why) => {
                    if why != TokenProblem::UnknownIssuer || problem.is_none() {
                        problem = Some(why);
                    }
                }
                Verdict::Accepted(claims, payload) => {
                    provider.tell(&mut head, &claims, &payload);
                    return (Token::Accepted(Arc::new(provider.normal(claims))), head);
                }
            }
        }
        (problem.map_or(Token::Absent, Token::Refused), head)
    }
}

impl JwtProvider {
    /// Only the filter itself may set the headers that it tells of tokens by.
    fn sanitize(&self, head: &mut Arc<RequestHead>) {
        let names = self.claim_to_headers.iter().map(|(header, _)| header);
        for name in names.chain(&self.forward_payload_header) {
            if head.headers.get(name).is_some() {
                change(head).remove(name);
            }
        }
    }

    /// All tokens have to be right; the first one counts.
    fn verify(&self, head: &RequestHead) -> Verdict {
        let mut verdict = Verdict::Missed;
        for found in self.tokens(head).iter().rev() {
            let Some((claims, payload)) = read(&found.text) else {
                return Verdict::Refused(TokenProblem::Malformed);
            };
            let issuer = claims.get("iss").and_then(Value::as_str);
            if !self.issuer.is_empty() && issuer != Some(&*self.issuer) {
                return Verdict::Refused(TokenProblem::UnknownIssuer);
            }
            if !self.takes_audience(&claims) {
                return Verdict::Refused(TokenProblem::Audience);
            }
            verdict = Verdict::Accepted(claims, payload);
        }
        verdict
    }

    fn tokens(&self, head: &RequestHead) -> Vec<Found> {
        let anywhere = self.from_headers.is_empty()
            && self.from_params.is_empty()
            && self.from_cookies.is_empty();
        let bearer = anywhere.then(|| (Name::from("authorization"), Name::from("Bearer ")));
        let access_token = anywhere.then(|| Name::from("access_token"));
        let headers = self.from_headers.iter().chain(&bearer);
        let headers = headers.filter_map(|(name, prefix)| {
            let text = in_header(&head.headers, name, prefix)?;
            let header = Some(name.clone());
            Some(Found { text, header })
        });
        let params = self.from_params.iter().chain(&access_token);
        let params = params.filter_map(|name| query_value(&head.path, name).map(str::to_owned));
        let cookies = self.from_cookies.iter();
        let cookies = cookies.filter_map(|name| cookie(&head.headers, name));
        let elsewhere = params
            .chain(cookies)
            .map(|text| Found { text, header: None });
        headers.chain(elsewhere).collect()
    }

    fn takes_audience(&self, claims: &Value) -> bool {
        let known = |audience: &str| {
            let mut audiences = self.audiences.iter();
            audiences.any(|own| plain_audience(own) == plain_audience(audience))
        };
        let one = |value: &Value| value.as_str().is_some_and(known);
        self.audiences.is_empty()
            || match claims.get("aud") {
                Some(Value::Array(several)) => several.iter().any(one),
                Some(single) => one(single),
                None => false,
            }
    }

    /// Tells the request of its token.
    fn tell(&self, head: &mut Arc<RequestHead>, claims: &Value, payload: &str) {
        for (header, path) in &self.claim_to_headers {
            let claim = path
                .split('.')
                .try_fold(claims, |within, key| within.get(key));
            if let Some(text) = claim.and_then(header_text) {
                change(head).append(header.clone(), text.as_bytes());
            }
        }
        if let Some(name) = &self.forward_payload_header {
            change(head).append(name.clone(), payload.as_bytes());
        }
        if !self.forward {
            for name in self
                .tokens(head)
                .into_iter()
                .filter_map(|token| token.header)
            {
                change(head).remove(&name);
            }
        }
    }

    fn normal(&self, mut claims: Value) -> Value {
        for name in &self.space_delimited_claims {
            if let Some(value) = claims.get_mut(&**name)
                && let Some(text) = value.as_str()
            {
                let words = text.split(' ').filter(|word| !word.is_empty());
                *value = json!(words.collect::<Vec<_>>());
            }
        }
        claims
    }
}

fn change(head: &mut Arc<RequestHead>) -> &mut Headers {
    let head = Arc::make_mut(head);
    head.id = None;
    &mut head.headers
}

/// Envoy `Http::HeaderUtility::isCorsPreflightRequest`.
fn is_preflight(head: &RequestHead) -> bool {
    let said = |name: &str| {
        head.headers
            .get(name)
            .is_some_and(|value| !value.is_empty())
    };
    &*head.method == "OPTIONS" && said("origin") && said("access-control-request-method")
}

/// The token in a header: what follows the prefix, as far as it looks like one.
fn in_header(headers: &Headers, name: &str, prefix: &str) -> Option<String> {
    let lines: Vec<&str> = headers
        .all(name)
        .map(|line| std::str::from_utf8(line).unwrap_or_default())
        .collect();
    if lines.is_empty() {
        return None;
    }
    let value = lines.join(",");
    if prefix.is_empty() {
        return Some(value);
    }
    let (_, after) = value.split_once(prefix)?;
    if after.trim_start().starts_with('{') {
        return Some(after.trim().to_owned());
    }
    let part_of_one = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let Some(start) = after.find(part_of_one) else {
        return Some(value.clone());
    };
    let rest = &after[start..];
    let end = rest.find(|c| !part_of_one(c)).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}

fn cookie(headers: &Headers, name: &str) -> Option<String> {
    let lines = headers
        .all("cookie")
        .filter_map(|line| std::str::from_utf8(line).ok());
    let mut pairs = lines.flat_map(|line| line.split(';'));
    pairs.find_map(|pair| {
        let (key, value) = pair.trim().split_once('=')?;
        (key == name).then(|| value.trim_matches('"').to_owned())
    })
}

/// The claims of a token, and as they go into headers.
fn read(token: &str) -> Option<(Value, String)> {
    let (json, payload) = match token.starts_with('{') {
        true => (token.as_bytes().to_vec(), URL_SAFE_NO_PAD.encode(token)),
        false => {
            let mut parts = token.split('.');
            let (_, payload) = (parts.next()?, parts.next()?);
            parts.next()?;
            if parts.next().is_some() {
                return None;
            }
            (URL_SAFE_NO_PAD.decode(payload).ok()?, payload.to_owned())
        }
    };
    let claims: Value = serde_json::from_slice(&json).ok()?;
    claims.is_object().then_some((claims, payload))
}

/// `google::jwt_verify` compares audiences without scheme and last slash.
fn plain_audience(audience: &str) -> &str {
    let bare = audience
        .strip_prefix("http://")
        .or_else(|| audience.strip_prefix("https://"))
        .unwrap_or(audience);
    bare.strip_suffix('/').unwrap_or(bare)
}

/// A claim as the value of a header: lists and maps as JSON in base64.
fn header_text(claim: &Value) -> Option<String> {
    match claim {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}
