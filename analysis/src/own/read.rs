//! Fields of objects as they were written. What is malformed has been reported by validation and
//! counts as absent here.

use control_plane::parse_duration;
use proxy_core::time::Nanos;
use source::{Node, Span};

/// The text at `path`, unless it is empty.
pub(super) fn text<'n>(node: &'n Node, path: &[&str]) -> Option<&'n str> {
    let found = node.at(path).and_then(Node::as_scalar);
    found.filter(|text| !text.is_empty())
}

/// The whole number at `path`.
pub(super) fn count(node: &Node, path: &[&str]) -> Option<u32> {
    text(node, path)?.parse().ok()
}

/// The duration at `path`, and where it stands.
pub(super) fn duration<'n>(node: &'n Node, path: &[&str]) -> Option<(Nanos, &'n Span)> {
    let found = node.at(path)?;
    Some((parse_duration(found.as_str()?)?, &found.span))
}

/// As people write it: `1.5s`, `250ms`.
pub(super) fn span_of(time: Nanos) -> String {
    match time.0 {
        whole if whole % 1_000_000_000 == 0 => format!("{}s", whole / 1_000_000_000),
        long if long > 1_000_000_000 => format!("{}s", long as f64 / 1e9),
        short => format!("{}ms", short as f64 / 1e6),
    }
}
