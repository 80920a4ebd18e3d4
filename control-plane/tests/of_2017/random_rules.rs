//! Random rules of 2017, and requests that are aimed at them.

use super::get;
use control_plane::Request;
use std::fmt::Write;

/// Numbers that follow from a seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(proxy_core::random::mix(seed ^ 0x2017))
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (proxy_core::random::mix(self.0) >> 32) as usize % bound
    }

    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub const SERVICES: [&str; 4] = ["productpage", "details", "reviews", "ratings"];
const VERSIONS: [&str; 4] = ["v1", "v2", "v3", "v9"];
const PATHS: [&str; 6] = ["/", "/a", "/a/b", "/a/b/c", "/api", "/x?q=1"];
const MATCHES: [&str; 6] = [
    "exact: jason",
    "prefix: ja",
    "regex: \"ja(son|ne)\"",
    "exact: \"\"",
    "prefix: \"\"",
    "regex: \".*s.*\"",
];
const VALUES: [&str; 5] = ["jason", "jane", "jas", "s", ""];

/// Up to a dozen rules of 0.2 (`odd`: of 0.1) for a few services, some policies, and an EgressRule.
pub fn rules(dice: &mut Dice, odd: bool) -> String {
    let mut text = String::new();
    for number in 0..=dice.below(12) {
        let service = dice.of(&SERVICES);
        let reference = |name: &str| match odd {
            true => format!("{name}.default.svc.cluster.local"),
            false => format!("{{name: {name}}}"),
        };
        let head = match odd {
            true => format!("type: route-rule\nname: r{number}\n"),
            false => format!(
                "apiVersion: config.istio.io/v1alpha2\nkind: RouteRule\nmetadata: {{name: r{number}}}\n"
            ),
        };
        let outside = !odd && dice.one_in(6);
        let destination = match outside {
            true => "{service: \"*.example.com\"}".to_owned(),
            false => reference(service),
        };
        let _ = write!(
            text,
            "{head}spec:\n  destination: {destination}\n  precedence: {}\n",
            dice.below(4)
        );
        condition(dice, odd, &mut text);
        if !outside && dice.one_in(6) {
            text.push_str("  redirect: {uri: /moved, authority: elsewhere}\n");
        } else {
            if !outside {
                shares(dice, odd, &mut text);
            }
            policies(dice, &mut text);
        }
        text.push_str("---\n");
    }
    if !odd {
        for number in 0..dice.below(3) {
            let _ = write!(
                text,
                "apiVersion: config.istio.io/v1alpha2\nkind: DestinationPolicy\nmetadata: {{name: p{number}}}\nspec:\n  destination: {{name: {}{}}}\n  loadBalancing: {{name: {}}}\n",
                dice.of(&SERVICES),
                dice.of(&["", ", labels: {version: v1}", ", labels: {version: v2}"]),
                dice.of(&["ROUND_ROBIN", "LEAST_CONN", "RANDOM"]),
            );
            if dice.one_in(2) {
                let _ = writeln!(
                    text,
                    "  circuitBreaker: {{simpleCb: {{maxConnections: {}, httpConsecutiveErrors: {}, httpMaxRequestsPerConnection: {}, sleepWindow: 15s, httpDetectionInterval: 5s, httpMaxEjectionPercent: {}}}}}",
                    dice.below(3),
                    dice.below(3),
                    dice.below(3),
                    dice.below(100),
                );
            }
            text.push_str("---\n");
        }
        text.push_str("apiVersion: config.istio.io/v1alpha2\nkind: EgressRule\nmetadata: {name: e}\nspec:\n  destination: {service: \"*.example.com\"}\n  ports: [{port: 9080, protocol: http}, {port: 443, protocol: https}]\n---\n");
    }
    if dice.one_in(2) {
        text.push_str("apiVersion: extensions/v1beta1\nkind: Ingress\nmetadata: {name: gateway, annotations: {kubernetes.io/ingress.class: istio}}\nspec:\n  rules:\n  - http:\n      paths:\n");
        for _ in 0..=dice.below(3) {
            let _ = writeln!(
                text,
                "      - {{path: {}, backend: {{serviceName: {}, servicePort: 9080}}}}",
                dice.of(&["/a", "/a.*", "/api", "/a/b.*"]),
                dice.of(&SERVICES),
            );
        }
        text.push_str("---\n");
    }
    text
}

fn condition(dice: &mut Dice, odd: bool, text: &mut String) {
    let mut headers = Vec::new();
    if dice.one_in(3) {
        let how = dice.of(&["exact", "prefix"]);
        headers.push(format!("uri: {{{how}: {}}}", dice.of(&PATHS[..5])));
    }
    if dice.one_in(3) {
        headers.push(format!("user: {{{}}}", dice.of(&MATCHES)));
    }
    if dice.one_in(8) {
        headers.push("method: {exact: GET}".to_owned());
    }
    let mut parts = Vec::new();
    if dice.one_in(4) {
        let name = dice.of(&SERVICES);
        let version = dice.of(&["", "v1", "v2"]);
        let labels = match version {
            "" => String::new(),
            version => format!("{{version: {version}}}"),
        };
        match (odd, version) {
            (true, "") => parts.push(format!("source: {name}.default.svc.cluster.local")),
            (true, _) => parts.push(format!(
                "source: {name}.default.svc.cluster.local, sourceTags: {labels}"
            )),
            (false, "") => parts.push(format!("source: {{name: {name}}}")),
            (false, _) => parts.push(format!("source: {{name: {name}, labels: {labels}}}")),
        }
    }
    if !headers.is_empty() {
        let headers = headers.join(", ");
        parts.push(match odd {
            true => format!("httpHeaders: {{{headers}}}"),
            false => format!("request: {{headers: {{{headers}}}}}"),
        });
    }
    if !parts.is_empty() {
        let _ = writeln!(text, "  match: {{{}}}", parts.join(", "));
    }
}

fn shares(dice: &mut Dice, odd: bool, text: &mut String) {
    let key = if odd { "tags" } else { "labels" };
    let mut share = |weight: Option<usize>| {
        let mut parts = Vec::new();
        if !dice.one_in(6) {
            parts.push(format!("{key}: {{version: {}}}", dice.of(&VERSIONS)));
        }
        if dice.one_in(8) {
            let name = dice.of(&SERVICES);
            parts.push(match odd {
                true => format!("destination: {name}.default.svc.cluster.local"),
                false => format!("destination: {{name: {name}}}"),
            });
        }
        parts.extend(weight.map(|weight| format!("weight: {weight}")));
        format!("{{{}}}", parts.join(", "))
    };
    let shares = match share(None).len() % 3 {
        0 => return,
        1 => vec![share(None)],
        _ => vec![share(Some(70)), share(Some(30)), share(Some(0))],
    };
    let _ = writeln!(text, "  route: [{}]", shares.join(", "));
}

fn policies(dice: &mut Dice, text: &mut String) {
    if dice.one_in(4) {
        text.push_str(dice.of(&[
            "  rewrite: {uri: /new}\n",
            "  rewrite: {authority: other}\n",
            "  rewrite: {uri: /, authority: other}\n",
        ]));
    }
    if dice.one_in(3) {
        text.push_str(dice.of(&[
            "  httpReqTimeout: {simpleTimeout: {timeout: 2.5s}}\n",
            "  httpReqTimeout: {simpleTimeout: {timeout: 40s}}\n",
        ]));
    }
    if dice.one_in(3) {
        let attempts = dice.below(4);
        let _ = writeln!(
            text,
            "  httpReqRetries: {{simpleRetry: {{attempts: {attempts}, perTryTimeout: 250ms}}}}"
        );
    }
    if dice.one_in(3) {
        text.push_str(dice.of(&[
            "  httpFault: {delay: {percent: 10.7, fixedDelay: 7s}}\n",
            "  httpFault: {delay: {fixedDelay: 7s}}\n",
            "  httpFault: {abort: {percent: 50, httpStatus: 503}}\n",
            "  httpFault: {delay: {percent: 100, fixedDelay: 0.5s}, abort: {percent: 1, httpStatus: 400}}\n",
        ]));
    }
}

/// A request of a sidecar, or one to the ingress proxy.
pub fn request(dice: &mut Dice, at_ingress: bool) -> Request {
    let name = dice.of(&SERVICES);
    let host = match dice.below(5) {
        _ if at_ingress => "shop.example".to_owned(),
        0 => format!("{name}.default:9080"),
        1 => format!("{name}.default.svc.cluster.local:9080"),
        2 => dice
            .of(&[
                "a.example.com:9080",
                "a.example.com:443",
                "example.org:9080",
            ])
            .to_owned(),
        _ => format!("{name}:9080"),
    };
    let mut headers = Vec::new();
    if dice.one_in(2) {
        headers.push(("user", dice.of(&VALUES)));
    }
    if dice.one_in(8) {
        headers.push(("method", "GET"));
    }
    if dice.one_in(4) {
        headers.push((
            "cookie",
            dice.of(&["user=jason", "a=b;user=jason;c", "user=jane"]),
        ));
    }
    get(&host, dice.of(&PATHS), &headers)
}
