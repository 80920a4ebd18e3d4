//! EnvoyFilter, WasmPlugin and TrafficExtension: code and configuration of Envoy's own. They are
//! checked as far as that needs no Envoy, and never run.

use super::selection::{read_target, selector};
use super::{choice, port, refuse, regex, schema_warning, written};
use source::{Diagnostic, Fields, Node};

/// Says that an object of such a kind has no effect.
fn warn_not_run(kind: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let message = format!("{kind} is not run");
    let label = "requests are treated as if it were not there";
    diagnostics.push(Diagnostic::warning(message).at(&node.span, label));
}

/// Checks an EnvoyFilter.
pub(crate) fn check_envoy_filter(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    warn_not_run("EnvoyFilter", node, diagnostics);
    let Some(mut fields) = Fields::of(node, "an EnvoyFilter", diagnostics) else {
        return;
    };
    selector(&mut fields, "workloadSelector", "labels");
    let references = fields.optional("targetRefs");
    if let (Some(_), Some(node)) = (fields.optional("workloadSelector"), references) {
        let message = "`workloadSelector` and `targetRefs` exclude each other";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "beside `workloadSelector`",
        );
    }
    for node in fields.list("configPatches") {
        check_patch(node, fields.diagnostics);
    }
    fields.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX));
    fields.finish();
}

/// What is patched, and the match that goes with it.
const APPLY_TO: [(&str, Option<&str>); 12] = [
    ("INVALID", None),
    ("LISTENER", Some("listener")),
    ("FILTER_CHAIN", Some("listener")),
    ("NETWORK_FILTER", Some("listener")),
    ("HTTP_FILTER", Some("listener")),
    ("ROUTE_CONFIGURATION", Some("routeConfiguration")),
    ("VIRTUAL_HOST", Some("routeConfiguration")),
    ("HTTP_ROUTE", Some("routeConfiguration")),
    ("CLUSTER", Some("cluster")),
    ("EXTENSION_CONFIG", None),
    ("BOOTSTRAP", None),
    ("LISTENER_FILTER", None),
];
const MATCHES: [&str; 4] = ["listener", "routeConfiguration", "cluster", "waypoint"];
const OPERATIONS: [(&str, &str); 9] = [
    ("INVALID", ""),
    ("MERGE", "MERGE"),
    ("ADD", "ADD"),
    ("REMOVE", "REMOVE"),
    ("INSERT_BEFORE", "INSERT_BEFORE"),
    ("INSERT_AFTER", "INSERT_AFTER"),
    ("INSERT_FIRST", "INSERT_FIRST"),
    ("REPLACE", "REPLACE"),
    ("MERGE_AND_REPLACE_LIST", "MERGE_AND_REPLACE_LIST"),
];
const CONTEXTS: [(&str, bool); 5] = [
    ("ANY", false),
    ("SIDECAR_INBOUND", false),
    ("SIDECAR_OUTBOUND", false),
    ("GATEWAY", false),
    ("WAYPOINT", true),
];

fn check_patch(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(mut fields) = Fields::of(node, "a config patch", diagnostics) else {
        return;
    };
    let class = choice(&mut fields, "applyTo", &APPLY_TO);
    let apply_to = fields.optional("applyTo").map(written);
    let waypoint = match fields.optional("match") {
        Some(node) => check_match(node, apply_to, class.flatten(), fields.diagnostics),
        None => false,
    };
    if !waypoint && matches!(apply_to, None | Some("INVALID")) {
        let message = "a config patch says what it applies to";
        refuse(fields.diagnostics, &node.span, message, "no `applyTo`");
    }
    let patch = fields.optional("patch");
    if patch.is_none() && !waypoint {
        let message = "a config patch has a `patch`";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "`patch` is missing",
        );
    }
    if let Some(node) = patch
        && let Some(mut inner) = Fields::of(node, "a patch", fields.diagnostics)
    {
        let operation = choice(&mut inner, "operation", &OPERATIONS).unwrap_or_default();
        let value = inner.optional("value");
        if operation.is_empty() && !waypoint {
            let message = "a patch has an operation";
            refuse(inner.diagnostics, &node.span, message, "no `operation`");
        } else if operation != "REMOVE" && value.is_none() && !waypoint {
            let message = "a patch that does not remove has a value";
            refuse(inner.diagnostics, &node.span, message, "no `value`");
        }
        inner.ignore(&["filterClass"]);
        inner.finish();
    }
    fields.finish();
}

/// Whether it is for waypoints, of which Istio checks less.
fn check_match(
    node: &Node,
    apply_to: Option<&str>,
    class: Option<&str>,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let Some(mut fields) = Fields::of(node, "a match of a config patch", diagnostics) else {
        return false;
    };
    let waypoint = choice(&mut fields, "context", &CONTEXTS).unwrap_or(false);
    let stated: Vec<(&str, &Node)> = MATCHES
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .collect();
    let about_waypoint = stated.iter().find(|(key, _)| *key == "waypoint");
    if waypoint != about_waypoint.is_some() {
        let message = "context WAYPOINT and the match `waypoint` go together";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "one without the other",
        );
    }
    if let [_, (key, second), ..] = stated[..] {
        let message = format!("a match is of one of {}", MATCHES.join(", "));
        refuse(
            fields.diagnostics,
            &second.span,
            message,
            format!("`{key}` as well"),
        );
    }
    if let Some((_, node)) = about_waypoint
        && let Some(mut inner) = Fields::of(node, "a match of waypoints", fields.diagnostics)
    {
        port(&mut inner, "portNumber");
    }
    if let (Some(class), [(key, node), ..], false) = (class, &stated[..], waypoint)
        && class != *key
    {
        let message = format!("{} goes with a match of `{class}`", apply_to.unwrap_or(""));
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            format!("found `{key}`"),
        );
    }
    if let Some(version) = fields
        .optional("proxy")
        .and_then(|node| node.at(&["proxyVersion"]))
    {
        match written(version).len() {
            0 => {}
            1..=1024 => drop(regex(version, fields.diagnostics)),
            _ => {
                let message = "`proxyVersion` has 1024 characters at most";
                fields
                    .diagnostics
                    .push(schema_warning(message).at(&version.span, "left out of account"));
            }
        }
    }
    if let (Some(listener), false) = (fields.optional("listener"), waypoint) {
        check_filter(listener, apply_to, fields.diagnostics);
    }
    fields.finish();
    waypoint
}

const CONNECTION_MANAGERS: [&str; 2] = [
    "envoy.filters.network.http_connection_manager",
    "envoy.http_connection_manager",
];

/// Checks the filter that a match of listeners names.
fn check_filter(listener: &Node, apply_to: Option<&str>, diagnostics: &mut Vec<Diagnostic>) {
    let Some(filter) = listener.at(&["filterChain", "filter"]) else {
        return;
    };
    let name_of = |node: &Node| {
        let name = node.at(&["name"]).and_then(Node::as_scalar);
        name.unwrap_or_default().to_owned()
    };
    if let Some(whole @ ("LISTENER" | "FILTER_CHAIN")) = apply_to {
        let message = format!("a filter to match has no effect on {whole}");
        diagnostics.push(schema_warning(message).at(&filter.span, "a filter"));
    }
    let name = name_of(filter);
    if name.is_empty() {
        refuse(
            diagnostics,
            &filter.span,
            "a filter to match has a name",
            "no `name`",
        );
        return;
    }
    let Some(inner) = filter.at(&["subFilter"]) else {
        return;
    };
    let complaint = if apply_to != Some("HTTP_FILTER") {
        "`subFilter` goes with HTTP_FILTER only"
    } else if !CONNECTION_MANAGERS.contains(&name.as_str()) {
        "`subFilter` is within the filter `envoy.filters.network.http_connection_manager`"
    } else if name_of(inner).is_empty() {
        "a `subFilter` has a name"
    } else {
        return;
    };
    refuse(
        diagnostics,
        &inner.span,
        complaint,
        "a filter within a filter",
    );
}

/// Checks a WasmPlugin.
pub(crate) fn check_wasm_plugin(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    warn_not_run("WasmPlugin", node, diagnostics);
    let Some(mut fields) = Fields::of(node, "a WasmPlugin", diagnostics) else {
        return;
    };
    read_target(&mut fields);
    check_wasm(&mut fields);
    check_matches(&mut fields);
    choice(&mut fields, "phase", &PHASES);
    fields.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX));
    fields.finish();
}

/// Checks a TrafficExtension.
pub(crate) fn check_traffic_extension(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    warn_not_run("TrafficExtension", node, diagnostics);
    let Some(mut fields) = Fields::of(node, "a TrafficExtension", diagnostics) else {
        return;
    };
    read_target(&mut fields);
    let (wasm, lua) = (fields.optional("wasm"), fields.optional("lua"));
    if wasm.is_some() == lua.is_some() {
        let message = "a TrafficExtension has either `wasm` or `lua`";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "has both or neither",
        );
    }
    if let Some(node) = wasm
        && let Some(mut inner) = Fields::of(node, "a Wasm module", fields.diagnostics)
    {
        check_wasm(&mut inner);
        inner.finish();
    }
    if let Some(node) = lua {
        let code = node
            .at(&["inlineCode"])
            .map_or(0, |code| written(code).len());
        if !(1..=65_536).contains(&code) {
            let message = "`inlineCode` has 1 to 65536 bytes";
            refuse(
                fields.diagnostics,
                &node.span,
                message,
                format!("found {code}"),
            );
        }
    }
    check_matches(&mut fields);
    choice(&mut fields, "phase", &PHASES);
    fields.integer("priority", i64::from(i32::MIN)..=i64::from(i32::MAX));
    fields.finish();
}

const PHASES: [(&str, ()); 4] = [
    ("UNSPECIFIED_PHASE", ()),
    ("AUTHN", ()),
    ("AUTHZ", ()),
    ("STATS", ()),
];

fn check_wasm(fields: &mut Fields<'_, '_>) {
    if let Some(url) = fields.required("url") {
        check_url(url, fields.diagnostics);
    }
    if let Some(node) = fields
        .optional("sha256")
        .filter(|node| !written(node).is_empty())
    {
        let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if written(node).len() != 64 || !written(node).bytes().all(hexadecimal) {
            let message = "`sha256` is 64 digits of 0-9 and a-f";
            let label = format!("found {} characters", written(node).len());
            refuse(fields.diagnostics, &node.span, message, label);
        }
    }
    for (key, most) in [("imagePullSecret", 253), ("pluginName", 256)] {
        if let Some(node) = fields.optional(key)
            && !(1..=most).contains(&written(node).len())
        {
            let message = format!("`{key}` has 1 to {most} characters");
            let label = format!("found {}", written(node).len());
            refuse(fields.diagnostics, &node.span, message, label);
        }
    }
    let env = fields
        .optional("vmConfig")
        .and_then(|node| node.at(&["env"])?.as_seq());
    check_environment(env.unwrap_or_default(), fields.diagnostics);
    choice(
        fields,
        "failStrategy",
        &[("FAIL_CLOSE", ()), ("FAIL_OPEN", ()), ("FAIL_RELOAD", ())],
    );
    choice(
        fields,
        "imagePullPolicy",
        &[
            ("UNSPECIFIED_POLICY", ()),
            ("IfNotPresent", ()),
            ("Always", ()),
        ],
    );
    choice(
        fields,
        "type",
        &[
            ("UNSPECIFIED_PLUGIN_TYPE", ()),
            ("HTTP", ()),
            ("NETWORK", ()),
        ],
    );
    fields.ignore(&["pluginConfig", "verificationKey"]);
}

fn check_url(node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let Some(url) = node.as_scalar().filter(|url| !url.is_empty()) else {
        refuse(
            diagnostics,
            &node.span,
            "a Wasm module has a `url`",
            "empty",
        );
        return;
    };
    let schemes = ["http", "https", "oci", "file"];
    let known = scheme_of(url).is_none_or(|scheme| schemes.contains(&&*scheme));
    let after = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after.split(['/', '?']).next().unwrap_or_default();
    if !known || !is_escaped(url) || authority.contains('#') {
        let message = format!("a `url` begins with one of {}", schemes.join(", "));
        refuse(diagnostics, &node.span, message, format!("found `{url}`"));
    }
}

/// What stands before the first `:`, if that can be a scheme; in lower case.
fn scheme_of(url: &str) -> Option<String> {
    let (scheme, _) = url.split_once(':')?;
    let first = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
    (first && scheme.chars().all(plain)).then(|| scheme.to_ascii_lowercase())
}

/// Whether there are no spaces in it, and every `%` is followed by two digits.
fn is_escaped(url: &str) -> bool {
    let digits = |rest: &str| rest.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    !url.contains(|c: char| c.is_whitespace() || c.is_control())
        && url.split('%').skip(1).all(digits)
}

fn check_environment(env: &[Node], diagnostics: &mut Vec<Diagnostic>) {
    let name = |node: &Node| {
        node.at(&["name"])
            .map_or(String::new(), |node| written(node).to_owned())
    };
    for (at, node) in env.iter().enumerate() {
        let own = name(node);
        let from_host = node
            .at(&["valueFrom"])
            .is_some_and(|node| written(node) == "HOST");
        let complaint = if own.is_empty() || own.len() > 256 {
            "the name of an environment variable has 1 to 256 characters"
        } else if env[..at].iter().any(|earlier| name(earlier) == own) {
            "an environment variable is there twice"
        } else if from_host && node.at(&["value"]).is_some() {
            "an environment variable of the host has no `value` of its own"
        } else {
            continue;
        };
        refuse(diagnostics, &node.span, complaint, format!("`{own}`"));
    }
}

fn check_matches(fields: &mut Fields<'_, '_>) {
    for node in fields.list("match") {
        let Some(mut inner) = Fields::of(node, "a traffic selector", fields.diagnostics) else {
            continue;
        };
        for node in inner.list("ports") {
            if let Some(mut innermost) = Fields::of(node, "a port", inner.diagnostics) {
                innermost.required("number");
                port(&mut innermost, "number");
            }
        }
    }
}
