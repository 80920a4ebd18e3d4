//! Resources of a proxy as Envoy's own: proto JSON of the v3 API, with proto field names.
//!
//! Each function maps one resource and nothing else, so that what it writes can be given to a real
//! Envoy, or compared with what a control plane sent one.

mod against;
mod bootstrap;
mod cluster;
pub mod dump;
mod endpoint;
mod health;
mod listener;
mod matching;
mod normal;
mod rate_limit;
mod rbac;
mod route;

pub use against::{Comparison, Difference, against};
pub use bootstrap::{Bootstrap, Resources, left_out};
pub use cluster::cluster;
pub use endpoint::load_assignment;
pub use listener::listener;
pub use route::{route, route_table};

use proxy_core::time::Nanos;
use proxy_core::xds::Fraction;
use serde_json::{Map, Value, json};

/// What Envoy has no word for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The resource.
    pub resource: String,
    pub reason: &'static str,
}

impl std::fmt::Display for Unsupported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.resource, self.reason)
    }
}

impl std::error::Error for Unsupported {}

const TYPE_URL: &str = "type.googleapis.com/";

/// A message of an extension, with its type.
fn typed(message: &str, mut fields: Value) -> Value {
    fields["@type"] = json!(format!("{TYPE_URL}{message}"));
    fields
}

/// `google.protobuf.Duration`.
fn duration(span: Nanos) -> Value {
    let nanos = span.0;
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    json!(match rest {
        0 => format!("{seconds}s"),
        _ if rest % 1_000_000 == 0 => format!("{seconds}.{:03}s", rest / 1_000_000),
        _ if rest % 1_000 == 0 => format!("{seconds}.{:06}s", rest / 1_000),
        _ => format!("{seconds}.{rest:09}s"),
    })
}

/// `envoy.type.v3.FractionalPercent`.
fn fractional_percent(fraction: Fraction) -> Value {
    let denominator = match fraction.denominator {
        100 => "HUNDRED",
        10_000 => "TEN_THOUSAND",
        _ => "MILLION",
    };
    json!({ "numerator": fraction.numerator, "denominator": denominator })
}

/// An object under construction: fields with the default value are left out.
#[derive(Default)]
struct Message(Map<String, Value>);

impl Message {
    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn set_some(&mut self, name: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// A list, unless it is empty.
    fn set_list(&mut self, name: &str, values: impl IntoIterator<Item = Value>) {
        let values: Vec<Value> = values.into_iter().collect();
        if !values.is_empty() {
            self.set(name, values);
        }
    }

    /// A flag that is off by default.
    fn set_flag(&mut self, name: &str, flag: bool) {
        if flag {
            self.set(name, true);
        }
    }
}

impl From<Message> for Value {
    fn from(message: Message) -> Value {
        Value::Object(message.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_as_many_digits_as_they_need() {
        for (nanos, text) in [
            (0, "0s"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.500s"),
            (250_000, "0.000250s"),
            (3, "0.000000003s"),
        ] {
            assert_eq!(duration(Nanos(nanos)), json!(text));
        }
    }
}
