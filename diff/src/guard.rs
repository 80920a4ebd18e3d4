//! Who may pass: requests that RBAC filters judge differently, before and after.

use crate::access::{of_rbac, rules_of};
use crate::connections::{Connection, Secured};
use crate::report::Treatment;
use crate::settings::SettingChange;
use control_plane::{Request, Resources, explain};
use proxy_core::xds::{
    Condition, ConfigRef, HeaderMatch, Rbac, RbacAction, StringMatch, ValueMatch,
};
use std::net::IpAddr;

/// A request that one side lets pass and the other does not.
pub(crate) struct Judged {
    pub(crate) request: Request,
    pub(crate) old: Treatment,
    pub(crate) new: Treatment,
    pub(crate) settings: Vec<SettingChange>,
}

/// So many requests are tried for one list of filters.
const TRIES_MAX: usize = 2000;
/// And so many ways to meet one policy.
const WAYS_MAX: usize = 16;

/// One request that is denied now, and one that is not any more, as far as any is found: each policy of
/// both sides is met in some ways, and missed. `sides`: of the proxy; `base`: a request to build on.
pub(crate) fn judge(sides: [&Resources; 2], filters: [&[Rbac]; 2], base: &Request) -> Vec<Judged> {
    let (before, after) = (of_rbac(filters[0]), of_rbac(filters[1]));
    let settings = before.changes(&after);
    let mut found: Vec<(bool, Judged)> = Vec::new();
    for request in tries(filters, base) {
        let [old, new] = sides.map(|resources| verdict(resources, &request));
        let ((was_denied, old), (is_denied, new)) = (old, new);
        if was_denied == is_denied || found.iter().any(|(denied, _)| *denied == is_denied) {
            continue;
        }
        let treatment = |denied: bool, mut rules: Vec<ConfigRef>, filters: &[Rbac]| {
            if rules.is_empty() && denied {
                rules = rules_of(filters);
            }
            Treatment {
                summary: if denied { "denied (403)" } else { "passes" }.to_owned(),
                rules,
            }
        };
        let judged = Judged {
            request,
            old: treatment(was_denied, old, filters[0]),
            new: treatment(is_denied, new, filters[1]),
            settings: settings.clone(),
        };
        found.push((is_denied, judged));
        if found.len() == 2 {
            break;
        }
    }
    found.into_iter().map(|(_, judged)| judged).collect()
}

/// Whether no request can pass: what is allowed asks for something that the connection has not.
pub(crate) fn never_passes(filters: &[Rbac], connection: &Connection) -> bool {
    let impossible = |conditions: &[Condition]| {
        let mut known = conditions.iter().map(|one| holds(one, connection));
        known.all(|known| known == Some(false))
    };
    let mut allowing = filters
        .iter()
        .filter(|filter| filter.action == RbacAction::Allow);
    allowing.any(|filter| {
        let mut policies = filter.policies.iter();
        policies.all(|policy| impossible(&policy.permissions) || impossible(&policy.principals))
    })
}

/// As far as the connection decides it.
fn holds(condition: &Condition, connection: &Connection) -> Option<bool> {
    let each = |conditions: &[Condition], decisive: bool| {
        let known: Vec<Option<bool>> = conditions
            .iter()
            .map(|one| holds(one, connection))
            .collect();
        match known.contains(&Some(decisive)) {
            true => Some(decisive),
            false if known.contains(&None) => None,
            false => Some(!decisive),
        }
    };
    match condition {
        Condition::Any => Some(true),
        Condition::And(all) => each(all, false),
        Condition::Or(some) => each(some, true),
        Condition::Not(one) => holds(one, connection).map(|holds| !holds),
        Condition::DestinationPort(port) => Some(*port == connection.address.port()),
        Condition::Authenticated(_) if connection.tls != Secured::Mutual => Some(false),
        Condition::Header(_) | Condition::Path(_) | Condition::Authority(_) if !connection.http => {
            Some(false)
        }
        _ => None,
    }
}

/// A request like `base` that both sides let pass, where they can be asked for it.
pub(crate) fn passing(
    sides: [&Resources; 2],
    filters: [&[Rbac]; 2],
    base: &Request,
) -> Option<Request> {
    if filters.iter().all(|filters| filters.is_empty()) {
        return Some(base.clone());
    }
    let passes = |request: &Request| sides.iter().all(|side| !verdict(side, request).0);
    tries(filters, base).into_iter().find(passes)
}

/// Whether it is denied, and the policies that had a say.
fn verdict(resources: &Resources, request: &Request) -> (bool, Vec<ConfigRef>) {
    let answer = explain(resources, request);
    let details = answer.details.as_deref().unwrap_or_default();
    let policies = answer.config.into_iter();
    let policies = policies.filter(|rule| &*rule.kind == "AuthorizationPolicy");
    (
        details.starts_with("rbac_access_denied"),
        policies.collect(),
    )
}

fn tries(filters: [&[Rbac]; 2], base: &Request) -> Vec<Request> {
    let mut tries = vec![base.clone()];
    for policy in filters
        .iter()
        .flat_map(|side| side.iter())
        .flat_map(|filter| &filter.policies)
    {
        let any_of = |conditions: &[Condition], from: &[Request]| -> Vec<Request> {
            let each = conditions.iter().flat_map(|one| meet(one, true, from));
            each.take(WAYS_MAX).collect()
        };
        let asked = any_of(&policy.permissions, std::slice::from_ref(base));
        tries.extend(any_of(&policy.principals, &asked));
        tries.extend(any_of(&policy.principals, std::slice::from_ref(base)));
        tries.extend(asked);
    }
    tries.truncate(TRIES_MAX);
    tries
}

/// Requests like those of `from` for which the condition holds, or not, as far as that can be had.
fn meet(condition: &Condition, holds: bool, from: &[Request]) -> Vec<Request> {
    let each = |change: &dyn Fn(&mut Request)| -> Vec<Request> {
        let mut changed = from.to_vec();
        changed.iter_mut().for_each(change);
        changed
    };
    match (condition, holds) {
        (Condition::Not(one), _) => meet(one, !holds, from),
        (Condition::And(all), true) | (Condition::Or(all), false) => {
            let mut met = from.to_vec();
            for one in all {
                met = meet(one, holds, &met);
                met.truncate(WAYS_MAX);
            }
            met
        }
        (Condition::And(some), false) | (Condition::Or(some), true) => {
            let each = some.iter().flat_map(|one| meet(one, holds, from));
            each.take(WAYS_MAX).collect()
        }
        (Condition::Header(header), _) => each(&|request| set_header(request, header, holds)),
        (Condition::Authority(text), _) => each(&|request| request.authority = sample(text, holds)),
        (Condition::Path(text), _) => each(&|request| {
            let path = sample(text, holds);
            request.path = if path.starts_with('/') {
                path
            } else {
                format!("/{path}")
            };
        }),
        (Condition::PathTemplate(template), true) => each(&|request| {
            request.path = template
                .text()
                .replace("**", "any/thing")
                .replace('*', "any");
        }),
        (Condition::ServerName(text), _) => {
            each(&|request| request.sni = Some(sample(text, holds)))
        }
        (Condition::Authenticated(text), _) => each(&|request| {
            let name = sample(text, holds);
            let name = name.strip_prefix("spiffe://").unwrap_or(&name);
            request.principal = Some(name.to_owned());
        }),
        (Condition::DirectRemoteIp(range) | Condition::RemoteIp(range), true) => {
            each(&|request| request.source = Some(range.address))
        }
        (Condition::DirectRemoteIp(_) | Condition::RemoteIp(_), false) => {
            each(&|request| request.source = Some(IpAddr::from([192, 0, 2, 1])))
        }
        (Condition::Claim(claim), _) => each(&|request| {
            let value = claim
                .values
                .first()
                .map(|text| sample(text, holds != claim.invert));
            set_claim(request, &claim.path, value.unwrap_or_default());
        }),
        _ => from.to_vec(),
    }
}

fn set_header(request: &mut Request, header: &HeaderMatch, holds: bool) {
    let holds = holds != header.invert;
    let value = match &header.value {
        ValueMatch::Present(present) if *present == holds => "any".to_owned(),
        ValueMatch::Present(_) => {
            return request.headers.retain(|(name, _)| **name != *header.name);
        }
        ValueMatch::String(text) => sample(text, holds),
    };
    match &*header.name {
        ":method" => request.method = value,
        ":authority" => request.authority = value,
        ":path" => request.path = value,
        ":scheme" => request.scheme = value,
        name => {
            request.headers.retain(|(other, _)| other != name);
            request.headers.push((name.to_owned(), value));
        }
    }
}

/// Tokens may be written down as their claims.
fn set_claim(request: &mut Request, path: &[proxy_core::xds::Name], value: String) {
    let is_token = |(name, _): &(String, String)| name == "authorization";
    let known = request.headers.iter().find(|header| is_token(header));
    let known = known.and_then(|(_, token)| token.strip_prefix("Bearer "));
    let mut claims: serde_json::Value = known
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_else(|| serde_json::json!({}));
    let mut place = &mut claims;
    for key in path {
        if !place.is_object() {
            *place = serde_json::json!({});
        }
        place = &mut place[&**key];
    }
    *place = value.into();
    request.headers.retain(|header| !is_token(header));
    request
        .headers
        .push(("authorization".to_owned(), format!("Bearer {claims}")));
}

/// A text that matches, or one that does not.
fn sample(matcher: &StringMatch, holds: bool) -> String {
    let other = "other";
    match (matcher, holds) {
        (StringMatch::Exact(text), true) => text.to_string(),
        (StringMatch::Prefix(text), true) => format!("{text}any"),
        (StringMatch::Suffix(text), true) => format!("any{text}"),
        (StringMatch::Contains(text), true) => text.to_string(),
        (StringMatch::Regex(regex), true) => {
            // Those that Istio writes are a literal with wildcards, mostly for a part of a principal.
            let source = regex.source().trim_start_matches('^').trim_end_matches('$');
            let text = match source.strip_prefix(".*/ns/") {
                Some(rest) => format!(
                    "spiffe://cluster.local/ns/{}",
                    rest.replace("/.*", "/sa/default")
                ),
                None => source.replace(".*", "any").replace(".+", "any"),
            };
            let text = text.replace('\\', "");
            if regex.is_full_match(text.as_bytes()) {
                text
            } else {
                other.to_owned()
            }
        }
        (_, false) => other.to_owned(),
    }
}
