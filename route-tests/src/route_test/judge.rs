//! Does what became of a request meet what is expected?

use super::expect::{Retries, To, Want, What};
use control_plane::{ClusterShare, Explanation, Objects};
use proxy_core::time::Nanos;
use proxy_core::xds::{Fault, Forward, RouteAction};

/// What became of a request, and what names mean to the proxy that was asked.
pub(super) struct Answer<'a> {
    pub(super) explanation: &'a Explanation,
    pub(super) objects: &'a Objects,
    /// Of the proxy.
    pub(super) namespace: &'a str,
}

/// What does not hold; empty: all of it does.
pub(super) fn problems(answer: &Answer<'_>, expect: &[Want], not: &[Want]) -> Vec<String> {
    let mut problems = Vec::new();
    for want in expect {
        if let Err(got) = answer.meets(&want.what) {
            let (key, written) = (want.key, &want.written);
            let place = format!("{}:{}", want.span.file.name, want.span.line());
            problems.push(format!("{key}: expected {written}, got {got} ({place})"));
        }
    }
    for want in not {
        if answer.meets_any(&want.what) {
            let (key, written) = (want.key, &want.written);
            let place = format!("{}:{}", want.span.file.name, want.span.line());
            problems.push(format!("{key}: expected anything but {written} ({place})"));
        }
    }
    problems
}

impl Answer<'_> {
    /// Whether it is so; where it is not, how it is.
    fn meets(&self, what: &What) -> Result<(), String> {
        let answer = self.explanation;
        match what {
            What::Action(want) => check(answer.action == *want, || shown_action(answer)),
            What::Clusters(want) => self.meets_clusters(want),
            What::To(want) => self.meets_destinations(want),
            What::Status(want) => check(answer.status == Some(*want), || {
                answer
                    .status
                    .map_or_else(|| "none of the proxy's own".into(), |s| s.to_string())
            }),
            What::Flags(want) => {
                let mut got: Vec<String> = answer.flags.iter().map(|f| f.to_string()).collect();
                let mut want = want.clone();
                got.sort();
                want.sort();
                check(got == want, || listed(&got))
            }
            What::Details(want) => same(want, answer.details.as_deref()),
            What::Redirect(want) => {
                let location = self.response_header("location");
                same(want, location.as_deref())
            }
            What::Path(want) => same(want, answer.upstream.as_ref().map(|up| &*up.path)),
            What::Authority(want) => same(want, answer.upstream.as_ref().map(|up| &*up.authority)),
            What::RequestHeader(name, want) => same_or_nothing(want, self.request_header(name)),
            What::ResponseHeader(name, want) => same_or_nothing(want, self.response_header(name)),
            What::Timeout(want) => self.forward().and_then(|forward| {
                let got = forward.timeout.filter(|&timeout| timeout != Nanos::ZERO);
                check(got == want.filter(|&want| want != Nanos::ZERO), || {
                    shown_span(got)
                })
            }),
            What::Retries(want) => self
                .forward()
                .and_then(|forward| meets_retries(want, forward)),
            What::Delay(want) => {
                let got = self.fault().and_then(|fault| fault.delay.as_ref());
                let got = got.map(|delay| delay.fixed);
                check(got == *want, || shown_span(got))
            }
            What::Abort(want) => {
                let got = self.fault().and_then(|fault| fault.abort.as_ref());
                let got = got.map(|abort| abort.status);
                check(got == *want, || {
                    got.map_or_else(|| "none".into(), |s| s.to_string())
                })
            }
            What::Route(want) => same(want, answer.route.as_deref()),
            What::VirtualHost(want) => same(want, answer.virtual_host.as_deref()),
            What::Rule(want) => self.meets_rule(want),
        }
    }

    /// The same for what must not be: of destinations, flags and clusters any one is enough.
    fn meets_any(&self, what: &What) -> bool {
        let answer = self.explanation;
        match what {
            What::To(not) => {
                let mut clusters = answer.clusters.iter();
                clusters.any(|cluster| not.iter().any(|to| self.is_meant(to, cluster)))
            }
            What::Clusters(not) => {
                let mut clusters = answer.clusters.iter();
                clusters.any(|cluster| not.iter().any(|name| **name == *cluster.name))
            }
            What::Flags(not) => {
                let mut flags = answer.flags.iter();
                flags.any(|flag| not.iter().any(|not| **not == **flag))
            }
            _ => self.meets(what).is_ok(),
        }
    }

    fn meets_clusters(&self, want: &[String]) -> Result<(), String> {
        let clusters = self.explanation.clusters.iter();
        let mut got: Vec<&str> = clusters.map(|cluster| &*cluster.name).collect();
        let mut want: Vec<&str> = want.iter().map(String::as_str).collect();
        got.sort_unstable();
        want.sort_unstable();
        check(got == want, || self.shown_clusters())
    }

    /// Each is meant by one, and means one.
    fn meets_destinations(&self, want: &[To]) -> Result<(), String> {
        let clusters = &self.explanation.clusters;
        let mut left: Vec<&ClusterShare> = clusters.iter().collect();
        let all = want.iter().all(|to| {
            let found = left.iter().position(|cluster| self.is_meant(to, cluster));
            found.map(|at| left.remove(at)).is_some()
        });
        check(all && left.is_empty(), || self.shown_clusters())
    }

    fn is_meant(&self, to: &To, cluster: &ClusterShare) -> bool {
        let parts: Vec<&str> = cluster.name.splitn(4, '|').collect();
        let [_, port, subset, host] = parts[..] else {
            return to.host.as_deref() == Some(&*cluster.name);
        };
        let called = |want: &String| {
            let service = self.objects.service(want, self.namespace);
            want == host || service.is_some_and(|service| *service.host == *host)
        };
        to.host.as_ref().is_none_or(called)
            && to.subset.as_deref().is_none_or(|want| want == subset)
            && to.port.is_none_or(|want| port.parse() == Ok(want))
            && to.weight.is_none_or(|want| want == cluster.weight)
    }

    fn shown_clusters(&self) -> String {
        let clusters = self.explanation.clusters.iter();
        let shown: Vec<String> = clusters.map(shown_cluster).collect();
        listed(&shown)
    }

    fn meets_rule(&self, want: &str) -> Result<(), String> {
        let rules = self.explanation.config.iter();
        let names = rules.map(|rule| format!("{} {}/{}", rule.kind, rule.namespace, rule.name));
        let names: Vec<String> = names.collect();
        let is_meant = |name: &String| {
            name == want || name.split_once(' ').is_some_and(|(_, name)| name == want)
        };
        check(names.iter().any(is_meant), || listed(&names))
    }

    fn forward(&self) -> Result<&Forward, String> {
        let route = self.explanation.matched.as_ref();
        match route.map(|route| &route.action) {
            Some(RouteAction::Forward(forward)) => Ok(forward),
            _ => Err("no route that forwards".to_owned()),
        }
    }

    fn fault(&self) -> Option<&Fault> {
        self.explanation.matched.as_ref()?.fault.as_ref()
    }

    fn request_header(&self, name: &str) -> Option<String> {
        let upstream = self.explanation.upstream.as_ref()?;
        let lines = upstream.headers.all(name);
        joined(lines.map(|line| String::from_utf8_lossy(line).into_owned()))
    }

    fn response_header(&self, name: &str) -> Option<String> {
        let lines = self.explanation.response_headers.iter();
        let lines = lines.filter(|(line, _)| **line == *name);
        joined(lines.map(|(_, value)| value.clone()))
    }
}

fn meets_retries(want: &Retries, forward: &Forward) -> Result<(), String> {
    let Some(got) = &forward.retry else {
        return check(want.attempts == 0, || "none".to_owned());
    };
    let on = want.on.as_ref().is_none_or(|(conditions, statuses)| {
        *conditions == got.retry_on && *statuses == got.retriable_status_codes
    });
    let per_try = want.per_try_timeout;
    let holds = want.attempts == got.num_retries
        && on
        && per_try.is_none_or(|want| got.per_try_timeout == Some(want));
    check(holds, || {
        let mut shown = format!("{} attempts", got.num_retries);
        if let Some(span) = got.per_try_timeout {
            shown += &format!(" of {}", shown_span(Some(span)));
        }
        match &want.on {
            Some(_) => shown + " on other conditions or these",
            None => shown,
        }
    })
}

fn check(holds: bool, got: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(got()) }
}

fn same(want: &str, got: Option<&str>) -> Result<(), String> {
    check(got == Some(want), || {
        got.map_or_else(|| "none".to_owned(), str::to_owned)
    })
}

fn same_or_nothing(want: &Option<String>, got: Option<String>) -> Result<(), String> {
    check(got == *want, || {
        got.clone().unwrap_or_else(|| "none".to_owned())
    })
}

/// Lines of one name as one, as HTTP joins them.
fn joined(lines: impl Iterator<Item = String>) -> Option<String> {
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join(", "))
}

fn listed(items: &[String]) -> String {
    match items {
        [] => "none".to_owned(),
        items => items.join(", "),
    }
}

fn shown_action(answer: &Explanation) -> String {
    let action = serde_json::to_value(answer.action).unwrap_or_default();
    action.as_str().unwrap_or_default().to_owned()
}

fn shown_cluster(cluster: &ClusterShare) -> String {
    let parts: Vec<&str> = cluster.name.splitn(4, '|').collect();
    let [_, port, subset, host] = parts[..] else {
        return format!("{} ({})", cluster.name, cluster.weight);
    };
    let subset = match subset {
        "" => String::new(),
        subset => format!(" subset {subset}"),
    };
    format!("{host}:{port}{subset} ({})", cluster.weight)
}

fn shown_span(span: Option<Nanos>) -> String {
    match span {
        None => "none".to_owned(),
        Some(span) if span.0 % 1_000_000_000 == 0 => format!("{}s", span.0 / 1_000_000_000),
        Some(span) if span.0 % 1_000_000 == 0 => format!("{}ms", span.0 / 1_000_000),
        Some(span) => format!("{}ns", span.0),
    }
}
