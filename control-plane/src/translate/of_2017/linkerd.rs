//! Routes as Linkerd 1.1.1 took the rules of Istio 0.1.

use super::{Target, origin};
use crate::config::{Condition, RouteRule, Share};
use crate::object::Object;
use proxy_core::xds::{
    Forward, HeaderMatch, Name, PathMatch, PathRewrite, Regex, Route, RouteAction, RouteMatch,
    StringMatch, ValueMatch, WeightedCluster,
};

impl Target<'_, '_> {
    /// Who calls, redirects, timeouts, retries and faults are not looked at. `None`: no request can
    /// match.
    pub(super) fn linkerd_route(&self, object: &Object, rule: &RouteRule) -> Option<Route> {
        let clusters = self.branches(rule).into_iter();
        let rewrite = rule.rewrite.as_ref();
        let uri = rewrite.and_then(|rewrite| rewrite.uri.as_ref());
        let authority = rewrite.and_then(|rewrite| rewrite.authority.as_ref());
        let forward = Forward {
            clusters: clusters
                .map(|(cluster, weight)| WeightedCluster::new(cluster, weight))
                .collect(),
            path_rewrite: uri.map_or(PathRewrite::None, |uri| path(&rule.condition, &uri.text)),
            host_rewrite: authority.map(|authority| authority.text.clone()),
            ..Forward::to("".into())
        };
        Some(Route {
            name: object.reference.name.clone(),
            origin: origin(object),
            ..Route::new(matches(&rule.condition)?, RouteAction::Forward(forward))
        })
    }

    /// A share without endpoints drops out, and the others have its part; with no weights at all they
    /// are alike.
    fn branches(&self, rule: &RouteRule) -> Vec<(Name, u32)> {
        let [_, _, ..] = &rule.route[..] else {
            return self.weighted(rule);
        };
        let alive = |share: &&Share| self.has_endpoints(share);
        let mut left: Vec<&Share> = rule.route.iter().filter(alive).collect();
        if left.is_empty() {
            left = rule.route.iter().collect();
        }
        let total: u32 = left.iter().map(|share| share.weight).sum();
        let weight = |share: &Share| match total {
            0 => 1,
            _ => share.weight,
        };
        let shares = left
            .into_iter()
            .map(|share| (self.cluster(share), weight(share)));
        shares.filter(|(_, weight)| *weight > 0).collect()
    }
}

/// A prefix that was matched is replaced, or else all of the path.
fn path(condition: &Condition, uri: &Name) -> PathRewrite {
    match condition.header("uri") {
        Some(_) => PathRewrite::Prefix(uri.clone()),
        None => match Regex::new(".*") {
            Ok(pattern) => PathRewrite::Regex {
                pattern,
                substitution: uri.replace('\\', "\\\\").into(),
            },
            Err(_) => PathRewrite::Prefix(uri.clone()),
        },
    }
}

/// `uri`, `method` and `authority` are what they say. The scheme of a request is empty: `None`, if the
/// rule asks for one.
fn matches(condition: &Condition) -> Option<RouteMatch> {
    let mut path = PathMatch::Prefix("/".into());
    let mut headers = Vec::new();
    for (name, value) in &condition.headers {
        let header: Name = match &*name.text {
            "uri" => {
                path = match value.clone() {
                    StringMatch::Exact(text) => PathMatch::Exact(text),
                    StringMatch::Regex(regex) => PathMatch::Regex(regex),
                    StringMatch::Prefix(text)
                    | StringMatch::Suffix(text)
                    | StringMatch::Contains(text) => PathMatch::Prefix(text),
                };
                continue;
            }
            "scheme" => match value {
                StringMatch::Exact(text) | StringMatch::Prefix(text) if text.is_empty() => continue,
                StringMatch::Regex(regex) if regex.is_full_match(b"") => continue,
                _ => return None,
            },
            "method" => ":method".into(),
            "authority" => ":authority".into(),
            _ => name.text.clone(),
        };
        headers.push(HeaderMatch {
            name: header,
            value: ValueMatch::String(value.clone()),
            invert: false,
            treat_missing_as_empty: false,
        });
    }
    Some(RouteMatch {
        path,
        headers,
        ..RouteMatch::default()
    })
}
