//! Who is let in, in words.

use super::{Explanation, described};
use proxy_core::contract::{Direction, Opened};
use proxy_core::router::{Subject, Token};
use proxy_core::telemetry::Details;
use proxy_core::xds::{FilterChain, HttpConnectionManager, Listener, Rbac, RbacAction};

/// How the bytes arrive, in words.
pub(super) fn secured(opened: &Opened, chain: &FilterChain) -> String {
    let arrived = match &opened.tls {
        None if chain.terminates_tls => return "plain text, where TLS is to end".to_owned(),
        None => return "plain text".to_owned(),
        Some(tls) if !tls.mutual => "TLS".to_owned(),
        Some(tls) => match &tls.principal {
            Some(principal) => format!("mutual TLS of {principal}"),
            None => "mutual TLS of a client that is not named".to_owned(),
        },
    };
    match chain.terminates_tls {
        true => format!("{arrived}, which ends here"),
        false => format!("{arrived}, which does not end here"),
    }
}

/// Why an inbound listener has no chain for a connection, in words.
pub(super) fn unmatched(listener: &Listener, opened: &Opened) -> String {
    let closed = "no filter chain matches: the connection is closed";
    let port = opened.original_dst.port();
    let at = |port| {
        let chains = listener.filter_chains.iter();
        let chains = chains.filter(move |chain| chain.matches.destination_port == port);
        chains.collect::<Vec<_>>()
    };
    let own = at(Some(port));
    let chains = if own.is_empty() { at(None) } else { own };
    let mutual = chains.iter().any(|chain| chain.terminates_tls);
    let plain = |chain: &&FilterChain| chain.matches.transport_protocol.as_deref() != Some("tls");
    let taken = match (chains.iter().any(plain), mutual) {
        _ if opened.direction != Direction::Inbound => return closed.to_owned(),
        (true, true) => "plain text and mutual TLS are",
        (true, false) => "plain text is all that is",
        (false, true) => "mutual TLS is all that is",
        (false, false) => return closed.to_owned(),
    };
    let arrived = match &opened.tls {
        None => "plain text",
        Some(tls) if tls.mutual => "mutual TLS",
        Some(_) => "TLS that is not Istio's",
    };
    format!("{closed}, as {arrived} comes where {taken} taken")
}

impl Explanation {
    /// Whether the token or what is not allowed ends it.
    pub(super) fn turned_away(
        &mut self,
        manager: &HttpConnectionManager,
        token: &Token,
        subject: Subject<'_>,
    ) -> bool {
        if let Some(jwt) = &manager.jwt {
            let rules = jwt.providers.iter().filter_map(|one| one.origin.as_ref());
            let names: Vec<String> = rules.clone().map(described).collect();
            let names = names.join("; ");
            match token {
                Token::Absent => self.say(format!("no token for {names}")),
                Token::Accepted(claims) => self.say(format!("claims {claims}, taken by {names}")),
                Token::Refused(problem) => {
                    rules.for_each(|rule| self.configured_by(Some(rule)));
                    self.say(format!("token refused by {names}: {}", problem.as_str()));
                }
            }
        }
        let (status, details) = match token {
            Token::Refused(problem) => {
                let details = Details::JwtAuthnAccessDenied(*problem);
                (problem.status(), Some(details))
            }
            _ => (403, self.access(&manager.rbac, subject)),
        };
        if let Some(details) = &details {
            self.local_reply(status, None, &details.to_string());
        }
        details.is_some()
    }

    /// What the RBAC filters say, and why; `None`: nothing against it.
    pub(super) fn access(&mut self, filters: &[Rbac], subject: Subject<'_>) -> Option<Details> {
        for filter in filters {
            let matching = filter.matching(subject);
            if let Some(policy) = matching {
                self.configured_by(policy.origin.as_ref());
                let verb = match filter.action {
                    RbacAction::Allow => "allowed",
                    RbacAction::Deny => "denied",
                };
                let by = policy.origin.as_ref().map(described).unwrap_or_default();
                self.say(format!("{verb} by {} ({by})", policy.name));
            }
            match (filter.action, matching) {
                (RbacAction::Deny, Some(policy)) => {
                    return Some(Details::RbacAccessDenied(Some(policy.name.clone())));
                }
                (RbacAction::Allow, None) => {
                    let known = filter.policies.iter().filter_map(|p| p.origin.as_ref());
                    let known: Vec<String> = known.map(described).collect();
                    self.say(format!("denied: nothing allows it of {}", known.join("; ")));
                    return Some(Details::RbacAccessDenied(None));
                }
                (RbacAction::Deny, None) | (RbacAction::Allow, Some(_)) => {}
            }
        }
        None
    }
}
