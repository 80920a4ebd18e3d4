//! Who gets through the RBAC and JWT filters, and what the others are told, against what Envoy does.

mod support;

use proxy_core::contract::*;
use proxy_core::head::RequestHead;
use proxy_core::xds::*;
use std::sync::Arc;
use support::*;

/// A filter of one policy that matches where the condition holds.
fn filter(action: RbacAction, condition: Condition) -> Rbac {
    Rbac {
        action,
        policies: vec![RbacPolicy {
            name: "some".into(),
            permissions: vec![Condition::Any],
            principals: vec![condition],
            origin: None,
        }],
    }
}

fn guarded(change: impl FnOnce(&mut FilterChain, &mut HttpConnectionManager)) -> Listener {
    let mut guarded = listener();
    let chain = &mut guarded.filter_chains[0];
    let NetworkFilter::Http(manager) = &chain.filter else {
        unreachable!("it is a manager's")
    };
    let mut manager = manager.clone();
    change(chain, &mut manager);
    chain.filter = NetworkFilter::Http(manager);
    guarded
}

/// Requests come on connection 1, which the listener sees.
fn world(listener: Listener, opened: Opened) -> World {
    let mut route = route("/", RouteAction::Forward(to_c()));
    route.fault = Some(Fault {
        delay: None,
        abort: Some(FaultAbort {
            status: 418,
            grpc_status: None,
            fraction_ppm: 1_000_000,
        }),
        max_active_faults: None,
    });
    let mut world = World::with_routes(vec![route]);
    world.cluster(cluster(), vec![(1, 0)]);
    world.xds(XdsDelta::Listeners {
        upsert: vec![Arc::new(listener)],
        remove: vec![],
    });
    world.input(Input::Opened(opened));
    world
}

fn asked(filters: Vec<Rbac>, opened: Opened, head: RequestHead) -> World {
    let mut world = world(guarded(|_, manager| manager.rbac = filters), opened);
    world.request_on(0, 1, head);
    world.run(1000);
    world
}

fn path(text: &str) -> Condition {
    Condition::Path(StringMatch::Prefix(text.into()))
}

#[test]
fn filters_deny_in_order_and_before_faults() {
    let filters = || {
        vec![
            filter(RbacAction::Deny, path("/a")),
            filter(RbacAction::Allow, path("/b")),
        ]
    };
    for (path, status, details) in [
        ("/a", 403, "rbac_access_denied_matched_policy[some]"),
        ("/b?q", 418, "fault_filter_abort"),
        ("/c", 403, "rbac_access_denied_matched_policy[none]"),
    ] {
        let w = asked(filters(), opened(1), head(path, &[]));
        let (got, flags, said, _) = w.outcome(0);
        assert_eq!((got, &*said), (status, details), "{path}");
        if status == 403 {
            assert_eq!(flags, "-");
            assert_eq!(w.response(0).1, "RBAC: access denied");
        }
        settled(&w, 1);
    }
    let grpc = [("content-type", "application/grpc")];
    let w = asked(filters(), opened(1), head("/a", &grpc));
    let (answer, _) = w.response(0);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers.get("grpc-status"), Some(&b"7"[..]));
}

#[test]
fn conditions_on_the_connection() {
    let range = |text: &str| {
        let (address, length) = text.split_once('/').unwrap();
        IpRange {
            address: address.parse().unwrap(),
            prefix_length: length.parse().unwrap(),
        }
    };
    let text = |text: &str| StringMatch::Exact(text.into());
    let not = |one: Condition| Condition::Not(Box::new(one));
    let mut tls = opened(1);
    tls.tls = Some(DownstreamTls {
        sni: Some("a.example".into()),
        mutual: true,
        principal: Some("spiffe://cluster.local/ns/n/sa/a".into()),
    });
    let forwarded = [("x-forwarded-for", "192.0.2.1, 203.0.113.7")];
    for (condition, plain, secured) in [
        (Condition::DirectRemoteIp(range("127.0.0.0/8")), true, true),
        (
            Condition::DirectRemoteIp(range("203.0.113.0/24")),
            false,
            false,
        ),
        (Condition::RemoteIp(range("203.0.113.7/32")), true, true),
        (Condition::RemoteIp(range("192.0.2.1/32")), false, false),
        (Condition::RemoteIp(range("::/0")), false, false),
        (Condition::DestinationIp(range("127.0.0.1/32")), true, true),
        (Condition::DestinationPort(28000), true, true),
        (Condition::ServerName(text("a.example")), false, true),
        (Condition::ServerName(text("")), true, false),
        (
            Condition::Authenticated(text("spiffe://cluster.local/ns/n/sa/a")),
            false,
            true,
        ),
        (
            not(Condition::Authenticated(StringMatch::Prefix("".into()))),
            true,
            false,
        ),
        (Condition::Or(vec![]), false, false),
        (Condition::And(vec![]), true, true),
    ] {
        for (opened, allowed) in [(opened(1), plain), (tls.clone(), secured)] {
            let ends = opened.tls.is_some();
            let listener = guarded(|chain, manager| {
                chain.terminates_tls = ends;
                manager.rbac = vec![filter(RbacAction::Allow, condition.clone())];
            });
            let mut w = world(listener, opened);
            w.request_on(0, 1, head("/", &forwarded));
            w.run(1000);
            let want = if allowed { 418 } else { 403 };
            assert_eq!(w.outcome(0).0, want, "{condition:?}, TLS {ends}");
        }
    }
}

#[test]
fn gateways_do_not_believe_what_clients_forward() {
    let from = IpRange {
        address: "203.0.113.7".parse().unwrap(),
        prefix_length: 32,
    };
    let listener = guarded(|_, manager| {
        manager.use_remote_address = true;
        manager.rbac = vec![filter(RbacAction::Deny, Condition::RemoteIp(from))];
    });
    let mut w = world(listener, opened(1));
    w.request_on(0, 1, head("/", &[("x-forwarded-for", "203.0.113.7")]));
    w.run(1000);
    assert_eq!(w.outcome(0).0, 418);
}

fn closed(w: &World) -> bool {
    let downstream = downstream(1);
    let close = Action::CloseDownstream { downstream };
    w.actions.iter().any(|(_, action)| *action == close)
}

#[test]
fn connections_that_are_not_let_in_are_closed() {
    let within = |address: &str| IpRange {
        address: address.parse().unwrap(),
        prefix_length: 8,
    };
    for (address, want) in [("127.0.0.0", true), ("10.0.0.0", false)] {
        let condition = Condition::DirectRemoteIp(within(address));
        let listener = guarded(|chain, _| chain.rbac = vec![filter(RbacAction::Deny, condition)]);
        assert_eq!(closed(&world(listener, opened(1))), want, "{address}");
    }
    let mut tls = opened(1);
    tls.tls = Some(DownstreamTls {
        sni: None,
        mutual: false,
        principal: None,
    });
    for (opened, ends, want) in [
        (opened(1), false, false),
        (opened(1), true, true),
        (tls.clone(), true, false),
        (tls, false, true),
    ] {
        let listener = guarded(|chain, _| chain.terminates_tls = ends);
        assert_eq!(closed(&world(listener, opened)), want);
    }
}

#[test]
fn a_wrong_token_is_challenged_before_anything_else() {
    let provider = JwtProvider {
        issuer: "a".into(),
        audiences: vec!["x".into()],
        from_headers: vec![],
        from_params: vec![],
        from_cookies: vec![],
        forward: false,
        forward_payload_header: None,
        claim_to_headers: vec![],
        space_delimited_claims: vec![],
        origin: None,
    };
    let jwt = || {
        Some(JwtAuthentication {
            providers: vec![provider.clone()],
            clear_route_cache: false,
        })
    };
    for (token, status, details) in [
        (
            "abc",
            401,
            "jwt_authn_access_denied{Jwt_is_not_in_the_form_of_Header.Payload.Signature_with_two_dots_and_3_sections}",
        ),
        (
            r#"{"iss": "b"}"#,
            401,
            "jwt_authn_access_denied{Jwt_issuer_is_not_configured}",
        ),
        (
            r#"{"iss": "a"}"#,
            403,
            "jwt_authn_access_denied{Audiences_in_Jwt_are_not_allowed}",
        ),
        (
            r#"{"iss": "a", "aud": "x"}"#,
            403,
            "rbac_access_denied_matched_policy[none]",
        ),
        (
            r#"{"iss": "a", "aud": "x", "sub": "ann"}"#,
            418,
            "fault_filter_abort",
        ),
    ] {
        let ann = Condition::Claim(ClaimMatch {
            path: vec!["sub".into()],
            values: vec![StringMatch::Exact("ann".into())],
            in_list: false,
            invert: false,
        });
        let listener = guarded(|_, manager| {
            manager.jwt = jwt();
            manager.rbac = vec![filter(RbacAction::Allow, ann)];
        });
        let mut w = world(listener, opened(1));
        let header = format!("Bearer {token}");
        w.request_on(0, 1, head("/p?q=1", &[("authorization", &header)]));
        w.run(1000);
        let (got, _, said, _) = w.outcome(0);
        assert_eq!((got, &*said), (status, details), "{token}");
        let challenge = w.response(0).0.headers.get("www-authenticate");
        let want: &[u8] = br#"Bearer realm="http://a.example/p?q=1", error="invalid_token""#;
        assert_eq!(
            challenge,
            said.starts_with("jwt").then_some(want),
            "{token}"
        );
    }
}
