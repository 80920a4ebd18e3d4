//! Values of raw objects. What is absent, or of another type, reads as Istio and Kubernetes default it:
//! empty, zero, false.

use source::node::Entry;
use source::{Node, Value};

/// The value at `path`, unless it is null.
pub(crate) fn present<'n>(node: &'n Node, path: &[&str]) -> Option<&'n Node> {
    node.at(path).filter(|node| node.value != Value::Null)
}

/// The scalar at `path`, as written.
pub(crate) fn text<'n>(node: &'n Node, path: &[&str]) -> &'n str {
    node.at(path).and_then(Node::as_scalar).unwrap_or_default()
}

/// The whole number at `path`.
pub(crate) fn number(node: &Node, path: &[&str]) -> i64 {
    match node.at(path).map(|node| &node.value) {
        Some(Value::Int(number)) => *number,
        _ => 0,
    }
}

/// The boolean at `path`.
pub(crate) fn is_true(node: &Node, path: &[&str]) -> bool {
    node.at(path).and_then(Node::as_bool) == Some(true)
}

/// The items of the list at `path`.
pub(crate) fn items<'n>(node: &'n Node, path: &[&str]) -> &'n [Node] {
    node.at(path).and_then(Node::as_seq).unwrap_or_default()
}

/// The scalars of the list at `path`.
pub(crate) fn texts<'n>(node: &'n Node, path: &[&str]) -> Vec<&'n str> {
    let items = items(node, path).iter();
    items.filter_map(Node::as_scalar).collect()
}

/// The entries of the map at `path`.
pub(crate) fn entries<'n>(node: &'n Node, path: &[&str]) -> &'n [Entry] {
    let map = node.at(path).and_then(Node::as_map);
    map.map_or(&[], |map| &map.entries)
}

/// The value of `key` among `entries`.
pub(crate) fn value_of<'n>(entries: &'n [Entry], key: &str) -> Option<&'n str> {
    let entry = entries.iter().find(|entry| entry.key == key)?;
    entry.value.as_scalar()
}
