//! `meshsim inject`.

use crate::args::{Format, InjectArgs, InjectDialect, InjectOutput};
use crate::{Exit, report};
use anstream::{eprint, print};
use inject::{Injection, LinkerdInject, Manifests, Place, PodMade, PodReport, manifest, survey};
use serde_json::json;
use std::fmt::Write;

pub(crate) fn inject(args: &InjectArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let mut files = Vec::new();
    for path in &args.paths {
        files.extend(sim::plan::read_sources(path, None, &mut diagnostics));
    }
    let manifests = Manifests::read(
        &files,
        &args.namespace,
        args.namespaces_by_default,
        &mut diagnostics,
    );
    let mut summary = String::new();
    let out = match args.output {
        InjectOutput::Table => {
            let pods = survey(&manifests, &mut diagnostics);
            match args.format {
                Format::Text => text(&pods),
                Format::Json => json(&pods),
            }
        }
        InjectOutput::Manifest => {
            let made = manifest(&manifests, &injection(args), &mut diagnostics);
            summary = summed_up(&made.pods, args.dialect);
            let texts: Vec<String> = made.texts.into_iter().map(|(_, text)| text).collect();
            joined(&texts)
        }
    };
    match report(&diagnostics) {
        true if args.output == InjectOutput::Manifest => Exit::BadInput,
        failed => {
            print!("{out}");
            eprint!("{summary}");
            if failed { Exit::BadInput } else { Exit::Held }
        }
    }
}

/// What is said of pods whose namespace is not there.
const OPEN: &str = "
undecided: the labels of a namespace say whether its pods are injected. Add `kind: Namespace` to the
manifests, or --namespaces-by-default. `meshsim run` and `-o manifest` count such pods as injected.
";

/// What a sidecar is.
const WRITTEN: &str = "\
what is added is that of Istio 1.32.0, with its default installation. A sidecar is an init container that goes
on running (Kubernetes 1.29 or later); the pod's annotation sidecar.istio.io/nativeSidecar: \"false\" makes it a
container.
";

fn injection(args: &InjectArgs) -> Injection {
    match args.dialect {
        InjectDialect::Istio => Injection::Istio { cni: args.cni },
        InjectDialect::Linkerd2017 => Injection::Linkerd(LinkerdInject {
            port: args.linkerd_port,
            service: args.linkerd_service.clone(),
            use_service_vip: args.use_service_vip,
            privileged: args.privileged,
        }),
    }
}

/// Which pods something is added to, and which not.
fn summed_up(pods: &[PodMade], dialect: InjectDialect) -> String {
    let mut text = String::new();
    for pod in pods {
        let name = format!("{} {}/{}", pod.kind, pod.namespace, pod.name);
        let _ = match &pod.left {
            None => writeln!(text, "injected: {name}"),
            Some(why) => writeln!(text, "not injected: {name} ({why})"),
        };
    }
    let sidecars = dialect == InjectDialect::Istio && pods.iter().any(|pod| pod.left.is_none());
    if sidecars {
        text.push_str(WRITTEN);
    }
    text
}

/// One stream of documents.
fn joined(texts: &[String]) -> String {
    let mut all = String::new();
    for text in texts {
        if !all.is_empty() && !text.starts_with("---") {
            all.push_str("---\n");
        }
        all.push_str(text);
        if !all.ends_with('\n') {
            all.push('\n');
        }
    }
    all
}

fn json(pods: &[PodReport]) -> String {
    let all = json!({
        "schema": "meshsim.inject/1",
        "version": env!("CARGO_PKG_VERSION"),
        "pods": pods,
    });
    format!("{all:#}\n")
}

fn text(pods: &[PodReport]) -> String {
    if pods.is_empty() {
        return "no pods here\n".to_owned();
    }
    let rows = pods.iter().map(|pod| {
        let captured = pod.captured.as_ref();
        let words = |words: Option<String>| words.unwrap_or_else(|| "-".to_owned());
        [
            name(pod),
            proxy(pod).to_owned(),
            format!("{}{}", pod.why, at(pod.decided_by.as_ref())),
            words(captured.map(inject::Captured::inbound)),
            words(captured.map(inject::Captured::outbound)),
        ]
    });
    let headings = ["WORKLOAD", "PROXY", "WHY", "INBOUND", "OUTBOUND"];
    let mut text = crate::proxy_config::lines(headings, rows.collect());
    if pods.iter().any(|pod| pod.proxy == "undecided") {
        text.push_str(OPEN);
    }
    for pod in pods {
        let stated = pod.captured.iter().flat_map(inject::Captured::stated);
        let stated: Vec<String> = stated
            .map(|(key, setting)| {
                let place = at(setting.place.as_ref());
                format!("    {key}: {:?}{place}", setting.value)
            })
            .collect();
        if stated.is_empty() && pod.notes.is_empty() {
            continue;
        }
        let _ = write!(text, "\n{}\n", name(pod));
        if !stated.is_empty() {
            text.push_str("  annotations that change what is captured:\n");
        }
        for line in stated {
            let _ = writeln!(text, "{line}");
        }
        for line in &pod.notes {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn name(pod: &PodReport) -> String {
    format!("{} {}/{}", pod.kind, pod.namespace, pod.name)
}

fn proxy(pod: &PodReport) -> &'static str {
    match (pod.proxy, pod.injected) {
        ("sidecar", true) => "sidecar",
        ("sidecar", false) => "sidecar (its own)",
        ("node", _) => "of its node",
        ("node-proxy", _) => "it is one",
        (other, _) => other,
    }
}

fn at(place: Option<&Place>) -> String {
    place.map_or_else(String::new, |place| {
        format!(" ({}:{})", place.file, place.line)
    })
}
