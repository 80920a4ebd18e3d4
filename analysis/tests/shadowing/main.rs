//! Random rule sets: what is said to be never reached is not, by search, and what is covered on
//! purpose is found. MESHSIM_SLOW=1 takes a thousand sets and a hundred thousand tries of each match.

#![allow(clippy::unwrap_used, clippy::panic)]

mod rules;

use analysis::{Documents, never_reached};
use control_plane::{HttpRuleMatch, explain};
use proxy_core::head::{Headers, RequestHead};
use proxy_core::router::{matches, path_of};
use proxy_core::xds::{RouteAction, RouteTable};
use request_set::{Reach, Witness};
use rules::{Dice, HEADERS, METHODS, PATHS, QUERY, Set, VALUES, claims};
use std::collections::BTreeSet;

/// Rule sets, and tries of each match that is said to be never reached.
fn effort() -> (u64, usize) {
    match std::env::var_os("MESHSIM_SLOW") {
        Some(_) => (1000, 100_000),
        None => (60, 1000),
    }
}

/// What `explain` says of `witness`: the status of the rule that answers it.
fn answered(set: &Set, witness: &Witness) -> Option<u16> {
    let (pod, request) = set.request(witness);
    explain(&set.resources[pod], &request).status
}

#[test]
fn what_is_covered_is_found_and_what_is_found_is_covered() {
    let (sets, tries) = effort();
    let (mut reached, mut never, mut impossible, mut planted, mut aimed) = (0, 0, 0, 0, 0);
    for number in 0..sets {
        let set = Set::new(number);
        let all = set.matches();
        let mut unreached = BTreeSet::new();
        for ((status, one), claim) in all.iter().zip(claims(&all)) {
            let about = || format!("{status} of\n{}\n{claim:?}", set.text);
            match &claim {
                Reach::Reached(witness) => {
                    assert_eq!(answered(&set, witness), Some(*status), "{}", about());
                    reached += 1;
                }
                Reach::Never {
                    asks,
                    taken_by,
                    takers,
                } => {
                    assert_eq!(answered(&set, asks), Some(all[*taken_by].0), "{}", about());
                    assert!(takers.iter().all(|&taker| all[taker].0 <= *status));
                    let mut dice = Dice::new(number << 16 | u64::from(*status));
                    let siblings = all
                        .iter()
                        .filter(|(of, other)| of == status && !std::ptr::eq(other, one));
                    let siblings: Vec<&HttpRuleMatch> = siblings.map(|(_, other)| other).collect();
                    let rule = Rule {
                        status: *status,
                        one,
                        siblings,
                    };
                    aimed += search(&set, &rule, asks, tries, &mut dice);
                    never += 1;
                }
                Reach::Impossible(_) => impossible += 1,
                Reach::Undecided(why) => panic!("{why:?}: {}", about()),
            }
            let is_reached = matches!(claim, Reach::Reached(_));
            unreached.extend((!is_reached).then_some((one.rule.line(), *status)));
            if set.planted.contains(status) {
                assert!(!is_reached, "{}", about());
                planted += 1;
            }
        }
        // What is told has the same places.
        let mut found = Vec::new();
        let documents = Documents::read(&set.file, &mut found);
        never_reached(&documents, &set.objects, &mut found);
        let told: BTreeSet<u32> = found
            .iter()
            .flat_map(|one| &one.span)
            .map(|s| s.line())
            .collect();
        let lines: BTreeSet<u32> = unreached.iter().map(|(line, _)| *line).collect();
        assert_eq!(
            told,
            lines,
            "{}\n{}",
            set.text,
            source::render(&found, false)
        );
    }
    println!(
        "{sets} sets: {reached} matches reached, {never} never reached ({planted} planted), {impossible} \
         impossible; {aimed} requests that asked for one of them"
    );
    assert!(never > 50 && reached > 100 && aimed > tries);
}

/// A rule one of whose matches is said to be never reached.
struct Rule<'a> {
    status: u16,
    one: &'a HttpRuleMatch,
    /// Its other matches, which may be.
    siblings: Vec<&'a HttpRuleMatch>,
}

/// Tries requests near to `asks`, none of which may get to the rule by that match; how many of them
/// meet its condition.
fn search(set: &Set, rule: &Rule<'_>, asks: &Witness, tries: usize, dice: &mut Dice) -> usize {
    let (pod, request) = set.request(asks);
    let port = request.address.unwrap().port().to_string();
    let tables = &set.resources[pod].routes;
    let table = tables.iter().find(|table| *table.name == *port).unwrap();
    let meets =
        |one: &HttpRuleMatch, head: &RequestHead| matches(&one.request, path_of(&head.path), head);
    let mut met = 0;
    for _ in 0..tries {
        let head = near(asks, dice);
        if !meets(rule.one, &head) {
            continue;
        }
        met += 1;
        let reached = answer(table, &head) == Some(rule.status);
        let otherwise = rule.siblings.iter().any(|one| meets(one, &head));
        assert!(!reached || otherwise, "{head:?} of\n{}", set.text);
    }
    met
}

fn answer(table: &RouteTable, head: &RequestHead) -> Option<u16> {
    let (_, route) = table.find(head, 0)?.route?;
    match route.action {
        RouteAction::DirectResponse { status, .. } => Some(status),
        _ => None,
    }
}

/// A request that has some of `asks`, and some of everything else.
fn near(asks: &Witness, dice: &mut Dice) -> RequestHead {
    let mut head = asks.head();
    let (path, query) = head.path.split_once('?').unwrap_or((&head.path, ""));
    let mut path = path.to_owned();
    if dice.percent(50) {
        path += dice.of(&["x", "/", "/b", "1", ".html", "A", "/x/y"]);
    }
    if dice.percent(20) {
        path = dice.of(&PATHS).to_owned();
    }
    if dice.percent(10) {
        path = path.to_ascii_uppercase();
    }
    let mut pairs: Vec<String> = query.split('&').map(str::to_owned).collect();
    for name in QUERY {
        if dice.percent(20) {
            pairs.retain(|pair| !pair.starts_with(name));
            let value = format!("{name}={}", dice.of(&VALUES));
            pairs.extend(dice.percent(70).then_some(value));
        }
    }
    pairs.retain(|pair| !pair.is_empty());
    if !pairs.is_empty() {
        path = format!("{path}?{}", pairs.join("&"));
    }
    head.path = path.into();
    if dice.percent(20) {
        head.method = dice.of(&METHODS).into();
    }
    let mut headers = Headers::default();
    for name in HEADERS.into_iter().chain(["x-more", "x-split"]) {
        let own: Vec<&[u8]> = head.headers.all(name).collect();
        if dice.percent(70) {
            own.iter()
                .for_each(|value| headers.append(name.into(), value));
        }
        while dice.percent(25) {
            let mut value = dice.of(&VALUES).as_bytes().to_vec();
            if let Some(first) = own.first().filter(|_| dice.percent(50)) {
                value = [first, &value[..]].concat();
            }
            headers.append(name.into(), &value);
        }
    }
    head.headers = headers;
    head
}
