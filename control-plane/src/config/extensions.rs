//! WasmPlugin and TrafficExtension: code for Envoy. They are checked as far as that needs no Envoy, and
//! never run.

use super::selection::read_target;
use super::{choice, port, refuse, written};
use source::{Diagnostic, Fields, Node};

/// Says that an object of such a kind has no effect.
fn warn_not_run(kind: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let message = format!("{kind} is not run");
    let label = "requests are treated as if it were not there";
    diagnostics.push(Diagnostic::warning(message).at(&node.span, label));
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
