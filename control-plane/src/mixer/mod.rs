//! Mixer, which Istio's proxies of 2017 asked about requests and told of responses: its
//! configuration in the form of 0.1 (rules with aspects) and of 0.2 (`config.istio.io/v1alpha2`:
//! rules, handlers, instances), and what it makes of a request.
//!
//! | module | holds |
//! |---|---|
//! | `attributes` | what Mixer knows of a request |
//! | `expression` | the language of selectors, matches, dimensions and labels |
//! | `aspects` | a rule file of 0.1 |
//! | `parts` | the kinds of 0.2 |
//! | `policy` | what applies to a request: verdicts and metrics |
//! | `quota` | what is left of quotas |

mod aspects;
mod attributes;
mod expression;
mod parts;
mod policy;
mod quota;

pub(crate) use aspects::{RULE_FILE_KIND, RuleFile, is_rule_file};
pub use attributes::{MixerAttributes, MixerParty};
pub(crate) use parts::{KINDS, Part};
pub use policy::{MetricSample, MixerPolicy};
pub use quota::Quotas;
