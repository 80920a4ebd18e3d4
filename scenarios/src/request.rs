//! Requests as they are written: `get: http://host:port/path`, and their headers.

use crate::fields::{entries, exactly_one};
use crate::model::Named;
use http::{HeaderName, HeaderValue, Uri};
use source::fields::expected;
use source::{Diagnostic, Fields, Node};

/// The keys that name a method, and the methods.
pub(crate) const METHODS: [(&str, &str); 7] = [
    ("get", "GET"),
    ("head", "HEAD"),
    ("post", "POST"),
    ("put", "PUT"),
    ("patch", "PATCH"),
    ("delete", "DELETE"),
    ("options", "OPTIONS"),
];

/// A request line.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: Named,
    pub(crate) scheme: String,
    /// Without the port.
    pub(crate) host: String,
    /// Host, with the port if one was written.
    pub(crate) authority: String,
    pub(crate) port: u16,
    /// With query.
    pub(crate) path: String,
}

/// The one request among `fields`.
pub(crate) fn request(fields: &mut Fields<'_, '_>, what: &'static str) -> Option<Request> {
    let key = exactly_one(fields, what, &METHODS.map(|(key, _)| key))?;
    let method = METHODS
        .iter()
        .find(|(k, _)| *k == key)
        .map(|(_, method)| *method)?;
    let node = fields.required(key)?;
    target(method, node, fields.diagnostics)
}

fn target(method: &str, node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Request> {
    let want = "a request goes to `host:port/path` or `http://host:port/path`";
    let Some(text) = node.as_scalar() else {
        diagnostics.push(expected(node, want));
        return None;
    };
    match read_target(text) {
        Ok((uri, port)) => {
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            Some(Request {
                method: method.to_owned(),
                target: Named {
                    text: text.to_owned(),
                    span: node.span.clone(),
                },
                scheme: uri.scheme_str().unwrap_or("http").to_owned(),
                host: uri.host().unwrap_or_default().to_owned(),
                authority: uri.authority().map_or("", |a| a.as_str()).to_owned(),
                port,
                path: if path.starts_with('/') {
                    path.to_owned()
                } else {
                    format!("/{path}")
                },
            })
        }
        Err(label) => {
            diagnostics.push(Diagnostic::error(want).at(&node.span, label));
            None
        }
    }
}

fn read_target(text: &str) -> Result<(Uri, u16), String> {
    if text.contains('#') {
        return Err("what follows `#` is never sent".to_owned());
    }
    let whole = if text.contains("://") {
        text.to_owned()
    } else {
        format!("http://{text}")
    };
    let uri: Uri = whole
        .parse()
        .map_err(|error: http::uri::InvalidUri| error.to_string())?;
    let default_port = match uri.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        _ => return Err("neither `http` nor `https`".to_owned()),
    };
    let authority = uri.authority().map_or("", |a| a.as_str());
    if authority.contains('@') {
        return Err("a user name has no meaning here".to_owned());
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err("the host is missing".to_owned());
    }
    let written = authority
        .rsplit(']')
        .next()
        .is_some_and(|end| end.contains(':'));
    let port = match uri.port_u16() {
        Some(port) if port > 0 => port,
        None if !written => default_port,
        _ => return Err("the port is not a number from 1 to 65535".to_owned()),
    };
    Ok((uri, port))
}

/// Header names, in lower case, and values.
pub(crate) fn headers(
    node: &Node,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for entry in entries(node, what, diagnostics) {
        let name = header_name(&entry.key);
        if let Err(label) = &name {
            diagnostics.push(Diagnostic::error("not a request header").at(&entry.key_span, *label));
        }
        let value = entry.value.as_scalar();
        let value = value.filter(|text| HeaderValue::from_str(text).is_ok());
        if value.is_none() {
            let want = format!("header `{}` is text on one line", entry.key);
            diagnostics.push(expected(&entry.value, &want));
        }
        if let (Ok(name), Some(value)) = (name, value) {
            headers.push((name, value.to_owned()));
        }
    }
    Some(headers)
}

/// The name of a header in lower case, or why it cannot be set.
pub(crate) fn header_name(text: &str) -> Result<String, &'static str> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) if name == http::header::HOST => {
            Err("the host is written in the request's target")
        }
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err("not a header name"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let read = |text: &str| {
            read_target(text).map(|(uri, port)| {
                let path = uri
                    .path_and_query()
                    .map_or("", |path| path.as_str())
                    .to_owned();
                (
                    uri.authority().map_or("", |a| a.as_str()).to_owned(),
                    port,
                    path,
                )
            })
        };
        let is =
            |authority: &str, port, path: &str| Ok((authority.to_owned(), port, path.to_owned()));
        assert_eq!(
            read("details:9080/details/0"),
            is("details:9080", 9080, "/details/0")
        );
        assert_eq!(read("details"), is("details", 80, "/"));
        assert_eq!(
            read("https://a.example/x?y=z"),
            is("a.example", 443, "/x?y=z")
        );
        assert_eq!(read("[::1]:81/x"), is("[::1]:81", 81, "/x"));
        assert_eq!(read("[::1]/x"), is("[::1]", 80, "/x"));
        for wrong in [
            "",
            "/x",
            "a:b/x",
            "a:0",
            "a:99999",
            "ftp://a/x",
            "u@a/x",
            "a/x#y",
            "a b",
        ] {
            assert!(read_target(wrong).is_err(), "{wrong}");
        }
    }
}
