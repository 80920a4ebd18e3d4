//! `meshsim verify`.

use crate::args::{Format, VerifyArgs};
use crate::{Exit, against, config, rehearse, report};
use anstream::{print, println};
use control_plane::{
    ControlPlane, Objects, ProxyIdentity, ProxyKind, PushSettings, Request, RequestTls,
};
use source::Diagnostic;
use verify::{Config, Report, Settings};

pub(crate) fn verify(args: &VerifyArgs) -> Exit {
    if let Some(path) = &args.rehearse {
        return rehearse::rehearse(args, path);
    }
    if let Some(dump) = &args.against {
        return against::against(args, dump);
    }
    let mut diagnostics = Vec::new();
    let verified = verified(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(verified) = verified.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    match args.format {
        Format::Json => println!("{}", json(&verified)),
        Format::Text => print!("{verified}"),
    }
    match verified.agrees() {
        true => Exit::Held,
        false => Exit::DidNotHold,
    }
}

#[allow(clippy::expect_used)]
fn json(report: &Report) -> String {
    serde_json::to_string(report).expect("a report is plain data with text keys")
}

fn verified(args: &VerifyArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Report> {
    let objects = config::objects(&args.config, diagnostics);
    let configs = configs(args, &objects, diagnostics);
    if crate::has_error(diagnostics) {
        return None;
    }
    let Some(envoy) = args.envoy.clone().or_else(verify::find_envoy) else {
        diagnostics.push(Diagnostic::error(verify::HOW_TO_GET));
        return None;
    };
    let verified = verify::configs(&configs, &Settings::new(envoy));
    let verified =
        verified.map_err(|problem| diagnostics.push(Diagnostic::error(problem.to_string())));
    verified.ok()
}

fn configs(args: &VerifyArgs, objects: &Objects, diagnostics: &mut Vec<Diagnostic>) -> Vec<Config> {
    let mut requests = Vec::new();
    if let Some(path) = &args.requests {
        for file in sim::plan::read_sources(path, None, diagnostics) {
            config::read_requests(&file, &mut requests, diagnostics);
        }
        let speaks_tls =
            |request: &&Request| request.tls != RequestTls::None || request.sni.is_some();
        if let Some(request) = requests.iter().find(speaks_tls) {
            let problem = format!("the request to `{}` speaks TLS", request.authority);
            let problem = Diagnostic::error(problem);
            diagnostics
                .push(problem.help("`verify` asks in plain text: leave out `tls` and `sni`"));
        }
    }
    let proxies = proxies(args, objects, diagnostics);
    let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), objects.pods());
    let config = |proxy: ProxyIdentity| {
        let mut requests = requests.clone();
        for request in &mut requests {
            request.resolve(objects, &proxy);
        }
        let resources = plane.resources(&proxy);
        Config {
            name: proxy.name.to_string(),
            resources,
            proxy,
            requests,
        }
    };
    proxies.into_iter().map(config).collect()
}

/// Those named, or that of the first pod of every workload that has one.
fn proxies(
    args: &VerifyArgs,
    objects: &Objects,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<ProxyIdentity> {
    if !args.proxies.is_empty() {
        let named = args.proxies.iter();
        return named
            .filter_map(|name| config::proxy(objects, name, diagnostics))
            .collect();
    }
    let pods = objects.pods();
    let with_proxy = pods.iter().filter(|pod| {
        pod.ordinal == 0 && matches!(pod.proxy, ProxyKind::Sidecar | ProxyKind::Gateway)
    });
    let proxies: Vec<ProxyIdentity> = with_proxy.map(|pod| pod.identity()).collect();
    if proxies.is_empty() {
        let missing = Diagnostic::error("no pod of the configuration has a proxy");
        diagnostics.push(missing.help("describe one with --as"));
    }
    proxies
}
