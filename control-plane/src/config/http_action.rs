//! What an HTTP rule of a VirtualService does with the requests that match.

use super::http_route::check_weights;
use super::{Named, RouteDestination, choice, port, required_named, schema_warning, written};
use proxy_core::xds::{Name, RedirectPath};
use source::{Diagnostic, Fields, Node};

/// What a rule does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum HttpAction {
    Route(Vec<RouteDestination>),
    Redirect {
        status: u16,
        scheme: Option<Name>,
        host: Option<Name>,
        port: Option<RedirectPort>,
        path: RedirectPath,
    },
    DirectResponse {
        status: u16,
        body: Name,
    },
    /// The rules of another VirtualService, which has no hosts, stand here.
    Delegate {
        name: Named,
        namespace: Option<Name>,
    },
}

/// The port a redirect names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RedirectPort {
    Number(u16),
    /// The port of the listener.
    FromRequest,
}

const ACTIONS: [&str; 4] = ["delegate", "redirect", "directResponse", "route"];

/// The action of a rule; exactly one must be stated.
pub(super) fn read_action(fields: &mut Fields<'_, '_>) -> Option<HttpAction> {
    let mut stated: Vec<(&str, &Node)> = ACTIONS
        .into_iter()
        .filter_map(|key| Some((key, fields.optional(key)?)))
        .filter(|(_, node)| node.as_seq().is_none_or(|items| !items.is_empty()))
        .collect();
    if let [("delegate", _), ("directResponse", node)] = stated[..] {
        let message = "`directResponse` beside `delegate` has no effect";
        let label = "the delegate's rules stand here";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(&node.span, label));
        stated.pop();
    }
    let action = match stated[..] {
        [("route", _)] => {
            let list: Vec<RouteDestination> = fields
                .list("route")
                .iter()
                .filter_map(|node| RouteDestination::read(node, fields.diagnostics))
                .collect();
            check_weights(fields, list.iter().map(|to| to.weight));
            (!list.is_empty()).then_some(HttpAction::Route(list))
        }
        [("delegate", node)] => read_delegate(node, fields.diagnostics),
        [("redirect", node)] => {
            check_prefix_rewrite(node, fields);
            read_redirect(node, fields.diagnostics)
        }
        [(_, node)] => read_direct_response(node, fields.diagnostics),
        [] => {
            let message = "an HTTP route needs `route`, `redirect`, `directResponse` or `delegate`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(fields.span(), "does nothing"));
            None
        }
        [_, (key, node), ..] => {
            let message =
                "an HTTP route has only one of `route`, `redirect`, `directResponse`, `delegate`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, format!("`{key}` as well")));
            None
        }
    };
    let answers = stated.first().map(|(key, _)| *key);
    if let Some(key @ ("redirect" | "directResponse")) = answers {
        for other in ["fault", "rewrite"] {
            if let Some(node) = fields.optional(other) {
                let message = format!("`{other}` goes with `route` only");
                let label = format!("beside `{key}`");
                fields
                    .diagnostics
                    .push(Diagnostic::error(message).at(&node.span, label));
            }
        }
    }
    action
}

fn read_delegate(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a delegate", diagnostics)?;
    let name = required_named(&mut fields, "name");
    let namespace = fields.text("namespace").map(Name::from);
    fields.finish();
    Some(HttpAction::Delegate {
        name: name?,
        namespace,
    })
}

/// A prefix can be replaced only where a prefix was matched.
fn check_prefix_rewrite(redirect: &Node, fields: &mut Fields<'_, '_>) {
    let rewrite = redirect.at(&["prefixRewrite"]).and_then(Node::as_scalar);
    if rewrite.is_none_or(str::is_empty) {
        return;
    }
    for one in fields.list("match") {
        let uri = one.at(&["uri"]).filter(|uri| uri.at(&["prefix"]).is_none());
        if let Some(uri) = uri.filter(|uri| uri.as_map().is_some()) {
            let message = "`prefixRewrite` needs matches of the path by `prefix`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&uri.span, "matches no prefix"));
        }
    }
}

fn read_redirect(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a redirect", diagnostics)?;
    let text = |fields: &mut Fields<'_, '_>, key| {
        fields.text(key).filter(|t| !t.is_empty()).map(Name::from)
    };
    let path = match (text(&mut fields, "uri"), text(&mut fields, "prefixRewrite")) {
        (Some(_), Some(_)) => {
            let message = "a redirect has either `uri` or `prefixRewrite`";
            fields
                .diagnostics
                .push(Diagnostic::error(message).at(&node.span, "has both"));
            return None;
        }
        (Some(uri), None) => RedirectPath::Replace(uri),
        (None, Some(prefix)) => RedirectPath::Prefix(prefix),
        (None, None) => RedirectPath::Keep,
    };
    let host = text(&mut fields, "authority");
    let scheme = text(&mut fields, "scheme");
    if let Some(scheme) = scheme.as_deref().filter(|s| !["http", "https"].contains(s)) {
        let message = "the `scheme` of a redirect is `http` or `https`";
        let span = fields
            .optional("scheme")
            .map_or(fields.span(), |node| &node.span);
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(span, format!("found `{scheme}`")));
    }
    // Without either, Istio's default removes the port that the scheme no longer fits.
    let derive = choice(
        &mut fields,
        "derivePort",
        &[
            ("FROM_PROTOCOL_DEFAULT", None),
            ("FROM_REQUEST_PORT", Some(RedirectPort::FromRequest)),
        ],
    );
    let number = fields.optional("port");
    if let (Some(node), Some(_)) = (number, derive) {
        let message = "a redirect has either `port` or `derivePort`";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "beside `derivePort`"));
    }
    let keeps = path == RedirectPath::Keep && host.is_none() && scheme.is_none();
    if keeps && number.is_none() && derive.is_none() {
        let message = "a redirect needs `uri`, `authority`, `scheme` or `port`";
        fields
            .diagnostics
            .push(Diagnostic::error(message).at(&node.span, "leads nowhere else"));
    }
    let number = match number.map(written) {
        Some("0") => None,
        _ => port(&mut fields, "port").map(RedirectPort::Number),
    };
    let status = read_redirect_code(&mut fields);
    fields.finish();
    Some(HttpAction::Redirect {
        status: status?,
        scheme,
        host,
        port: number.or(derive.flatten()),
        path,
    })
}

fn read_redirect_code(fields: &mut Fields<'_, '_>) -> Option<u16> {
    let node = fields.optional("redirectCode");
    let Some(node) = node.filter(|node| written(node) != "0") else {
        return Some(301);
    };
    let code = fields.integer("redirectCode", 300..=399)?;
    if ![301, 302, 303, 307, 308].contains(&code) {
        let message = format!("redirects with status {code} are not supported");
        let label = "Istio's proxies refuse such a rule; here it answers with this status";
        fields
            .diagnostics
            .push(Diagnostic::warning(message).at(&node.span, label));
    }
    u16::try_from(code).ok()
}

/// Istio warns of bodies above the first, and refuses those above the second.
const BODY_BYTES: [usize; 2] = [100 * 1024, 1024 * 1024];

fn read_direct_response(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HttpAction> {
    let mut fields = Fields::of(node, "a direct response", diagnostics)?;
    fields.required("status");
    let status = fields.integer("status", 200..=600);
    let mut body = String::new();
    if let Some(node) = fields.optional("body") {
        let mut inner = Fields::of(node, "a body", fields.diagnostics)?;
        body = inner.text("string").unwrap_or_default();
        inner.unsupported(&["bytes"]);
        if let (Some(_), Some(bytes)) = (inner.optional("string"), inner.optional("bytes")) {
            let message = "a body has either `string` or `bytes`";
            inner
                .diagnostics
                .push(Diagnostic::error(message).at(&bytes.span, "beside `string`"));
        }
        // Base64 has four characters for three bytes.
        let bytes = inner
            .optional("bytes")
            .map_or(0, |node| written(node).len() / 4 * 3);
        check_size(body.len().max(bytes), node, inner.diagnostics);
        inner.finish();
    }
    fields.finish();
    Some(HttpAction::DirectResponse {
        status: u16::try_from(status?).ok()?,
        body: body.into(),
    })
}

fn check_size(size: usize, body: &Node, diagnostics: &mut Vec<Diagnostic>) {
    let label = format!("{size} bytes");
    if size > BODY_BYTES[1] {
        let message = "the body of a direct response has 1 MiB at most";
        diagnostics.push(Diagnostic::error(message).at(&body.span, label));
    } else if size > BODY_BYTES[0] {
        let message = "a large body of a direct response burdens the control plane";
        diagnostics.push(schema_warning(message).at(&body.span, label));
    }
}
