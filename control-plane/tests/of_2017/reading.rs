//! How rules are read, and what is said of mistakes.

use super::read;
use source::Level;

fn said(text: &str) -> String {
    let (_, mut diagnostics) = read(text);
    diagnostics.retain(|diagnostic| diagnostic.level != Level::Note);
    source::render(&diagnostics, false)
}

/// The first message of each level above a note.
fn messages(text: &str) -> Vec<String> {
    let (_, diagnostics) = read(text);
    let above = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.level != Level::Note);
    above.map(|diagnostic| diagnostic.message.clone()).collect()
}

fn of_0_2(kind: &str, spec: &str) -> String {
    format!(
        "apiVersion: config.istio.io/v1alpha2\nkind: {kind}\nmetadata: {{name: a}}\nspec: {spec}\n"
    )
}

#[test]
fn mistakes_are_shown_where_they_are() {
    insta::assert_snapshot!(said(
        "type: route-rule
name: a
spec:
  destination: reviews.default.svc.cluster.local
  precedense: 1
  match:
    httpHeaders:
      Cookie: {exact: a}
  route:
  - tags: {version: v1}
    weight: 60
  - labels: {version: v2}
    weight: 50
---
type: route-rules
name: b
spec: {destination: reviews.default.svc.cluster.local}
---
apiVersion: config.istio.io/v1alpha2
kind: RouteRul
metadata: {name: c}
spec: {}
---
apiVersion: config.istio.io/v1alpha3
kind: EgressRule
metadata: {name: d}
spec: {}
"
    ));
}

#[test]
fn what_pilot_refused_is_an_error() {
    let route = |rest: &str| {
        of_0_2(
            "RouteRule",
            &format!("{{destination: {{name: reviews}}, {rest}}}"),
        )
    };
    let cases = [
        (
            of_0_2("RouteRule", "{precedence: 1}"),
            "a RouteRule needs `destination`",
        ),
        (
            of_0_2("RouteRule", "{destination: {namespace: default}}"),
            "a service needs `name` or `service`",
        ),
        (
            of_0_2("RouteRule", "{destination: {name: a, service: b.c}}"),
            "a service has either `name` or `service`",
        ),
        (
            of_0_2("RouteRule", "{destination: {name: a, labels: {v: b}}}"),
            "the destination of a RouteRule has no labels",
        ),
        (
            route("route: [{weight: 90}, {weight: 20}]"),
            "the weights of a route are 100 together",
        ),
        (
            route("route: [{weight: 101}]"),
            "`weight` is a whole number from 0 to 100",
        ),
        (
            route("redirect: {uri: /a}, route: [{labels: {v: a}}]"),
            "a rule has either `redirect` or `route`",
        ),
        (
            route("redirect: {uri: /a}, httpFault: {}"),
            "a rule has either `redirect` or `httpFault`",
        ),
        (
            route("redirect: {}"),
            "a redirect needs `uri`, `authority` or both",
        ),
        (
            route("redirect: {uri: /a}, rewrite: {uri: /b}"),
            "a rule has either `redirect` or `rewrite`",
        ),
        (
            route("rewrite: {}"),
            "a rewrite needs `uri`, `authority` or both",
        ),
        (route("match: {udp: {}}"), "Istio did not support UDP"),
        (
            route("match: {request: {headers: {uri: {exact: \"\"}}}}"),
            "the match of `uri` is not empty",
        ),
        (
            route("match: {request: {headers: {x: {}}}}"),
            "the match of header `x` says nothing",
        ),
        (
            route("match: {request: {headers: {x: {regex: \"(\"}}}}"),
            "not a regular expression that Envoy takes",
        ),
        (
            route("httpReqTimeout: {simpleTimeout: {timeout: 1us}}"),
            "`timeout` is 1 ms at least",
        ),
        (
            route("httpReqTimeout: {simpleTimeout: {}}"),
            "a timeout needs `timeout`",
        ),
        (
            route("httpReqRetries: {simpleRetry: {attempts: 1}}"),
            "a retry policy needs `perTryTimeout`",
        ),
        (
            route("httpFault: {delay: {percent: 101, fixedDelay: 1s}}"),
            "`percent` is a number from 0 to 100",
        ),
        (
            route("httpFault: {delay: {percent: 10}}"),
            "a delay needs `fixedDelay`",
        ),
        (
            route("httpFault: {abort: {percent: 10, httpStatus: 601}}"),
            "`httpStatus` is a whole number from 0 to 600",
        ),
        (
            route("httpFault: {abort: {percent: 10, grpcStatus: x, httpStatus: 500}}"),
            "Istio did not support faults of gRPC",
        ),
        (
            route("l4Fault: {}"),
            "faults of connections were never carried out",
        ),
        (
            of_0_2(
                "DestinationPolicy",
                "{destination: {name: a}, loadBalancing: {name: LEAST}}",
            ),
            "`name` is one of ROUND_ROBIN, LEAST_CONN, RANDOM",
        ),
        (
            of_0_2(
                "DestinationPolicy",
                "{destination: {name: a}, circuitBreaker: {simpleCb: {sleepWindow: 1s}}}",
            ),
            "a simple circuit breaker needs `httpDetectionInterval`",
        ),
        (
            of_0_2("EgressRule", "{destination: {service: a.com}, ports: []}"),
            "an EgressRule has ports",
        ),
        (
            of_0_2(
                "EgressRule",
                "{destination: {name: a}, ports: [{port: 80, protocol: http}]}",
            ),
            "the destination of an EgressRule has no `name`",
        ),
        (
            of_0_2(
                "EgressRule",
                "{destination: {service: a.com}, ports: [{port: 80, protocol: tcp}]}",
            ),
            "an EgressRule knows no protocol `tcp`",
        ),
        (
            of_0_2(
                "EgressRule",
                "{destination: {service: a.com}, ports: [{port: 80, protocol: http}, {port: 80, protocol: http}]}",
            ),
            "port 80 is there twice",
        ),
        (
            of_0_2(
                "EgressRule",
                "{destination: {service: a.com}, ports: [{port: 80, protocol: http}], useEgressProxy: true}",
            ),
            "Istio did not direct requests through an egress proxy",
        ),
        (
            of_0_2("IngressRule", "{destination: {name: a}}"),
            "an IngressRule needs `destinationPort` or `destinationPortName`",
        ),
        (
            of_0_2(
                "IngressRule",
                "{destination: {name: a}, destinationPort: 80, match: {request: {headers: {uri: {regex: a}}}}}",
            ),
            "an IngressRule cannot match `uri` so",
        ),
        (
            "type: route-rule\nname: a\nspec: {destination: Reviews_1}\n".to_owned(),
            "`Reviews_1` is not the full name of a service",
        ),
    ];
    for (text, want) in cases {
        let found = messages(&text);
        assert!(
            found.iter().any(|message| message == want),
            "{text}\n{found:#?}"
        );
    }
}

#[test]
fn what_comes_to_nothing_is_a_warning() {
    let route = |rest: &str| {
        of_0_2(
            "RouteRule",
            &format!("{{destination: {{name: reviews}}, {rest}}}"),
        )
    };
    for (text, want) in [
        (
            route("httpFault: {delay: {fixedDelay: 1s}}"),
            "a delay hits no request",
        ),
        (
            route("httpFault: {abort: {percent: 0.9, httpStatus: 500}}"),
            "an abort hits no request",
        ),
        (
            route("httpFault: {abort: {percent: 9, httpStatus: 100}}"),
            "an abort with such a status does nothing",
        ),
        (
            route("match: {tcp: {sourceSubnet: [10.0.0.0/8]}}"),
            "Pilot made nothing of `tcp` conditions",
        ),
        (
            route("websocketUpgrade: true"),
            "WebSockets are not told from other requests",
        ),
        (
            route("mirror: {name: a}"),
            "`mirror` of a RouteRule is not supported yet",
        ),
    ] {
        assert_eq!(messages(&text), [want], "{text}");
    }
}

#[test]
fn both_spellings_are_one() {
    let old = "type: route-rule
name: a
spec:
  destination: reviews.default.svc.cluster.local
  precedence: 2
  match:
    source: ratings.default.svc.cluster.local
    sourceTags: {version: v1}
    httpHeaders: {uri: {prefix: /a}}
  route: [{tags: {version: v1}, weight: 100}]
";
    let new = "apiVersion: config.istio.io/v1alpha2
kind: RouteRule
metadata: {name: a}
spec:
  destination: {name: reviews}
  precedence: 2
  match:
    source: {name: ratings, labels: {version: v1}}
    request: {headers: {uri: {prefix: /a}}}
  route: [{labels: {version: v1}, weight: 100}]
";
    let names = |text: &str| super::valid(text).refs();
    assert_eq!(names(old), names(new));
    for caller in ["ratings-v1", "ratings-v2"] {
        let told = |text: &str| super::resources(&super::valid(text), caller);
        let request = super::get("reviews:9080", "/abc", &[]);
        let outcomes = [old, new].map(|text| super::outcome::outcome(&told(text), &request));
        assert_eq!(outcomes[0], outcomes[1]);
    }
}
