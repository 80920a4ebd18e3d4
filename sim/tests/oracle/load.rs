//! Cases of many requests, and of keys that are hashed, through one proxy with scripted endpoints.

use crate::case::Case;
use crate::client::{Ask, World};
use crate::golden::Answers;
use crate::routing::{ask, count};
use proxy_core::time::Nanos;
use serde_json::{Value, json};

/// What each phase of the case did, and where each key went.
pub fn outcome(case: &Case) -> (Vec<Answers>, Vec<(String, String)>) {
    let mut world = World::new(case, &case.resources(), 1);
    let mut phases = Vec::new();
    for phase in case.spec["phases"].as_array().into_iter().flatten() {
        if phase["set"].is_object() {
            world.script(case, &phase["set"]);
        }
        world.wait(Nanos::from_millis(phase["wait_ms"].as_u64().unwrap_or(0)));
        let asks = vec![ask(case, phase); phase["requests"].as_u64().unwrap() as usize];
        let answers = world.run(&asks, phase["concurrency"].as_u64().unwrap_or(1) as usize);
        phases.push(count(case, &answers));
    }
    (phases, keys(case, &mut world))
}

fn keys(case: &Case, world: &mut World) -> Vec<(String, String)> {
    let keys = &case.spec["keys"];
    let Some(count) = keys["count"].as_u64() else {
        return Vec::new();
    };
    let (via, name) = keys["via"].as_str().unwrap().split_once(':').unwrap();
    let template = keys["template"].as_str().unwrap();
    let names: Vec<String> = (0..count)
        .map(|n| template.replace("%d", &n.to_string()))
        .collect();
    let asks: Vec<Ask> = names
        .iter()
        .map(|key| {
            let item = match via {
                "header" => json!({ "headers": { name: key } }),
                "cookie" => json!({ "headers": { "cookie": format!("{name}={key}") } }),
                _ => json!({ "path": format!("/?{name}={key}") }),
            };
            ask(case, &item)
        })
        .collect();
    let answers = world.run(&asks, 1);
    let endpoints = answers.iter().map(|a| {
        a.endpoint
            .map_or("none", |address| case.endpoint(address))
            .to_owned()
    });
    names.into_iter().zip(endpoints).collect()
}

/// Keys that went elsewhere, of all.
pub fn wrong_keys(golden: &Value, keys: &[(String, String)]) -> usize {
    keys.iter()
        .filter(|(key, endpoint)| golden["map"][key] != **endpoint)
        .count()
}
