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

/// Cases whose endpoints are alike, so that which of them is first is chance: Envoy's rotation
/// begins anywhere. Their counts are compared by rank.
pub const ALIKE: [&str; 2] = ["47-outlier-max-34", "57-locality-failover-priority"];
