//! What istiod itself answers, recorded, against what this translation answers.
//!
//! `CASE=NAME` narrows it to some cases, `SHOW=1` prints every difference.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod detail;
#[path = "../recorded/mod.rs"]
mod recorded;

use control_plane::{ControlPlane, Objects, PushSettings, Request, Resources, explain};
use serde_json::{Value, json};
use source::{Level, SourceFile};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    if path.join("istiod/cases").exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there", path.display());
    None
}

fn read(path: &Path, objects: &mut Objects) -> Vec<source::Diagnostic> {
    let text = std::fs::read_to_string(path).unwrap();
    let file = SourceFile::new(&path.display().to_string(), &text);
    let mut diagnostics = Vec::new();
    objects.apply(&Objects::read(&file, &mut diagnostics));
    diagnostics
}

#[derive(Default)]
struct Tally {
    http: usize,
    http_right: usize,
    tcp: usize,
    tcp_right: usize,
    routes: usize,
    routes_right: usize,
    resources: usize,
    resources_right: usize,
    differences: BTreeMap<String, usize>,
    examples: Vec<String>,
}

impl Tally {
    /// Whether both say the same; each key that does not is counted.
    fn same(&mut self, what: &str, case: &Path, want: &Value, got: &Value) -> bool {
        let pairs = want.as_object().zip(got.as_object());
        let keys: Vec<String> = match pairs {
            Some((want, got)) => {
                let mut keys = want.keys().filter(|key| want.get(*key) != got.get(*key));
                keys.by_ref().cloned().collect()
            }
            None if want == got => Vec::new(),
            None => vec![String::new()],
        };
        if keys.is_empty() {
            return true;
        }
        for key in &keys {
            let name = format!("{what}: {key}");
            *self.differences.entry(name).or_default() += 1;
        }
        if std::env::var_os("SHOW").is_some() {
            self.examples.push(format!(
                "{} {what} {keys:?}\n  want {want}\n  got  {got}",
                name(case)
            ));
        }
        false
    }

    fn compare_dump(&mut self, case: &Path, dump: &Value, resources: &Resources) {
        let section = |key: &str| {
            let configs = dump["configs"].as_array().unwrap();
            let found = configs.iter().find_map(|config| config[key].as_array());
            found.cloned().unwrap_or_default()
        };
        let none = Value::Null;
        // Recorded without EndpointSlices of the gateway's own Service, and without the tables of
        // headless ports that are detected.
        let left_out = |what: &str, key: &str, want: &Value| {
            let empty = want.as_array().is_some_and(Vec::is_empty);
            (what == "endpoints" && key.contains("istio-ingressgateway"))
                || (what == "table" && empty)
        };
        let mut compare = |what: &str,
                           want: BTreeMap<String, Value>,
                           got: BTreeMap<String, Value>| {
            let keys: std::collections::BTreeSet<&String> = want.keys().chain(got.keys()).collect();
            for key in keys {
                let want = want.get(key).unwrap_or(&none);
                let got = got.get(key).unwrap_or(&none);
                if left_out(what, key, want) {
                    continue;
                }
                self.resources += 1;
                let label = match (want, got) {
                    (Value::Null, _) => format!("{what} too many"),
                    (_, Value::Null) => format!("{what} missing"),
                    _ => what.to_owned(),
                };
                self.resources_right += usize::from(self.same(&label, case, want, got));
            }
        };
        let clusters = section("dynamic_active_clusters");
        let clusters = clusters.iter().map(|c| &c["cluster"]);
        compare(
            "cluster",
            clusters
                .map(|c| (text(c, "name").to_owned(), detail::recorded_cluster(c)))
                .collect(),
            resources
                .clusters
                .iter()
                .map(|c| (c.name.to_string(), detail::our_cluster(c)))
                .collect(),
        );
        let endpoints = section("dynamic_endpoint_configs");
        let endpoints = endpoints.iter().map(|e| &e["endpoint_config"]);
        compare(
            "endpoints",
            endpoints
                .map(|e| {
                    (
                        text(e, "cluster_name").to_owned(),
                        detail::recorded_endpoints(e),
                    )
                })
                .collect(),
            resources
                .endpoints
                .iter()
                .map(|e| (e.cluster.to_string(), detail::our_endpoints(e)))
                .collect(),
        );
        let listeners = section("dynamic_listeners");
        compare(
            "listener",
            listeners
                .iter()
                .map(|l| {
                    (
                        text(&l["active_state"]["listener"], "name").to_owned(),
                        json!(1),
                    )
                })
                .collect(),
            resources
                .listeners
                .iter()
                .map(|l| (l.name.to_string(), json!(1)))
                .collect(),
        );
        let routes = section("dynamic_route_configs");
        compare(
            "table",
            routes.iter().map(|r| table(&r["route_config"])).collect(),
            resources
                .routes
                .iter()
                .map(|t| {
                    let hosts = t.virtual_hosts.iter();
                    (
                        t.name.to_string(),
                        hosts.map(|h| json!([h.name, h.domains])).collect(),
                    )
                })
                .collect(),
        );
    }
}

fn table(config: &Value) -> (String, Value) {
    let hosts = config["virtual_hosts"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let hosts = hosts.iter().map(|h| json!([h["name"], h["domains"]]));
    (text(config, "name").to_owned(), hosts.collect())
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("")
}

fn clusters(value: &Value) -> Vec<(String, u64)> {
    let list = value["clusters"].as_array().cloned().unwrap_or_default();
    list.iter()
        .map(|c| {
            (
                text(c, "name").to_owned(),
                c["weight"].as_u64().unwrap_or(0),
            )
        })
        .collect()
}

/// What differs between a recorded answer and ours.
fn differences(want: &Value, got: &Value) -> Vec<&'static str> {
    let mut found = Vec::new();
    // istiod's own tools count a redirect and an answer by what they do.
    if want["action"] != got["action"] {
        found.push("action");
    }
    if clusters(want) != clusters(got) {
        found.push("clusters");
    }
    for key in ["listener", "virtual_host", "route"] {
        if text(want, key) != text(got, key) {
            found.push(key);
        }
    }
    let status = want["status"].as_u64();
    if status.is_some() && status != got["status"].as_u64() {
        found.push("status");
    }
    found
}

fn run_case(folder: &Path, tally: &mut Tally) {
    let (objects, answers) = recorded::load(folder);
    let pods = objects.pods();
    let mut plane = ControlPlane::new(PushSettings::default(), objects, pods);
    let proxies = answers["proxies"].as_array().unwrap();
    for recorded in proxies {
        // Pods with one name in two namespaces were recorded as the last of them.
        let mut namesakes = proxies.iter().rev();
        let proxy = namesakes.find(|other| other["name"] == recorded["name"]);
        let proxy = proxy.unwrap();
        let identity = recorded::identity(proxy);
        let resources = plane.resources(&identity);
        let dump = folder.join(format!("{}.config_dump.json", text(proxy, "name")));
        if let Ok(text) = std::fs::read_to_string(dump) {
            tally.compare_dump(folder, &serde_json::from_str(&text).unwrap(), &resources);
        }
        for pair in recorded["answers"].as_array().unwrap() {
            let request: Request = request(&pair["request"]);
            let explanation = explain(&resources, &request);
            let got = serde_json::to_value(&explanation).unwrap();
            let different = differences(&pair["answer"], &got);
            if let (Some(route), Some(at), true) = (
                &explanation.matched,
                pair["answer"]["envoy_route"].as_u64(),
                different.is_empty(),
            ) {
                let want = detail::recorded(&answers["routes"][at as usize]);
                tally.routes += 1;
                tally.routes_right +=
                    usize::from(tally.same("route", folder, &want, &detail::ours(route)));
            }
            let http = text(&pair["request"], "protocol") == "http";
            let (all, right) = match http {
                true => (&mut tally.http, &mut tally.http_right),
                false => (&mut tally.tcp, &mut tally.tcp_right),
            };
            *all += 1;
            if different.is_empty() {
                *right += 1;
                continue;
            }
            let key = format!(
                "{} {}",
                text(&pair["request"], "direction"),
                different.join("+")
            );
            *tally.differences.entry(key).or_default() += 1;
            if std::env::var_os("SHOW").is_some() {
                let case = folder.file_name().unwrap().to_string_lossy();
                let mut got = got.clone();
                got["trail"] = Value::Null;
                got["upstream"] = Value::Null;
                tally.examples.push(format!(
                    "{case} {} {}\n  request {}\n  want {}\n  got  {}",
                    identity.name,
                    different.join("+"),
                    pair["request"],
                    pair["answer"],
                    got
                ));
            }
        }
    }
}

fn request(value: &Value) -> Request {
    let mut value = value.clone();
    if let Some(headers) = value["headers"].as_object() {
        value["headers"] = headers
            .iter()
            .map(|(name, value)| serde_json::json!([name, value]))
            .collect();
    }
    serde_json::from_value(value).unwrap()
}

fn cases(shared: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let folder = shared.join("istiod/cases");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut cases: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.retain(|case| wanted(case));
    cases.sort();
    cases
}

fn report(title: &str, cases: usize, tally: &Tally) {
    let share = |right: usize, all: usize| 100.0 * right as f64 / all.max(1) as f64;
    eprintln!(
        "{title}: {cases} configurations, HTTP {}/{} ({:.2} %), TCP {}/{} ({:.2} %)",
        tally.http_right,
        tally.http,
        share(tally.http_right, tally.http),
        tally.tcp_right,
        tally.tcp,
        share(tally.tcp_right, tally.tcp),
    );
    eprintln!(
        "  details of routes {}/{}, resources of config dumps {}/{}",
        tally.routes_right, tally.routes, tally.resources_right, tally.resources
    );
    for (difference, count) in &tally.differences {
        eprintln!("  {count:6} {difference}");
    }
    for example in &tally.examples {
        eprintln!("{example}");
    }
}

fn name(case: &Path) -> String {
    case.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn bookinfo_goes_where_istiod_sends_it() {
    let Some(shared) = shared() else { return };
    let cases = cases(&shared, |case| {
        let name = name(case);
        name.starts_with("bookinfo-") && !name.contains("gwapi")
    });
    let mut tally = Tally::default();
    for case in &cases {
        run_case(case, &mut tally);
    }
    report("Bookinfo", cases.len(), &tally);
    assert!(tally.http > 1000, "only {} requests", tally.http);
    assert_eq!(tally.http_right, tally.http);
    assert_eq!(tally.tcp_right, tally.tcp);
    assert_eq!(tally.routes_right, tally.routes);
    assert_eq!(tally.resources_right, tally.resources);
}

#[test]
fn other_configurations_go_where_istiod_sends_them() {
    let Some(shared) = shared() else { return };
    let only = std::env::var("CASE").unwrap_or_default();
    let others = cases(&shared, |case| name(case).contains(&only));
    let mut tally = Tally::default();
    for case in &others {
        run_case(case, &mut tally);
    }
    report("All cases", others.len(), &tally);
    if only.is_empty() {
        assert!(tally.http > 30_000, "only {} requests", tally.http);
        assert_eq!(tally.http_right, tally.http);
        assert_eq!(tally.tcp_right, tally.tcp);
        assert_eq!(tally.resources_right, tally.resources);
        assert_eq!(tally.routes_right, tally.routes);
    }
}

#[test]
fn bookinfo_loads_unmodified() {
    let Some(shared) = shared() else { return };
    let bookinfo = shared.join("corpus/samples/bookinfo");
    let networking = std::fs::read_dir(bookinfo.join("networking")).unwrap();
    let mut files: Vec<PathBuf> = networking.map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 21);
    files.push(bookinfo.join("platform/kube/bookinfo.yaml"));
    for file in files {
        let mut objects = Objects::default();
        let mut diagnostics = read(&file, &mut objects);
        // One of them has a rule without match before another, of which Istio warns as well.
        diagnostics.retain(|diagnostic| diagnostic.code != Some("IST0130"));
        assert_eq!(
            source::render(&diagnostics, false),
            "",
            "{}",
            file.display()
        );
        assert!(!objects.refs().is_empty());
        assert!(diagnostics.iter().all(|d| d.level < Level::Warning));
    }
}
