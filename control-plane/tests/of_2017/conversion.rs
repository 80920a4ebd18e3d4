//! What rules of 2017 are today: the same requests go the same way.

use super::outcome::outcome;
use super::random_rules::{Dice, request, rules};
use super::samples::{applications, files, folders};
use super::{resources, valid};
use control_plane::{Objects, Resources};
use source::{Level, SourceFile};

const CALLERS: [&str; 5] = [
    "productpage-v1",
    "reviews-v1",
    "reviews-v2",
    "ratings-v2",
    "details-v1",
];
const INGRESS: &str = "istio-system/ingressgateway";

/// How many of so many are done; all with MESHSIM_SLOW.
fn reduced(all: usize, by: usize) -> usize {
    match std::env::var_os("MESHSIM_SLOW") {
        Some(_) => all,
        None => all / by,
    }
}

/// The applications with what `old` is today in the place of its rules.
fn today(applications: &Objects, old: &Objects) -> Objects {
    let mut said = Vec::new();
    let converted = old.converted(&mut said);
    assert!(
        said.iter()
            .all(|diagnostic| diagnostic.level != Level::Error)
    );
    let mut objects = applications.clone();
    for object in &converted {
        let mut diagnostics = Vec::new();
        let file = SourceFile::new(&object.reference.to_string(), &object.text);
        objects.apply(&Objects::read(&file, &mut diagnostics));
        diagnostics.retain(|diagnostic| diagnostic.level == Level::Error);
        assert_eq!(source::render(&diagnostics, false), "", "{}", object.text);
    }
    objects
}

/// Holds both against `count` requests of each caller.
fn compare(old: &Objects, new: &Objects, dice: &mut Dice, count: usize, what: &str) {
    let told = |objects: &Objects| -> Vec<(&str, Resources)> {
        let mut callers: Vec<&str> = CALLERS.to_vec();
        callers.push(INGRESS);
        let known = callers
            .into_iter()
            .filter(|caller| objects.proxy(caller).is_ok());
        known
            .map(|caller| (caller, resources(objects, caller)))
            .collect()
    };
    let (old, new) = (told(old), told(new));
    assert_eq!(old.len(), new.len());
    for number in 0..count {
        let at = number % old.len();
        let request = request(dice, old[at].0 == INGRESS);
        let (was, is) = (outcome(&old[at].1, &request), outcome(&new[at].1, &request));
        assert_eq!(was, is, "{what}\n{} {request:?}", old[at].0);
    }
}

#[test]
fn the_samples_send_requests_the_same_way() {
    let Some(folders) = folders() else {
        return;
    };
    let count = reduced(10_000, 20);
    let mut compared = 0;
    for folder in &folders {
        let files = files(folder);
        // With an ingress proxy.
        let mut apps = valid("");
        apps.apply(&applications(&files));
        for file in &files {
            let read = Objects::read(file, &mut Vec::new());
            let rule = |kind: &str| ["RouteRule", "DestinationPolicy", "Ingress"].contains(&kind);
            if !read.refs().iter().any(|object| rule(&object.kind)) {
                continue;
            }
            let mut old = apps.clone();
            // Precedence tells only among others.
            for base in files
                .iter()
                .filter(|base| &*base.name == "route-rule-all-v1.yaml")
            {
                old.apply(&Objects::read(base, &mut Vec::new()));
            }
            old.apply(&read);
            let new = today(&apps, &old);
            compare(&old, &new, &mut Dice::new(7), count, &file.name);
            compared += 1;
        }
    }
    println!("{compared} files, {count} requests each");
    assert!(compared >= 18, "{compared}");
}

#[test]
fn random_rules_send_requests_the_same_way() {
    let apps = valid("");
    for seed in 0..reduced(100, 5) as u64 {
        let mut dice = Dice::new(seed);
        let text = rules(&mut dice, seed % 4 == 3);
        let old = valid(&text);
        let new = today(&apps, &old);
        compare(
            &old,
            &new,
            &mut dice,
            reduced(10_000, 50),
            &format!("seed {seed}\n{text}"),
        );
    }
}

#[test]
fn an_import_and_what_it_says() {
    let text = "apiVersion: config.istio.io/v1alpha2
kind: RouteRule
metadata: {name: jason}
spec:
  destination: {name: reviews}
  precedence: 2
  match:
    source: {name: productpage, labels: {version: v1}}
    request: {headers: {cookie: {regex: \"^(.*?;)?(user=jason)(;.*)?$\"}, method: {exact: GET}}}
  route: [{labels: {version: v2}}]
  httpReqTimeout: {simpleTimeout: {timeout: 3s, overrideHeaderName: x-timeout}}
  websocketUpgrade: true
---
apiVersion: config.istio.io/v1alpha2
kind: RouteRule
metadata: {name: others}
spec:
  destination: {name: reviews}
  precedence: 1
  route:
  - {labels: {version: v1}, weight: 50}
  - {labels: {version: v3}, weight: 50}
---
apiVersion: config.istio.io/v1alpha2
kind: RouteRule
metadata: {name: never}
spec: {destination: {name: reviews}}
---
apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: reviews-v2}
spec:
  destination: {name: reviews, labels: {version: v2}}
  circuitBreaker: {simpleCb: {maxConnections: 100, httpConsecutiveErrors: 3, sleepWindow: 15s, httpDetectionInterval: 5s}}
---
apiVersion: config.istio.io/v1alpha2
kind: DestinationPolicy
metadata: {name: some-callers}
spec:
  source: {name: ratings}
  destination: {name: reviews, labels: {version: v1}}
  loadBalancing: {name: RANDOM}
---
apiVersion: config.istio.io/v1alpha2
kind: EgressRule
metadata: {name: example}
spec:
  destination: {service: \"*.example.com\"}
  ports: [{port: 80, protocol: http}, {port: 443, protocol: https}]
";
    let (objects, mut diagnostics) = super::read(text);
    let converted = objects.converted(&mut diagnostics);
    let documents: Vec<&str> = converted.iter().map(|object| &*object.text).collect();
    insta::assert_snapshot!("import", documents.join("---\n"));
    insta::assert_snapshot!("import_says", source::render(&diagnostics, false));
}
