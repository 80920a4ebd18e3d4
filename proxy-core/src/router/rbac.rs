//! Envoy's RBAC engine: does a policy match a request, or a connection?

use super::matching::{path_of, request_header_matches};
use crate::contract::Opened;
use crate::head::RequestHead;
use crate::xds::{
    ClaimMatch, Condition, HttpConnectionManager, Name, Rbac, RbacAction, RbacPolicy, StringMatch,
};
use serde_json::Value;
use std::net::IpAddr;

/// What policies are asked about.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub opened: &'a Opened,
    /// `None`: a connection as such.
    pub request: Option<RequestSubject<'a>>,
}

/// The part of a [`Subject`] that only requests have.
#[derive(Clone, Copy, Debug)]
pub struct RequestSubject<'a> {
    pub head: &'a RequestHead,
    pub manager: &'a HttpConnectionManager,
    /// Of the token that was accepted.
    pub claims: Option<&'a Value>,
}

impl Rbac {
    /// The policy that matches first.
    pub fn matching(&self, subject: Subject<'_>) -> Option<&RbacPolicy> {
        self.policies.iter().find(|policy| policy.matches(subject))
    }

    /// Whether the filter denies, and by which policy; `None` within is that none allows.
    pub fn denial(&self, subject: Subject<'_>) -> Option<Option<&RbacPolicy>> {
        match (self.action, self.matching(subject)) {
            (RbacAction::Allow, Some(_)) | (RbacAction::Deny, None) => None,
            (RbacAction::Allow, None) => Some(None),
            (RbacAction::Deny, Some(policy)) => Some(Some(policy)),
        }
    }
}

impl RbacPolicy {
    fn matches(&self, subject: Subject<'_>) -> bool {
        let any = |conditions: &[Condition]| conditions.iter().any(|one| one.holds(subject));
        any(&self.permissions) && any(&self.principals)
    }
}

impl Condition {
    fn holds(&self, subject: Subject<'_>) -> bool {
        let (opened, request) = (subject.opened, subject.request);
        let tls = opened.tls.as_ref();
        let matches = |matcher: &StringMatch, text: Option<&Name>| {
            text.is_some_and(|text| matcher.matches(text.as_bytes()))
        };
        match self {
            Condition::Any => true,
            Condition::And(all) => all.iter().all(|one| one.holds(subject)),
            Condition::Or(some) => some.iter().any(|one| one.holds(subject)),
            Condition::Not(one) => !one.holds(subject),
            Condition::Header(header) => {
                request.is_some_and(|request| request_header_matches(header, request.head))
            }
            Condition::Authority(matcher) => request.is_some_and(|request| {
                matcher.matches_ignoring_case(request.head.authority.as_bytes())
            }),
            Condition::Path(matcher) => request
                .is_some_and(|request| matcher.matches(path_of(&request.head.path).as_bytes())),
            Condition::PathTemplate(template) => {
                request.is_some_and(|request| template.matches(path_of(&request.head.path)))
            }
            Condition::DestinationIp(range) => range.contains(opened.original_dst.ip()),
            Condition::DestinationPort(port) => opened.original_dst.port() == *port,
            Condition::ServerName(matcher) => {
                // Without one Envoy asks about the empty text.
                let none = "".into();
                let name = tls.and_then(|tls| tls.sni.as_ref()).unwrap_or(&none);
                matches(matcher, Some(name))
            }
            Condition::Authenticated(matcher) => {
                matches(matcher, tls.and_then(|tls| tls.principal.as_ref()))
            }
            Condition::DirectRemoteIp(range) => range.contains(opened.peer.ip()),
            Condition::RemoteIp(range) => range.contains(request.map_or_else(
                || opened.peer.ip(),
                |request| client(request.manager, request.head, opened),
            )),
            Condition::Claim(claim) => claim.matches(request.and_then(|request| request.claims)),
        }
    }
}

/// The client's address: what the last proxy before this one said of it, unless clients are not
/// believed.
pub(super) fn client(
    manager: &HttpConnectionManager,
    head: &RequestHead,
    opened: &Opened,
) -> IpAddr {
    let told = || {
        let lines = head.headers.all("x-forwarded-for").last()?;
        let last = lines.rsplit(|byte| *byte == b',').next()?;
        std::str::from_utf8(last).ok()?.trim().parse().ok()
    };
    let told = if manager.use_remote_address {
        None
    } else {
        told()
    };
    told.unwrap_or_else(|| opened.peer.ip())
}

impl ClaimMatch {
    /// Whether the claims of a request, if it brought any, are such.
    pub fn matches(&self, claims: Option<&Value>) -> bool {
        let mut keys = self.path.iter();
        let found = claims.and_then(|claims| keys.try_fold(claims, |all, key| all.get(&**key)));
        let text = |value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| self.values.iter().any(|one| one.matches(text.as_bytes())))
        };
        let matches = match found {
            Some(Value::Array(items)) => self.in_list && items.iter().any(text),
            Some(value) => text(value),
            None => false,
        };
        matches != self.invert
    }
}
