//! Random AuthorizationPolicies beside a real Envoy: before a workload, and at a gateway. Needs one:
//! MESHSIM_ENVOY, or `envoy` in PATH; skipped aloud otherwise.

#![allow(clippy::unwrap_used)]

use control_plane::{
    ControlPlane, Objects, Pod, PushSettings, Request, RequestDirection, RequestProtocol,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Value, json};
use source::{Level, SourceFile};
use verify::{Config, Settings};

const SETS: u64 = 40;
const REQUESTS: usize = 60;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  clusterIP: 10.8.0.1
  selector: {app: a}
  ports:
  - {name: http, port: 80, targetPort: 8080}
  - {name: tcp, port: 3306, targetPort: 3306}
---
apiVersion: v1
kind: Pod
metadata: {name: a-0, labels: {app: a, security.istio.io/tlsMode: istio}}
spec: {containers: [{name: app}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-0, labels: {istio: edge}}
spec: {containers: [{name: istio-proxy}]}
status: {podIP: 10.9.0.200}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  selector: {istio: edge}
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge}
spec:
  hosts: ["*"]
  gateways: [edge]
  http:
  - fault: {abort: {httpStatus: 418, percentage: {value: 100}}}
    match: [{uri: {prefix: /data}}]
    route: [{destination: {host: a}}]
  - route: [{destination: {host: a}}]
"#;

/// Values of a kind as policies write them, and as requests have them.
const METHODS: (&[&str], &[&str]) = (&["GET", "P*", "*T", "*"], &["GET", "POST", "PUT", "DELETE"]);
const PATHS: (&[&str], &[&str]) = (
    &[
        "/",
        "/info",
        "/info*",
        "*x",
        "*",
        "/data/{*}",
        "/data/{*}/items/{**}",
        "/{**}/x",
        "/{*}/{*}",
        "/data/{**}",
        "/ADMIN",
    ],
    &[
        "/",
        "/info",
        "/info/x",
        "/info?x",
        "/info#x",
        "/data",
        "/data/",
        "/data/1",
        "/data/1/a.b",
        "/data//x",
        "/data/a=b",
        "/data/a*b",
        "/data/a|b",
        "/data/a[b",
        "/data/a]b",
        "/data/a\"b",
        "/data/a<b",
        "/data/a>b",
        "/data/a^b",
        "/data/a`b",
        "/data/a{b}",
        "/data/!$&'()+,;:@~_-.",
        "/data/%20/items/",
        "/data/1/items/2/x",
        "/data/1/items?q",
        "/admin/../info",
        "/ADMIN",
        "/admin",
    ],
);
const HOSTS: (&[&str], &[&str]) = (
    &["a", "A", "*.shop.example", "api.*", "*", "a:8080"],
    &[
        "a",
        "A",
        "a:8080",
        "shop.example",
        "api.SHOP.example",
        "Api.x",
    ],
);
const USERS: (&[&str], &[&str]) = (&["alice", "a*", "*b", "*"], &["", "alice", "Alice", "bob"]);
const NETWORKS: (&[&str], &[&str]) = (
    &[
        "203.0.113.0/24",
        "203.0.113.7",
        "2001:db8::/32",
        "10.9.0.0/16",
        "0.0.0.0/0",
    ],
    &[
        "",
        "203.0.113.7",
        "10.1.2.3, 203.0.113.9",
        "203.0.113.7, garbage",
        "203.0.113.7,",
        "2001:db8::1",
        "203.0.113.7:80",
        "[2001:db8::1]:80",
    ],
);
const PORTS: &[&str] = &["8080", "3306", "9999", "80"];

type Json = BoxedStrategy<Value>;

fn some_of(values: &'static [&'static str]) -> Json {
    proptest::sample::subsequence(values, 1..=values.len().min(3))
        .prop_map(|values| json!(values))
        .boxed()
}

/// An object with some of the fields, at least one.
fn object(fields: Vec<(&'static str, Json)>) -> Json {
    let count = fields.len();
    let chosen =
        proptest::sample::subsequence((0..count).collect::<Vec<usize>>(), 1..=count.min(3));
    let values: Vec<Json> = fields.iter().map(|(_, value)| value.clone()).collect();
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    (chosen, values)
        .prop_map(move |(chosen, values)| {
            let entries = chosen
                .iter()
                .map(|at| (names[*at].to_owned(), values[*at].clone()));
            Value::Object(entries.collect())
        })
        .boxed()
}

fn source() -> Json {
    object(vec![
        ("remoteIpBlocks", some_of(NETWORKS.0)),
        ("notRemoteIpBlocks", some_of(NETWORKS.0)),
        (
            "notPrincipals",
            some_of(&["*", "cluster.local/ns/default/sa/b", "*/b"]),
        ),
        ("notNamespaces", some_of(&["default", "other*"])),
        ("notRequestPrincipals", some_of(&["*", "issuer/alice"])),
        ("notIpBlocks", some_of(&["192.0.2.0/24"])),
        ("namespaces", some_of(&["default"])),
    ])
}

fn operation() -> Json {
    object(vec![
        ("methods", some_of(METHODS.0)),
        ("notMethods", some_of(METHODS.0)),
        ("paths", some_of(PATHS.0)),
        ("notPaths", some_of(PATHS.0)),
        ("hosts", some_of(HOSTS.0)),
        ("notHosts", some_of(HOSTS.0)),
        ("ports", some_of(PORTS)),
        ("notPorts", some_of(PORTS)),
    ])
}

fn condition() -> Json {
    let keyed = |key: &'static str, values: Json| {
        (values, any::<bool>())
            .prop_map(move |(values, not)| match not {
                true => json!({ "key": key, "notValues": values }),
                false => json!({ "key": key, "values": values }),
            })
            .boxed()
    };
    prop_oneof![
        keyed("request.headers[X-User]", some_of(USERS.0)),
        keyed("remote.ip", some_of(NETWORKS.0)),
        keyed("destination.port", some_of(PORTS)),
        keyed(
            "destination.ip",
            some_of(&["10.9.0.1", "10.9.0.200", "127.0.0.0/8"])
        ),
        keyed("connection.sni", some_of(&["*", "x.example"])),
        keyed("request.auth.claims[group]", some_of(&["*", "admin"])),
        keyed(
            "source.principal",
            some_of(&["*", "cluster.local/ns/default/sa/b"])
        ),
        keyed("source.namespace", some_of(&["default"])),
    ]
    .boxed()
}

fn rule() -> Json {
    let list = |key: &'static str, one: Json| {
        proptest::collection::vec(one.prop_map(move |one| json!({ key: one })), 0..3)
    };
    let when = proptest::collection::vec(condition(), 0..3);
    (list("from", source()), list("to", operation()), when)
        .prop_map(|(from, to, when)| {
            let named = |name: &str, items: Vec<Value>| -> Vec<Value> {
                let inner = if name == "from" {
                    "source"
                } else {
                    "operation"
                };
                items
                    .into_iter()
                    .map(|item| json!({ inner: item[name] }))
                    .collect()
            };
            let mut rule = json!({});
            for (name, items) in [
                ("from", named("from", from)),
                ("to", named("to", to)),
                ("when", when),
            ] {
                if !items.is_empty() {
                    rule[name] = json!(items);
                }
            }
            rule
        })
        .boxed()
}

fn policies() -> BoxedStrategy<Vec<Value>> {
    let policy = (
        proptest::sample::select(vec!["ALLOW", "ALLOW", "DENY"]),
        proptest::collection::vec(rule(), 0..4),
        proptest::sample::select(vec![
            json!({}),
            json!({"selector": {"matchLabels": {"app": "a"}}}),
        ]),
    );
    proptest::collection::vec(policy, 1..4)
        .prop_map(|policies| {
            let numbered = policies.into_iter().enumerate();
            let made = numbered.map(|(number, (action, rules, mut spec))| {
                spec["action"] = json!(action);
                if !rules.is_empty() {
                    spec["rules"] = json!(rules);
                } else if action == "DENY" {
                    spec["rules"] = json!([{}]);
                }
                json!({
                    "apiVersion": "security.istio.io/v1",
                    "kind": "AuthorizationPolicy",
                    "metadata": { "name": format!("policy-{number}") },
                    "spec": spec,
                })
            });
            made.collect()
        })
        .boxed()
}

fn request(pod: &Pod) -> BoxedStrategy<Request> {
    let select = |values: &'static [&'static str]| proptest::sample::select(values);
    let ip = pod.ip;
    let gateway = &*pod.name == "edge-0";
    let ports = if gateway {
        vec![8080]
    } else {
        vec![8080, 8080, 8080, 9999, 3306]
    };
    (
        select(METHODS.1),
        select(PATHS.1),
        select(HOSTS.1),
        select(USERS.1),
        select(NETWORKS.1),
        proptest::sample::select(ports),
    )
        .prop_map(move |(method, path, host, user, forwarded, port)| {
            let headers = [("x-user", user), ("x-forwarded-for", forwarded)];
            let headers = headers.into_iter().filter(|(_, value)| !value.is_empty());
            Request {
                method: method.into(),
                path: path.into(),
                authority: host.into(),
                headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                address: Some((ip, port).into()),
                protocol: match port {
                    3306 => RequestProtocol::Tcp,
                    _ => RequestProtocol::Http,
                },
                direction: Some(match gateway {
                    true => RequestDirection::Gateway,
                    false => RequestDirection::Inbound,
                }),
                ..Request::default()
            }
        })
        .boxed()
}

/// The configurations of set number `number`, always the same.
fn set(number: u64) -> (String, Vec<Config>) {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(Default::default(), rng);
    let policies = policies().new_tree(&mut runner).unwrap().current();
    let texts: Vec<String> = policies.iter().map(ToString::to_string).collect();
    let text = texts.join("\n---\n");
    let file = SourceFile::new(&format!("set-{number}"), &format!("{MESH}\n---\n{text}"));
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&file, &mut diagnostics);
    diagnostics.retain(|one| one.level == Level::Error);
    assert_eq!(source::render(&diagnostics, false), "");
    let pods = objects.pods();
    let configs = pods.iter().map(|pod| {
        let proxy = pod.identity();
        let requests = (0..REQUESTS).map(|_| request(pod).new_tree(&mut runner).unwrap().current());
        let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods.clone());
        Config {
            name: format!("set-{number}, {}", proxy.name),
            resources: plane.resources(&proxy),
            requests: requests.collect(),
            proxy,
        }
    });
    (text, configs.collect())
}

#[test]
fn policies_decide_as_a_real_envoy_does() {
    let Some(envoy) = verify::find_envoy() else {
        println!("SKIPPED: {}", verify::HOW_TO_GET);
        return;
    };
    let sets: Vec<(String, Vec<Config>)> = (0..SETS).map(set).collect();
    let configs: Vec<Config> = sets
        .iter()
        .flat_map(|(_, configs)| configs.clone())
        .collect();
    let settings = Settings {
        sample_size: 0,
        ..Settings::new(envoy)
    };
    let report = verify::configs(&configs, &settings).unwrap();
    println!("{report}");
    for (number, (text, _)) in sets.iter().enumerate() {
        let named = format!("set-{number},");
        if report
            .differences
            .iter()
            .any(|one| format!("{one:?}").contains(&named))
        {
            println!("# set {number}\n{text}");
        }
    }
    assert!(report.agrees());
    let answers = |details: &str| {
        configs
            .iter()
            .flat_map(|c| c.requests.iter().map(move |r| (c, r)))
            .filter(|(c, r)| {
                let answer = control_plane::explain(&c.resources, r);
                answer.details.is_some_and(|d| d.starts_with(details))
            })
            .count()
    };
    // Enough of each.
    let denied = answers("rbac_access_denied_matched_policy[ns");
    let not_allowed = answers("rbac_access_denied_matched_policy[none");
    println!("{denied} denied by a policy, {not_allowed} allowed by none");
    assert!(denied > 200 && not_allowed > 200);
}
