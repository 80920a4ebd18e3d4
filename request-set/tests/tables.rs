//! Small tables whose answers are known.

#![allow(clippy::unwrap_used, clippy::panic)]

use proxy_core::xds::{
    Fraction, HeaderMatch, PathMatch, QueryMatch, Regex, RouteMatch, StringMatch, ValueMatch,
};
use request_set::*;

fn path(path: PathMatch) -> RouteMatch {
    RouteMatch {
        path,
        ..RouteMatch::default()
    }
}

fn exact(text: &str) -> RouteMatch {
    path(PathMatch::Exact(text.into()))
}

fn prefix(text: &str) -> RouteMatch {
    path(PathMatch::Prefix(text.into()))
}

fn separated(text: &str) -> RouteMatch {
    path(PathMatch::SeparatedPrefix(text.into()))
}

fn regex(source: &str) -> RouteMatch {
    path(PathMatch::Regex(Regex::new(source).unwrap()))
}

fn is(text: &str) -> ValueMatch {
    ValueMatch::String(StringMatch::Exact(text.into()))
}

fn like(source: &str) -> ValueMatch {
    ValueMatch::String(StringMatch::Regex(Regex::new(source).unwrap()))
}

fn header(mut rule: RouteMatch, name: &str, value: ValueMatch) -> RouteMatch {
    rule.headers.push(HeaderMatch {
        name: name.into(),
        value,
        invert: false,
        treat_missing_as_empty: false,
    });
    rule
}

fn without(rule: RouteMatch, name: &str, value: ValueMatch) -> RouteMatch {
    let mut rule = header(rule, name, value);
    if let Some(header) = rule.headers.last_mut() {
        header.invert = true;
        header.treat_missing_as_empty = header.value != ValueMatch::Present(true);
    }
    rule
}

fn query(mut rule: RouteMatch, name: &str, value: ValueMatch) -> RouteMatch {
    rule.query.push(QueryMatch {
        name: name.into(),
        value,
    });
    rule
}

fn share(mut rule: RouteMatch, numerator: u32, denominator: u32) -> RouteMatch {
    rule.fraction = Some(Fraction {
        numerator,
        denominator,
    });
    rule
}

fn anycase(mut rule: RouteMatch) -> RouteMatch {
    rule.case_sensitive = false;
    rule
}

/// What becomes of the last rule, in short.
fn last(rules: &[RouteMatch]) -> String {
    let conditions: Vec<Condition<'_>> = rules.iter().map(Condition::of).collect();
    let answers = reach(&conditions, &Domain::default());
    match answers.last().unwrap() {
        Reach::Reached(witness) => witness.to_string(),
        Reach::Never { asks, takers, .. } => format!("{takers:?} take {asks}"),
        other => format!("{other:?}"),
    }
}

#[test]
fn paths() {
    let table: &[(&[RouteMatch], &str)] = &[
        (&[prefix("/"), exact("/a")], "[0] take GET http://x/a"),
        (&[exact("/a"), prefix("/a")], "GET http://x/ax"),
        (&[separated("/a"), prefix("/a")], "GET http://x/ax"),
        (&[prefix("/a"), separated("/a")], "[0] take GET http://x/a"),
        (
            &[exact("/a"), prefix("/a/"), separated("/a")],
            "[0, 1] take GET http://x/a",
        ),
        (
            &[regex("/v[0-9]+(/.*)?"), separated("/v1")],
            "[0] take GET http://x/v1",
        ),
        (&[regex("/v[0-9]+"), separated("/v1")], "GET http://x/v1/"),
        (
            &[prefix("/v1"), prefix("/v2"), regex("/v[12].*")],
            "[0, 1] take GET http://x/v1",
        ),
        (
            &[prefix("/v1"), prefix("/v2"), regex("/v[123].*")],
            "GET http://x/v3",
        ),
        (
            &[anycase(prefix("/ADMIN")), exact("/admin/x")],
            "[0] take GET http://x/admin/x",
        ),
        (
            &[exact("/admin"), anycase(exact("/admin"))],
            "GET http://x/admiN",
        ),
        (&[regex(".*"), exact("/b")], "[0] take GET http://x/b"),
        // `.` is any byte but a line break, and no path has that.
        (&[regex("/.*"), prefix("/")], "[0] take GET http://x/"),
        (&[prefix("/"), exact("a")], "Impossible(Path)"),
        (&[prefix("/"), exact("/a?b=1")], "Impossible(Path)"),
        // Paths are normalised before they are matched.
        (&[exact("/a/../b")], "Impossible(Path)"),
        (&[regex("/a%2[Ff]b")], "GET http://x/a%2fb"),
        (&[exact("/%41")], "Impossible(Path)"),
        (&[exact("/a//b")], "GET http://x/a//b"),
    ];
    for (rules, want) in table {
        assert_eq!(last(rules), *want, "{rules:?}");
    }
}

#[test]
fn headers() {
    let all = || prefix("/");
    let table: &[(&[RouteMatch], &str)] = &[
        (
            &[
                header(all(), "u", like("j.*")),
                header(exact("/a"), "u", is("jason")),
            ],
            "[0] take GET http://x/a -H 'u: jason'",
        ),
        (
            &[
                header(all(), "u", is("jason")),
                header(all(), "u", like("j.*")),
            ],
            "GET http://x/ -H 'u: j'",
        ),
        (
            &[
                header(all(), "u", ValueMatch::Present(true)),
                without(all(), "u", ValueMatch::Present(true)),
                all(),
            ],
            "[0, 1] take GET http://x/",
        ),
        // Two lines: one of them is jason, another is not.
        (
            &[
                without(all(), "u", is("jason")),
                header(all(), "u", like("a+")),
            ],
            "GET http://x/ -H 'u: a' -H 'u: jason'",
        ),
        (
            &[
                without(all(), "u", is("jason")),
                header(all(), "u", is("jason")),
                all(),
            ],
            "[0, 1] take GET http://x/",
        ),
        (
            &[header(header(all(), "u", is("a")), "u", is("b"))],
            "GET http://x/ -H 'u: a' -H 'u: b'",
        ),
        (
            &[header(
                header(all(), ":method", is("GET")),
                ":method",
                is("PUT"),
            )],
            "Impossible(Method)",
        ),
        (
            &[
                header(all(), ":method", like("GET|POST")),
                header(all(), ":method", is("POST")),
            ],
            "[0] take POST http://x/",
        ),
        (
            &[header(all(), ":method", is("GET")), all()],
            "POST http://x/",
        ),
        (
            &[
                header(all(), ":scheme", is("http")),
                header(all(), ":scheme", is("https")),
                all(),
            ],
            "[0, 1] take GET http://x/",
        ),
        (&[header(all(), ":scheme", is("ftp"))], "Impossible(Scheme)"),
        (&[header(all(), "u", is(" a"))], "Impossible(Header(\"u\"))"),
    ];
    for (rules, want) in table {
        assert_eq!(last(rules), *want, "{rules:?}");
    }
}

#[test]
fn queries_and_chance() {
    let all = || prefix("/");
    let table: &[(&[RouteMatch], &str)] = &[
        (
            &[
                query(all(), "v", ValueMatch::Present(true)),
                query(all(), "v", is("1")),
            ],
            "[0] take GET http://x/?v=1",
        ),
        (
            &[query(all(), "v", is("1")), query(all(), "v", like("[0-9]"))],
            "GET http://x/?v=0",
        ),
        (
            &[query(query(all(), "a", is("1")), "b", is("2"))],
            "GET http://x/?a=1&b=2",
        ),
        (&[query(all(), "v", is("1&2"))], "Impossible(Query(\"v\"))"),
        (
            &[share(all(), 50, 100), share(all(), 5000, 10_000)],
            "GET http://x/",
        ),
        (
            &[share(all(), 50, 100), share(all(), 40, 100)],
            "[0] take GET http://x/",
        ),
        (&[share(all(), 100, 100), all()], "[0] take GET http://x/"),
    ];
    for (rules, want) in table {
        assert_eq!(last(rules), *want, "{rules:?}");
    }
}

#[test]
fn circumstances() {
    let all = prefix("/");
    let given = |name: &str, values: &[&str]| Given {
        name: name.into(),
        values: values.iter().map(|&value| value.into()).collect(),
    };
    let of = |given: Vec<Given>| Condition {
        request: &all,
        given,
    };
    let port = |value| of(vec![given("port", &[value])]);
    let both = of(vec![given("port", &["80"]), given("app", &["a"])]);
    let mut domain = Domain::default();
    let table = [port("80"), both, port("81"), of(Vec::new())];
    let answers = reach(&table, &domain);
    assert!(matches!(&answers[1], Reach::Never { takers, .. } if *takers == [0]));
    let Reach::Reached(witness) = &answers[3] else {
        panic!("{answers:?}");
    };
    assert_eq!(witness.given, []);
    domain
        .given
        .insert("port".into(), vec!["80".into(), "81".into()]);
    let answers = reach(&table, &domain);
    assert!(matches!(&answers[3], Reach::Never { takers, .. } if *takers == [0, 2]));
}

#[test]
fn authorities() {
    let rules = [
        header(prefix("/"), ":authority", like("(?i)reviews(:[0-9]+)?")),
        prefix("/"),
    ];
    let conditions: Vec<Condition<'_>> = rules.iter().map(Condition::of).collect();
    let mut domain = Domain::default();
    let of = |domain: &Domain| reach(&conditions, domain).pop().unwrap();
    assert!(matches!(of(&domain), Reach::Reached(_)));
    domain.authorities = Authorities::OneOf(vec!["reviews:9080".into(), "Reviews".into()]);
    assert!(matches!(of(&domain), Reach::Never { .. }));
    let pattern = Regex::new("(?i)reviews(:[0-9]*)?").unwrap();
    domain.authorities = Authorities::Matching(pattern, vec!["reviews:9080".into()]);
    let Reach::Reached(witness) = of(&domain) else {
        panic!();
    };
    assert_eq!(&*witness.authority, "reviews:");
}

#[test]
fn two_tables() {
    let old = [exact("/a"), prefix("/a"), prefix("/")];
    let new = [prefix("/a"), header(prefix("/"), "u", is("j"))];
    let of = |table: &'static [RouteMatch]| -> Vec<Condition<'static>> {
        table.iter().map(Condition::of).collect()
    };
    let found = overlaps(
        &of(Box::leak(Box::new(old))),
        &of(Box::leak(Box::new(new))),
        &Domain::default(),
        |_, _| true,
    );
    let found: Vec<String> = found
        .iter()
        .map(|one| {
            format!(
                "{:?} {:?} {}",
                one.old,
                one.new,
                one.example.as_ref().unwrap()
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            "Some(0) Some(0) GET http://x/a",
            "Some(1) Some(0) GET http://x/ax",
            "Some(2) None GET http://x/",
            "Some(2) Some(1) GET http://x/ -H 'u: j'",
        ]
    );
}

/// The path with its query is no place of its own: what is certain all the same is told.
#[test]
fn path_and_query_as_a_header() {
    let of = |text: &str| header(prefix("/"), ":path", is(text));
    let unknown = "Undecided(Place(Header(\":path\")))";
    assert_eq!(last(&[of("/b")]), unknown);
    assert_eq!(last(&[of("/a"), prefix("/")]), "GET http://x/");
    assert_eq!(last(&[prefix("/"), of("/")]), "[0] take GET http://x/");
}

/// Expressions whose automaton together is exponential: never wrong, and no waiting.
#[test]
fn too_much_is_undecided() {
    let hard = |at: usize| regex(&format!("/.*a.{{{at}}}b.*"));
    let rules: Vec<RouteMatch> = (10..40)
        .map(hard)
        .chain([exact("/x"), prefix("/")])
        .collect();
    let conditions: Vec<Condition<'_>> = rules.iter().map(Condition::of).collect();
    let answers = reach(&conditions, &Domain::default());
    assert!(
        answers
            .iter()
            .all(|answer| !matches!(answer, Reach::Never { .. }))
    );
    assert!(matches!(
        answers[0],
        Reach::Reached(_) | Reach::Undecided(_)
    ));
}

/// None of them names a path, and each has its equal in the other table.
#[test]
fn many_matches_are_compared_with_as_many() {
    const MATCHES: usize = 400;
    let table = || -> Vec<RouteMatch> {
        let one = |at| header(prefix("/"), &format!("h{at}"), is("v"));
        (0..MATCHES).map(one).collect()
    };
    let (old, new) = (table(), table());
    let old: Vec<Condition<'_>> = old.iter().map(Condition::of).collect();
    let new: Vec<Condition<'_>> = new.iter().map(Condition::of).collect();
    let found = overlaps(&old, &new, &Domain::default(), |old, new| {
        old.is_some() || new.is_some()
    });
    let pairs: Vec<_> = found.iter().map(|one| (one.old, one.new)).collect();
    let equal: Vec<_> = (0..MATCHES).map(|at| (Some(at), Some(at))).collect();
    assert_eq!(pairs, equal);
    assert!(found.iter().all(|one| one.example.is_ok()));
}
