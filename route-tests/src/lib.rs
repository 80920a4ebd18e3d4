//! Tests of routes, from files: in meshsim's own format, those of istio-config-validator and of Envoy's
//! route table check tool, and scenarios; and which rules none of them reached.
//!
//! | module | holds |
//! |---|---|
//! | `find` | which files are for what |
//! | `suite` | all of it at once |
//! | `configuration` | the Istio configurations that tests are held against |
//! | `route_test` | meshsim's own format |
//! | `validator` | the format of istio-config-validator |
//! | `router_check` | the format of Envoy's route table check tool |
//! | `route_configuration` | the route tables that it is about |
//! | `scenario` | scenarios |
//! | [`coverage`] | which rules, matches and destinations were reached |
//! | [`outcome`], [`report`] | how tests came out, and how that is told |
//! | `brief` | YAML in one line |

mod brief;
mod configuration;
pub mod coverage;
mod find;
pub mod outcome;
pub mod report;
mod route_configuration;
mod route_test;
mod router_check;
mod scenario;
mod suite;
mod validator;

pub use router_check::RouteCoverage;
pub use suite::{Options, Report, run};
