//! `meshsim explain`.

use crate::args::{ExplainArgs, Format, Secured};
use crate::{Exit, config, report};
use anstream::{print, println};
use control_plane::{Explanation, Request, RequestProtocol, RequestTls, Setting};
use source::Diagnostic;
use std::fmt::Write;

pub(crate) fn explain_requests(args: &ExplainArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let answers = answers(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(answers) = answers.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    for (request, answer) in &answers {
        match args.format {
            Format::Json => println!("{}", json(answer)),
            Format::Text => print!("{}", text(&args.proxy, request, answer)),
        }
    }
    Exit::Held
}

fn answers(
    args: &ExplainArgs,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(Request, Explanation)>> {
    let objects = config::objects(&args.config, diagnostics);
    let mut requests = requests(args, diagnostics);
    let proxy = config::proxy(&objects, &args.proxy, diagnostics)?;
    if let Some(name) = &args.from {
        let pod = objects.pod(name).map_err(|mut problem| {
            problem.message.insert_str(0, "--from: ");
            diagnostics.push(problem);
        });
        let pod = pod.ok()?;
        for request in &mut requests {
            request.come_from(&pod, &proxy);
        }
    }
    for request in &mut requests {
        if let Some(tls) = args.tls {
            request.tls = match tls {
                Secured::None => RequestTls::None,
                Secured::Tls => RequestTls::Tls,
                Secured::Mtls => RequestTls::Mtls,
            };
        }
        request.resolve(&objects, &proxy);
    }
    let mut control_plane = config::control_plane(objects);
    let explainer = control_plane.explainer(&proxy);
    let answers = requests.into_iter().map(|request| {
        let answer = explainer.explain(&request);
        (request, answer)
    });
    Some(answers.collect())
}

fn requests(args: &ExplainArgs, diagnostics: &mut Vec<Diagnostic>) -> Vec<Request> {
    let mut requests = Vec::new();
    if let Some(url) = &args.url {
        match request(args, url) {
            Ok(request) => requests.push(request),
            Err(problem) => diagnostics.push(Diagnostic::error(problem)),
        }
    }
    if let Some(path) = &args.requests {
        for file in sim::plan::read_sources(path, None, diagnostics) {
            config::read_requests(&file, &mut requests, diagnostics);
        }
    }
    requests
}

/// A request as it would be given to curl.
fn request(args: &ExplainArgs, url: &str) -> Result<Request, String> {
    let mut request = Request::to_url(url)?;
    request.method.clone_from(&args.method);
    for header in &args.headers {
        request.add_header(header)?;
    }
    Ok(request)
}

#[allow(clippy::expect_used)]
fn json(answer: &Explanation) -> String {
    serde_json::to_string(answer).expect("an answer is plain data with text keys")
}

/// An answer as people read it: what was asked, where it goes, how it got there, what holds for it.
fn text(proxy: &str, request: &Request, answer: &Explanation) -> String {
    let mut lines = Lines::default();
    lines.add("request", asked(request));
    lines.add("proxy", proxy.to_owned());
    destination(&mut lines, answer);
    let or_empty = |name: &Option<proxy_core::xds::Name>| name.as_deref().unwrap_or("").to_owned();
    lines.add("listener", or_empty(&answer.listener));
    lines.add("virtual host", or_empty(&answer.virtual_host));
    lines.add("route", or_empty(&answer.route));
    lines.all(
        "config",
        answer.config.iter().map(|origin| {
            let (kind, file, at) = (&origin.kind, &origin.file, origin.line);
            format!("{kind} {}/{} ({file}:{at})", origin.namespace, origin.name)
        }),
    );
    let numbered = (1..).zip(&answer.trail);
    lines.all(
        "because",
        numbered.map(|(n, step)| format!("{n:>2}. {step}")),
    );
    for setting in &answer.settings {
        lines.add(setting.name, told(setting));
    }
    lines.0 + "\n"
}

/// A name before each value, but for further ones of the same name.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: String) {
        if !value.is_empty() {
            let _ = writeln!(self.0, "{name:<18}{value}");
        }
    }

    fn all(&mut self, name: &str, values: impl Iterator<Item = String>) {
        for (number, value) in values.enumerate() {
            self.add(if number == 0 { name } else { "" }, value);
        }
    }
}

fn asked(request: &Request) -> String {
    match request.protocol {
        RequestProtocol::Tcp => format!("TCP to {}", request.destination()),
        RequestProtocol::Http => {
            let (method, scheme) = (&request.method, &request.scheme);
            let mut text = format!("{method} {scheme}://{}{}", request.authority, request.path);
            for (name, value) in &request.headers {
                text += &format!(" -H '{name}: {value}'");
            }
            text
        }
    }
}

fn destination(lines: &mut Lines, answer: &Explanation) {
    let action = serde_json::to_value(answer.action).unwrap_or_default();
    lines.add(
        "action",
        action.as_str().unwrap_or_default().replace('_', " "),
    );
    lines.all(
        "cluster",
        answer
            .clusters
            .iter()
            .map(|cluster| match answer.clusters.len() {
                1 => cluster.name.to_string(),
                _ => format!("{} (weight {})", cluster.name, cluster.weight),
            }),
    );
    let endpoint = answer.endpoint.map(|endpoint| endpoint.to_string());
    lines.add("endpoint", endpoint.unwrap_or_default());
    let status = answer.status.map(|status| status.to_string());
    lines.add("status", status.unwrap_or_default());
    lines.add("flags", answer.flags.join(","));
    lines.add(
        "details",
        answer.details.as_deref().unwrap_or("").to_owned(),
    );
    if let Some(upstream) = &answer.upstream {
        let headers = upstream.headers.0.iter();
        let headers = headers
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
        let sent = format!("{}{}", upstream.authority, upstream.path);
        lines.all("sent as", std::iter::once(sent).chain(headers));
    }
    let response = answer.response_headers.iter();
    lines.all(
        "response",
        response.map(|(name, value)| format!("{name}: {value}")),
    );
}

fn told(setting: &Setting) -> String {
    let by = match (&setting.file, setting.line, setting.default) {
        (Some(file), Some(line), _) => format!("{file}:{line}"),
        (_, _, default) => format!("default: {}", default.unwrap_or_default()),
    };
    let at = setting.cluster.as_ref();
    let at = at.map(|cluster| format!(" of {cluster}"));
    format!("{}{} ({by})", setting.value, at.unwrap_or_default())
}
