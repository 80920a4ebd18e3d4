//! Values of YAML in one line.

use source::{Node, Value};

/// In one line as one would write it; of a long value the beginning.
pub(crate) fn brief(node: &Node) -> String {
    const LENGTH_MAX: usize = 120;
    let text = in_one_line(node);
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The same in full.
pub(crate) fn in_one_line(node: &Node) -> String {
    match &node.value {
        Value::Seq(items) => {
            let items: Vec<String> = items.iter().map(in_one_line).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let entries = map.entries.iter();
            let entries =
                entries.map(|entry| format!("{}: {}", entry.key, in_one_line(&entry.value)));
            format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
        }
        Value::Null => "null".to_owned(),
        _ => node.as_scalar().unwrap_or_default().to_owned(),
    }
}
