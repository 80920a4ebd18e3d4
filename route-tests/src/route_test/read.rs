//! Reading tests in meshsim's own format.

use super::expect::{Want, read_wants};
use control_plane::{Request, RequestTls};
use source::fields::{expected, expected_text};
use source::{Diagnostic, Fields, Node, Span, Value};

/// Text, and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Named {
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// A file of tests.
#[derive(Debug)]
pub(crate) struct RouteTests {
    /// Files or folders, relative to the file. Empty: those of the command line.
    pub(crate) config: Vec<Named>,
    pub(crate) mesh_config: Option<Named>,
    pub(crate) tests: Vec<RouteTest>,
}

/// Requests, and what is expected of each.
#[derive(Debug)]
pub(crate) struct RouteTest {
    pub(crate) name: String,
    pub(crate) span: Span,
    /// As for `explain --as`; `None`: that of the command line.
    pub(crate) proxy: Option<Named>,
    pub(crate) requests: Vec<Asked>,
    pub(crate) expect: Vec<Want>,
    /// None of these holds.
    pub(crate) not: Vec<Want>,
}

/// A request, before the proxy is known that is asked about it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// The pod that it comes from.
    pub(crate) from: Option<Named>,
}

/// What requests have in common, or one of its own.
#[derive(Clone, Debug, Default)]
struct Parts {
    method: Option<String>,
    /// Without value: left out.
    headers: Vec<(String, Option<String>)>,
    from: Option<Named>,
    tls: Option<RequestTls>,
}

pub(crate) fn read(document: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RouteTests> {
    let mut fields = Fields::of(document, "a file of route tests", diagnostics)?;
    let config = one_or_more(&mut fields, "config")
        .iter()
        .filter_map(|node| named_of(node, "a path", fields.diagnostics))
        .collect();
    let mesh_config = named(&mut fields, "mesh_config");
    let proxy = named(&mut fields, "as");
    let defaults = match fields.optional("defaults") {
        Some(node) => read_defaults(node, fields.diagnostics)?,
        None => Parts::default(),
    };
    let tests = fields.list("route_tests").iter().filter_map(|node| {
        let mut test = read_test(node, &defaults, fields.diagnostics)?;
        test.proxy = test.proxy.or_else(|| proxy.clone());
        Some(test)
    });
    let tests = tests.collect();
    fields.finish();
    Some(RouteTests {
        config,
        mesh_config,
        tests,
    })
}

fn read_defaults(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Parts> {
    let mut fields = Fields::of(node, "the defaults of requests", diagnostics)?;
    let parts = Parts::read(&mut fields);
    fields.finish();
    Some(parts)
}

fn read_test(
    node: &Node,
    defaults: &Parts,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<RouteTest> {
    let mut fields = Fields::of(node, "a route test", diagnostics)?;
    let name = fields.text("name");
    let proxy = named(&mut fields, "as");
    let single = fields.optional("request");
    let several = fields.list("requests");
    let nodes: Vec<&Node> = single.into_iter().chain(several).collect();
    if nodes.is_empty() {
        let problem = Diagnostic::error("a route test needs `request` or `requests`");
        let problem = problem.at(&node.span, "asks nothing");
        fields.diagnostics.push(problem);
    }
    let requests: Vec<Asked> = nodes
        .into_iter()
        .filter_map(|node| read_request(node, defaults, fields.diagnostics))
        .collect();
    let expect = read_wants(&mut fields, "expect");
    let not = read_wants(&mut fields, "not");
    if expect.is_none() && not.is_none() {
        let problem = Diagnostic::error("a route test needs `expect` or `not`");
        let problem = problem.at(&node.span, "expects nothing");
        fields.diagnostics.push(problem);
    }
    fields.finish();
    let first = requests.first().map(|asked| shown(&asked.request));
    Some(RouteTest {
        name: name.or(first).unwrap_or_default(),
        span: node.span.clone(),
        proxy,
        requests,
        expect: expect.unwrap_or_default(),
        not: not.unwrap_or_default(),
    })
}

fn read_request(node: &Node, defaults: &Parts, diagnostics: &mut Vec<Diagnostic>) -> Option<Asked> {
    if node.as_str().is_some() {
        return asked(node, defaults, Parts::default(), diagnostics);
    }
    let mut fields = Fields::of(node, "a request", diagnostics)?;
    let url = fields.required("url");
    let own = Parts::read(&mut fields);
    fields.finish();
    asked(url?, defaults, own, diagnostics)
}

fn asked(
    url: &Node,
    defaults: &Parts,
    own: Parts,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Asked> {
    let text = named_of(url, "a URL", diagnostics)?.text;
    let mut request = match Request::to_url(&text) {
        Ok(request) => request,
        Err(problem) => {
            diagnostics.push(Diagnostic::error(problem).at(&url.span, "not a URL"));
            return None;
        }
    };
    if let Some(method) = own.method.or_else(|| defaults.method.clone()) {
        request.method = method;
    }
    let stated = |name: &str| own.headers.iter().any(|(own, _)| own == name);
    let shared = defaults.headers.iter().filter(|(name, _)| !stated(name));
    for (name, value) in shared.chain(&own.headers) {
        match (name.as_str(), value) {
            (_, None) => {}
            ("host", Some(value)) => request.authority.clone_from(value),
            (_, Some(value)) => request.headers.push((name.clone(), value.clone())),
        }
    }
    if let Some(tls) = own.tls.or(defaults.tls) {
        request.tls = tls;
    }
    Some(Asked {
        request,
        from: own.from.or_else(|| defaults.from.clone()),
    })
}

impl Parts {
    fn read(fields: &mut Fields<'_, '_>) -> Parts {
        let tls = fields.optional("tls");
        Parts {
            method: fields.text("method"),
            headers: texts_or_nothing(fields, "headers"),
            from: named(fields, "from"),
            tls: tls.and_then(|node| read_tls(node, fields.diagnostics)),
        }
    }
}

fn read_tls(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RequestTls> {
    match node.as_str() {
        Some("none") => Some(RequestTls::None),
        Some("tls") => Some(RequestTls::Tls),
        Some("mtls") => Some(RequestTls::Mtls),
        _ => {
            diagnostics.push(expected(node, "`tls` is none, tls or mtls"));
            None
        }
    }
}

/// Names in lower case; of a null no value.
pub(super) fn texts_or_nothing(
    fields: &mut Fields<'_, '_>,
    key: &'static str,
) -> Vec<(String, Option<String>)> {
    let Some(node) = fields.optional(key) else {
        return Vec::new();
    };
    let Some(map) = node.as_map() else {
        let problem = expected(node, &format!("`{key}` is a map"));
        fields.diagnostics.push(problem);
        return Vec::new();
    };
    let entries = map.entries.iter().filter_map(|entry| {
        let value = match entry.value.value {
            Value::Null => None,
            _ => Some(named_of(&entry.value, "a header's value", fields.diagnostics)?.text),
        };
        Some((entry.key.to_ascii_lowercase(), value))
    });
    entries.collect()
}

/// A list, or the one thing instead.
pub(super) fn one_or_more<'n>(fields: &mut Fields<'n, '_>, key: &'static str) -> &'n [Node] {
    match fields.optional(key) {
        None => &[],
        Some(node) => node.as_seq().unwrap_or(std::slice::from_ref(node)),
    }
}

fn named(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Named> {
    let node = fields.optional(key)?;
    named_of(node, &format!("`{key}`"), fields.diagnostics)
}

pub(super) fn named_of(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Named> {
    let Some(text) = node.as_str() else {
        diagnostics.push(expected_text(node, &format!("{what} is text")));
        return None;
    };
    Some(Named {
        text: text.to_owned(),
        span: node.span.clone(),
    })
}

/// As one would give it to curl.
pub(crate) fn shown(request: &Request) -> String {
    let Request {
        method,
        scheme,
        authority,
        path,
        headers,
        ..
    } = request;
    let mut text = format!("{method} {scheme}://{authority}{path}");
    for (name, value) in headers {
        text += &format!(" -H '{name}: {value}'");
    }
    text
}
