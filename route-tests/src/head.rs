//! Request heads.

use control_plane::Request;
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::xds::Name;

/// The head of a request, as it is.
pub(crate) fn of(request: &Request) -> RequestHead {
    let lines = request.headers.iter().map(|(name, value)| {
        let name = Name::from(name.to_ascii_lowercase());
        (name, HeaderText::new(value.as_bytes()))
    });
    RequestHead {
        method: request.method.as_str().into(),
        scheme: request.scheme.as_str().into(),
        authority: request.authority.as_str().into(),
        path: request.path.as_str().into(),
        headers: Headers(lines.collect()),
        id: None,
    }
}
