//! Answers that are not those recorded, each with its reason.

/// For good: `(case, item, why)`. At most three.
pub const EXPLAINED: [(&str, usize, &str); 2] = [
    (
        "61-client-envoy-headers",
        8,
        "header lines of one connection stay with the driver on bytes; the machine never sees them",
    ),
    (
        "61-client-envoy-headers",
        9,
        "`expect` is answered on the connection, by the driver on bytes",
    ),
];

/// Not yet mended: `(case, fields, why)`. An empty case is every case.
pub const OPEN: [(&str, &[&str], &str); 13] = [
    (
        "",
        &["response_headers"],
        "local replies with a body have a content-type; 201 has a location",
    ),
    (
        "20-vhost-domains",
        &["*"],
        "what follows the last colon of an authority counts as its port, digits or not",
    ),
    (
        "26-redirect",
        &["response_headers"],
        "the scheme is that of `x-forwarded-proto`",
    ),
    (
        "27-redirect-ports",
        &["response_headers"],
        "a host of the redirect's own keeps its port",
    ),
    (
        "29-header-ops",
        &["received"],
        "header values may hold `%COMMANDS%`",
    ),
    (
        "31-missing-destinations",
        &["attempts"],
        "a try that found no host counts",
    ),
    (
        "32-timeout",
        &["*"],
        "timeouts are announced upstream; gRPC has its own answers",
    ),
    (
        "",
        &["received"],
        "timeouts are announced upstream; Envoy's own request headers are taken off",
    ),
    (
        "39-mirror",
        &["shadows"],
        "shadows are marked as internal requests",
    ),
    (
        "",
        &["endpoint"],
        "an overflow of pending requests names no host",
    ),
    (
        "45-outlier-one-host",
        &["attempts"],
        "a try that found no host counts",
    ),
    ("", &["hits"], "localities have no weights"),
    (
        "67-retry-remote-localities",
        &["*"],
        "retries do not leave a priority",
    ),
];

/// Cases whose endpoints are alike, so that which of them is first is chance: Envoy's rotation
/// begins anywhere. Their counts are compared by rank.
pub const ALIKE: [&str; 2] = ["47-outlier-max-34", "57-locality-failover-priority"];
