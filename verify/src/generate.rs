//! Requests that just meet every condition of a configuration, and ones that just miss it.

use crate::regex;
use crate::seen::SCRIPT;
use control_plane::{Request, RequestDirection, RequestProtocol, Resources, explain};
use proxy_core::xds::{
    CorsPolicy, FilterChain, HeaderMatch, Listener, NetworkFilter, PathMatch, Route, RouteAction,
    RouteSource, RouteTable, StringMatch, ValueMatch, VirtualHost,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where connections go that no listener expects: class E, which nobody has.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(240, 240, 1, 7));
/// A port that no configuration is expected to have.
const NO_PORT: u16 = 9;

/// The requests, and what is not asked about.
pub(crate) struct Generated {
    pub(crate) requests: Vec<Request>,
    pub(crate) notes: Vec<String>,
    /// Filter chains that take TLS, and nothing of which is asked.
    tls_chains: u32,
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// For a proxy at `ip`.
pub(crate) fn requests(resources: &Resources, ip: IpAddr) -> Generated {
    let mut made = Generated {
        requests: Vec::new(),
        notes: Vec::new(),
        tls_chains: 0,
    };
    for listener in &resources.listeners {
        for chain in listener.chains() {
            made.chain(resources, listener, chain, ip);
        }
    }
    if made.tls_chains > 0 {
        let note = format!("{} filter chains take TLS: not asked", made.tls_chains);
        made.notes.push(note);
    }
    made
}

impl Generated {
    fn chain(
        &mut self,
        resources: &Resources,
        listener: &Listener,
        chain: &FilterChain,
        ip: IpAddr,
    ) {
        let tls = chain.matches.transport_protocol.as_deref() == Some("tls");
        if chain.terminates_tls || tls || !chain.matches.server_names.is_empty() {
            self.tls_chains += 1;
            return;
        }
        let ranges = &chain.matches.prefix_ranges;
        let inside = ranges.first().map(|(ip, _)| *ip);
        if ranges
            .iter()
            .any(|(ip, length)| *length != if ip.is_ipv4() { 32 } else { 128 })
        {
            self.notes.push(format!(
                "listener {}: a chain takes a range of addresses: not asked",
                listener.name
            ));
            return;
        }
        let (direction, to) = match &*listener.name {
            "virtualInbound" => {
                let port = chain.matches.destination_port.unwrap_or(NO_PORT);
                (Some(RequestDirection::Inbound), SocketAddr::new(ip, port))
            }
            "virtualOutbound" => {
                let port = chain.matches.destination_port.unwrap_or(NO_PORT);
                (None, SocketAddr::new(inside.unwrap_or(NOBODY), port))
            }
            _ => {
                let ip = inside.or(listener.address).unwrap_or(NOBODY);
                (None, SocketAddr::new(ip, listener.port))
            }
        };
        let plain = Request {
            address: Some(to),
            direction,
            ..Request::default()
        };
        match &chain.filter {
            NetworkFilter::Tcp(_) => {
                let authority = "tcp.example".to_owned();
                self.push(Request {
                    protocol: RequestProtocol::Tcp,
                    authority,
                    ..plain
                });
            }
            NetworkFilter::Http(manager) => {
                let table = match &manager.routes {
                    RouteSource::Inline(table) => Some(table),
                    RouteSource::Rds(name) => resources.routes.iter().find(|t| t.name == *name),
                };
                if let Some(table) = table {
                    self.table(resources, table, &plain);
                }
            }
        }
    }

    fn push(&mut self, mut request: Request) {
        // No request line holds a space.
        request.path = request.path.replace(' ', "%20");
        if !self.requests.contains(&request) {
            self.requests.push(request);
        }
    }

    fn table(&mut self, resources: &Resources, table: &RouteTable, plain: &Request) {
        let unknown = Request {
            authority: "unknown.example".into(),
            ..plain.clone()
        };
        self.push(unknown);
        for host in &table.virtual_hosts {
            self.authorities(host, plain);
            let authority = host.domains.first().map_or("", |domain| &**domain);
            let plain = Request {
                authority: example(authority),
                ..plain.clone()
            };
            for route in &host.routes {
                self.route(resources, route, &plain);
            }
        }
    }

    fn authorities(&mut self, host: &VirtualHost, plain: &Request) {
        let meeting = host.routes.first().map(|route| meeting(route, plain));
        let request = meeting.unwrap_or_else(|| plain.clone());
        // Networks stand among the domains too, though no host is called so.
        for domain in host.domains.iter().filter(|domain| !domain.contains('/')) {
            let domain = example(domain);
            let bare = domain
                .rsplit_once(':')
                .map_or(&*domain, |(bare, _)| bare)
                .to_owned();
            let variants = [
                domain.to_uppercase(),
                format!("{bare}:80"),
                format!("{bare}:1"),
                format!("{bare}."),
                format!("{bare}:abc"),
                format!("x{bare}"),
                domain,
                bare,
            ];
            for authority in variants {
                self.push(Request {
                    authority,
                    ..request.clone()
                });
            }
        }
    }

    /// Requests of other origins, preflights among them.
    fn cors(&mut self, policy: &CorsPolicy, meets: &Request) {
        let allowed = policy.allow_origins.iter().flat_map(near);
        let origins: Vec<String> = allowed
            .chain(["https://elsewhere.example".to_owned(), String::new()])
            .collect();
        for origin in origins {
            let mut simple = meets.clone();
            set(&mut simple, "origin", Some(origin));
            self.push(simple.clone());
            let mut preflight = simple;
            preflight.method = "OPTIONS".into();
            self.push(preflight.clone());
            set(
                &mut preflight,
                "access-control-request-method",
                Some("PUT".to_owned()),
            );
            self.push(preflight.clone());
            set(
                &mut preflight,
                "access-control-request-headers",
                Some("x-one,x-two".to_owned()),
            );
            self.push(preflight);
        }
    }

    fn route(&mut self, resources: &Resources, route: &Route, plain: &Request) {
        let meets = meeting(route, plain);
        self.push(meets.clone());
        for path in paths(route) {
            let query = meets
                .path
                .split_once('?')
                .map(|(_, query)| format!("?{query}"));
            let path = format!("{path}{}", query.unwrap_or_default());
            self.push(Request {
                path,
                ..meets.clone()
            });
        }
        for (at, header) in route.matches.headers.iter().enumerate() {
            for value in values(header) {
                let mut request = meets_but(route, plain, at);
                set(&mut request, &header.name, value);
                self.push(request);
            }
            self.push(meets_but(route, plain, at));
        }
        for (at, query) in route.matches.query.iter().enumerate() {
            let others = route
                .matches
                .query
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != at);
            let others: Vec<String> = others
                .map(|(_, one)| parameter(&one.name, &one.value))
                .collect();
            let bare = meets.path.split('?').next().unwrap_or("/");
            for own in [
                None,
                Some(format!("{}=other", query.name)),
                Some(query.name.to_string()),
            ] {
                let all: Vec<String> = others.iter().cloned().chain(own).collect();
                self.push(Request {
                    path: format!("{bare}?{}", all.join("&")),
                    ..meets.clone()
                });
            }
        }
        if let Some(policy) = &route.cors {
            self.cors(policy, &meets);
        }
        self.push(Request {
            method: "POST".into(),
            ..meets.clone()
        });
        if matches!(&route.action, RouteAction::Forward(forward) if forward.retry.is_some()) {
            for script in ["503", "404", "reset"] {
                let mut request = meets.clone();
                set(&mut request, SCRIPT, Some(script.to_owned()));
                if !counts_failures(resources, &request) {
                    self.push(request);
                }
            }
        }
    }
}

/// Whether failures would change what becomes of other requests.
fn counts_failures(resources: &Resources, request: &Request) -> bool {
    let Some(route) = explain(resources, request).matched else {
        return false;
    };
    let RouteAction::Forward(forward) = &route.action else {
        return false;
    };
    let asked = forward.clusters.iter().map(|entry| &entry.cluster);
    let mut asked = asked.chain(forward.mirrors.iter().map(|mirror| &mirror.cluster));
    asked.any(|name| {
        let mut clusters = resources.clusters.iter();
        clusters.any(|one| one.name == *name && one.outlier_detection.is_some())
    })
}

/// A host that `domain` takes.
fn example(domain: &str) -> String {
    match domain {
        "*" | "" => "any.example".to_owned(),
        _ => domain.replace('*', "x"),
    }
}

/// A request that meets all conditions of `route`.
fn meeting(route: &Route, plain: &Request) -> Request {
    meets_but(route, plain, usize::MAX)
}

/// A request that meets all conditions but that of the header number `but`, which it does not have.
fn meets_but(route: &Route, plain: &Request, but: usize) -> Request {
    let mut request = plain.clone();
    request.path = match &route.matches.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::SeparatedPrefix(path) => {
            path.to_string()
        }
        PathMatch::Regex(regex) => regex::texts(regex.source())
            .into_iter()
            .next()
            .unwrap_or_default(),
    };
    if !request.path.starts_with('/') {
        request.path.insert(0, '/');
    }
    let query: Vec<String> = route
        .matches
        .query
        .iter()
        .map(|one| parameter(&one.name, &one.value))
        .collect();
    if !query.is_empty() {
        request.path = format!("{}?{}", request.path, query.join("&"));
    }
    for (at, header) in route.matches.headers.iter().enumerate() {
        if at != but {
            let wanted = values(header).into_iter().find(|value| {
                let (present, meets) = (value.is_some(), value.as_deref().unwrap_or_default());
                let holds = match &header.value {
                    ValueMatch::Present(wanted) => present == *wanted,
                    ValueMatch::String(text) => {
                        (present || header.treat_missing_as_empty) && text.matches(meets.as_bytes())
                    }
                };
                holds != header.invert
            });
            set(&mut request, &header.name, wanted.flatten());
        }
    }
    request
}

fn set(request: &mut Request, name: &str, value: Option<String>) {
    match (name, value) {
        // Envoy's parser takes no others; PATCH misses as well as they would.
        (":method", Some(value)) if METHODS.contains(&&*value) => request.method = value,
        (":method", Some(_)) => request.method = "PATCH".into(),
        (":authority", Some(value)) => request.authority = value,
        (":path", Some(value)) => request.path = value,
        (name, value) => {
            request.headers.retain(|(other, _)| other != name);
            if let Some(value) = value.filter(|_| !name.starts_with(':')) {
                request.headers.push((name.to_owned(), value));
            }
        }
    }
}

/// What a header may be: what is wanted, and near it.
fn values(header: &HeaderMatch) -> Vec<Option<String>> {
    let mut values = match &header.value {
        ValueMatch::Present(_) => vec![Some("present".to_owned())],
        ValueMatch::String(text) => near(text).into_iter().map(Some).collect(),
    };
    values.extend([Some("other".to_owned()), None]);
    values
}

fn near(text: &StringMatch) -> Vec<String> {
    match text {
        StringMatch::Exact(text) => {
            vec![text.to_string(), text.to_uppercase(), format!("{text}x")]
        }
        StringMatch::Prefix(text) => vec![format!("{text}x"), text.to_string(), format!("x{text}")],
        StringMatch::Suffix(text) => vec![format!("x{text}"), text.to_string(), format!("{text}x")],
        StringMatch::Contains(text) => vec![format!("x{text}x"), text.to_uppercase()],
        StringMatch::Regex(regex) => {
            let mut texts = regex::texts(regex.source());
            let longer = texts.first().map(|text| format!("{text}~"));
            texts.extend(longer);
            texts
        }
    }
}

fn parameter(name: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present(_) => name.to_owned(),
        ValueMatch::String(text) => {
            format!(
                "{name}={}",
                near(text).into_iter().next().unwrap_or_default()
            )
        }
    }
}

/// Paths that just meet the route's condition, and just miss it.
fn paths(route: &Route) -> Vec<String> {
    match &route.matches.path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) | PathMatch::SeparatedPrefix(path) => {
            let mut paths = vec![
                format!("{path}x"),
                format!("{path}/x"),
                format!("{path}?"),
                format!("/x/..{path}"),
                swapped_case(path),
            ];
            if let Some(shorter) = path.strip_suffix(|_: char| true)
                && shorter.starts_with('/')
            {
                paths.push(shorter.to_owned());
            }
            paths
        }
        PathMatch::Regex(regex) => {
            let mut texts = regex::texts(regex.source());
            let missing = texts.first().map(|text| format!("{text}~~"));
            texts.extend(missing);
            texts.retain(|text| text.starts_with('/') && !text.contains(' '));
            texts
        }
    }
}

fn swapped_case(text: &str) -> String {
    let swap = |c: char| match c.is_ascii_lowercase() {
        true => c.to_ascii_uppercase(),
        false => c.to_ascii_lowercase(),
    };
    text.chars().map(swap).collect()
}
