//! The rules of the Gateway API, one by one.

use super::World;
use control_plane::{
    Action, ControlPlane, Explanation, ObjectRef, Objects, PushSettings, Request, explain,
};
use proxy_core::time::Nanos;
use source::{Diagnostic, Level, SourceFile};

/// Services `a`, `b` and `c` with pods, and a Gateway of one listener.
pub(crate) const BASE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  gatewayClassName: istio
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {selector: {app: b}, ports: [{name: http, port: 80}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: a}
spec: {template: {metadata: {labels: {app: a}}, spec: {containers: [{name: app}]}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: b}
spec: {template: {metadata: {labels: {app: b}}, spec: {containers: [{name: app}]}}}
---
";

pub(crate) fn read(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let objects = Objects::read(&SourceFile::new("test.yaml", text), &mut diagnostics);
    (objects, diagnostics)
}

fn world(more: &str) -> World {
    let (objects, diagnostics) = read(&format!("{BASE}{more}"));
    let errors = diagnostics.iter().filter(|d| d.level == Level::Error);
    assert_eq!(errors.count(), 0, "{}", source::render(&diagnostics, false));
    World::new(objects)
}

/// A route of the Gateway with these rules.
fn route(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec:\n  parentRefs: [{{name: gw}}]\n  rules:\n{rules}\n---\n"
    )
}

impl World {
    /// What becomes of a request at pod `workload` (`NAMESPACE/NAME`).
    fn ask(&mut self, workload: &str, mut request: Request) -> Explanation {
        let (namespace, name) = workload.split_once('/').unwrap();
        let mut pods = self.pods.iter();
        let pod = pods.find(|pod| *pod.namespace == *namespace && *pod.workload == *name);
        let pod = pod.unwrap().clone();
        let resources = self.resources(&pod);
        request.resolve(&self.objects, &pod.identity());
        explain(&resources, &request)
    }

    fn get(&mut self, url: &str) -> Explanation {
        self.ask("default/gw-istio", Request::to_url(url).unwrap())
    }
}

fn cluster(answer: &Explanation) -> &str {
    answer.clusters.first().map_or("", |cluster| &cluster.name)
}

#[test]
fn a_gateway_of_either_api_may_have_the_same_name() {
    let istio = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingress}
  servers: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ['*']}]
";
    let world = world(istio);
    let kinds = world
        .objects
        .refs()
        .into_iter()
        .filter(|r| &*r.name == "gw");
    let kinds: Vec<String> = kinds.map(|object| object.kind.to_string()).collect();
    assert_eq!(kinds, ["Gateway", "Gateway.gateway.networking.k8s.io"]);
}

#[test]
fn a_gateway_gets_a_service_and_pods_unless_only_pods_are_listed() {
    let mut first = world(&route("r", "  - backendRefs: [{name: a, port: 80}]"));
    let service = first.objects.service("gw-istio", "default").unwrap();
    let ports: Vec<u16> = service.ports.iter().map(|port| port.number).collect();
    assert_eq!(ports, [15021, 80]);
    let answer = first.get("http://any/");
    assert_eq!(cluster(&answer), "outbound|80||a.default.svc.cluster.local");
    assert_eq!(answer.route.as_deref(), Some("default.r.0"));
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: other, labels: {app: other}}
spec: {containers: [{name: app}]}
";
    let some_pods = world(pod);
    assert!(some_pods.objects.service("gw-istio", "default").is_some());
    let documents = BASE.split("---\n");
    let without = documents.filter(|document| !document.contains("kind: Deployment"));
    let without: Vec<&str> = without.collect();
    let (only_pods, _) = read(&format!("{}{pod}", without.join("---\n")));
    assert_eq!(only_pods.service("gw-istio", "default"), None);
}

#[test]
fn prefixes_end_at_a_slash_and_what_is_replaced_leaves_one() {
    let rewrite = |from: &str, path: &str| {
        format!(
            "  - matches: [{{path: {{value: {from}}}}}]\n    filters: [{{type: URLRewrite, urlRewrite: \
             {{path: {path}}}}}]\n    backendRefs: [{{name: a, port: 80}}]\n"
        )
    };
    let prefix = |to: &str| format!("{{type: ReplacePrefixMatch, replacePrefixMatch: {to}}}");
    let mut world = world(&route(
        "r",
        &[
            rewrite("/gone/", &prefix("/")),
            rewrite("/old", &prefix("/new/")),
            rewrite("/all", "{type: ReplaceFullPath, replaceFullPath: /one}"),
        ]
        .concat(),
    ));
    for (path, want) in [
        ("/gone", "/"),
        ("/gone/", "/"),
        ("/gone/x?y=1", "/x?y=1"),
        ("/old", "/new"),
        ("/old/x", "/new/x"),
        ("/all/x/y", "/one"),
    ] {
        let answer = world.get(&format!("http://any{path}"));
        let got = answer.upstream.map(|upstream| upstream.path.to_string());
        assert_eq!(got.as_deref(), Some(want), "{path}");
    }
    assert_eq!(world.get("http://any/older").status, Some(404));
}

#[test]
fn the_most_specific_match_of_all_routes_wins() {
    let rule = |one: &str, to: &str| {
        format!("  - {{matches: [{one}], backendRefs: [{{name: {to}, port: 80}}]}}\n")
    };
    let first = [
        rule("{path: {value: /}}", "a"),
        rule("{path: {value: /x}, headers: [{name: h, value: v}]}", "a"),
    ];
    let second = [
        rule("{path: {value: /x}, method: POST}", "b"),
        rule("{path: {value: /x/longer}}", "b"),
        rule("{path: {type: Exact, value: /x}}", "b"),
    ];
    let mut world = world(&(route("one", &first.concat()) + &route("two", &second.concat())));
    let mut to = |method: &str, path: &str| {
        let mut request = Request::to_url(&format!("http://any{path}")).unwrap();
        request.method = method.to_owned();
        request.add_header("h: v").unwrap();
        let answer = world.ask("default/gw-istio", request);
        answer.route.unwrap().to_string()
    };
    assert_eq!(to("GET", "/x"), "default.two.2", "exact before prefix");
    assert_eq!(
        to("GET", "/x/longer/y"),
        "default.two.1",
        "longer before shorter"
    );
    assert_eq!(
        to("POST", "/x/y"),
        "default.two.0",
        "a method before headers"
    );
    assert_eq!(to("GET", "/x/y"), "default.one.1", "headers before none");
    assert_eq!(to("GET", "/y"), "default.one.0");
}

#[test]
fn without_a_backend_that_can_be_reached_requests_are_answered_with_500() {
    let rules = "
  - {matches: [{path: {value: /none}}]}
  - {matches: [{path: {value: /zero}}], backendRefs: [{name: a, port: 80, weight: 0}]}
  - {matches: [{path: {value: /unknown}}], backendRefs: [{name: nobody, port: 80}]}
  - {matches: [{path: {value: /foreign}}], backendRefs: [{name: c, namespace: other, port: 80}]}
  - {matches: [{path: {value: /half}}], backendRefs: [{name: a, port: 80}, {name: c, namespace: other, port: 80}]}
";
    let other = "
apiVersion: v1
kind: Service
metadata: {name: c, namespace: other}
spec: {selector: {app: c}, ports: [{name: http, port: 80}]}
---
";
    let mut refused = world(&(route("r", rules) + other));
    for path in ["/none", "/zero", "/unknown", "/foreign"] {
        assert_eq!(
            refused.get(&format!("http://any{path}")).status,
            Some(500),
            "{path}"
        );
    }
    let half = refused.get("http://any/half");
    let names: Vec<&str> = half.clusters.iter().map(|cluster| &*cluster.name).collect();
    assert_eq!(
        names,
        ["outbound|80||a.default.svc.cluster.local", "UnknownService"]
    );
    let grant = "
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g, namespace: other}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}]
  to: [{group: '', kind: Service}]
";
    let mut granted = world(&(route("r", rules) + other + grant));
    let foreign = granted.get("http://any/foreign");
    assert_eq!(cluster(&foreign), "outbound|80||c.other.svc.cluster.local");
}

#[test]
fn redirects_keep_the_port_only_where_it_says_something() {
    let rule = |path: &str, redirect: &str| {
        format!(
            "  - matches: [{{path: {{value: {path}}}}}]\n    filters: [{{type: RequestRedirect, \
             requestRedirect: {{{redirect}}}}}]\n"
        )
    };
    let mut world = world(&route(
        "r",
        &[
            rule("/host", "hostname: example.org"),
            rule("/secure", "scheme: https, statusCode: 301"),
            rule("/port", "port: 8080"),
            rule("/usual", "port: 443, scheme: https"),
            rule(
                "/moved",
                "path: {type: ReplacePrefixMatch, replacePrefixMatch: /here}",
            ),
        ]
        .concat(),
    ));
    for (path, status, want) in [
        ("/host/x", 302, "http://example.org/host/x"),
        ("/secure", 301, "https://any/secure"),
        ("/port", 302, "http://any:8080/port"),
        ("/usual", 302, "https://any/usual"),
        ("/moved/x", 302, "http://any/here/x"),
    ] {
        let answer = world.get(&format!("http://any{path}"));
        let location = answer
            .response_headers
            .iter()
            .find(|(name, _)| &**name == "location");
        let got = location.map(|(_, value)| value.as_str());
        assert_eq!((answer.status, got), (Some(status), Some(want)), "{path}");
    }
}

#[test]
fn listeners_of_a_port_share_no_hosts() {
    let more = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: two}
spec:
  gatewayClassName: istio
  listeners:
  - {name: all, port: 80, protocol: HTTP}
  - {name: wild, port: 80, protocol: HTTP, hostname: '*.example.com'}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: all}
spec:
  parentRefs: [{name: two, sectionName: all}]
  hostnames: [x.example.com, x.example.org]
  rules: [{backendRefs: [{name: a, port: 80}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: wild}
spec:
  parentRefs: [{name: two, sectionName: wild}]
  rules: [{backendRefs: [{name: b, port: 80}]}]
";
    let mut world = world(more);
    let mut to = |host: &str| {
        let request = Request::to_url(&format!("http://{host}/")).unwrap();
        cluster(&world.ask("default/two-istio", request)).to_owned()
    };
    assert_eq!(
        to("x.example.org"),
        "outbound|80||a.default.svc.cluster.local"
    );
    assert_eq!(
        to("x.example.com"),
        "outbound|80||b.default.svc.cluster.local"
    );
    assert_eq!(to("other.org"), "");
}

#[test]
fn clients_follow_the_routes_of_their_own_namespace_before_the_service_s() {
    let of = |namespace: &str, to: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r, namespace: \
             {namespace}}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: a, namespace: \
             default, port: 80}}]\n  rules: [{{backendRefs: [{{name: {to}, namespace: default, port: \
             80}}]}}]\n---\n"
        )
    };
    let client = |namespace: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: client, namespace: {namespace}}}\n\
             spec: {{template: {{metadata: {{labels: {{app: client}}}}, spec: {{containers: [{{name: \
             app}}]}}}}}}\n---\n"
        )
    };
    let third = of("third", "b").replace("name: r", "name: s");
    let all = of("default", "b") + &of("other", "a") + &third + &client("other") + &client("else");
    let mut world = world(&all);
    let mut route = |client: &str| {
        let request = Request::to_url("http://a.default/").unwrap();
        world.ask(client, request).route.unwrap().to_string()
    };
    assert_eq!(route("default/b"), "default.r.0");
    assert_eq!(route("other/client"), "other.r.0", "its own");
    assert_eq!(
        route("else/client"),
        "default.r.0",
        "never those of a third namespace"
    );
}

#[test]
fn statuses_say_what_binds_and_what_is_missing() {
    let rules = "  - backendRefs: [{name: nobody, port: 80}]";
    let world = world(
        &(route("r", rules) + &route("s", rules).replace("{name: gw}", "{name: gw, port: 81}")),
    );
    let status = |kind: &str, name: &str| {
        let mut all = world.objects.gateway_api_statuses().iter();
        let found = all.find(|s| &*s.kind == kind && &*s.metadata.name == name);
        found.unwrap().status.clone()
    };
    let gateway = status("Gateway", "gw");
    assert_eq!(gateway.listeners[0].attached_routes, 1);
    let reasons = |name: &str| -> Vec<(&'static str, &'static str)> {
        let parents = status("HTTPRoute", name).parents.unwrap();
        parents[0]
            .conditions
            .iter()
            .map(|c| (c.status, c.reason))
            .collect()
    };
    assert_eq!(
        reasons("r"),
        [("True", "Accepted"), ("False", "BackendNotFound")]
    );
    assert_eq!(
        reasons("s"),
        [("False", "NoMatchingParent"), ("False", "BackendNotFound")]
    );
}

#[test]
fn a_deleted_gateway_takes_its_pods_along() {
    let mut world = world("");
    let gateway = ObjectRef {
        kind: "Gateway.gateway.networking.k8s.io".into(),
        namespace: "default".into(),
        name: "gw".into(),
    };
    assert!(world.objects.delete(&gateway));
    assert_eq!(world.objects.service("gw-istio", "default"), None);
    assert!(world.objects.gateway_api_statuses().is_empty());
}

#[test]
fn proxies_are_told_what_a_change_of_any_object_makes() {
    let backend = |name: &str| format!("  - backendRefs: [{{name: {name}, port: 80}}]");
    let mesh = |to: &str| {
        route("m", &backend(to)).replace("{name: gw}", "{group: '', kind: Service, name: a}")
    };
    let grant = "
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: p}
spec:
  targetRefs: [{group: '', kind: Service, name: b}]
  validation: {hostname: b.example.com, wellKnownCACertificates: System}
---
";
    let steps = [
        route("r", &backend("a")),
        mesh("b"),
        route("r", &backend("b")),
        mesh("a"),
        grant.to_owned(),
        route("r", &backend("nobody")),
    ];
    let (mut objects, _) = read(BASE);
    let settings = PushSettings::default();
    let pods = objects.pods();
    let mut plane = ControlPlane::new(settings.clone(), objects.clone(), pods.clone());
    for pod in &pods {
        plane.connect(Nanos::ZERO, pod.identity());
    }
    for (at, step) in (1..).zip(steps) {
        objects.apply(&read(&step).0);
        let now = Nanos::from_secs(at * 10);
        plane.set_objects(now, objects.clone());
        let pushes = plane.tick(now + Nanos::from_secs(1));
        assert!(!pushes.is_empty(), "{step}");
        let mut fresh = ControlPlane::new(settings.clone(), objects.clone(), pods.clone());
        for pod in &pods {
            let (told, meant) = (
                plane.resources(&pod.identity()),
                fresh.resources(&pod.identity()),
            );
            assert_eq!(told, meant, "{} after {step}", pod.name);
        }
    }
}

#[test]
fn preflights_are_answered_by_the_proxy() {
    let rules = "
  - filters: [{type: CORS, cors: {allowOrigins: ['https://*.example'], allowMethods: [GET]}}]
    backendRefs: [{name: a, port: 80}]
";
    let mut world = world(&route("r", rules));
    let mut request = Request::to_url("http://any/").unwrap();
    request.method = "OPTIONS".to_owned();
    for line in [
        "origin: https://x.example",
        "access-control-request-method: GET",
    ] {
        request.add_header(line).unwrap();
    }
    let answer = world.ask("default/gw-istio", request);
    assert_eq!(answer.action, Action::DirectResponse);
    assert_eq!(answer.status, Some(200));
}
