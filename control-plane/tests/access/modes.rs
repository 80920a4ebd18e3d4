//! PeerAuthentication.

use super::{ask, get, policy, status};
use control_plane::{Request, RequestProtocol, RequestTls};

#[test]
fn what_secures_a_connection_has_to_fit() {
    let request = get("http://web.shop:8080/");
    let mode = |mode: &str| {
        policy(
            "PeerAuthentication",
            "shop",
            "mode",
            &format!("{{mtls: {{mode: {mode}}}}}"),
        )
    };
    let asked = |mode_of: &str, tls: RequestTls, protocol: RequestProtocol| {
        let port = if protocol == RequestProtocol::Tcp {
            3306
        } else {
            8080
        };
        let request = Request {
            tls,
            protocol,
            ..get(&format!("http://web.shop:{port}/"))
        };
        let answer = ask(&[mode(mode_of)], "shop/web-0", "job-0", &request);
        let ended = match (&answer.details, answer.clusters.is_empty()) {
            (None, false) => "forwarded".to_owned(),
            (details, _) => details.as_deref().unwrap_or("closed").to_owned(),
        };
        (ended, answer.trail)
    };
    use RequestProtocol::{Http, Tcp};
    use RequestTls::{Mtls, None as Plain, Tls};
    for (mode, tls, protocol, want) in [
        ("PERMISSIVE", Plain, Http, "forwarded"),
        ("PERMISSIVE", Mtls, Http, "forwarded"),
        ("PERMISSIVE", Tls, Http, "filter_chain_not_found"),
        ("PERMISSIVE", Tls, Tcp, "forwarded"),
        ("STRICT", Plain, Http, "filter_chain_not_found"),
        ("STRICT", Plain, Tcp, "filter_chain_not_found"),
        ("STRICT", Mtls, Http, "forwarded"),
        ("STRICT", Mtls, Tcp, "forwarded"),
        ("DISABLE", Plain, Http, "forwarded"),
        ("DISABLE", Mtls, Http, "http1.codec_error"),
        ("DISABLE", Mtls, Tcp, "forwarded"),
    ] {
        let (ended, trail) = asked(mode, tls, protocol);
        assert_eq!(ended, want, "{mode} {tls:?} {protocol:?}: {trail:?}");
    }
    let said = asked("STRICT", Plain, Http).1.join("; ");
    assert!(
        said.contains("plain text comes where mutual TLS is all that is taken"),
        "{said}"
    );
    let said = asked("PERMISSIVE", Tls, Http).1.join("; ");
    assert!(
        said.contains("TLS that is not Istio's comes where plain text and mutual TLS are taken"),
        "{said}"
    );
    let said = asked("DISABLE", Mtls, Http).1.join("; ");
    assert!(said.contains("which does not end here"), "{said}");
    assert_eq!(status(&[], "front-0", &request), 200);
}

#[test]
fn the_narrowest_mode_holds() {
    let of = |namespace: &str, name: &str, spec: &str| {
        policy("PeerAuthentication", namespace, name, spec)
    };
    let whole = |namespace: &str, mode: &str| {
        of(namespace, "whole", &format!("{{mtls: {{mode: {mode}}}}}"))
    };
    let own = |rest: &str| {
        of(
            "shop",
            "own",
            &format!("{{selector: {{matchLabels: {{app: web}}}}, {rest}}}"),
        )
    };
    let plain = get("http://web.shop:8080/");
    for (policies, want) in [
        (vec![whole("istio-system", "STRICT")], 0),
        (
            vec![whole("istio-system", "STRICT"), whole("shop", "PERMISSIVE")],
            200,
        ),
        (
            vec![whole("istio-system", "STRICT"), whole("shop", "UNSET")],
            0,
        ),
        (
            vec![whole("shop", "STRICT"), own("mtls: {mode: DISABLE}")],
            200,
        ),
        (vec![whole("shop", "STRICT"), own("mtls: {mode: UNSET}")], 0),
        (
            vec![
                whole("shop", "PERMISSIVE"),
                own("portLevelMtls: {8080: {mode: STRICT}}"),
            ],
            0,
        ),
        // Ports are those of the workload, not of its Services.
        (
            vec![
                whole("shop", "PERMISSIVE"),
                own("portLevelMtls: {80: {mode: STRICT}}"),
            ],
            200,
        ),
        (
            vec![
                whole("shop", "STRICT"),
                own("portLevelMtls: {8080: {mode: UNSET}}"),
            ],
            0,
        ),
        (
            vec![own(
                "mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}",
            )],
            200,
        ),
        (
            vec![of(
                "istio-system",
                "own",
                "{selector: {matchLabels: {app: web}}, mtls: {mode: STRICT}}",
            )],
            200,
        ),
        (vec![of("batch", "whole", "{mtls: {mode: STRICT}}")], 200),
    ] {
        assert_eq!(status(&policies, "job-0", &plain), want, "{policies:?}");
    }
}
