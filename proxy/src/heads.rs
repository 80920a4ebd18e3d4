//! Heads between hyper and the core.
//!
//! Headers that belong to one connection (RFC 9110 section 7.6.1) stay on it. Lines that HTTP/1
//! cannot carry, which only a configured header change can bring in, are left out.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri, Version};
use proxy_core::head::{HeaderText, Headers, RequestHead, ResponseHead};
use proxy_core::xds::Name;
use std::net::IpAddr;
use xxhash_rust::xxh64::xxh64;

/// What carries the key of a request from proxy to proxy.
const REQUEST_ID: &str = "x-request-id";
/// Envoy's count of tries, sent upstream where a virtual host asks for it.
const ATTEMPT_COUNT: HeaderName = HeaderName::from_static("x-envoy-attempt-count");
const EXPECTED_TIMEOUT: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const INTERNAL: HeaderName = HeaderName::from_static("x-envoy-internal");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// `expect` is answered on the connection too: hyper sends `100 Continue` itself.
const OF_ONE_CONNECTION: [&str; 7] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// The head of a request as the core sees it. `None`: a request that no proxy can route (`CONNECT`,
/// or no host).
pub(crate) fn request_head(parts: &http::request::Parts, tls: bool) -> Option<RequestHead> {
    let host = || {
        let host = parts.headers.get(header::HOST)?;
        host.to_str().ok()
    };
    let authority = match parts.uri.authority() {
        Some(authority) => authority.as_str(),
        None => host()?,
    };
    let path = parts.uri.path_and_query()?;
    let mut headers = end_to_end(&parts.headers);
    headers.remove("host");
    if accepts_trailers(&parts.headers) {
        headers.append("te".into(), b"trailers");
    }
    Some(RequestHead {
        method: parts.method.as_str().into(),
        scheme: if tls { "https" } else { "http" }.into(),
        authority: authority.into(),
        path: path.as_str().into(),
        headers,
        id: None,
    })
}

/// The key of a request: its `x-request-id` as hexadecimal number, or a hash of it. A request
/// without one gets `otherwise`, and carries it from here on.
pub(crate) fn key(head: &mut RequestHead, otherwise: u64) -> u64 {
    let Some(id) = head.headers.get(REQUEST_ID) else {
        head.headers
            .append(REQUEST_ID.into(), id_of(otherwise).as_bytes());
        return otherwise;
    };
    let number = std::str::from_utf8(id)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok());
    number.unwrap_or_else(|| xxh64(id, 0))
}

fn id_of(key: u64) -> String {
    format!("{key:016x}")
}

/// The head of a response as the core sees it.
pub(crate) fn response_head(parts: &http::response::Parts) -> ResponseHead {
    ResponseHead {
        status: parts.status.as_u16(),
        headers: end_to_end(&parts.headers),
    }
}

/// Whether the peer closes the connection after this response.
pub(crate) fn closes(parts: &http::response::Parts) -> bool {
    let says = |want: &str| connection_tokens(&parts.headers).any(|token| token == want);
    says("close") || (parts.version == Version::HTTP_10 && !says("keep-alive"))
}

/// What an attempt says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Announced {
    pub(crate) ordinal: Option<u32>,
    pub(crate) expected_timeout_ms: Option<u64>,
    pub(crate) grpc_timeout_ms: Option<u64>,
    /// It is a mirror, of the proxy at this address.
    pub(crate) mirrored_by: Option<IpAddr>,
}

/// The request to send upstream, with a key of its own if there is one; `None` if HTTP/1 cannot
/// carry its path or authority.
pub(crate) fn to_request<B>(
    head: &RequestHead,
    announced: Announced,
    key: Option<u64>,
    body: B,
) -> Option<http::Request<B>> {
    let mut request = http::Request::new(body);
    *request.method_mut() = head.method.parse().ok()?;
    *request.uri_mut() = Uri::try_from(&*head.path).ok()?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(&head.authority).ok()?);
    fill(headers, &head.headers);
    if let Some(ordinal) = announced.ordinal {
        headers.insert(ATTEMPT_COUNT, ordinal.into());
    }
    if let Some(millis) = announced.expected_timeout_ms {
        headers.insert(EXPECTED_TIMEOUT, millis.into());
    }
    if let Some(millis) = announced.grpc_timeout_ms {
        let timeout = HeaderValue::from_str(&format!("{millis}m"));
        headers.insert(GRPC_TIMEOUT, timeout.ok()?);
    }
    if let Some(address) = announced.mirrored_by {
        headers.insert(INTERNAL, HeaderValue::from_static("true"));
        let before = headers.get_all(FORWARDED_FOR).iter();
        let mut path: Vec<&[u8]> = before.map(HeaderValue::as_bytes).collect();
        let address = address.to_string();
        path.push(address.as_bytes());
        let path = HeaderValue::from_bytes(&path.join(&b","[..]));
        headers.insert(FORWARDED_FOR, path.ok()?);
    }
    if let Some(key) = key {
        headers.insert(REQUEST_ID, HeaderValue::from_str(&id_of(key)).ok()?);
    }
    Some(request)
}

/// The response to send downstream; a status that HTTP cannot carry becomes 500.
pub(crate) fn to_response<B>(head: &ResponseHead, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(head.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    fill(response.headers_mut(), &head.headers);
    response
}

fn fill(map: &mut HeaderMap, headers: &Headers) {
    for (name, value) in &headers.0 {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.as_bytes());
        if let (Ok(name), Ok(value)) = (name, value) {
            map.append(name, value);
        }
    }
}

fn end_to_end(map: &HeaderMap) -> Headers {
    let named: Vec<String> = connection_tokens(map).collect();
    let stays = |name: &str| OF_ONE_CONNECTION.contains(&name) || named.iter().any(|n| n == name);
    let lines = map
        .iter()
        .filter(|(name, _)| !stays(name.as_str()))
        .map(|(name, value)| (Name::from(name.as_str()), HeaderText::new(value.as_bytes())));
    Headers(lines.collect())
}

/// Of `te` nothing else goes on upstream (Envoy `sanitizeTEHeader`).
fn accepts_trailers(map: &HeaderMap) -> bool {
    tokens(map, header::TE).any(|token| token == "trailers")
}

fn connection_tokens(map: &HeaderMap) -> impl Iterator<Item = String> {
    tokens(map, header::CONNECTION)
}

fn tokens(map: &HeaderMap, name: HeaderName) -> impl Iterator<Item = String> {
    map.get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|token| token.trim().to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(request: http::request::Builder) -> http::request::Parts {
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_belongs_to_one_connection_stays_on_it() {
        let parts = parts(
            http::Request::get("/a?b=c")
                .header("host", "reviews:9080")
                .header("connection", "keep-alive, X-Hop")
                .header("x-hop", "1")
                .header("te", "gzip, trailers")
                .header("transfer-encoding", "chunked")
                .header("x-kept", "1"),
        );
        let head = request_head(&parts, false).unwrap();
        assert_eq!(&*head.authority, "reviews:9080");
        assert_eq!(&*head.path, "/a?b=c");
        assert_eq!(&*head.scheme, "http");
        let names: Vec<&str> = head.headers.0.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["x-kept", "te"]);
        assert_eq!(head.headers.get("te"), Some(&b"trailers"[..]));
    }

    #[test]
    fn a_request_without_host_or_path_is_not_for_the_core() {
        assert_eq!(request_head(&parts(http::Request::get("/")), false), None);
        let connect = parts(http::Request::connect("reviews:9080"));
        assert_eq!(request_head(&connect, false), None);
    }

    #[test]
    fn a_mirror_tells_whose_it_is() {
        let request = http::Request::get("/").header("host", "a");
        let parts = parts(request.header("x-forwarded-for", "192.0.2.1"));
        let head = request_head(&parts, false).unwrap();
        let announced = Announced {
            mirrored_by: Some("10.0.0.1".parse().unwrap()),
            ..Announced::default()
        };
        let sent = to_request(&head, announced, None, ()).unwrap();
        assert_eq!(sent.headers()["x-envoy-internal"], "true");
        assert_eq!(sent.headers()["x-forwarded-for"], "192.0.2.1,10.0.0.1");
    }

    #[test]
    fn the_key_is_the_request_id() {
        let with_id = |id: &str| {
            let request = http::Request::get("/").header("host", "a");
            let mut head = request_head(&parts(request.header("x-request-id", id)), false).unwrap();
            let key = key(&mut head, 7);
            assert_eq!(head.headers.get("x-request-id"), Some(id.as_bytes()));
            key
        };
        assert_eq!(with_id("00000000000000ff"), 255);
        assert_eq!(with_id("not hex"), xxh64(b"not hex", 0));
        let bare = http::Request::get("/").header("host", "a");
        let mut head = request_head(&parts(bare), false).unwrap();
        assert_eq!(key(&mut head, 7), 7);
        assert_eq!(
            head.headers.get("x-request-id"),
            Some(b"0000000000000007".as_slice())
        );
    }

    #[test]
    fn a_response_may_end_its_connection() {
        let of = |version, connection: Option<&str>| {
            let mut response = http::Response::builder().version(version);
            if let Some(connection) = connection {
                response = response.header("connection", connection);
            }
            closes(&response.body(()).unwrap().into_parts().0)
        };
        assert!(!of(Version::HTTP_11, None));
        assert!(of(Version::HTTP_11, Some("Close")));
        assert!(of(Version::HTTP_10, None));
        assert!(!of(Version::HTTP_10, Some("keep-alive")));
    }
}
