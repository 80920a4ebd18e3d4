//! Which fields of the rules a set has.

use serde_json::Value;
use std::collections::BTreeSet;

/// Of a policy, wherever it stands; and of a condition on text, wherever it stands.
const POLICIES: [&str; 2] = ["trafficPolicy", "portLevelSettings"];

/// The fields of `objects` that are VirtualServices and DestinationRules.
pub fn fields(objects: &[Value]) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for object in objects {
        let short = match object["kind"].as_str() {
            Some("VirtualService") => "vs",
            Some("DestinationRule") => "dr",
            _ => continue,
        };
        collect(&object["spec"], short, &mut fields);
    }
    fields
}

fn collect(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, path, fields)),
        Value::Object(members) => {
            for (key, member) in members {
                let own = format!("{path}.{key}");
                match kind(path, key) {
                    Kind::Field => {
                        collect(member, &own, fields);
                        fields.insert(own);
                    }
                    Kind::Policy => {
                        collect(member, "policy", fields);
                        fields.insert(own);
                    }
                    Kind::Names => {
                        let inner = members_of(member);
                        inner.for_each(|one| collect(one, &own, fields));
                        if member.as_object().is_some_and(|m| m.values().any(is_empty)) {
                            fields.insert(format!("{own} present"));
                        }
                        fields.insert(own);
                    }
                    Kind::Choice => {
                        let chosen = member.as_str().unwrap_or_default();
                        fields.insert(format!("{own} {chosen}"));
                    }
                }
            }
        }
        _ => {}
    }
}

enum Kind {
    Field,
    Policy,
    /// Its members' names are the user's.
    Names,
    /// Its values are few, and differ.
    Choice,
}

fn kind(path: &str, key: &str) -> Kind {
    match key {
        _ if POLICIES.contains(&key) => Kind::Policy,
        "headers" | "withoutHeaders" | "queryParams" if path.ends_with(".match") => Kind::Names,
        "set" | "add" | "labels" | "sourceLabels" | "matchLabels" | "to" if path != "vs" => {
            Kind::Names
        }
        "simple" | "h2UpgradePolicy" | "derivePort" | "mode" => Kind::Choice,
        _ => Kind::Field,
    }
}

fn members_of(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_object().into_iter().flat_map(|map| map.values())
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty)
}
