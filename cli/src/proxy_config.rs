//! `meshsim proxy-config`: what one proxy is told, in the tables of `istioctl proxy-config` or as
//! Envoy's JSON.

mod clusters;
mod endpoints;
mod listeners;
mod routes;

use crate::args::{
    ClusterFilter, EndpointFilter, ListenerFilter, Output, ProxyConfigTarget, ShownProxy,
};
use crate::{Exit, config, report};
use anstream::print;
use export::{Resources, Unsupported};
use proxy_core::xds::ConfigRef;
use serde_json::Value;
use source::Diagnostic;
use std::io::IsTerminal;

pub(crate) fn proxy_config(target: &ProxyConfigTarget) -> Exit {
    let mut diagnostics = Vec::new();
    let text = text(target, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(text) = text.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    print!("{text}");
    Exit::Held
}

fn text(target: &ProxyConfigTarget, diagnostics: &mut Vec<Diagnostic>) -> Option<String> {
    let shown = shown_proxy(target);
    let objects = config::objects(&shown.config, diagnostics);
    let proxy = objects.proxy(&shown.pod);
    let proxy = proxy.map_err(|problem| diagnostics.push(problem)).ok()?;
    let resources = config::resources(objects, &proxy);
    let resources = Resources {
        clusters: &resources.clusters,
        endpoints: &resources.endpoints,
        listeners: &resources.listeners,
        routes: &resources.routes,
    };
    match shown.output {
        Output::Short => Some(tables(target, &resources)),
        Output::Json => {
            let value = json(target, &resources);
            let value = value.map_err(|problems| {
                let problems = problems.iter().map(ToString::to_string);
                diagnostics.extend(problems.map(Diagnostic::error));
            });
            Some(format!("{:#}\n", value.ok()?))
        }
    }
}

fn shown_proxy(target: &ProxyConfigTarget) -> &ShownProxy {
    match target {
        ProxyConfigTarget::Listeners(args) => &args.proxy,
        ProxyConfigTarget::Routes(args) => &args.proxy,
        ProxyConfigTarget::Clusters(args) => &args.proxy,
        ProxyConfigTarget::Endpoints(args) => &args.proxy,
        ProxyConfigTarget::All(args) => &args.proxy,
    }
}

fn tables(target: &ProxyConfigTarget, resources: &Resources<'_>) -> String {
    match target {
        ProxyConfigTarget::Listeners(args) => {
            listeners::table(resources, &args.filter, args.verbose)
        }
        ProxyConfigTarget::Routes(args) => {
            routes::table(resources, args.name.as_deref(), args.verbose)
        }
        ProxyConfigTarget::Clusters(args) => clusters::table(resources, &args.filter),
        ProxyConfigTarget::Endpoints(args) => endpoints::table(resources, &args.filter),
        ProxyConfigTarget::All(args) => [
            clusters::table(resources, &ClusterFilter::default()),
            listeners::table(resources, &ListenerFilter::default(), args.verbose),
            routes::table(resources, None, args.verbose),
            endpoints::table(resources, &EndpointFilter::default()),
        ]
        .join("\n"),
    }
}

fn json(target: &ProxyConfigTarget, resources: &Resources<'_>) -> Result<Value, Vec<Unsupported>> {
    Ok(match target {
        ProxyConfigTarget::Listeners(args) => listeners::json(resources, &args.filter),
        ProxyConfigTarget::Routes(args) => routes::json(resources, args.name.as_deref()),
        ProxyConfigTarget::Clusters(args) => clusters::json(resources, &args.filter)?,
        ProxyConfigTarget::Endpoints(args) => endpoints::json(resources, &args.filter),
        ProxyConfigTarget::All(_) => export::dump::config_dump(resources)?,
    })
}

/// Lines under headings, as wide as they need to be.
pub(crate) fn lines<const N: usize>(headings: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows = rows.into_iter().map(Vec::from).collect();
    reports::table(&headings, &[], rows, std::io::stdout().is_terminal())
}

/// The rule of one of `kinds` that a resource comes from, as `NAME.NAMESPACE`.
fn rule(origin: Option<&ConfigRef>, kinds: &[&str]) -> String {
    let origin = origin.filter(|origin| kinds.contains(&&*origin.kind));
    origin.map_or_else(String::new, |origin| {
        format!("{}.{}", origin.name, origin.namespace)
    })
}
