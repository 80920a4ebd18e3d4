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
    HeaderEncoding,
    HeaderJson,
    Algorithm,
    PayloadEncoding,
    PayloadJson,
    IssuerType,
    AudienceType,
    UnknownIssuer,
    Audience,
    Signature,
}

impl TokenProblem {
    /// As in the body of the answer.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenProblem::Malformed => {
                "Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections"
            }
            TokenProblem::HeaderEncoding => "Jwt header is an invalid Base64url encoded",
            TokenProblem::HeaderJson => "Jwt header is an invalid JSON",
            TokenProblem::Algorithm => "Jwt header [alg] field is required and must be a string",
            TokenProblem::PayloadEncoding => "Jwt payload is an invalid Base64url encoded",
            TokenProblem::PayloadJson => "Jwt payload is an invalid JSON",
            TokenProblem::IssuerType => "Jwt payload [iss] field is not a string",
            TokenProblem::AudienceType => "Jwt payload [aud] field is not a string or string list",
            TokenProblem::UnknownIssuer => "Jwt issuer is not configured",
            TokenProblem::Audience => "Audiences in Jwt are not allowed",
            TokenProblem::Signature => "Jwt verification fails",
        }
    }

    /// Of the answer.
    pub fn status(self) -> u16 {
        match self {
            TokenProblem::Audience => 403,
            _ => 401,
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
    Accepted(Claims),
}

/// What a token says.
struct Claims {
    all: Value,
    /// As it goes into headers.
    payload: String,
    /// By something that may be a signature.
    signed: bool,
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
                Verdict::Accepted(claims) => {
                    provider.tell(&mut head, &claims);
                    return (Token::Accepted(Arc::new(provider.normal(claims.all))), head);
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
            verdict = match Claims::read(&found.text).and_then(|claims| self.check(claims)) {
                Ok(claims) => Verdict::Accepted(claims),
                Err(problem) => return Verdict::Refused(problem),
            };
        }
        verdict
    }

    fn check(&self, claims: Claims) -> Result<Claims, TokenProblem> {
        let issuer = claims.all.get("iss").and_then(Value::as_str);
        if !self.issuer.is_empty() && issuer != Some(&*self.issuer) {
            return Err(TokenProblem::UnknownIssuer);
        }
        match self.takes_audience(&claims.all) {
            false => Err(TokenProblem::Audience),
            true if !claims.signed => Err(TokenProblem::Signature),
            true => Ok(claims),
        }
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
    fn tell(&self, head: &mut Arc<RequestHead>, claims: &Claims) {
        for (header, path) in &self.claim_to_headers {
            let claim = path
                .split('.')
                .try_fold(&claims.all, |within, key| within.get(key));
            if let Some(text) = claim.and_then(header_text) {
                change(head).append(header.clone(), text.as_bytes());
            }
        }
        if let Some(name) = &self.forward_payload_header {
            change(head).append(name.clone(), claims.payload.as_bytes());
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

/// The token in a header: what follows the prefix.
fn in_header(headers: &Headers, name: &str, prefix: &str) -> Option<String> {
    let mut lines = headers.all(name).map(String::from_utf8_lossy);
    let value = match name {
        // Envoy makes one line of several.
        "authorization" => lines.collect::<Vec<_>>().join(","),
        _ => lines.next()?.into_owned(),
    };
    let (_, after) = value.split_once(prefix)?;
    (!value.is_empty()).then(|| after.trim_start().to_owned())
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

impl Claims {
    /// Of a token, or written down as JSON.
    fn read(token: &str) -> Result<Claims, TokenProblem> {
        if token.starts_with('{') {
            let payload = URL_SAFE_NO_PAD.encode(token);
            return Claims::of(token.as_bytes(), payload, true);
        }
        let parts: Vec<&str> = token.split('.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(TokenProblem::Malformed);
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        let header = decode(header).ok_or(TokenProblem::HeaderEncoding)?;
        let header: Value = serde_json::from_slice(&header)
            .ok()
            .filter(Value::is_object)
            .ok_or(TokenProblem::HeaderJson)?;
        if !header["alg"].is_string() {
            return Err(TokenProblem::Algorithm);
        }
        let claims = decode(payload).ok_or(TokenProblem::PayloadEncoding)?;
        Claims::of(&claims, payload.to_owned(), decode(signature).is_some())
    }

    fn of(json: &[u8], payload: String, signed: bool) -> Result<Claims, TokenProblem> {
        let all: Value = serde_json::from_slice(json)
            .ok()
            .filter(Value::is_object)
            .ok_or(TokenProblem::PayloadJson)?;
        if all.get("iss").is_some_and(|issuer| !issuer.is_string()) {
            return Err(TokenProblem::IssuerType);
        }
        let audiences = match all.get("aud") {
            None | Some(Value::String(_)) => true,
            Some(Value::Array(several)) => several.iter().all(Value::is_string),
            Some(_) => false,
        };
        match audiences {
            false => Err(TokenProblem::AudienceType),
            true => Ok(Claims {
                all,
                payload,
                signed,
            }),
        }
    }
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
        Value::Number(number) if number.is_f64() => Some(format!("{:.6}", number.as_f64()?)),
        Value::Bool(_) | Value::Number(_) => Some(claim.to_string()),
        Value::Array(_) | Value::Object(_) => Some(STANDARD.encode(claim.to_string())),
    }
}

#[cfg(test)]
mod tests;
