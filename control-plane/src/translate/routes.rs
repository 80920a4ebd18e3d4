//! HTTP rules to routes.

use super::cluster_name;
use super::scope::Scope;
use crate::config::{
    ConsistentHash, Destination, HttpAction, HttpMatch, HttpRoute, Named, RedirectPort, Retries,
    RouteDestination, Static, has_labels,
};
use crate::names::{escaped, full_name, gateway_name};
use crate::registry::{Service, ServicePort};
use crate::rules::VirtualServiceRule;
use proxy_core::time::Nanos;
use proxy_core::xds::{
    ConfigRef, Forward, Fraction, HashPolicy, HeaderMutations, Mirror, Name, PathMatch,
    PathRewrite, Redirect, Regex, RetryOn, RetryPolicy, Route, RouteAction, RouteMatch,
    WeightedCluster,
};
use std::sync::Arc;

/// Istio's name for a destination that a route of the Gateway API may not have.
pub(crate) const NOBODY: &str = "UnknownService";

/// For whom routes are made.
pub(crate) struct RouteContext<'a, 'm> {
    pub(crate) scope: &'a Scope<'m>,
    /// `mesh`, or the gateways of the server.
    pub(crate) gateways: &'a [Name],
    /// Of the listener; of a gateway: of the server.
    pub(crate) port: u16,
    /// The listener speaks TLS.
    pub(crate) tls: bool,
}

impl RouteContext<'_, '_> {
    fn in_mesh(&self) -> bool {
        self.gateways.iter().any(|name| &**name == "mesh")
    }

    /// Whether a condition of `rule` names one of the gateways.
    pub(crate) fn is_named(&self, rule: &VirtualServiceRule, statics: &Static) -> bool {
        let named = |gateway: &Named| gateway_name(&gateway.text, rule.namespace());
        let mut gateways = statics.gateways.iter();
        gateways.any(|gateway| self.gateways.contains(&named(gateway)))
    }
}

/// The routes of `rule`, in order; empty if none is for this proxy and port.
pub(crate) fn of_virtual_service(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    'rules: for http in rule.http() {
        if http.matches.is_empty() {
            routes.push(Arc::new(route(context, rule, http, None)));
            break;
        }
        for one in &http.matches {
            if !applies(context, rule, &one.statics) {
                continue;
            }
            let route = Arc::new(route(context, rule, http, Some(one)));
            let ends = is_catch_all(&route.matches);
            routes.push(route);
            if ends {
                break 'rules;
            }
        }
    }
    routes
}

/// The routes of `rule` at `port` of sidecars.
pub(crate) fn in_mesh(scope: &Scope<'_>, port: u16, rule: &VirtualServiceRule) -> Vec<Arc<Route>> {
    let context = RouteContext {
        scope,
        gateways: &["mesh".into()],
        port,
        tls: false,
    };
    of_virtual_service(&context, rule)
}

/// Whether the conditions on the proxy and the listener hold. Gateways that are named make those on
/// the source irrelevant.
fn applies(context: &RouteContext<'_, '_>, rule: &VirtualServiceRule, statics: &Static) -> bool {
    if statics.port.is_some_and(|port| port != context.port) {
        return false;
    }
    if !statics.gateways.is_empty() {
        return context.is_named(rule, statics);
    }
    let namespace = statics.source_namespace.as_ref();
    has_labels(&context.scope.labels, &statics.source_labels)
        && namespace.is_none_or(|name| *name == context.scope.namespace)
}

/// Matches every request.
pub(crate) fn is_catch_all(matches: &RouteMatch) -> bool {
    let path = match &matches.path {
        PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => &**prefix == "/",
        PathMatch::Regex(regex) => regex.source() == ".*",
        PathMatch::Exact(_) => false,
    };
    path && matches.headers.is_empty() && matches.query.is_empty() && matches.claims.is_empty()
}

fn route(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    http: &HttpRoute,
    one: Option<&HttpMatch>,
) -> Route {
    let name = match one.and_then(|one| one.name.as_ref()) {
        Some(suffix) if !suffix.is_empty() => format!("{}.{suffix}", http.name).into(),
        _ => http.name.clone(),
    };
    let mut request_headers = http.headers.request.clone();
    let mut response_headers = http.headers.response.clone();
    let mut action = match &http.action {
        HttpAction::Route(destinations) => {
            if let [single] = &destinations[..] {
                append(&mut request_headers, &single.headers.request);
                append(&mut response_headers, &single.headers.response);
            }
            RouteAction::Forward(forward(context, rule, http, destinations))
        }
        HttpAction::Redirect {
            status,
            scheme,
            host,
            port,
            path,
        } => RouteAction::Redirect(Redirect {
            status: *status,
            scheme: scheme.clone(),
            host: host.clone(),
            port: port.and_then(|port| redirect_port(context, port, scheme.as_deref())),
            path: path.clone(),
        }),
        HttpAction::DirectResponse { status, body } => RouteAction::DirectResponse {
            status: *status,
            body: body.clone(),
        },
        // Carried out when the rules were indexed.
        HttpAction::Delegate { .. } => RouteAction::DirectResponse {
            status: 404,
            body: "".into(),
        },
    };
    let matches = match_of(rule, one);
    if rule.of_gateway_api()
        && let RouteAction::Forward(forward) = &mut action
    {
        with_gateway_semantics(forward, &matches.path);
    }
    Route {
        name,
        matches,
        action,
        request_headers,
        response_headers,
        fault: http.fault.clone(),
        cors: http.cors.clone(),
        local_rate_limit: None,
        origin: Some(http.origin.clone().unwrap_or_else(|| ConfigRef {
            file: http.span.file.name.clone(),
            line: http.span.line(),
            ..rule.origin()
        })),
    }
}

/// `None`: it goes without saying.
fn redirect_port(
    context: &RouteContext<'_, '_>,
    port: RedirectPort,
    scheme: Option<&str>,
) -> Option<u16> {
    let number = match port {
        RedirectPort::Number(number) => number,
        RedirectPort::FromRequest => context.port,
    };
    let own = if context.tls { "https" } else { "http" };
    match (number, scheme.unwrap_or(own)) {
        (80, "http") | (443, "https") => None,
        _ => Some(number),
    }
}

/// What a condition of `rule` asks of a request; everything matches `None`.
pub(crate) fn match_of(rule: &VirtualServiceRule, one: Option<&HttpMatch>) -> RouteMatch {
    match one {
        None => RouteMatch::default(),
        Some(one) if rule.of_gateway_api() => match_of_gateway_api(one),
        Some(one) => one.request.clone(),
    }
}

/// The same of a condition of the Gateway API, where prefixes end at a slash.
pub(crate) fn match_of_gateway_api(one: &HttpMatch) -> RouteMatch {
    let mut matches = one.request.clone();
    if let PathMatch::Prefix(text) = &matches.path
        && &**text != "/"
    {
        let prefix = text.strip_suffix('/').unwrap_or(text);
        matches.path = PathMatch::SeparatedPrefix(prefix.into());
    }
    matches
}

/// Of the Gateway API: a prefix that is replaced by nothing leaves a slash.
fn with_gateway_semantics(forward: &mut Forward, path: &PathMatch) {
    let prefix = match path {
        PathMatch::SeparatedPrefix(prefix) => prefix,
        _ => "",
    };
    forward.cluster_not_found_status = 500;
    if forward.path_rewrite == PathRewrite::Prefix("/".into())
        && let Ok(pattern) = Regex::new(&format!("^{}(/?)(.*)", escaped(prefix)))
    {
        forward.path_rewrite = PathRewrite::Regex {
            pattern,
            substitution: r"/\2".into(),
        };
    }
}

fn append(to: &mut HeaderMutations, more: &HeaderMutations) {
    to.remove.extend(more.remove.iter().cloned());
    to.add.extend(more.add.iter().cloned());
}

fn forward(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    http: &HttpRoute,
    destinations: &[RouteDestination],
) -> Forward {
    let sole_port = !context.in_mesh();
    let resolve = |to: &Destination| destination_cluster(context, rule, to, sole_port);
    let mut host_rewrite = http
        .authority_rewrite
        .clone()
        .or_else(|| http.headers.authority.clone());
    let mut hash_policies: Vec<HashPolicy> = Vec::new();
    let single = destinations.len() == 1;
    for to in destinations.iter().filter(|to| single || to.weight > 0) {
        hash_policies.extend(hash_policy(context, rule, &to.destination));
    }
    let clusters = match destinations {
        [single] => {
            host_rewrite = host_rewrite.or_else(|| single.headers.authority.clone());
            vec![WeightedCluster::new(resolve(&single.destination), 1)]
        }
        several => several
            .iter()
            .filter(|to| to.weight > 0)
            .map(|to| WeightedCluster {
                request_headers: to.headers.request.clone(),
                response_headers: to.headers.response.clone(),
                host_rewrite: to.headers.authority.clone(),
                ..WeightedCluster::new(resolve(&to.destination), to.weight)
            })
            .collect(),
    };
    let policy = http.retries.as_ref();
    let policy = policy.or(context.scope.mesh.config.default_http_retry_policy.as_ref());
    let avoid_previous = destinations.len() > 1 || hash_policies.is_empty();
    Forward {
        clusters,
        path_rewrite: http.path_rewrite.clone(),
        host_rewrite,
        timeout: http.timeout,
        max_grpc_timeout: Some(http.timeout.unwrap_or(Nanos::ZERO)),
        retry: retry_policy(policy, avoid_previous),
        hash_policies,
        mirrors: http
            .mirrors
            .iter()
            .map(|mirror| Mirror {
                cluster: resolve(&mirror.destination),
                fraction: Fraction::ppm(mirror.fraction_ppm),
                shadow_suffix: false,
            })
            .collect(),
        ..Forward::to("".into())
    }
}

/// Where a rule sends to: the port that it names, else the only one of the service where that counts
/// (`sole_port`), else that of the listener.
pub(crate) fn destination_cluster(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    to: &Destination,
    sole_port: bool,
) -> Name {
    if to.host.text.is_empty() {
        return NOBODY.into();
    }
    let host = full_name(&to.host.text, rule.namespace());
    let service = destination_service(context.scope, rule, &host);
    let sole = || match &service?.ports[..] {
        [port] => Some(port.number),
        _ => None,
    };
    let port = to
        .port
        .or_else(|| sole().filter(|_| sole_port))
        .unwrap_or(context.port);
    let subset = to.subset.as_ref().map_or("", |subset| &subset.text);
    // No further than to the first name. In the mesh, services of other ports are not known here.
    let known = |service: &&Arc<Service>| sole_port || service.port(context.port).is_some();
    let alias = service.filter(known);
    let meant = alias.and_then(|service| service.alias_of.as_ref());
    cluster_name(port, subset, meant.unwrap_or(&host))
}

/// The service a destination names: of the rule's namespace, if the proxy may see it, else what the
/// proxy means by the host.
pub(crate) fn destination_service<'s>(
    scope: &'s Scope<'_>,
    rule: &VirtualServiceRule,
    host: &str,
) -> Option<&'s Arc<Service>> {
    let mut services = scope.mesh.registry.with_host(host);
    match services.find(|service| service.namespace == *rule.namespace()) {
        Some(own) => Some(own).filter(|own| own.export_to.shows(&scope.namespace)),
        None => scope.service(host),
    }
}

/// The route of a service without VirtualService.
pub(crate) fn default_route(
    scope: &Scope<'_>,
    service: &Service,
    port: &ServicePort,
) -> Arc<Route> {
    let hash = scope.consistent_hash(service, None, Some(port.number));
    let hash_policies = hash.and_then(hash_of).into_iter().collect();
    let forward = Forward {
        retry: retry_policy(scope.mesh.config.default_http_retry_policy.as_ref(), true),
        hash_policies,
        max_grpc_timeout: Some(Nanos::ZERO),
        ..Forward::to(cluster_name(port.number, "", &service.host))
    };
    Arc::new(plain_route(
        "default",
        forward,
        Some(service.origin.clone()),
    ))
}

/// A route without conditions.
pub(crate) fn plain_route(name: &str, forward: Forward, origin: Option<ConfigRef>) -> Route {
    Route {
        name: name.into(),
        origin,
        ..Route::new(RouteMatch::default(), RouteAction::Forward(forward))
    }
}

fn hash_policy(
    context: &RouteContext<'_, '_>,
    rule: &VirtualServiceRule,
    to: &Destination,
) -> Option<HashPolicy> {
    let host = full_name(&to.host.text, rule.namespace());
    let service = context.scope.service(&host)?;
    let subset = to.subset.as_ref().map(|subset| &*subset.text);
    // Port-level settings are seen only where the rule names the port.
    context
        .scope
        .consistent_hash(service, subset, to.port)
        .and_then(hash_of)
}

fn hash_of(hash: ConsistentHash) -> Option<HashPolicy> {
    Some(HashPolicy {
        input: hash.input?,
        terminal: false,
    })
}

/// Istio's retries where nothing is configured.
pub(crate) fn default_retries() -> RetryPolicy {
    let retry_on = RetryOn::CONNECT_FAILURE
        | RetryOn::REFUSED_STREAM
        | RetryOn::GRPC_UNAVAILABLE
        | RetryOn::GRPC_CANCELLED
        | RetryOn::RETRIABLE_STATUS_CODES;
    RetryPolicy {
        avoid_previous_hosts: true,
        host_selection_retry_max_attempts: 5,
        ..RetryPolicy::on(retry_on, 2)
    }
}

/// Istio's defaults, where `policy` does not say otherwise; `None`: no retries.
fn retry_policy(policy: Option<&Retries>, avoid_previous: bool) -> Option<RetryPolicy> {
    let mut retry = RetryPolicy {
        avoid_previous_hosts: avoid_previous,
        ..default_retries()
    };
    let Some(policy) = policy else {
        return Some(retry);
    };
    if policy.attempts == 0 {
        return None;
    }
    retry.num_retries = policy.attempts;
    if let Some(avoid) = policy.ignore_previous_hosts {
        retry.avoid_previous_hosts = avoid;
    }
    // Istio's update frequency.
    retry.previous_priorities_update_frequency = policy.remote_localities.then_some(2);
    retry.per_try_timeout = policy.per_try_timeout;
    if let Some(base) = policy.back_off {
        retry.back_off_base = base;
        retry.back_off_max = base * 10;
    }
    if let Some(tokens) = &policy.retry_on {
        retry.retry_on = RetryOn::default();
        for token in tokens.split(',') {
            if let Ok(status) = token.parse() {
                retry.retriable_status_codes.push(status);
                retry.retry_on = retry.retry_on | RetryOn::RETRIABLE_STATUS_CODES;
            } else if let Some(condition) = RetryOn::from_token(token) {
                retry.retry_on = retry.retry_on | condition;
            }
        }
    }
    Some(retry)
}
