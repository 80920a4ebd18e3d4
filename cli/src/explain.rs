//! `meshsim explain`.

use crate::args::{ExplainArgs, Format, Secured};
use crate::{Exit, config, report};
use anstream::{print, println};
use control_plane::{Explanation, Request, RequestTls, explain};
use source::Diagnostic;
use std::fmt::Write;

pub(crate) fn explain_requests(args: &ExplainArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let answers = answers(args, &mut diagnostics);
    let failed = report(&diagnostics);
    let Some(answers) = answers.filter(|_| !failed) else {
        return Exit::BadInput;
    };
    for answer in &answers {
        match args.format {
            Format::Json => println!("{}", json(answer)),
            Format::Text => print!("{}", text(answer)),
        }
    }
    Exit::Held
}

fn answers(args: &ExplainArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Vec<Explanation>> {
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
    let resources = config::resources(objects, &proxy);
    let answer = |request| explain(&resources, request);
    Some(requests.iter().map(answer).collect())
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
