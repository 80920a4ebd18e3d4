//! Routes as Pilot of 2017 made them for Envoy.

use super::{TIMEOUT, Target, is_from, origin};
use crate::config::{Condition, RouteRule};
use crate::object::Object;
use proxy_core::xds::{
    Fault, Forward, HeaderMatch, Name, PathMatch, PathRewrite, Redirect, RedirectPath, RetryOn,
    RetryPolicy, Route, RouteAction, RouteMatch, StringMatch, ValueMatch, WeightedCluster,
};

/// Envoy of 2017 knew no other for redirects.
const REDIRECT_STATUS: u16 = 301;

impl Target<'_, '_> {
    /// `None`: the rule is for other callers.
    pub(super) fn envoy_route(&self, object: &Object, rule: &RouteRule) -> Option<Route> {
        let source = rule.condition.source.as_ref();
        if source.is_some_and(|source| !is_from(self.scope, source)) {
            return None;
        }
        let action = match &rule.redirect {
            Some(redirect) => {
                let text = |named: &crate::config::Named| named.text.clone();
                RouteAction::Redirect(Redirect {
                    status: REDIRECT_STATUS,
                    scheme: None,
                    host: redirect.authority.as_ref().map(text),
                    port: None,
                    path: match &redirect.uri {
                        Some(uri) => RedirectPath::Replace(uri.text.clone()),
                        None => RedirectPath::Keep,
                    },
                })
            }
            None => RouteAction::Forward(self.forward(rule)),
        };
        let fault = rule.fault.as_ref();
        let fault = fault.filter(|fault| fault.delay.is_some() || fault.abort.is_some());
        Some(Route {
            name: object.reference.name.clone(),
            fault: fault.map(|fault| Fault {
                delay: fault.delay.clone(),
                abort: fault.abort.clone(),
                max_active_faults: None,
            }),
            origin: origin(object),
            ..Route::new(matches(&rule.condition), action)
        })
    }

    fn forward(&self, rule: &RouteRule) -> Forward {
        let clusters = self.weighted(rule).into_iter();
        let rewrite = rule.rewrite.as_ref();
        let uri = rewrite.and_then(|rewrite| rewrite.uri.as_ref());
        let authority = rewrite.and_then(|rewrite| rewrite.authority.as_ref());
        let retry = rule.retry.as_ref().filter(|retry| retry.attempts > 0);
        Forward {
            clusters: clusters
                .map(|(cluster, weight)| WeightedCluster::new(cluster, weight))
                .collect(),
            path_rewrite: uri.map_or(PathRewrite::None, |uri| {
                PathRewrite::Prefix(uri.text.clone())
            }),
            host_rewrite: authority.map(|authority| authority.text.clone()),
            timeout: Some(rule.timeout.unwrap_or(TIMEOUT)),
            retry: retry.map(|retry| {
                let on = RetryOn::FIVE_XX | RetryOn::CONNECT_FAILURE | RetryOn::REFUSED_STREAM;
                RetryPolicy {
                    per_try_timeout: Some(retry.per_try_timeout),
                    ..RetryPolicy::on(on, retry.attempts)
                }
            }),
            ..Forward::to("".into())
        }
    }
}

/// Only `uri` is more than a header, and not as a regular expression: `method`, `scheme` and `authority`
/// are taken for headers of those names.
fn matches(condition: &Condition) -> RouteMatch {
    let mut path = PathMatch::Prefix("/".into());
    let mut headers = Vec::new();
    for (name, value) in &condition.headers {
        match (&*name.text, value) {
            ("uri", StringMatch::Exact(text)) => path = PathMatch::Exact(text.clone()),
            ("uri", StringMatch::Prefix(text)) => path = PathMatch::Prefix(text.clone()),
            _ => headers.push(header(&name.text, value)),
        }
    }
    RouteMatch {
        path,
        headers,
        ..RouteMatch::default()
    }
}

/// Without a text, presence is enough.
fn header(name: &Name, value: &StringMatch) -> HeaderMatch {
    let empty = match value {
        StringMatch::Exact(text) | StringMatch::Prefix(text) => text.is_empty(),
        _ => false,
    };
    HeaderMatch {
        name: name.clone(),
        value: match empty {
            true => ValueMatch::Present(true),
            false => ValueMatch::String(value.clone()),
        },
        invert: false,
        treat_missing_as_empty: false,
    }
}
