//! VirtualServices of RouteRules: the rules of a host in the order in which Pilot considered them.

use super::{Converter, duration, set, text};
use crate::config::{Condition, DataPlane, Named, RouteRule, Share};
use crate::of_2017::version_name;
use crate::translate::TIMEOUT_OF_2017;
use proxy_core::xds::{Name, StringMatch};
use serde_json::{Map, Value, json};
use source::Span;

/// What Pilot asked Envoy to try again.
const RETRY_ON: &str = "5xx,connect-failure,refused-stream";

impl Converter<'_, '_> {
    pub(super) fn add_routes(&mut self) {
        for host in self.rules.hosts_with_routes() {
            let http = self.http_routes(&host);
            let (namespace, name) = self.place(&host);
            let spec = json!({"hosts": [&*host], "http": http});
            self.add("VirtualService", &namespace, &name, &spec);
        }
    }

    /// The rules of a host, up to the first that takes every request, else with the default at the end.
    pub(super) fn http_routes(&mut self, host: &Name) -> Vec<Value> {
        let rules = self.rules.routes_of(host);
        let rules: Vec<(Name, RouteRule, bool)> = rules
            .map(|(object, rule)| {
                let name = object.reference.name.clone();
                (name, rule.clone(), self.rules.is_outside(host))
            })
            .collect();
        let mut http = Vec::new();
        for (at, (name, rule, outside)) in rules.iter().enumerate() {
            http.push(self.http_route(host, name, rule, *outside));
            if rule.condition.takes_all(DataPlane::Envoy2017) {
                self.say_unreached(&rules[at + 1..], name);
                return http;
            }
        }
        http.push(default_route(host));
        http
    }

    fn say_unreached(&mut self, rest: &[(Name, RouteRule, bool)], first: &Name) {
        for (name, rule, _) in rest {
            let message = format!("RouteRule {name} is left out: no request reaches it");
            let label = format!("{first} comes first, and takes every request");
            self.warn(&rule.destination.host.span, message, label);
        }
    }

    fn http_route(&mut self, host: &Name, name: &Name, rule: &RouteRule, outside: bool) -> Value {
        let mut route = json!({"name": &**name});
        let condition = self.condition(&rule.condition);
        set(&mut route, "match", condition.map(|one| json!([one])));
        if let Some(redirect) = &rule.redirect {
            let mut to = json!({"redirectCode": 301});
            set(&mut to, "uri", text(redirect.uri.as_ref()));
            set(&mut to, "authority", text(redirect.authority.as_ref()));
            route["redirect"] = to;
            return route;
        }
        route["route"] = destinations(host, rule, outside);
        if let Some(rewrite) = &rule.rewrite {
            let mut to = json!({});
            set(&mut to, "uri", text(rewrite.uri.as_ref()));
            set(&mut to, "authority", text(rewrite.authority.as_ref()));
            route["rewrite"] = to;
        }
        route["timeout"] = json!(duration(rule.timeout.unwrap_or(TIMEOUT_OF_2017)));
        route["retries"] = match &rule.retry {
            Some(retry) if retry.attempts > 0 => json!({
                "attempts": retry.attempts,
                "perTryTimeout": duration(retry.per_try_timeout),
                "retryOn": RETRY_ON,
                "retryIgnorePreviousHosts": false,
            }),
            _ => json!({"attempts": 0}),
        };
        set(&mut route, "fault", fault(rule));
        route
    }

    fn condition(&mut self, condition: &Condition) -> Option<Value> {
        let mut made = json!({});
        let mut headers = Map::new();
        for (name, value) in &condition.headers {
            match (&*name.text, value) {
                ("uri", StringMatch::Exact(_) | StringMatch::Prefix(_)) => {
                    made["uri"] = string_match(value);
                }
                (text, _) => {
                    self.say_literal(text, &name.span);
                    headers.insert(text.to_owned(), string_match(value));
                }
            }
        }
        if !headers.is_empty() {
            made["headers"] = Value::Object(headers);
        }
        if let Some(source) = &condition.source {
            self.add_source(&mut made, &source.host, &source.labels);
        }
        let any = made.as_object().is_some_and(|map| !map.is_empty());
        any.then_some(made)
    }

    fn say_literal(&mut self, name: &str, span: &Span) {
        if matches!(name, "uri" | "method" | "scheme" | "authority") {
            let message =
                format!("Pilot took `{name}` for a header of that name, and so it is here");
            let label = format!("if the request's own is meant, write `{name}` beside `headers`");
            self.warn(span, message, label);
        }
    }

    /// Which callers: those that the Service selects, as far as it is known.
    fn add_source(&mut self, made: &mut Value, host: &Named, labels: &[(Name, Name)]) {
        let mut wanted = labels.to_vec();
        let registry = self.objects.registry();
        let service = registry.with_host(&host.text).next();
        let selector = service.and_then(|service| service.selector.clone());
        match selector {
            Some(selector) => {
                wanted.extend(selector.into_iter().filter(|pair| !labels.contains(pair)));
                let message = "callers are told by their labels, not by a service";
                self.note(
                    &host.span,
                    message,
                    "the selector of this Service stands for it",
                );
            }
            None => {
                let message = "today's Istio does not tell callers by a service";
                let label = "all of its namespace with these labels are meant; add the Service to the input";
                self.warn(&host.span, message, label);
            }
        }
        let namespace = host.text.split('.').nth(1);
        set(made, "sourceNamespace", namespace.map(|name| json!(name)));
        if !wanted.is_empty() {
            made["sourceLabels"] = labels_of(&wanted);
        }
    }
}

fn default_route(host: &str) -> Value {
    json!({
        "name": "default",
        "route": [{"destination": {"host": host}}],
        "timeout": duration(TIMEOUT_OF_2017),
        "retries": {"attempts": 0},
    })
}

fn destinations(host: &Name, rule: &RouteRule, outside: bool) -> Value {
    let to = |share: &Share| {
        let other = share.destination.as_ref().map(|to| &to.host.text);
        let mut to = json!({"host": &**other.unwrap_or(host)});
        if outside {
            to["host"] = json!(&**host);
        } else if !share.labels.is_empty() {
            to["subset"] = json!(subset_name(&share.labels));
        }
        to
    };
    match &rule.route[..] {
        [] => json!([{"destination": {"host": &**host}}]),
        [share] => json!([{"destination": to(share)}]),
        shares => {
            let weighted =
                |share: &Share| json!({"destination": to(share), "weight": share.weight});
            Value::Array(shares.iter().map(weighted).collect())
        }
    }
}

fn fault(rule: &RouteRule) -> Option<Value> {
    let fault = rule.fault.as_ref()?;
    let percentage = |ppm: u32| json!({"value": ppm / 10_000});
    let mut made = json!({});
    let delay = fault.delay.as_ref().map(|delay| {
        json!({
            "fixedDelay": duration(delay.fixed),
            "percentage": percentage(delay.fraction_ppm),
        })
    });
    let abort = fault.abort.as_ref().map(
        |abort| json!({"httpStatus": abort.status, "percentage": percentage(abort.fraction_ppm)}),
    );
    let any = delay.is_some() || abort.is_some();
    set(&mut made, "delay", delay);
    set(&mut made, "abort", abort);
    any.then_some(made)
}

/// Without a text, presence is enough.
fn string_match(value: &StringMatch) -> Value {
    match value {
        StringMatch::Exact(text) | StringMatch::Prefix(text) if text.is_empty() => json!({}),
        StringMatch::Exact(text) => json!({"exact": &**text}),
        StringMatch::Prefix(text) => json!({"prefix": &**text}),
        StringMatch::Regex(regex) => json!({"regex": regex.source()}),
        StringMatch::Suffix(_) | StringMatch::Contains(_) => json!({}),
    }
}

pub(super) fn labels_of(labels: &[(Name, Name)]) -> Value {
    let pairs = labels.iter();
    let map: Map<String, Value> = pairs
        .map(|(key, value)| (key.to_string(), json!(&**value)))
        .collect();
    Value::Object(map)
}

/// A version alone by its value, others by all their labels; names of subsets are such as DNS has.
pub(super) fn subset_name(labels: &[(Name, Name)]) -> String {
    let mut sorted = labels.to_vec();
    sorted.sort();
    let text = match &sorted[..] {
        [(key, value)] if &**key == "version" => value.to_string(),
        all => version_name(all).to_string(),
    };
    let name = text.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
    name.trim_matches('-').to_lowercase()
}
