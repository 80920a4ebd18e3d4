//! Random rule sets and edits of them: both cores answer each witness as claimed, and random requests
//! find no change that is not told of. `MESHSIM_SLOW=1`: 100 pairs and 100,000 requests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Asked, check_witnesses, effect, is_told, mesh, objects, origin};
use control_plane::Request;
use diff::diff;
use proxy_core::random::mix;

/// Numbers from a seed.
struct Draws(u64);

impl Draws {
    fn below(&mut self, most: usize) -> usize {
        self.0 = mix(self.0.wrapping_add(1));
        (self.0 % most as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

const HOSTS: [&str; 3] = ["a", "b", "c"];
const PATHS: [&str; 9] = [
    "/",
    "/a",
    "/a/b",
    "/a/bc",
    "/api",
    "/api/v1",
    "/api/v2/x",
    "/x.html",
    "/A",
];
const VALUES: [&str; 5] = ["jason", "jas", "ann", "x-ann", "1"];
const NAMES: [&str; 3] = ["end-user", "x-kind", "cookie"];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];

#[derive(Clone)]
struct Rule {
    matches: Vec<String>,
    action: String,
    extras: Vec<String>,
}

fn text_match(draws: &mut Draws, texts: &[&str]) -> String {
    let text = draws.one(texts);
    match draws.below(5) {
        0 | 1 => format!("{{exact: \"{text}\"}}"),
        2 | 3 => format!("{{prefix: \"{text}\"}}"),
        _ => format!("{{regex: \"{}.*\"}}", text.replace('.', "[.]")),
    }
}

fn one_match(draws: &mut Draws) -> String {
    let mut parts = Vec::new();
    if draws.chance(70) {
        parts.push(format!("uri: {}", text_match(draws, &PATHS)));
    }
    if draws.chance(40) {
        let (name, value) = (draws.one(&NAMES), text_match(draws, &VALUES));
        parts.push(format!("headers: {{{name}: {value}}}"));
    }
    if draws.chance(15) {
        parts.push(format!("withoutHeaders: {{{}: {{}}}}", draws.one(&NAMES)));
    }
    if draws.chance(15) {
        parts.push(format!("method: {{exact: {}}}", draws.one(&METHODS)));
    }
    if draws.chance(15) {
        parts.push(format!(
            "queryParams: {{q: {{exact: \"{}\"}}}}",
            draws.one(&VALUES)
        ));
    }
    if draws.chance(10) {
        parts.push("sourceLabels: {app: a}".to_owned());
    }
    if parts.is_empty() {
        parts.push("uri: {prefix: /a}".to_owned());
    }
    format!("{{{}}}", parts.join(", "))
}

fn action(draws: &mut Draws) -> String {
    let to = |draws: &mut Draws| {
        format!(
            "{{host: {}, subset: {}}}",
            draws.one(&HOSTS),
            draws.one(&["v1", "v2"])
        )
    };
    match draws.below(10) {
        0 => format!("redirect: {{uri: {}}}", draws.one(&["/a", "/moved"])),
        1 => format!("directResponse: {{status: {}}}", 400 + draws.below(3)),
        2..=4 => {
            let weight = 10 * draws.below(11);
            let (first, second) = (to(draws), to(draws));
            format!(
                "route: [{{destination: {first}, weight: {weight}}}, {{destination: {second}, weight: {}}}]",
                100 - weight
            )
        }
        _ => format!("route: [{{destination: {}}}]", to(draws)),
    }
}

fn extra(draws: &mut Draws) -> String {
    match draws.below(6) {
        0 => format!("timeout: {}s", 1 + draws.below(3)),
        1 => format!("retries: {{attempts: {}}}", draws.below(3)),
        2 => format!(
            "fault: {{abort: {{httpStatus: 500, percentage: {{value: {}}}}}}}",
            10 * (1 + draws.below(3))
        ),
        3 => format!(
            "headers: {{request: {{set: {{x-set: v{}}}}}}}",
            draws.below(3)
        ),
        4 => format!("mirror: {{host: {}, subset: v1}}", draws.one(&HOSTS)),
        _ => format!("rewrite: {{uri: {}}}", draws.one(&["/", "/a", "/new"])),
    }
}

fn rule(draws: &mut Draws) -> Rule {
    let matches = (0..draws.below(3)).map(|_| one_match(draws)).collect();
    let action = action(draws);
    let mut extras: Vec<String> = Vec::new();
    for _ in 0..draws.below(3) {
        let one = extra(draws);
        let key = |text: &str| text.split(':').next().unwrap().to_owned();
        let only_for_routes = !action.starts_with("route")
            && ["timeout", "retries", "mirror", "rewrite", "fault"].contains(&&*key(&one));
        if !only_for_routes && !extras.iter().any(|known| key(known) == key(&one)) {
            extras.push(one);
        }
    }
    Rule {
        matches,
        action,
        extras,
    }
}

#[derive(Clone)]
struct RuleSet {
    /// Of each host.
    rules: Vec<Vec<Rule>>,
    errors: [usize; 3],
    with_subset: [bool; 3],
}

fn rule_set(draws: &mut Draws) -> RuleSet {
    let rules = |draws: &mut Draws| (0..draws.below(6)).map(|_| rule(draws)).collect();
    RuleSet {
        rules: (0..3).map(|_| rules(draws)).collect(),
        errors: [5, 5, 5],
        with_subset: [true; 3],
    }
}

fn edited(set: &RuleSet, draws: &mut Draws) -> RuleSet {
    let mut set = set.clone();
    for _ in 0..=draws.below(3) {
        let host = draws.below(3);
        let rules = &mut set.rules[host];
        let at = if rules.is_empty() {
            0
        } else {
            draws.below(rules.len())
        };
        match draws.below(8) {
            0 if rules.len() > 1 => rules.swap(0, at),
            1 if !rules.is_empty() => {
                rules.remove(at);
            }
            2 => rules.insert(at, rule(draws)),
            3 if !rules.is_empty() => rules[at].matches = vec![one_match(draws)],
            4 if !rules.is_empty() => {
                rules[at].action = action(draws);
                rules[at].extras.clear();
            }
            5 if rules
                .get(at)
                .is_some_and(|rule| rule.action.starts_with("route")) =>
            {
                rules[at].extras = vec![extra(draws)];
            }
            6 => set.errors[host] = 3 + draws.below(3),
            7 => set.with_subset[host] = draws.chance(50),
            _ => {}
        }
    }
    set
}

fn yaml(set: &RuleSet) -> String {
    let mut text = String::new();
    for (at, host) in HOSTS.iter().enumerate() {
        let subset = if set.with_subset[at] {
            ", {name: v2, labels: {version: v2}}"
        } else {
            ""
        };
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {host}, \
             namespace: default}}\nspec:\n  host: {host}\n  trafficPolicy: {{outlierDetection: \
             {{consecutive5xxErrors: {}}}}}\n  subsets: [{{name: v1, labels: {{version: v1}}}}{subset}]\n",
            set.errors[at]
        );
        if set.rules[at].is_empty() {
            continue;
        }
        text += &format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {host}, \
             namespace: default}}\nspec:\n  hosts: [{host}]\n  http:\n"
        );
        for rule in &set.rules[at] {
            text += &format!("  - {}\n", rule.action);
            if !rule.matches.is_empty() {
                text += &format!("    match: [{}]\n", rule.matches.join(", "));
            }
            for extra in &rule.extras {
                text += &format!("    {extra}\n");
            }
        }
    }
    text
}

fn request(draws: &mut Draws) -> Request {
    let mut path = draws.one(&PATHS).to_owned();
    if draws.chance(30) {
        path += draws.one(&["x", "/y", "bc"]);
    }
    if draws.chance(30) {
        path += &format!("?q={}", draws.one(&VALUES));
    }
    let mut request = Request::to_url(&format!("http://{}:9080{path}", draws.one(&HOSTS))).unwrap();
    request.method = draws.one(&METHODS).to_owned();
    for name in NAMES {
        if draws.chance(35) {
            let more = if draws.chance(20) { "s" } else { "" };
            request
                .headers
                .push((name.to_owned(), format!("{}{more}", draws.one(&VALUES))));
        }
    }
    request
}

#[test]
fn random_requests_find_no_class_that_is_not_told_of() {
    let slow = std::env::var_os("MESHSIM_SLOW").is_some();
    let (pairs, requests) = if slow { (100, 1000) } else { (12, 150) };
    let mesh = mesh(&[("a", &["v1", "v2"]), ("b", &["v1", "v2"]), ("c", &["v1"])]);
    let (mut differing, mut told) = (0, 0);
    for seed in 0..pairs {
        let mut draws = Draws(mix(seed));
        let set = rule_set(&mut draws);
        let (old, new) = (yaml(&set), yaml(&edited(&set, &mut draws)));
        let before = objects(&[("mesh.yaml", &mesh), ("old.yaml", &old)]);
        let after = objects(&[("mesh.yaml", &mesh), ("new.yaml", &new)]);
        let report = diff(&before, &after);
        let (mut was, mut is) = (Asked::new(&before), Asked::new(&after));
        check_witnesses(&report, &mut was, &mut is);
        told += report.changes.len();
        for _ in 0..requests {
            let request = request(&mut draws);
            let proxy = draws.one(&["default/a-v1", "default/c-v1"]);
            let (old_answer, new_answer) =
                (was.answer(proxy, &request), is.answer(proxy, &request));
            if effect(&old_answer) == effect(&new_answer) {
                continue;
            }
            differing += 1;
            let known = is_told(&report, proxy, &old_answer, &new_answer);
            let covers = |rules: &[_], by: Option<_>| by.is_none_or(|by| rules.contains(&by));
            let mut undecided = report.undecided.iter();
            let open = undecided.any(|one| {
                covers(&one.old, origin(&old_answer)) && covers(&one.new, origin(&new_answer))
            });
            assert!(
                known || open,
                "seed {seed}: {request:?} at {proxy}\n{old}\n=>\n{new}\n{}\n{}\n{}",
                effect(&old_answer),
                effect(&new_answer),
                diff::text(&report)
            );
        }
    }
    assert!(
        differing > pairs && told > 0,
        "{differing} of the requests change, {told} classes"
    );
    eprintln!(
        "{pairs} pairs: {told} classes, {differing} of {} requests change",
        pairs * requests
    );
}
