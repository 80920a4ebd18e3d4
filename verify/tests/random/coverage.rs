//! Which fields of the rules a set has.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Everything of VirtualServices (`vs`) and DestinationRules (`dr`, `policy` wherever one stands) that
/// is supported: `several` and `present` are ways to use a field, words after a field its values.
const FIELDS: &str = include_str!("fields.txt");

/// In so many sets, percent.
const LEAST: f64 = 5.0;

/// In which share of the sets each field is; and what is wrong with that.
pub fn table(sets: &[Vec<Value>]) -> (String, Vec<String>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for field in sets.iter().flat_map(|set| fields(set)) {
        *counts.entry(field).or_default() += 1;
    }
    let (mut table, mut wrong) = (String::new(), Vec::new());
    for field in FIELDS.lines() {
        let count = counts.remove(field).unwrap_or_default();
        let percent = count as f64 / sets.len() as f64 * 100.0;
        table += &format!("{field:<64} {percent:>5.1} %\n");
        if percent < LEAST {
            wrong.push(format!("{field} is in {percent:.1} % of the sets"));
        }
    }
    wrong.extend(counts.keys().map(|field| format!("{field} is not listed")));
    (table, wrong)
}

fn fields(objects: &[Value]) -> BTreeSet<String> {
    let mut fields = BTreeSet::new();
    for object in objects {
        match object["kind"].as_str() {
            Some("VirtualService") => collect(&object["spec"], "vs", &mut fields),
            Some("DestinationRule") => collect(&object["spec"], "dr", &mut fields),
            _ => {}
        }
    }
    fields
}

fn collect(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    let Value::Object(members) = value else {
        let items = value.as_array().into_iter().flatten();
        return items.for_each(|item| collect(item, path, fields));
    };
    for (key, member) in members {
        let own = format!("{path}.{key}");
        if member.as_array().is_some_and(|items| items.len() > 1) {
            fields.insert(format!("{own} several"));
        }
        match key.as_str() {
            "trafficPolicy" | "portLevelSettings" => collect(member, "policy", fields),
            "headers" | "withoutHeaders" | "queryParams" if path.ends_with(".match") => {
                for condition in members_of(member).values() {
                    if *condition == Value::Object(Default::default()) {
                        fields.insert(format!("{own} present"));
                    }
                    collect(condition, &own, fields);
                }
            }
            "set" => {
                let authority = ["host", ":authority"];
                let names = authority
                    .iter()
                    .filter(|n| members_of(member).contains_key(**n));
                fields.extend(names.map(|name| format!("{own} {name}")));
            }
            // Their members are named by the user.
            "add" | "labels" | "sourceLabels" | "matchLabels" => {}
            "to" if member.is_object() => {}
            "simple" | "h2UpgradePolicy" | "derivePort" | "mode" => {
                fields.insert(format!("{own} {}", member.as_str().unwrap_or_default()));
            }
            "weight" if *member == 0 => {
                fields.insert(format!("{own} 0"));
            }
            _ => collect(member, &own, fields),
        }
        fields.insert(own);
    }
}

fn members_of(value: &Value) -> &serde_json::Map<String, Value> {
    static NONE: std::sync::LazyLock<serde_json::Map<String, Value>> =
        std::sync::LazyLock::new(Default::default);
    value.as_object().unwrap_or(&NONE)
}
