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

/// Not yet mended: the cases (none: all), the fields (`*`: all), and why.
pub const OPEN: [(&[&str], &[&str], &str); 5] = [
    (
        &[],
        &["response_headers"],
        "local replies with a body have a content-type; 201 has a location; \
         the scheme is that of `x-forwarded-proto`",
    ),
    (
        &["29-header-ops"],
        &["refused"],
        "`%PROTOCOL%` is not an operator of header values, so the table is refused",
    ),
    (
        &["31-missing-destinations", "45-outlier-one-host"],
        &["attempts"],
        "a try that found no host counts",
    ),
    (
        &["39-mirror"],
        &["shadows"],
        "shadows are marked as internal requests",
    ),
    (
        &["40-cb-pending", "43-cb-max-pending-only"],
        &["endpoint"],
        "an overflow of pending requests names no host",
    ),
];

/// Cases whose endpoints are alike, so that which of them is first is chance: Envoy's rotation
/// begins anywhere. Their counts are compared by rank.
pub const ALIKE: [&str; 2] = ["47-outlier-max-34", "57-locality-failover-priority"];
