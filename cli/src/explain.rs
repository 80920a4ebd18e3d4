//! `meshsim explain`.

use crate::args::{ExplainArgs, Format};
use crate::{Exit, report};
use anstream::{eprintln, print, println};
use control_plane::{
    ControlPlane, Explanation, Objects, ProxyIdentity, ProxyKind, PushSettings, Request,
    RequestTls, explain,
};
use proxy_core::time::Nanos;
use source::{Diagnostic, SourceFile};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Where a request goes whose service has no known address (203.0.113.0/24 is for examples).
const NOBODY: [u8; 4] = [203, 0, 113, 1];

pub(crate) fn explain_requests(args: &ExplainArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let answers = answers(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(answers) = answers.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    for answer in &answers {
        match args.format {
            Format::Json => match serde_json::to_string(answer) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("error: {error}"),
            },
            Format::Text => print!("{}", text(answer)),
        }
    }
    Exit::Held
}

fn answers(args: &ExplainArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Explanation>> {
    let mut objects = Objects::default();
    let paths = args.config.iter().chain(&args.mesh_config);
    for path in paths {
        for file in sim::plan::read_sources(path, None, diagnostics) {
            objects.apply(&Objects::read(&file, diagnostics));
        }
    }
    let proxy = proxy(&args.proxy, &objects, diagnostics)?;
    let requests = requests(args, diagnostics)?;
    let settings = PushSettings {
        debounce: Nanos::ZERO,
        debounce_max: Nanos::ZERO,
    };
    let pods = objects.pods();
    let resources = ControlPlane::new(settings, objects, pods).resources(&proxy);
    Some(
        requests
            .iter()
            .map(|request| explain(&resources, request))
            .collect(),
    )
}

fn requests(args: &ExplainArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Request>> {
    let Some(path) = &args.requests else {
        let url = args.url.as_deref().unwrap_or_default();
        return match request(args, url) {
            Ok(request) => Some(vec![request]),
            Err(problem) => {
                diagnostics.push(Diagnostic::error(problem));
                None
            }
        };
    };
    let files = sim::plan::read_sources(path, None, diagnostics);
    let mut requests = Vec::new();
    for file in &files {
        read_requests(file, &mut requests, diagnostics);
    }
    (!files.is_empty()).then_some(requests)
}

fn read_requests(
    file: &std::sync::Arc<SourceFile>,
    requests: &mut Vec<Request>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut start = 0;
    for line in file.text.split_inclusive('\n') {
        let range = start..start + line.trim_end().len();
        start += line.len();
        if line.trim().is_empty() {
            continue;
        }
        match serde_json::from_str(line) {
            Ok(request) => requests.push(request),
            Err(error) => diagnostics.push(
                Diagnostic::error("a line is a request as a JSON object")
                    .at(&file.span(range), error.to_string()),
            ),
        }
    }
}

/// A request as it would be given to curl.
fn request(args: &ExplainArgs, url: &str) -> Result<Request, String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    if scheme != "http" && scheme != "https" {
        return Err(format!("`{url}`: the scheme is neither http nor https"));
    }
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.is_empty() {
        return Err(format!("`{url}` names no host"));
    }
    let mut headers = Vec::new();
    let mut host = authority.to_owned();
    for header in &args.headers {
        let (name, value) = header
            .split_once(':')
            .ok_or_else(|| format!("`{header}` is not a header: NAME: VALUE"))?;
        match name.trim().to_ascii_lowercase().as_str() {
            "host" => host = value.trim().to_owned(),
            name => headers.push((name.to_owned(), value.trim().to_owned())),
        }
    }
    let port = port_of(authority, scheme)?;
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let tls = scheme == "https";
    let name = authority.split(':').next().unwrap_or_default();
    Ok(Request {
        method: args.method.clone(),
        scheme: scheme.to_owned(),
        authority: host,
        path,
        headers,
        address: Some(SocketAddr::new(IpAddr::from(NOBODY), port)),
        tls: if tls {
            RequestTls::Tls
        } else {
            RequestTls::None
        },
        sni: tls.then(|| name.to_owned()),
        ..Request::default()
    })
}

fn port_of(authority: &str, scheme: &str) -> Result<u16, String> {
    match authority.rsplit_once(':') {
        Some((_, port)) => port
            .parse()
            .map_err(|_| format!("`{authority}`: `{port}` is not a port")),
        None => Ok(if scheme == "https" { 443 } else { 80 }),
    }
}

/// The proxy that `--as` names or describes.
fn proxy(
    text: &str,
    objects: &Objects,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ProxyIdentity> {
    let found = match text.contains('=') {
        true => described(text),
        false => named(text, objects),
    };
    found.map_err(|problem| diagnostics.push(problem)).ok()
}

fn named(text: &str, objects: &Objects) -> Result<ProxyIdentity, Diagnostic> {
    let pods = objects.pods();
    let (namespace, name) = match text.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, text),
    };
    let is_meant = |pod: &&control_plane::Pod| {
        namespace.is_none_or(|namespace| *pod.namespace == *namespace)
            && (*pod.name == *name || *pod.workload == *name)
    };
    let Some(pod) = pods.iter().find(is_meant) else {
        let known = pods.iter().flat_map(|pod| [&*pod.workload, &*pod.name]);
        return Err(
            Diagnostic::error(format!("--as: no workload or pod is called `{text}`"))
                .nearest(name, known),
        );
    };
    if pod.proxy == ProxyKind::None {
        return Err(Diagnostic::error(format!("--as: `{text}` has no proxy")));
    }
    Ok(ProxyIdentity {
        name: format!("{}.{}", pod.name, pod.namespace).into(),
        kind: pod.proxy,
        namespace: pod.namespace.clone(),
        labels: pod.labels.clone(),
        ip: pod.ip,
        locality: pod.locality.clone(),
    })
}

fn described(text: &str) -> Result<ProxyIdentity, Diagnostic> {
    let mut proxy = ProxyIdentity {
        name: "described".into(),
        kind: ProxyKind::Sidecar,
        namespace: "default".into(),
        labels: Vec::new(),
        ip: IpAddr::from([10, 0, 0, 1]),
        locality: "".into(),
    };
    let wrong = |what: String| Diagnostic::error(format!("--as: {what}"));
    for part in text.split(',') {
        let (key, value) = part
            .split_once('=')
            .ok_or_else(|| wrong(format!("`{part}` is not KEY=VALUE")))?;
        match key {
            "kind" => {
                proxy.kind = match value {
                    "sidecar" => ProxyKind::Sidecar,
                    "gateway" => ProxyKind::Gateway,
                    _ => return Err(wrong(format!("kind `{value}` is not sidecar or gateway"))),
                }
            }
            "namespace" => proxy.namespace = value.into(),
            "locality" => proxy.locality = value.into(),
            "ip" => {
                proxy.ip = value
                    .parse()
                    .map_err(|_| wrong(format!("`{value}` is not an address")))?;
            }
            "labels" => {
                for label in value.split(';').filter(|label| !label.is_empty()) {
                    let (key, value) = label
                        .split_once('=')
                        .ok_or_else(|| wrong(format!("label `{label}` is not KEY=VALUE")))?;
                    proxy.labels.push((key.into(), value.into()));
                }
            }
            _ => {
                let known = ["kind", "namespace", "labels", "ip", "locality"];
                return Err(wrong(format!("unknown key `{key}`")).nearest(key, known));
            }
        }
    }
    Ok(proxy)
}

/// An answer as people read it: where the request goes, then how it got there.
fn text(answer: &Explanation) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:<13}{value}");
        }
    };
    let or_empty = |name: &Option<proxy_core::xds::Name>| name.as_deref().unwrap_or("").to_owned();
    let action = serde_json::to_value(answer.action).unwrap_or_default();
    line(
        "action",
        action.as_str().unwrap_or_default().replace('_', " "),
    );
    for cluster in &answer.clusters {
        line("cluster", format!("{} ({})", cluster.name, cluster.weight));
    }
    line(
        "endpoint",
        answer.endpoint.map(|e| e.to_string()).unwrap_or_default(),
    );
    line(
        "status",
        answer
            .status
            .map(|status| status.to_string())
            .unwrap_or_default(),
    );
    line("flags", answer.flags.join(","));
    line("details", or_empty(&answer.details));
    if let Some(upstream) = &answer.upstream {
        line(
            "sent as",
            format!("{}{}", upstream.authority, upstream.path),
        );
        for (name, value) in &upstream.headers.0 {
            line(
                "",
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())),
            );
        }
    }
    for (name, value) in &answer.response_headers {
        line("response", format!("{name}: {value}"));
    }
    line("listener", or_empty(&answer.listener));
    line("virtual host", or_empty(&answer.virtual_host));
    line("route", or_empty(&answer.route));
    for origin in &answer.config {
        let (kind, file, at) = (&origin.kind, &origin.file, origin.line);
        line(
            "config",
            format!("{kind} {}/{} ({file}:{at})", origin.namespace, origin.name),
        );
    }
    for step in &answer.trail {
        line("because", step.clone());
    }
    text + "\n"
}
