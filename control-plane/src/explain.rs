//! Where one request goes, by the resources of one proxy, and why.

mod access;
mod conditions;
mod explanation;
mod passed_over;
mod settings;
mod upstream;

use crate::model::{ProxyIdentity, Resources};
use crate::objects::Objects;
use crate::request::{Request, RequestDirection, RequestProtocol, RequestTls};
use crate::translate::Mesh;
use access::{secured, unmatched};
pub use explanation::{Action, ClusterShare, Explanation, PassedOver, Setting, Upstream};
use passed_over::Asker;
use proxy_core::contract::{Direction, DownstreamTls, Opened, Protocol};
use proxy_core::head::ResponseHead;
use proxy_core::ids::DownstreamId;
use proxy_core::router::{
    Decision, Matched, Outcome, RequestSubject, Stream, Subject, find_chain,
    has_overlapping_chains, redirect_location, response_head, route,
};
use proxy_core::xds::{
    ConfigRef, FilterChain, HttpConnectionManager, Name, NetworkFilter, Route, RouteAction,
    RouteSource, RouteTable, TcpProxy,
};
use settings::Stated;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use upstream::shares;

/// So many of the rules that do not match are told.
const TOLD: usize = 20;

/// Explains what one proxy does, with the configuration that its resources come from.
#[derive(Debug)]
pub struct Explainer<'c> {
    pub(crate) objects: &'c Objects,
    pub(crate) mesh: &'c Mesh,
    pub(crate) proxy: &'c ProxyIdentity,
    pub(crate) resources: Resources,
}

impl Explainer<'_> {
    /// Where `request` goes, what else there was, and what holds for it on its way.
    pub fn explain(&self, request: &Request) -> Explanation {
        let asker = Asker {
            mesh: self.mesh,
            proxy: self.proxy,
            port: request.destination().port(),
        };
        let mut answer = explained(&self.resources, request, Some(&asker));
        self.add_settings(&mut answer);
        answer
    }

    fn add_settings(&self, answer: &mut Explanation) {
        let stated = Stated {
            objects: self.objects,
            mesh: self.mesh,
        };
        if let Some(route) = &answer.matched
            && let RouteAction::Forward(forward) = &route.action
        {
            answer.settings = stated.of_route(route, forward);
        }
        let is_meant = |name: &Name| answer.clusters.iter().any(|share| share.name == *name);
        let clusters = self.resources.clusters.iter();
        let mut clusters = clusters.filter(|cluster| is_meant(&cluster.name));
        let first = clusters.next().map(|cluster| stated.of_cluster(cluster));
        let first = first.unwrap_or_default();
        for cluster in clusters {
            let mut others = stated.of_cluster(cluster);
            others.retain(|setting| !first.contains(setting));
            for setting in &mut others {
                setting.cluster = Some(cluster.name.clone());
            }
            answer.settings.append(&mut others);
        }
        answer.settings.extend(first);
    }
}

/// Where `request` goes at the proxy that holds `resources`.
pub fn explain(resources: &Resources, request: &Request) -> Explanation {
    explained(resources, request, None)
}

/// `asker`: who knows of rules that the proxy is not told of.
fn explained(resources: &Resources, request: &Request, asker: Option<&Asker<'_>>) -> Explanation {
    let mut answer = Explanation {
        listener: None,
        virtual_host: None,
        route: None,
        action: Action::None,
        clusters: Vec::new(),
        endpoint: None,
        status: None,
        flags: Vec::new(),
        details: None,
        upstream: None,
        response_headers: Vec::new(),
        config: Vec::new(),
        passed_over: Vec::new(),
        settings: Vec::new(),
        trail: Vec::new(),
        matched: None,
    };
    let opened = connection(resources, request);
    let http = request.protocol == RequestProtocol::Http;
    let Some(choice) = find_chain(&resources.listeners, &opened, http) else {
        answer.say(format!("no listener for {}", opened.original_dst));
        return answer;
    };
    answer.listener = Some(choice.listener.name.clone());
    let made_up = match request.address {
        Some(_) => "",
        None => ", which stands for an address that nobody here has",
    };
    answer.say(format!(
        "listener {} takes {}{made_up}",
        choice.listener.name, opened.original_dst
    ));
    if has_overlapping_chains(&choice.listener) {
        answer.say("two of its filter chains match alike: a real proxy refuses it".to_owned());
    }
    if choice.is_ambiguous() {
        answer.details = Some("listener_refused".into());
        return answer;
    }
    let Some(chain) = choice.chain() else {
        answer.say(unmatched(&choice.listener, &opened));
        answer.flags.push("NR".into());
        answer.details = Some("filter_chain_not_found".into());
        return answer;
    };
    follow(resources, request, &opened, chain, asker, &mut answer);
    answer
}

fn connection(resources: &Resources, request: &Request) -> Opened {
    let sidecar = resources
        .listeners
        .iter()
        .any(|l| &*l.name == "virtualOutbound");
    let direction = match (request.direction, sidecar) {
        (Some(RequestDirection::Outbound), _) | (None, true) => Direction::Outbound,
        (Some(RequestDirection::Inbound), _) => Direction::Inbound,
        (Some(RequestDirection::Gateway), _) | (None, false) => Direction::Gateway,
    };
    Opened {
        downstream: DownstreamId {
            index: 0,
            generation: 0,
        },
        peer: SocketAddr::new(request.source.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), 1),
        original_dst: request.destination(),
        direction,
        tls: (request.tls != RequestTls::None).then(|| DownstreamTls {
            sni: request.sni.as_deref().map(Name::from),
            mutual: request.tls == RequestTls::Mtls,
            principal: request
                .principal
                .as_ref()
                .filter(|_| request.tls == RequestTls::Mtls)
                .map(|principal| format!("spiffe://{principal}").into()),
        }),
        protocol: Protocol::Http1,
    }
}

fn follow(
    resources: &Resources,
    request: &Request,
    opened: &Opened,
    chain: &FilterChain,
    asker: Option<&Asker<'_>>,
    answer: &mut Explanation,
) {
    if opened.direction == Direction::Inbound || opened.tls.is_some() {
        answer.say(secured(opened, chain));
    }
    if opened.tls.is_none() && chain.terminates_tls {
        answer.say("the handshake fails: the connection is closed".to_owned());
        return;
    }
    let connection = Subject {
        opened,
        request: None,
    };
    if let Some(details) = answer.access(&chain.rbac, connection) {
        answer.say("the connection is closed".to_owned());
        answer.details = Some(details.to_string().into());
        return;
    }
    // TLS that the chain does not end looks like any other bytes.
    let readable = opened.tls.is_none() || chain.terminates_tls;
    match &chain.filter {
        NetworkFilter::Tcp(tcp) => answer.tcp(resources, tcp, opened),
        NetworkFilter::Http(_) if request.protocol == RequestProtocol::Tcp || !readable => {
            answer.say("the bytes are not the HTTP that the filter reads".to_owned());
            answer.flags.push("DPE".into());
            answer.details = Some("http1.codec_error".into());
        }
        NetworkFilter::Http(manager) => {
            let Some(table) = table_of(resources, manager) else {
                answer.say("the route table has not arrived".to_owned());
                answer.local_reply(404, Some("NR"), "route_not_found");
                return;
            };
            let head = Arc::new(request.head());
            let stream = Stream {
                opened,
                secure: opened.tls.is_some(),
                // Of routes that take a fraction of the streams, the first one.
                value: 0,
            };
            let decision = route(table, manager, &head, stream);
            let subject = Subject {
                opened,
                request: Some(RequestSubject {
                    head: &decision.head,
                    manager,
                    claims: decision.token.claims(),
                }),
            };
            let answered = matches!(
                decision.outcome,
                Outcome::BadPath | Outcome::EscapedPath { .. }
            );
            if !answered && answer.turned_away(manager, &decision.token, subject) {
                return;
            }
            answer.look_at_earlier(table, &decision, asker);
            answer.http(resources, &decision, opened);
        }
    }
}

fn table_of<'r>(
    resources: &'r Resources,
    manager: &'r HttpConnectionManager,
) -> Option<&'r RouteTable> {
    match &manager.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Rds(name) => {
            let mut tables = resources.routes.iter();
            tables
                .find(|table| table.name == *name)
                .map(|table| &**table)
        }
    }
}

impl Explanation {
    fn say(&mut self, step: String) {
        self.trail.push(step);
    }

    fn local_reply(&mut self, status: u16, flag: Option<&str>, details: &str) {
        self.status = Some(status);
        self.flags.extend(flag.map(Name::from));
        self.details = Some(details.into());
    }

    fn configured_by(&mut self, origin: Option<&ConfigRef>) {
        if let Some(origin) = origin
            && !self.config.contains(origin)
        {
            self.config.push(origin.clone());
        }
    }

    fn tcp(&mut self, resources: &Resources, tcp: &TcpProxy, opened: &Opened) {
        self.action = Action::Forward;
        self.clusters = shares(tcp.clusters.iter().map(|(name, weight)| (name, *weight)));
        self.say("the bytes are passed on as they are".to_owned());
        self.towards(resources, opened, 503);
        // A connection has no status.
        self.status = None;
    }

    fn look_at_earlier(
        &mut self,
        table: &RouteTable,
        decision: &Decision,
        asker: Option<&Asker<'_>>,
    ) {
        self.say(format!("route table {}", decision.table));
        self.virtual_host = decision.virtual_host().cloned();
        let authority = &decision.head.authority;
        let Some(host) = table
            .virtual_host(authority)
            .filter(|_| self.virtual_host.is_some())
        else {
            return;
        };
        self.say(format!("host {authority} is of virtual host {}", host.name));
        self.passed_over = passed_over::routes(host, decision);
        if let Some(asker) = asker {
            asker.add_left_out(&mut self.passed_over, host, decision);
        }
        let total = self.passed_over.len();
        for number in 0..total.min(TOLD) {
            let PassedOver { config, why, .. } = &self.passed_over[number];
            let by = config.as_ref().map(described).unwrap_or_default();
            let step = format!("not {by}: {why}");
            self.say(step);
        }
        if total > TOLD {
            self.say(format!("nor any of {} more rules", total - TOLD));
        }
    }

    fn http(&mut self, resources: &Resources, decision: &Decision, opened: &Opened) {
        match &decision.outcome {
            Outcome::BadPath => self.local_reply(400, None, "path_normalization_failed"),
            Outcome::EscapedPath { location } => {
                self.action = Action::Redirect;
                self.say(format!("redirected to {location}"));
                self.local_reply(307, None, "path_normalization_failed");
                let location = location.to_string();
                self.response_headers.push(("location".into(), location));
            }
            Outcome::NoVirtualHost => {
                self.say(format!("no virtual host takes {}", decision.head.authority));
                self.local_reply(404, Some("NR"), "route_not_found");
            }
            Outcome::NoRoute { .. } => {
                self.say(format!("no route matches {}", decision.head.path));
                self.local_reply(404, Some("NR"), "route_not_found");
            }
            Outcome::TlsRequired { location, .. } => {
                self.action = Action::Redirect;
                self.say(format!("TLS is required: redirected to {location}"));
                self.status = Some(301);
                self.response_headers
                    .push(("location".into(), location.to_string()));
            }
            Outcome::Matched(matched) => self.matched(resources, decision, matched, opened),
        }
    }

    fn matched(
        &mut self,
        resources: &Resources,
        decision: &Decision,
        matched: &Matched,
        opened: &Opened,
    ) {
        let route = &matched.route;
        self.route = Some(route.name.clone());
        self.matched = Some(Arc::clone(route));
        self.configured_by(route.origin.as_ref());
        let by = route
            .origin
            .as_ref()
            .map_or_else(|| "built in".to_owned(), described);
        let asked = conditions::asked(&route.matches);
        self.say(match route.name.is_empty() {
            true => format!("matches: {asked} ({by})"),
            false => format!("matches: {asked} (route `{}`, {by})", route.name),
        });
        let mut entry = None;
        match &route.action {
            RouteAction::Forward(forward) => {
                self.action = Action::Forward;
                entry = match &forward.clusters[..] {
                    [single] => Some(single),
                    _ => None,
                };
                if matched
                    .cors
                    .as_ref()
                    .is_none_or(|cors| cors.preflight.is_none())
                {
                    self.forward(resources, forward, matched, opened);
                }
            }
            RouteAction::Redirect(redirect) => {
                self.action = Action::Redirect;
                let location = redirect_location(redirect, route, &decision.head);
                self.say(format!("redirected to {location}"));
                self.local_reply(redirect.status, None, "direct_response");
                self.response_headers.push(("location".into(), location));
            }
            RouteAction::DirectResponse { status, .. } => {
                self.action = Action::DirectResponse;
                self.say(format!("the proxy answers {status} itself"));
                self.local_reply(*status, None, "direct_response");
            }
        }
        let preflight = matched
            .cors
            .as_ref()
            .and_then(|cors| cors.preflight.as_ref());
        let changed = match preflight {
            Some(answer) => {
                self.say("it is a preflight: the proxy answers it itself".to_owned());
                self.action = Action::DirectResponse;
                self.local_reply(200, None, "cors_response");
                Arc::clone(answer)
            }
            None => {
                let plain = Arc::new(ResponseHead::of_status(self.status.unwrap_or(200)));
                let request = matched.upstream_heads.first().unwrap_or(&decision.head);
                let code = match &route.action {
                    RouteAction::Forward(_) => plain.status,
                    _ => 0,
                };
                response_head(&plain, code, matched, entry, request, opened)
            }
        };
        let cors = matched.cors.iter().filter(|_| preflight.is_none());
        let added = cors.flat_map(|cors| &cors.response_headers.0);
        for (name, value) in changed.headers.0.iter().chain(added) {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            self.response_headers.push((name.clone(), text));
        }
        self.faults(route);
    }

    fn faults(&mut self, route: &Route) {
        let Some(fault) = &route.fault else {
            return;
        };
        let share = |ppm: u32| f64::from(ppm) / 10_000.0;
        if let Some(delay) = &fault.delay {
            let (share, span) = (share(delay.fraction_ppm), delay.fixed.as_millis());
            self.say(format!(
                "{share} % of these requests wait {span} ms first, which no timeout counts"
            ));
        }
        if let Some(abort) = &fault.abort {
            let (share, status) = (share(abort.fraction_ppm), abort.status);
            self.say(format!("{share} % of these requests are answered {status}"));
        }
    }
}

fn described(origin: &ConfigRef) -> String {
    let ConfigRef {
        kind,
        namespace,
        name,
        file,
        line,
    } = origin;
    format!("{kind} {namespace}/{name}, {file}:{line}")
}
