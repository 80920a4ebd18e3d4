//! Objects with optional members, as strategies. JSON is YAML.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::Union;
use serde_json::{Map, Value};

/// A member that an object may have.
pub type Member = BoxedStrategy<Option<(&'static str, Value)>>;
pub type Json = BoxedStrategy<Value>;

/// In `percent` of the objects.
pub fn maybe(percent: u32, key: &'static str, value: Json) -> Member {
    let present = f64::from(percent) / 100.0;
    proptest::option::weighted(present, value)
        .prop_map(move |value| value.map(|value| (key, value)))
        .boxed()
}

pub fn always(key: &'static str, value: Json) -> Member {
    value.prop_map(move |value| Some((key, value))).boxed()
}

pub fn object(members: Vec<Member>) -> Json {
    members
        .prop_map(|members| {
            let present = members.into_iter().flatten();
            let own = present.map(|(key, value)| (key.to_owned(), value));
            Value::Object(own.collect::<Map<_, _>>())
        })
        .boxed()
}

/// Only one of the members.
pub fn one_member(members: Vec<(&'static str, Json)>) -> Json {
    let single = members
        .into_iter()
        .map(|(key, value)| object(vec![always(key, value)]));
    Union::new(single.collect::<Vec<_>>()).boxed()
}

/// One of the values.
pub fn of<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> Json {
    select(values.into_iter().map(Into::into).collect::<Vec<Value>>()).boxed()
}

pub fn just(value: Value) -> Json {
    Just(value).boxed()
}

pub fn list(length: std::ops::RangeInclusive<usize>, item: Json) -> Json {
    proptest::collection::vec(item, length)
        .prop_map(Value::from)
        .boxed()
}

/// One of the strategies, by weight.
pub fn weighted(choices: Vec<(u32, Json)>) -> Json {
    Union::new_weighted(choices).boxed()
}

/// An object with the members of both.
pub fn both(one: Json, other: Json) -> Json {
    (one, other)
        .prop_map(|(one, other)| {
            let mut all = one;
            if let (Value::Object(all), Value::Object(other)) = (&mut all, other) {
                all.extend(other);
            }
            all
        })
        .boxed()
}
