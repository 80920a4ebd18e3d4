//! Mixer's configuration of Istio 0.1 and 0.2: what it says of requests, what proxies are told, and
//! what is wrong with it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use control_plane::{MixerAttributes, MixerParty, MixerPolicy, Objects, Quotas};
use proxy_core::contract::Verdict;
use proxy_core::head::{Headers, RequestHead};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use source::{Diagnostic, SourceFile};
use std::borrow::Cow;
use std::path::Path;

fn read(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("mixer.yaml", text), &mut diagnostics);
    (objects, diagnostics)
}

/// The policy of a text without a mistake.
fn policy(text: &str) -> MixerPolicy {
    let (objects, mut diagnostics) = read(text);
    let policy = MixerPolicy::of(&objects, &mut diagnostics);
    assert_eq!(source::render(&diagnostics, false), "");
    policy
}

/// What is said of a text, a message a line.
fn told(text: &str) -> String {
    let (objects, mut diagnostics) = read(text);
    MixerPolicy::of(&objects, &mut diagnostics);
    let line = |d: &Diagnostic| {
        let place = d.span.as_ref().map_or("", |span| span.text());
        let help = d.help.as_ref().map(|help| format!("; {help}"));
        let help = help.unwrap_or_default();
        format!(
            "{}: {} at `{place}`: {}{help}\n",
            d.level, d.message, d.label
        )
    };
    diagnostics.iter().map(line).collect()
}

fn labels(app: &str, version: &str) -> Option<Cow<'static, [(Name, Name)]>> {
    let labels = vec![
        ("app".into(), app.into()),
        ("version".into(), version.into()),
    ];
    Some(Cow::Owned(labels))
}

fn head(user: Option<&str>) -> RequestHead {
    let mut head = RequestHead {
        method: "GET".into(),
        scheme: "http".into(),
        authority: "ratings.default:9080".into(),
        path: "/ratings/0".into(),
        headers: Headers::default(),
        id: None,
    };
    if let Some(user) = user {
        head.headers.append("x-user".into(), user.as_bytes());
    }
    head
}

/// From a version of reviews to ratings.
fn from_reviews<'a>(version: &str, head: &'a RequestHead) -> MixerAttributes<'a> {
    MixerAttributes {
        source: MixerParty {
            service: Some("reviews.default.svc.cluster.local".into()),
            labels: labels("reviews", version),
            ..MixerParty::default()
        },
        destination: MixerParty {
            service: Some("ratings.default.svc.cluster.local".into()),
            labels: labels("ratings", "v1"),
            ..MixerParty::default()
        },
        request: head,
        response: None,
    }
}

/// The text of the refusal; empty: none.
fn said(policy: &MixerPolicy, of: &MixerAttributes<'_>) -> String {
    match policy.check(&mut Quotas::default(), Nanos::ZERO, of) {
        Verdict::Allowed => String::new(),
        Verdict::Denied { message, .. } => message.to_string(),
        Verdict::Failed => panic!("a policy has a verdict"),
    }
}

/// Whether a rule with that condition applies to a request from reviews v3.
fn holds(condition: &str) -> bool {
    let denials = format!("rules: [{{selector: '{condition}', aspects: [{{kind: denials}}]}}]");
    let head = head(Some("jason"));
    !said(&policy(&denials), &from_reviews("v3", &head)).is_empty()
}

#[test]
fn conditions() {
    for (condition, want) in [
        (r#"source.labels["app"] == "reviews""#, true),
        (
            r#"source.labels["app"]=="reviews" && source.labels["version"] == "v3""#,
            true,
        ),
        (
            r#"source.labels["app"] == "reviews" && source.labels["version"] == "v2""#,
            false,
        ),
        (
            r#"source.labels["version"] == "v2" || target.labels["app"] == "ratings""#,
            true,
        ),
        (r#"source.labels["version"] != "v2""#, true),
        (r#"(source.labels["a"] | "none") == "none""#, true),
        (r#"source.labels["a"] | "none" == "none""#, true), // `|` binds closer
        (r#"source.labels["a"] == """#, false),
        (r#"source.service == "reviews.*""#, true),
        (r#"destination.service == "*.cluster.local""#, true),
        (r#"request.headers["x-user"] == "jason""#, true),
        (
            r#"request.method == "GET" && request.path == `/ratings/0`"#,
            true,
        ),
        ("true", true),
        ("false", false),
        // Without the attribute a rule does not apply.
        (r#"source.user == "somebody""#, false),
        (r#"source.user != "somebody""#, false),
        (r#"source.user | "nobody" == "nobody""#, true),
        ("response.code == 200", false),
    ] {
        assert_eq!(holds(condition), want, "{condition}");
    }
}

const DENY_V3: &str = r#"
apiVersion: config.istio.io/v1alpha2
kind: denier
metadata: {name: never, namespace: istio-system}
spec: {status: {code: 7, message: Not allowed}}
---
apiVersion: config.istio.io/v1alpha2
kind: checknothing
metadata: {name: request, namespace: istio-system}
spec:
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: deny, namespace: istio-system}
spec:
  match: destination.labels["app"] == "ratings" && source.labels["version"] == "v3"
  actions: [{handler: never.denier, instances: [request.checknothing.istio-system]}]
"#;

#[test]
fn denials_of_both_versions() {
    let head = head(None);
    let v0_2 = policy(DENY_V3);
    assert_eq!(
        said(&v0_2, &from_reviews("v3", &head)),
        "PERMISSION_DENIED:never.denier.istio-system:Not allowed"
    );
    assert_eq!(said(&v0_2, &from_reviews("v2", &head)), "");

    let v0_1 = policy(
        r#"
subject: ratings.default.svc.cluster.local
rules:
  - selector: source.labels["version"] == "v3"
    aspects: [{kind: denials}]
"#,
    );
    let mut request = from_reviews("v3", &head);
    assert_eq!(said(&v0_1, &request), "FAILED_PRECONDITION:");
    request.destination.service = Some("details.default.svc.cluster.local".into());
    assert_eq!(said(&v0_1, &request), "");
}

/// Rules outside the configuration's own namespace look at the services of theirs.
#[test]
fn rules_are_for_the_services_of_their_namespace() {
    let head = head(None);
    let elsewhere = DENY_V3.replace("namespace: istio-system", "namespace: other");
    let elsewhere = elsewhere.replace("checknothing.istio-system", "checknothing");
    assert_eq!(said(&policy(&elsewhere), &from_reviews("v3", &head)), "");
    let here = elsewhere.replace("namespace: other", "namespace: default");
    assert_ne!(said(&policy(&here), &from_reviews("v3", &head)), "");
}

#[test]
fn lists() {
    let listed = |blacklist: bool, kind: &str| {
        policy(&format!(
            r#"
apiVersion: config.istio.io/v1alpha2
kind: listchecker
metadata: {{name: versions, namespace: istio-system}}
spec: {{overrides: [v1, V2], blacklist: {blacklist}, entryType: {kind}}}
---
apiVersion: config.istio.io/v1alpha2
kind: listentry
metadata: {{name: version, namespace: istio-system}}
spec: {{value: 'source.labels["version"]'}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: check, namespace: istio-system}}
spec: {{actions: [{{handler: versions.listchecker, instances: [version.listentry]}}]}}
"#
        ))
    };
    let head = head(None);
    let said = |policy: &MixerPolicy, version| said(policy, &from_reviews(version, &head));
    let white = listed(false, "STRINGS");
    assert_eq!(said(&white, "v1"), "");
    assert_eq!(
        said(&white, "v2"),
        "NOT_FOUND:versions.listchecker.istio-system:v2 is not whitelisted"
    );
    let black = listed(true, "CASE_INSENSITIVE_STRINGS");
    assert_eq!(
        said(&black, "v2"),
        "PERMISSION_DENIED:versions.listchecker.istio-system:v2 is blacklisted"
    );
    assert_eq!(said(&black, "v3"), "");
}

/// How many of five requests at once, and of five a second later, may pass.
fn passed(policy: &MixerPolicy, version: &str) -> (usize, usize) {
    let head = head(None);
    let request = from_reviews(version, &head);
    let mut quotas = Quotas::default();
    let mut pass = |at_s| {
        let verdicts = (0..5).map(|_| policy.check(&mut quotas, Nanos::from_secs(at_s), &request));
        verdicts
            .filter(|verdict| *verdict == Verdict::Allowed)
            .count()
    };
    (pass(0), pass(1))
}

#[test]
fn quotas_of_both_versions() {
    let v0_1 = policy(
        "rules: [{aspects: [{kind: quotas, params: {quotas: [{descriptorName: RequestCount, maxAmount: 2, expiration: 1s}]}}]}]",
    );
    assert_eq!(passed(&v0_1, "v1"), (2, 2));

    let v0_2 = policy(
        r#"
apiVersion: config.istio.io/v1alpha2
kind: memquota
metadata: {name: handler, namespace: istio-system}
spec:
  quotas:
    - name: requestcount.quota.istio-system
      maxAmount: 4
      validDuration: 2s
      overrides:
        - {dimensions: {version: v3}, maxAmount: 1, validDuration: 1s}
---
apiVersion: config.istio.io/v1alpha2
kind: quota
metadata: {name: requestcount, namespace: istio-system}
spec: {dimensions: {version: 'source.labels["version"] | "unknown"'}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: quota, namespace: istio-system}
spec: {actions: [{handler: handler.memquota, instances: [requestcount.quota]}]}
"#,
    );
    assert_eq!(passed(&v0_2, "v1"), (4, 0));
    assert_eq!(passed(&v0_2, "v3"), (1, 1));
    let head = head(None);
    let request = from_reviews("v3", &head);
    let mut quotas = Quotas::default();
    v0_2.check(&mut quotas, Nanos::ZERO, &request);
    let Verdict::Denied { code, message } = v0_2.check(&mut quotas, Nanos::ZERO, &request) else {
        panic!("there is no second one");
    };
    let text = "RESOURCE_EXHAUSTED:Quota is exhausted for: RequestCount";
    assert_eq!((code, &*message), (8, text));
}

#[test]
fn what_is_shipped_counts_responses_and_rules_add_to_it() {
    let head = head(None);
    let mut request = from_reviews("v3", &head);
    request.response = Some((200, Nanos::from_millis(30)));
    let samples = |policy: &MixerPolicy| -> Vec<String> {
        let line = |sample: &control_plane::MetricSample| {
            let labels = sample.labels.iter();
            let labels: Vec<String> = labels
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            format!("{}{{{}}} {}", sample.name, labels.join(","), sample.value)
        };
        policy.report(&request).iter().map(line).collect()
    };
    let shipped = "{method=/ratings/0,response_code=200,service=ratings,source=reviews,target=ratings.default.svc.cluster.local,version=v1}";
    let expected = [
        format!("request_count{shipped} 1"),
        format!("request_duration{shipped} 0.03"),
    ];
    assert_eq!(samples(&policy("")), expected);
    let more = policy(
        r#"rules: [{aspects: [{kind: metrics, params: {metrics: [{descriptor_name: twice, value: "2", labels: {from: 'source.labels["app"] | "unknown"'}}]}}]}]"#,
    );
    assert_eq!(samples(&more)[0], "twice{from=reviews} 2");
    assert_eq!(samples(&more)[1..], expected);
    // The instance and the handler that a rule of 0.2 names may be shipped.
    let sizes = policy(
        "
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: sizes, namespace: istio-system}
spec: {actions: [{handler: handler.prometheus.istio-system, instances: [responsesize.metric.istio-system]}]}
",
    );
    assert_eq!(samples(&sizes)[2], format!("response_size{shipped} 0"));
}

#[test]
fn mistakes_have_their_place() {
    let of_rules = [
        "rules: [{selector: 'source.labels[\"app\"]', aspects: []}]",
        "rules: [{selector: 'source.labels == \"a\"'}]",
        "rules: [{selector: 'source.lables[\"app\"] == \"a\"'}]",
        "rules: [{selector: 'response.code == \"200\"'}]",
        "rules: [{selector: 'request.size == 0'}]",
        "rules: [{selector: 'a == '}]",
        "rules: [{selector: 'request.path == \"a'}]",
        "rules: [{selector: 'request.path == \"a\" & true'}]",
        "rules: [{selector: 'response.code > 400'}]",
        "rules: [{selector: 'match(request.path, \"a*\")'}]",
        "rules: [{selecter: 'true'}]",
        "rules: [{aspects: [{kind: denial}]}]",
        "rules: [{aspects: [{kind: lists, adapter: versions}]}]",
        "rules: [{aspects: [{kind: quotas, params: {quotas: [{descriptorName: RequestCount, maxAmount: -1, expiration: 100h}]}}]}]",
        "rules: [{aspects: [{kind: denials, params: {code: 7}}, {kind: access-logs, params: {}}]}]",
        "rules: 3",
    ];
    let of_parts = [
        DENY_V3.replace("handler: never.denier", "handler: nevr.denier"),
        DENY_V3.replace(
            "[request.checknothing.istio-system]",
            "[requestcount.metric]",
        ),
        DENY_V3.replace("code: 7", "code: 77"),
        DENY_V3.replace("code: 7", "cod: 7"),
        DENY_V3.replace("kind: checknothing", "kind: checknothin"),
    ];
    let texts = of_rules.into_iter().map(str::to_owned);
    let texts = texts.map(|text| (text.clone(), text));
    let parts = (1..).zip(of_parts);
    let parts = parts.map(|(number, text)| (format!("part {number}"), text));
    let all: Vec<String> = texts
        .chain(parts)
        .map(|(name, text)| format!("{name}\n{}", told(&text)))
        .collect();
    insta::assert_snapshot!(all.join("\n"));
}

/// They are as deep as they are long.
#[test]
fn long_chains_are_refused() {
    for operator in ["||", "&&", "==", "|"] {
        let chain = |length| vec!["true"; length].join(operator);
        let of = |length| told(&format!("rules: [{{selector: '{}'}}]", chain(length)));
        assert_eq!(of(257), "", "{operator}");
        assert!(
            of(100_000).contains("more than 256 operators"),
            "{operator}"
        );
    }
}

/// Every rule file that the two versions came with can be read, but for what is said here.
#[test]
fn the_samples_load() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/samples-2017");
    let folders = ["0.1.6/apps/bookinfo", "0.2.12/bookinfo/kube"];
    let mut all = String::new();
    for folder in folders {
        let Ok(files) = std::fs::read_dir(samples.join(folder)) else {
            eprintln!("SKIPPED: there is no {}", samples.display());
            return;
        };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.sort();
        for path in files {
            let name = path.file_name().unwrap().to_string_lossy();
            if name.starts_with("mixer-rule") {
                let said = told(&std::fs::read_to_string(&path).unwrap());
                all.push_str(&format!("{folder}/{name}\n{said}"));
            }
        }
    }
    insta::assert_snapshot!(all);
}
