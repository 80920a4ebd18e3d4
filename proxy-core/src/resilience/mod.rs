//! What keeps a caller going when an endpoint does not: the rules, without the exchange they
//! are applied to.

pub(crate) mod health_check;
pub(crate) mod outlier;
pub(crate) mod rate_limit;
pub(crate) mod retry;
