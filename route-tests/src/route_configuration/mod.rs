//! Envoy's `RouteConfiguration`, read from YAML or JSON. What decides where a request goes and how its
//! head leaves is read or refused; the rest is passed over.

mod action;
mod matching;
pub(crate) mod proto;

pub(crate) use matching::{HeaderMatcher, RuntimeFraction};

use crate::brief::brief;
use crate::coverage::{Coverage, PartCoverage, RuleCoverage};
use action::{direct_response, forward, header_mutations, redirect};
use matching::route_match;
use proto::{in_snake_case, refuse};
use proxy_core::router::refusal;
use proxy_core::xds::{
    Fraction, HeaderMatch, HeaderMutations, Name, Route, RouteAction, RouteTable, VirtualHost,
};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A route table, and what the data plane has no word for.
#[derive(Debug)]
pub(crate) struct RouteConfiguration {
    pub(crate) hosts: Vec<Host>,
    table: RouteTable,
    /// By runtime key and whether the request is internal.
    variants: BTreeMap<(String, bool), Arc<RouteTable>>,
}

/// Of a virtual host.
#[derive(Debug)]
pub(crate) struct Host {
    /// Envoy `require_tls` of EXTERNAL_ONLY.
    external_tls: bool,
    /// In order, with what each asks for.
    pub(crate) virtual_clusters: Vec<(Name, Vec<HeaderMatch>)>,
    pub(crate) routes: Vec<RouteExtras>,
}

/// Of a route.
#[derive(Debug)]
pub(crate) struct RouteExtras {
    runtime: Option<RuntimeFraction>,
    /// Of a redirect.
    pub(crate) strip_query: bool,
    /// Its number among the rules counted.
    pub(crate) rule: usize,
}

/// Reads a document; `None` after an error.
pub(crate) fn read(
    document: &Node,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RouteConfiguration> {
    let document = in_snake_case(document);
    let mut fields = Fields::of(&document, "a RouteConfiguration", diagnostics)?;
    fields.ignore(&[
        "@type",
        "internal_only_headers",
        "validate_clusters",
        "max_direct_response_body_size_bytes",
        "request_mirror_policies",
        "typed_per_filter_config",
        "metadata",
    ]);
    refuse(
        &mut fields,
        &[
            "vhds",
            "most_specific_header_mutations_wins",
            "cluster_specifier_plugins",
            "ignore_path_parameters_in_path_matching",
        ],
    );
    let name = fields.text("name").unwrap_or_default();
    let ignore_port = fields.boolean("ignore_port_in_host_matching");
    let of_table = header_mutations(&mut fields);
    let mut hosts = Vec::new();
    let mut virtual_hosts = Vec::new();
    for node in fields.list("virtual_hosts") {
        let Some((mut virtual_host, host)) = read_host(node, &name, coverage, fields.diagnostics)
        else {
            continue;
        };
        let VirtualHost {
            request_headers,
            response_headers,
            ..
        } = &mut virtual_host;
        for (inner, outer) in [
            (request_headers, &of_table.0),
            (response_headers, &of_table.1),
        ] {
            if !append(inner, outer) {
                let message = "the table and the virtual host change the same header";
                let problem = Diagnostic::error(message);
                let problem = problem.at(&node.span, "not done here");
                fields.diagnostics.push(problem);
            }
        }
        hosts.push(host);
        virtual_hosts.push(virtual_host);
    }
    fields.finish();
    let table = RouteTable::new(name.into(), virtual_hosts, ignore_port.unwrap_or(false));
    if let Some(why) = refusal(&table) {
        diagnostics.push(Diagnostic::error(why).at(&document.span, "in this table"));
    }
    Some(RouteConfiguration {
        hosts,
        table,
        variants: BTreeMap::new(),
    })
}

/// The changes of `outer`, which come after those of `inner`; false if the order would matter.
fn append(inner: &mut HeaderMutations, outer: &HeaderMutations) -> bool {
    let names = |mutations: &HeaderMutations| {
        let added = mutations.add.iter().map(|header| header.name.clone());
        let names: Vec<Name> = added.chain(mutations.remove.iter().cloned()).collect();
        names
    };
    let of_inner = names(inner);
    let apart = !names(outer).iter().any(|name| of_inner.contains(name));
    inner.add.extend(outer.add.iter().cloned());
    inner.remove.extend(outer.remove.iter().cloned());
    apart
}

fn read_host(
    node: &Node,
    table: &str,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(VirtualHost, Host)> {
    let mut fields = Fields::of(node, "a virtual host", diagnostics)?;
    fields.ignore(&[
        "rate_limits",
        "cors",
        "typed_per_filter_config",
        "include_request_attempt_count",
        "include_attempt_count_in_response",
        "include_is_timeout_retry_header",
        "retry_policy",
        "retry_policy_typed_config",
        "hedge_policy",
        "per_request_buffer_limit_bytes",
        "request_body_buffer_limit",
        "request_mirror_policies",
        "metadata",
    ]);
    refuse(&mut fields, &["matcher"]);
    let name = fields.required_text("name").unwrap_or_default();
    fields.required("domains");
    let domains = fields.texts("domains");
    let tls = fields.optional("require_tls");
    let (require_tls, external_tls) = match tls.map(|node| (node, node.as_str())) {
        None | Some((_, Some("NONE"))) => (false, false),
        Some((_, Some("ALL"))) => (true, false),
        Some((_, Some("EXTERNAL_ONLY"))) => (false, true),
        Some((node, _)) => {
            let want = "`require_tls` is NONE, EXTERNAL_ONLY or ALL";
            fields.diagnostics.push(expected(node, want));
            (false, false)
        }
    };
    let clusters = fields.list("virtual_clusters").iter();
    let virtual_clusters = clusters
        .filter_map(|node| virtual_cluster(node, fields.diagnostics))
        .collect();
    let (request_headers, response_headers) = header_mutations(&mut fields);
    let mut routes = Vec::new();
    let mut extras = Vec::new();
    let owner = format!("RouteConfiguration {table}, virtual host {name}");
    for node in fields.list("routes") {
        if let Some((route, extra)) = read_route(node, &owner, coverage, fields.diagnostics) {
            routes.push(Arc::new(route));
            extras.push(extra);
        }
    }
    fields.finish();
    let virtual_host = VirtualHost {
        name: name.into(),
        domains: domains.into_iter().map(Name::from).collect(),
        routes,
        require_tls,
        request_headers,
        response_headers,
        ..VirtualHost::default()
    };
    let host = Host {
        external_tls,
        virtual_clusters,
        routes: extras,
    };
    Some((virtual_host, host))
}

fn virtual_cluster(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Name, Vec<HeaderMatch>)> {
    let mut fields = Fields::of(node, "a virtual cluster", diagnostics)?;
    let name = fields.required_text("name");
    let headers = fields.list("headers").iter();
    let headers: Vec<HeaderMatcher> = headers
        .filter_map(|node| HeaderMatcher::read(node, fields.diagnostics))
        .collect();
    if headers.iter().any(|header| header.range.is_some()) {
        let problem = Diagnostic::error("`range_match` of a virtual cluster is not done here");
        fields
            .diagnostics
            .push(problem.at(&node.span, "would change what is decided"));
    }
    fields.finish();
    let headers = headers.into_iter().map(|header| header.matcher);
    Some((name?.into(), headers.collect()))
}

fn read_route(
    node: &Node,
    owner: &str,
    coverage: &mut Coverage,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(Route, RouteExtras)> {
    let mut fields = Fields::of(node, "a route", diagnostics)?;
    fields.ignore(&[
        "metadata",
        "decorator",
        "typed_per_filter_config",
        "tracing",
        "per_request_buffer_limit_bytes",
        "request_body_buffer_limit",
        "stat_prefix",
    ]);
    refuse(&mut fields, &["filter_action", "non_forwarding_action"]);
    let name = fields.text("name").unwrap_or_default();
    let matches = fields.required("match");
    let matched = matches.and_then(|node| route_match(node, fields.diagnostics));
    let mut strip_query = false;
    let action = if let Some(node) = fields.optional("route") {
        forward(node, fields.diagnostics)
    } else if let Some(node) = fields.optional("redirect") {
        let (action, strip) = redirect(node, fields.diagnostics)?;
        strip_query = strip;
        Some(action)
    } else if let Some(node) = fields.optional("direct_response") {
        direct_response(node, fields.diagnostics)
    } else {
        let message = "a route needs `route`, `redirect` or `direct_response`";
        let problem = Diagnostic::error(message).at(&node.span, "does nothing");
        fields.diagnostics.push(problem);
        None
    };
    let (request_headers, response_headers) = header_mutations(&mut fields);
    fields.finish();
    let (matches, runtime) = matched?;
    let action = action?;
    let rule = coverage.add(counted(node, owner, &name), node.span.column());
    let route = Route {
        name: name.into(),
        request_headers,
        response_headers,
        ..Route::new(matches, action)
    };
    let extras = RouteExtras {
        runtime,
        strip_query,
        rule,
    };
    Some((route, extras))
}

fn counted(node: &Node, owner: &str, name: &str) -> RuleCoverage {
    let clusters = node.at(&["route", "weighted_clusters", "clusters"]);
    let clusters = clusters.and_then(Node::as_seq).unwrap_or_default();
    let matches = node.at(&["match"]).map(brief).unwrap_or_default();
    let shown = if name.is_empty() {
        matches
    } else {
        name.to_owned()
    };
    RuleCoverage {
        object: owner.to_owned(),
        file: node.span.file.name.to_string(),
        line: node.span.line(),
        name: Some(shown),
        requests: 0,
        matches: Vec::new(),
        destinations: clusters.iter().map(PartCoverage::of).collect(),
    }
}

impl RouteConfiguration {
    /// The table as it is for requests of a test: with the routes that `runtime` switches on, and for
    /// internal requests without the TLS that external ones need.
    pub(crate) fn for_requests(&mut self, runtime: &str, internal: bool) -> Arc<RouteTable> {
        let key = (runtime.to_owned(), internal);
        if let Some(known) = self.variants.get(&key) {
            return Arc::clone(known);
        }
        let hosts = self.table.virtual_hosts.iter().zip(&self.hosts);
        let hosts = hosts.map(|(virtual_host, host)| {
            let mut virtual_host = (**virtual_host).clone();
            virtual_host.require_tls |= host.external_tls && !internal;
            for (route, extras) in virtual_host.routes.iter_mut().zip(&host.routes) {
                if let Some(condition) = &extras.runtime
                    && (runtime.is_empty() || *condition.key != *runtime)
                {
                    Arc::make_mut(route).matches.fraction = Some(Fraction::ppm(0));
                }
            }
            Arc::new(virtual_host)
        });
        let name = self.table.name.clone();
        let ignore_port = self.table.ignore_port_in_host;
        let table = Arc::new(RouteTable::sharing(name, hosts.collect(), ignore_port));
        self.variants.insert(key, Arc::clone(&table));
        table
    }

    /// How many clusters the routes lead to, as Envoy's tool counts: weighted ones each, all others
    /// (and redirects and direct responses) once a route.
    pub(crate) fn route_count(&self) -> usize {
        let routes = self
            .table
            .virtual_hosts
            .iter()
            .flat_map(|host| &host.routes);
        let count = routes.map(|route| match &route.action {
            RouteAction::Forward(forward) => forward.clusters.len(),
            _ => 1,
        });
        count.sum()
    }
}
