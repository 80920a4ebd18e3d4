//! What a route does with the requests that it takes, as settings that can be compared. Its name,
//! its place and what it matches do not count.

use crate::labels::{cluster_label, json, pairs, string_match};
use crate::report::Kind;
use crate::retries::of_retries;
use crate::settings::{Settings, limit, percent, span};
use proxy_core::time::Nanos;
use proxy_core::xds::{
    ConfigRef, CorsPolicy, Fault, Forward, HashInput, HeaderMutations, HeaderValue, LocalRateLimit,
    Mirror, Name, RateLimitActions, Redirect, Route, RouteAction, VirtualHost, WeightedCluster,
};
use std::collections::{BTreeMap, BTreeSet};

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// Where it goes, or who answers it, in words.
    pub(crate) destination: String,
    /// The clusters that it may go to, each once, and the ratio of their weights; empty: none.
    pub(crate) shares: BTreeMap<Name, u64>,
    /// Where copies go.
    pub(crate) mirrors: BTreeSet<Name>,
    /// The connection is closed.
    pub(crate) closes: bool,
    /// Further settings count only where both sides do this.
    pub(crate) way: Way,
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<ConfigRef>,
}

/// How a request is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Forwards,
    Answers,
    /// Bytes are passed on.
    Passes,
    Refuses,
}

impl Outcome {
    fn new(way: Way, destination: String) -> Outcome {
        Outcome {
            destination,
            shares: BTreeMap::new(),
            mirrors: BTreeSet::new(),
            closes: false,
            way,
            settings: Settings::default(),
            rules: Vec::new(),
        }
    }

    /// Nobody takes it.
    pub(crate) fn refused(why: &str) -> Outcome {
        Outcome::new(Way::Refuses, why.to_owned())
    }

    /// Nobody takes the connection.
    pub(crate) fn closed(why: &str) -> Outcome {
        Outcome {
            closes: true,
            ..Outcome::refused(why)
        }
    }

    /// The bytes of a connection go to clusters by their weights.
    pub(crate) fn passed(clusters: &[(Name, u32)]) -> Outcome {
        let shares = clusters
            .iter()
            .map(|(name, weight)| (name.clone(), *weight));
        let shares = shares_of(shares);
        let mut outcome = Outcome::new(
            Way::Passes,
            format!("the bytes are passed on to {}", told(&shares)),
        );
        outcome.shares = shares;
        outcome
    }

    /// `plain`: without TLS, which the virtual host may require.
    pub(crate) fn of(host: &VirtualHost, route: Option<&Route>, plain: bool) -> Outcome {
        if host.require_tls && plain {
            return Outcome::new(Way::Answers, "redirected to https (301)".to_owned());
        }
        let Some(route) = route else {
            return Outcome::refused("no route: 404");
        };
        let mut outcome = match &route.action {
            RouteAction::Forward(forward) => forwarded(forward),
            RouteAction::Redirect(redirect) => Outcome::new(Way::Answers, redirected(redirect)),
            RouteAction::DirectResponse { status, body } => {
                let body = match body.is_empty() {
                    true => String::new(),
                    false => format!(" with {body:?}"),
                };
                Outcome::new(Way::Answers, format!("answered with {status}{body}"))
            }
        };
        outcome.rules.extend(route.origin.clone());
        of_host(host, route, &mut outcome.settings);
        of_filters(host, route, &mut outcome.settings);
        outcome
    }

    /// Those that requests go to, and copies of them.
    pub(crate) fn clusters(&self) -> impl Iterator<Item = &Name> {
        self.shares.keys().chain(&self.mirrors)
    }

    /// Nobody answers in either case, however this shows; or everything goes where the client wanted.
    pub(crate) fn comes_to_the_same(&self, other: &Outcome) -> bool {
        let unknown = |outcome: &Outcome| {
            let mut targets = outcome.shares.keys();
            matches!(outcome.way, Way::Passes | Way::Forwards)
                && targets.any(|name| name.ends_with("PassthroughCluster"))
        };
        (self.way == Way::Refuses && other.way == Way::Refuses)
            || (unknown(self) && unknown(other) && self.way != other.way)
    }

    /// Whichever rules say so. What happens to paths is another matter.
    pub(crate) fn is_same(&self, other: &Outcome) -> bool {
        self.way == other.way
            && self.shares == other.shares
            && self.destination == other.destination
            && self.settings == other.settings
    }
}

/// The weights of each cluster together, reduced: what counts is their ratio.
fn shares_of(clusters: impl Iterator<Item = (Name, u32)>) -> BTreeMap<Name, u64> {
    let mut shares: BTreeMap<Name, u64> = BTreeMap::new();
    let mut single = None;
    let mut entries = 0;
    for (name, weight) in clusters {
        entries += 1;
        single.get_or_insert_with(|| name.clone());
        if weight > 0 {
            *shares.entry(name).or_default() += u64::from(weight);
        }
    }
    // The weight of the only one does not count.
    if let (1, Some(only)) = (entries, single) {
        shares = BTreeMap::from([(only, 1)]);
    }
    let divisor = shares.values().copied().fold(0, common_divisor).max(1);
    for share in shares.values_mut() {
        *share /= divisor;
    }
    shares
}

fn common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

fn told(shares: &BTreeMap<Name, u64>) -> String {
    let whole: u64 = shares.values().sum();
    let each = shares.iter().map(|(name, share)| match shares.len() {
        1 => cluster_label(name),
        _ => format!("{} {}", cluster_label(name), percent(*share, whole)),
    });
    each.collect::<Vec<_>>().join(", ")
}

fn forwarded(forward: &Forward) -> Outcome {
    let Forward {
        clusters,
        // Compared by what it does.
        path_rewrite: _,
        host_rewrite,
        timeout,
        idle_timeout,
        max_stream_duration,
        max_grpc_timeout,
        hedge_on_per_try_timeout,
        subset,
        retry,
        hash_policies,
        mirrors,
        rate_limits,
        cluster_not_found_status,
    } = forward;
    let weighted = clusters.iter().map(|to| (to.cluster.clone(), to.weight));
    let shares = shares_of(weighted);
    let mut outcome = Outcome::new(Way::Forwards, told(&shares));
    outcome.shares = shares;
    outcome.mirrors = mirrors
        .iter()
        .map(|mirror| mirror.cluster.clone())
        .collect();
    let settings = &mut outcome.settings;
    settings.set_some(Kind::Rewrite, "rewrite.authority", host_rewrite.as_ref());
    settings.set_some(Kind::Timeout, "timeout", limit(*timeout));
    settings.set_some(Kind::Timeout, "idleTimeout", limit(*idle_timeout));
    settings.set_some(
        Kind::Timeout,
        "maxStreamDuration",
        limit(*max_stream_duration),
    );
    match max_grpc_timeout {
        None => settings.set(Kind::Timeout, "grpc-timeout", "not heeded"),
        Some(max) if *max == timeout.unwrap_or(Nanos::ZERO) => {}
        Some(max) => {
            let most = limit(Some(*max))
                .map_or_else(|| "heeded".to_owned(), |max| format!("heeded up to {max}"));
            settings.set(Kind::Timeout, "grpc-timeout", most);
        }
    }
    settings.set_flag(
        Kind::Retries,
        "hedgeOnPerTryTimeout",
        *hedge_on_per_try_timeout,
    );
    if !subset.is_empty() {
        settings.set(Kind::Policy, "subset labels", pairs(subset));
    }
    if let Some(retry) = retry {
        of_retries(retry, settings);
    }
    if !hash_policies.is_empty() {
        let each = hash_policies.iter().map(|policy| {
            let input = match &policy.input {
                HashInput::Header(name) => format!("header {name}"),
                HashInput::Cookie { name, path, ttl } => {
                    let ttl = ttl.map(|ttl| format!(" for {}", span(ttl)));
                    format!("cookie {name}{path}{}", ttl.unwrap_or_default())
                }
                HashInput::SourceIp => "source IP".to_owned(),
                HashInput::Query(name) => format!("query parameter {name}"),
            };
            match policy.terminal {
                true => format!("{input} (then no other)"),
                false => input,
            }
        });
        let each: Vec<String> = each.collect();
        settings.set(Kind::Policy, "consistentHash", each.join(", "));
    }
    if !mirrors.is_empty() {
        let mut each: Vec<String> = mirrors.iter().map(mirrored).collect();
        each.sort();
        settings.set(Kind::Mirrors, "mirrors", each.join(", "));
    }
    of_limits(rate_limits, settings);
    if *cluster_not_found_status != 503 {
        let status = cluster_not_found_status;
        settings.set(Kind::Other, "status without cluster", status);
    }
    for to in clusters
        .iter()
        .filter(|to| to.weight > 0 || clusters.len() == 1)
    {
        of_entry(to, settings);
    }
    outcome
}

fn mirrored(mirror: &Mirror) -> String {
    let Mirror {
        cluster,
        fraction,
        shadow_suffix,
    } = mirror;
    let share = 100.0 * f64::from(fraction.numerator) / f64::from(fraction.denominator);
    let suffix = if *shadow_suffix { " as -shadow" } else { "" };
    format!("{} {share} %{suffix}", cluster_label(cluster))
}

/// What is said of one weighted cluster alone.
fn of_entry(entry: &WeightedCluster, settings: &mut Settings) {
    let WeightedCluster {
        cluster,
        weight: _,
        request_headers,
        response_headers,
        host_rewrite,
        subset,
    } = entry;
    let label = cluster_label(cluster);
    let named = |name: &str| format!("{name} ({label})");
    of_headers(&named("request headers"), "", request_headers, settings);
    of_headers(&named("response headers"), "", response_headers, settings);
    settings.set_some(
        Kind::Rewrite,
        &named("rewrite.authority"),
        host_rewrite.as_ref(),
    );
    if !subset.is_empty() {
        settings.set(Kind::Policy, &named("subset labels"), pairs(subset));
    }
}

fn redirected(redirect: &Redirect) -> String {
    let Redirect {
        status,
        scheme,
        host,
        port,
        // Compared by what it does.
        path: _,
    } = redirect;
    let scheme = scheme.as_ref().map(|scheme| format!(" scheme {scheme}"));
    let host = host.as_ref().map(|host| format!(" host {host}"));
    let port = port.map(|port| format!(" port {port}"));
    let parts: String = [scheme, host, port].into_iter().flatten().collect();
    match parts.is_empty() {
        true => format!("redirected ({status})"),
        false => format!("redirected ({status}) to{parts}"),
    }
}

/// What holds for the whole virtual host, with what the route adds to it.
fn of_host(host: &VirtualHost, route: &Route, settings: &mut Settings) {
    let VirtualHost {
        name: _,
        domains: _,
        routes: _,
        require_tls: _,
        request_headers,
        response_headers,
        include_attempt_count,
        local_rate_limit: _,
        rate_limits: _,
    } = host;
    for (name, headers) in [
        ("request headers of the host", request_headers),
        ("response headers of the host", response_headers),
        ("request headers", &route.request_headers),
        ("response headers", &route.response_headers),
    ] {
        of_headers(name, &route.name, headers, settings);
    }
    if *include_attempt_count && matches!(route.action, RouteAction::Forward(_)) {
        settings.set(Kind::Headers, "x-envoy-attempt-count", "sent");
    }
}

fn of_headers(what: &str, route: &str, headers: &HeaderMutations, settings: &mut Settings) {
    if headers.is_empty() {
        return;
    }
    let HeaderMutations { remove, add } = headers;
    let removed: BTreeSet<&Name> = remove.iter().collect();
    let mut parts: Vec<String> = removed.iter().map(|name| format!("-{name}")).collect();
    // Among lines of one name the order counts.
    let mut added: Vec<&HeaderValue> = add.iter().collect();
    added.sort_by(|a, b| a.name.cmp(&b.name));
    parts.extend(added.into_iter().map(|header| {
        let sign = if header.append { "+" } else { "" };
        let value = header.value.replace("%ROUTE_NAME%", route);
        format!("{sign}{}: {value}", header.name)
    }));
    settings.set(Kind::Headers, what, parts.join(", "));
}

/// What filters do for the route.
fn of_filters(host: &VirtualHost, route: &Route, settings: &mut Settings) {
    if let Some(fault) = &route.fault {
        of_fault(fault, settings);
    }
    if let Some(cors) = route.cors.as_deref() {
        of_cors(cors, settings);
    }
    let limit = route.local_rate_limit.as_ref();
    if let Some(limit) = limit.or(host.local_rate_limit.as_ref()) {
        settings.set(
            Kind::RateLimits,
            "local rate limit",
            local_rate_limit(limit),
        );
    }
    let own = match &route.action {
        RouteAction::Forward(forward) => !forward.rate_limits.is_empty(),
        RouteAction::Redirect(_) | RouteAction::DirectResponse { .. } => false,
    };
    if !own {
        of_limits(&host.rate_limits, settings);
    }
}

fn of_limits(limits: &[RateLimitActions], settings: &mut Settings) {
    if !limits.is_empty() {
        settings.set(Kind::RateLimits, "descriptors", json(&limits));
    }
}

/// A local rate limit in a few words.
pub(crate) fn local_rate_limit(limit: &LocalRateLimit) -> String {
    let LocalRateLimit {
        bucket,
        enabled: _,
        enforced: _,
        per_connection: _,
        status: _,
        resource_exhausted: _,
        response_headers: _,
        x_ratelimit_headers: _,
        descriptors: _,
        rate_limits: _,
        always_consume_default_bucket: _,
    } = limit;
    let bucket = bucket.map(|bucket| {
        let every = span(bucket.fill_interval);
        let (most, fill) = (bucket.max_tokens, bucket.tokens_per_fill);
        format!("{fill} every {every}, at most {most}; ")
    });
    let plain = LocalRateLimit {
        bucket: None,
        ..limit.clone()
    };
    format!("{}{}", bucket.unwrap_or_default(), json(&plain))
}

fn of_fault(fault: &Fault, settings: &mut Settings) {
    let Fault {
        delay,
        abort,
        max_active_faults,
    } = fault;
    let share = |ppm: u32| format!("{} %", f64::from(ppm) / 10_000.0);
    if let Some(delay) = delay {
        let told = format!("{} for {}", span(delay.fixed), share(delay.fraction_ppm));
        settings.set(Kind::Faults, "fault.delay", told);
    }
    if let Some(abort) = abort {
        let status = match abort.grpc_status {
            None => abort.status.to_string(),
            Some(status) => format!("gRPC {status}"),
        };
        let told = format!("{status} for {}", share(abort.fraction_ppm));
        settings.set(Kind::Faults, "fault.abort", told);
    }
    settings.set_some(Kind::Faults, "maxActiveFaults", *max_active_faults);
}

fn of_cors(cors: &CorsPolicy, settings: &mut Settings) {
    let CorsPolicy {
        allow_origins,
        allow_methods,
        allow_headers,
        expose_headers,
        max_age,
        allow_credentials,
        forward_not_matching_preflights,
    } = cors;
    let origins: BTreeSet<String> = allow_origins.iter().map(string_match).collect();
    let origins: Vec<String> = origins.into_iter().collect();
    for (name, value) in [
        ("cors.allowOrigins", &Name::from(origins.join(", "))),
        ("cors.allowMethods", allow_methods),
        ("cors.allowHeaders", allow_headers),
        ("cors.exposeHeaders", expose_headers),
        ("cors.maxAge", max_age),
    ] {
        if !value.is_empty() {
            settings.set(Kind::Cors, name, value);
        }
    }
    settings.set_flag(Kind::Cors, "cors.allowCredentials", *allow_credentials);
    let forwards = *forward_not_matching_preflights;
    settings.set_flag(Kind::Cors, "cors.unmatchedPreflights forwarded", forwards);
}
