//! Random rule sets in which some matches are covered by earlier ones on purpose, and what is claimed
//! of their matches.

use control_plane::{
    ControlPlane, HttpRuleMatch, Objects, PushSettings, Request, Resources, http_rules,
};
use request_set::{Authorities, Condition, Domain, Given, Reach, Witness, reach};
use serde_json::{Value, json};
use source::{Level, SourceFile};
use std::net::SocketAddr;

const MESH: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  clusterIP: 10.8.0.1
  selector: {app: reviews}
  ports: [{name: http, port: 80}, {name: http-b, port: 8080}, {name: http-c, port: 9080}]
---
apiVersion: v1
kind: Pod
metadata: {name: a, labels: {app: a}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
status: {podIP: 10.9.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: b, labels: {app: b}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
status: {podIP: 10.9.0.2}
---
apiVersion: v1
kind: Pod
metadata: {name: c, labels: {app: c}}
spec: {containers: [{name: app}, {name: istio-proxy}]}
status: {podIP: 10.9.0.3}
"#;

pub const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
pub const HEADERS: [&str; 3] = ["end-user", "x-canary", "x-tenant"];
pub const VALUES: [&str; 8] = ["a", "ab", "abc", "b", "bc", "1", "12", "a1"];
pub const QUERY: [&str; 2] = ["v", "page"];
pub const PATHS: [&str; 14] = [
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/a/b/c",
    "/ab",
    "/abc",
    "/b",
    "/b/1",
    "/v1",
    "/v2/x",
    "/v10/x",
    "/A/b",
    "/a/b.html",
];
const PREFIXES: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/ab", "/b", "/v", "/v1"];
const PATH_REGEXES: [&str; 10] = [
    "/.*",
    "/a.*",
    "/v[0-9]+(/.*)?",
    "/v[0-9]/x",
    "/a/[^/]+",
    "/(a|b)(/.*)?",
    ".*b.*",
    "(?i)/a/.*",
    "/[a-z]+",
    ".*[.]html",
];
const VALUE_REGEXES: [&str; 7] = ["a.*", ".*", ".+", "[ab]+", "[0-9]*", "(a|ab)c?", ".*[0-9]"];

/// A stream of choices: SplitMix64.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ mixed >> 31) % bound as u64) as usize
    }

    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    pub fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }
}

/// One rule set.
pub struct Set {
    pub text: String,
    pub file: std::sync::Arc<SourceFile>,
    pub objects: Objects,
    /// Of the proxy of each pod.
    pub resources: Vec<Resources>,
    /// The rules that are covered, by the status that they answer.
    pub planted: Vec<u16>,
}

/// A value of a header or parameter, or a method.
fn value(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 => json!({ "prefix": dice.of(&VALUES) }),
        1 => json!({ "regex": dice.of(&VALUE_REGEXES) }),
        2 => json!({}),
        _ => json!({ "exact": dice.of(&VALUES) }),
    }
}

fn path(dice: &mut Dice) -> Value {
    match dice.below(4) {
        0 => json!({ "exact": dice.of(&PATHS) }),
        1 => json!({ "regex": dice.of(&PATH_REGEXES) }),
        _ => json!({ "prefix": dice.of(&PREFIXES) }),
    }
}

fn one(dice: &mut Dice) -> Value {
    let mut one = json!({ "uri": path(dice) });
    if dice.percent(20) && one["uri"].get("regex").is_none() {
        one["ignoreUriCase"] = json!(true);
    }
    if dice.percent(25) {
        one["method"] = json!({ "exact": dice.of(&METHODS) });
    }
    if dice.percent(10) {
        one["method"] = json!({ "regex": "GET|P.*" });
    }
    for (key, names, share) in [
        ("headers", &HEADERS[..], 40),
        ("withoutHeaders", &HEADERS[..], 15),
        ("queryParams", &QUERY[..], 20),
    ] {
        if dice.percent(share) {
            one[key] = json!({ dice.of(names): value(dice) });
        }
    }
    if dice.percent(10) {
        one["port"] = json!(dice.of(&[80, 8080]));
    }
    if dice.percent(10) {
        one["sourceLabels"] = json!({ "app": dice.of(&["a", "b"]) });
    }
    if dice.percent(5) {
        one["authority"] = json!({ "exact": "reviews" });
    }
    one
}

/// A match that asks for all that `wide` does, and more.
fn narrower(dice: &mut Dice, wide: &Value) -> Value {
    let mut narrow = wide.clone();
    let prefix = wide["uri"]["prefix"].as_str();
    if let Some(prefix) = prefix.filter(|_| dice.percent(70)) {
        let more = dice.of(&["", "x", "/x", "/1.html"]);
        let how = dice.of(&["exact", "prefix"]);
        narrow["uri"] = json!({ how: format!("{prefix}{more}") });
    }
    for key in ["headers", "queryParams"] {
        let Some(all) = narrow.get_mut(key).and_then(Value::as_object_mut) else {
            continue;
        };
        for wanted in all.values_mut() {
            if let Some(prefix) = wanted["prefix"].as_str() {
                *wanted = json!({ "exact": format!("{prefix}{}", dice.of(&["", "x", "9"])) });
            } else if wanted == &json!({}) && dice.percent(50) {
                *wanted = json!({ "exact": dice.of(&VALUES) });
            }
        }
    }
    if dice.percent(40) {
        narrow["headers"]["x-more"] = value(dice);
    }
    if dice.percent(20) && narrow.get("port").is_none() {
        narrow["port"] = json!(80);
    }
    narrow
}

impl Set {
    /// The set of that number: always the same.
    pub fn new(number: u64) -> Set {
        let mut dice = Dice::new(number);
        let count = 3 + dice.below(6);
        let mut rules: Vec<(Vec<Value>, bool)> = Vec::new();
        for _ in 0..count {
            let matches = (0..1 + dice.below(5) / 4).map(|_| one(&mut dice)).collect();
            rules.push((matches, false));
        }
        for _ in 0..1 + dice.below(2) {
            let at = dice.below(rules.len());
            let base = rules[at].0[0].clone();
            let narrow = narrower(&mut dice, &base);
            if dice.percent(40) {
                // Two take it together.
                let (mut with, mut without) = (base.clone(), base);
                with["headers"]["x-split"] = json!({});
                without["withoutHeaders"]["x-split"] = json!({});
                rules[at].0 = vec![with];
                rules.insert(at + 1, (vec![without], false));
            }
            let after = at + 2 + dice.below(rules.len() - at);
            rules.insert(after.min(rules.len()), (vec![narrow], true));
        }
        let http = (200..).zip(&rules).map(|(status, (matches, _))| {
            json!({ "match": matches, "directResponse": { "status": status } })
        });
        let http: Vec<String> = http.map(|rule| format!("  - {rule}\n")).collect();
        let planted = (200..).zip(&rules).filter(|(_, (_, planted))| *planted);
        Set::read(
            number,
            &http.concat(),
            planted.map(|(status, _)| status).collect(),
        )
    }

    fn read(number: u64, http: &str, planted: Vec<u16>) -> Set {
        let text = format!(
            "{MESH}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: reviews}}\nspec:\n  hosts: [reviews]\n  http:\n{http}"
        );
        let file = SourceFile::new(&format!("set-{number}"), &text);
        let mut diagnostics = Vec::new();
        let objects = Objects::read(&file, &mut diagnostics);
        diagnostics.retain(|one| one.level == Level::Error);
        assert_eq!(source::render(&diagnostics, false), "");
        let pods = objects.pods();
        let mut plane = ControlPlane::new(PushSettings::default(), objects.clone(), pods.clone());
        let resources = pods.iter().map(|pod| plane.resources(&pod.identity()));
        Set {
            resources: resources.collect(),
            text,
            file,
            objects,
            planted,
        }
    }

    /// Its matches in order, each with the status of its rule.
    pub fn matches(&self) -> Vec<(u16, HttpRuleMatch)> {
        let all = http_rules(&self.objects).remove(0).matches;
        let mut status = 199;
        let mut line = 0;
        let numbered = all.into_iter().map(|one| {
            if one.rule.line() != line {
                (status, line) = (status + 1, one.rule.line());
            }
            (status, one)
        });
        numbered.collect()
    }

    /// Where a request like `witness` is asked about: the number of the pod, and the request.
    pub fn request(&self, witness: &Witness) -> (usize, Request) {
        let given = |name: &str| {
            let mut all = witness.given.iter();
            all.find(|(known, _)| &**known == name)
                .map(|(_, value)| &**value)
        };
        let pod = match given("app") {
            Some("a") => 0,
            Some("b") => 1,
            _ => 2,
        };
        let port: u16 = given("port").map_or(9080, |port| port.parse().unwrap());
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let headers = witness.headers.iter();
        let request = Request {
            method: witness.method.to_string(),
            authority: witness.authority.to_string(),
            path: witness.path.to_string(),
            headers: headers
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            address: Some(SocketAddr::new([10, 8, 0, 1].into(), port)),
            ..Request::default()
        };
        (pod, request)
    }
}

pub fn condition(one: &HttpRuleMatch) -> Condition<'_> {
    let port = one.port.map(|port| ("port", port.to_string()));
    let labels = one.source_labels.iter();
    let labels = labels.map(|(key, value)| (&**key, value.to_string()));
    let given = port.into_iter().chain(labels).map(|(name, value)| Given {
        name: name.into(),
        values: vec![value.as_str().into()],
    });
    Condition {
        request: &one.request,
        given: given.collect(),
    }
}

/// What is claimed of `matches`.
pub fn claims(matches: &[(u16, HttpRuleMatch)]) -> Vec<Reach> {
    let conditions: Vec<Condition<'_>> = matches.iter().map(|(_, one)| condition(one)).collect();
    let authorities = ["reviews".into(), "reviews.default:9080".into()];
    let domain = Domain {
        authorities: Authorities::OneOf(authorities.into()),
        ..Domain::default()
    };
    reach(&conditions, &domain)
}
