//! A YAML tree as JSON, for tests of several crates.

use serde_json::Value;
use source::Node;

pub(crate) fn json_of(node: &Node) -> Value {
    match &node.value {
        source::Value::Null => Value::Null,
        source::Value::Bool(value) => (*value).into(),
        source::Value::Int(value) => (*value).into(),
        source::Value::Float(value) => (*value).into(),
        source::Value::String(text) => text.as_str().into(),
        source::Value::Seq(items) => items.iter().map(json_of).collect(),
        source::Value::Map(map) => {
            let entries = map.entries.iter();
            let entries = entries.map(|entry| (entry.key.clone(), json_of(&entry.value)));
            Value::Object(entries.collect())
        }
    }
}
