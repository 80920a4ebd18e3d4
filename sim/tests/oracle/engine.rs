//! Cases in which time matters, as scenarios in the event engine: the endpoints are pods, the client
//! is a pod with a sidecar.

use crate::case::Case;
use crate::golden::Answers;
use proxy_core::telemetry::Flag;
use proxy_core::time::Nanos;
use proxy_core::xds::{Cluster, LbPolicy};
use scenarios::model::ConfigSource;
use scenarios::parse;
use serde_json::Value;
use sim::{Observers, Overrides, Plan};
use source::SourceFile;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// What an endpoint takes beside its scripted delay.
const WORK: Nanos = Nanos(250_000);
const KINDS: [&str; 5] = ["status", "flags", "cluster", "attempts", "endpoint"];
/// After the control plane's first pushes.
const START: Nanos = Nanos::from_secs(5);

/// One batch of requests: when the first and the last may begin, and how many count.
struct Batch {
    from: Nanos,
    until: Nanos,
    requests: usize,
}

/// Whether time, or what happens at the same time, decides anything: endpoints that change, waits,
/// several connections, delays.
pub fn is_timed(case: &Case) -> bool {
    let items = case.spec["phases"]
        .as_array()
        .or(case.spec["requests"].as_array());
    let timed = |item: &Value| {
        item["wait_ms"].is_u64()
            || item["concurrency"].as_u64() > Some(1)
            || item["measure_ms"].is_u64()
    };
    items.is_some_and(|items| items.iter().any(timed))
}

/// Whether picks depend on timing.
pub fn picks_by_timing(case: &Case) -> bool {
    let by_requests =
        |cluster: &Arc<Cluster>| matches!(cluster.lb_policy, LbPolicy::LeastRequest { .. });
    is_timed(case) && case.resources().clusters.iter().any(by_requests)
}

/// What the engine does with each item of the case; `Err`: what a scenario cannot say.
pub fn outcome(case: &Case) -> Result<Vec<Answers>, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&case.name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("pods.yaml"), pods(case)).unwrap();
    let (text, batches) = scenario(case)?;
    let mut diagnostics = Vec::new();
    let scenario = parse(
        &SourceFile::new(&case.name, &text),
        &folder,
        &mut diagnostics,
    );
    let config = case.objects.iter().cloned().map(ConfigSource::Inline);
    let overrides = Overrides {
        config: Some(config.collect()),
        ..Overrides::default()
    };
    let plan = scenario.and_then(|s| Plan::new(&s, overrides, &mut diagnostics));
    let plan = plan.unwrap_or_else(|| panic!("{text}\n{}", source::render(&diagnostics, false)));
    let mut lines: Vec<(Nanos, [String; 5])> = Vec::new();
    let id = |address: std::net::SocketAddr| {
        let mut pods = plan.pods.iter();
        pods.find(|pod| pod.pod.ip == address.ip())
            .unwrap()
            .pod
            .workload
            .to_string()
    };
    let mut see = |line: &sim::LogLine<'_>| {
        if line.proxy != "client-0.default" {
            return;
        }
        let log = line.log;
        let cluster = line.cluster.filter(|_| !log.flags.has(Flag::NC));
        lines.push((
            log.started_at,
            [
                log.status.to_string(),
                log.flags.to_string(),
                cluster.unwrap_or("None").to_owned(),
                log.attempts.to_string(),
                line.endpoint.map_or("None".to_owned(), id),
            ],
        ));
    };
    let observers = Observers {
        access_log: Some(&mut see),
        ..Observers::default()
    };
    sim::event::run(&plan, 1, observers);
    lines.sort_by_key(|(started_at, ..)| *started_at);
    let answers = batches.iter().map(|batch| {
        let mine = lines
            .iter()
            .filter(|(at, ..)| (batch.from..batch.until).contains(at));
        let mut answers = Answers::default();
        for (_, line) in mine.take(batch.requests) {
            for (kind, value) in KINDS.into_iter().zip(line) {
                answers.add(kind, value.clone());
            }
        }
        answers
    });
    Ok(answers.collect())
}

/// Deployments of one pod for each endpoint, their Services, and the client.
fn pods(case: &Case) -> String {
    let mut text = String::new();
    let mut deployment = |name: &str, labels: &Value, locality: &str, sidecar: bool| {
        let mut labels = labels.as_object().cloned().unwrap_or_default();
        labels.insert("sidecar.istio.io/inject".into(), sidecar.to_string().into());
        labels.insert("app".into(), name.into());
        let keys = [
            "topology.kubernetes.io/region",
            "topology.kubernetes.io/zone",
            "topology.istio.io/subzone",
        ];
        let parts = keys
            .iter()
            .zip(locality.split('/'))
            .filter(|(_, part)| !part.is_empty());
        let node: Vec<String> = parts.map(|(key, part)| format!("{key}: {part}")).collect();
        let _ = write!(
            text,
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\n\
             spec:\n  replicas: 1\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {}}}\n    \
             spec: {{nodeSelector: {{{}}}, containers: [{{name: app}}]}}\n---\n",
            Value::Object(labels),
            node.join(", ")
        );
    };
    let proxy = &case.spec["proxy"];
    deployment(
        "client",
        &proxy["labels"],
        proxy["locality"].as_str().unwrap_or(""),
        true,
    );
    for endpoint in &case.endpoints {
        let mut labels = endpoint.entry["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        let host = endpoint.entry["host"].as_str().unwrap_or("shop");
        labels.insert("endpoint-of".into(), host.split('.').next().into());
        let locality = endpoint.entry["locality"].as_str().unwrap_or("");
        deployment(&endpoint.id, &Value::Object(labels), locality, false);
    }
    for service in case.spec["services"].as_array().unwrap() {
        let name = service["host"].as_str().unwrap().split('.').next().unwrap();
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
             spec: {{selector: {{endpoint-of: {name}}}, ports: [{{port: {}, name: http}}]}}\n---\n",
            service["ports"][0]
        );
    }
    text
}

/// The scenario, and when each item's requests begin.
fn scenario(case: &Case) -> Result<(String, Vec<Batch>), String> {
    if case.endpoints.iter().any(|e| e.entry["weight"].is_u64()) {
        return Err("pods have no weights".into());
    }
    let hashes = |cluster: &Arc<Cluster>| {
        matches!(
            cluster.lb_policy,
            LbPolicy::RingHash { .. } | LbPolicy::Maglev { .. }
        )
    };
    if case.resources().clusters.iter().any(hashes) {
        return Err("hashes go by addresses, and pods have their own".into());
    }
    let items = case.spec["phases"]
        .as_array()
        .or(case.spec["requests"].as_array())
        .unwrap();
    let slowest = slowest(case, items);
    let mut behavior = String::new();
    let mut crashed: BTreeMap<&str, bool> = BTreeMap::new();
    let mut timeline = String::new();
    for endpoint in &case.endpoints {
        let does = Does::read(&endpoint.behavior)?;
        crashed.insert(&endpoint.id, false);
        let _ = writeln!(
            behavior,
            "  {}: {{workers: 1000, {}}}",
            endpoint.id,
            does.text()
        );
    }
    let mut traffic = String::new();
    let mut batches = Vec::new();
    let mut now = START;
    for (number, item) in items.iter().enumerate() {
        for (id, script) in item["set"].as_object().into_iter().flatten() {
            let does = Does::read(script)?;
            let was = crashed.get_mut(id.as_str()).unwrap();
            let at = now.as_millis();
            let what = match (*was, does.refuses) {
                (false, true) => format!("crash: {id}, noticed_after: 1h"),
                (true, false) => format!("restart: {id}"),
                (..) => format!("workload: {id}, {}", does.text()),
            };
            *was = does.refuses;
            let _ = writeln!(timeline, "  set-{number}-{id}: {{at: {at}ms, {what}}}");
        }
        if item["set"].is_object() {
            now += Nanos::from_millis(30);
        }
        now += Nanos::from_millis(item["wait_ms"].as_u64().unwrap_or(0));
        let batch = batch(item, now, slowest);
        let path = item["path"].as_str().unwrap_or("/");
        let headers = match &item["headers"] {
            Value::Null => "{}".to_owned(),
            headers => headers.to_string(),
        };
        let users = item["concurrency"].as_u64().unwrap_or(1);
        let load = match users {
            1 => format!(
                "rate: {}/s, arrivals: constant",
                1e9 / gap(item, slowest).0 as f64
            ),
            // Clients take time too; refusals come at once.
            users => format!("users: {users}, think: 100us"),
        };
        let _ = writeln!(
            traffic,
            "  batch-{number}: {{get: 'http://{}{path}', from: client, headers: {headers}, {load}, from_time: {}us, until: {}us}}",
            case.authority(item),
            batch.from.0 / 1000,
            batch.until.0 / 1000
        );
        now = batch.until + gap(item, slowest);
        batches.push(batch);
    }
    let mut text = format!(
        "name: {}\nduration: {}ms\ntopology: [pods.yaml]\nproxies: {{concurrency: 1}}\n\
         network: {{latency: 50us}}\nbehavior:\n{behavior}traffic:\n{traffic}",
        case.name,
        now.as_millis() + 1000
    );
    if !timeline.is_empty() {
        let _ = write!(text, "timeline:\n{timeline}");
    }
    Ok((text, batches))
}

/// The longest that any endpoint ever takes.
fn slowest(case: &Case, items: &[Value]) -> Nanos {
    let sets = items.iter().filter_map(|item| item["set"].as_object());
    let scripts = case
        .endpoints
        .iter()
        .map(|e| &e.behavior)
        .chain(sets.flat_map(|set| set.values()));
    Nanos::from_millis(
        scripts
            .filter_map(|script| script["delay_ms"].as_u64())
            .max()
            .unwrap_or(0),
    )
}

/// Between requests one after the other: faults may delay those that are timed.
fn gap(item: &Value, slowest: Nanos) -> Nanos {
    let timed = item["measure_ms"].is_u64();
    Nanos::from_millis(if timed { 1000 } else { 1 }) + slowest * 3
}

fn batch(item: &Value, from: Nanos, slowest: Nanos) -> Batch {
    let requests = item["requests"]
        .as_u64()
        .or(item["repeat"].as_u64())
        .unwrap_or(1);
    let users = item["concurrency"].as_u64().unwrap_or(1);
    let gap = gap(item, slowest);
    let until = match users {
        // The first comes after one gap.
        1 => from + gap * requests + Nanos(gap.0 / 2),
        _ if users == requests => from + Nanos(101_000),
        // Long enough; what is more does not count.
        _ => {
            from + Nanos::from_millis(200)
                + (Nanos::from_millis(1) + slowest) * (requests / users + 1)
        }
    };
    Batch {
        from,
        until,
        requests: requests as usize,
    }
}

/// A script that pods can follow.
struct Does {
    refuses: bool,
    status: Option<u64>,
    delay: Nanos,
}

impl Does {
    fn read(script: &Value) -> Result<Does, String> {
        let mut does = Does {
            refuses: false,
            status: None,
            delay: Nanos::ZERO,
        };
        for (key, value) in script.as_object().into_iter().flatten() {
            match (key.as_str(), value.as_str()) {
                ("status", _) => does.status = value.as_u64(),
                ("delay_ms", _) => does.delay = Nanos::from_millis(value.as_u64().unwrap()),
                ("mode", Some("refuse")) => does.refuses = true,
                _ => return Err(format!("no pod behaves as {key}: {value}")),
            }
        }
        Ok(does)
    }

    fn text(&self) -> String {
        let status = self.status.unwrap_or(200);
        let time = (WORK + self.delay).0 / 1000;
        let respond = if status == 200 {
            String::new()
        } else {
            format!("{status}: 100%")
        };
        format!("service_time: {time}us, respond: {{{respond}}}")
    }
}
