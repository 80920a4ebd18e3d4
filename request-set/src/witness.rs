//! One request that stands for a class of them.

use proxy_core::head::{Headers, RequestHead};
use proxy_core::xds::Name;
use serde_json::{Value, json};
use std::fmt;

/// One request, and the circumstances that it comes in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub method: Name,
    pub scheme: Name,
    pub authority: Name,
    /// With query.
    pub path: Name,
    /// Names in lower case; a name can be there several times.
    pub headers: Vec<(Name, Vec<u8>)>,
    /// Claims of its token, keys one below the other; several texts are a list.
    pub claims: Vec<(Vec<Name>, Vec<String>)>,
    /// Of the stream: its random value.
    pub stream_value: u64,
    /// See [`crate::Given`]; names that are not here are given nothing that a match asks for.
    pub given: Vec<(Name, Name)>,
}

impl Witness {
    /// As a proxy receives it.
    pub fn head(&self) -> RequestHead {
        let mut headers = Headers::default();
        for (name, value) in &self.headers {
            headers.append(name.clone(), value);
        }
        RequestHead {
            method: self.method.clone(),
            scheme: self.scheme.clone(),
            authority: self.authority.clone(),
            path: self.path.clone(),
            headers,
            id: None,
        }
    }

    /// Its claims as one object.
    pub fn claims(&self) -> Value {
        let mut all = json!({});
        for (path, texts) in &self.claims {
            let value = match &texts[..] {
                [one] => json!(one),
                several => json!(several),
            };
            let Some((last, above)) = path.split_last() else {
                continue;
            };
            let object = above.iter().try_fold(&mut all, |object, key| {
                let object = object.as_object_mut()?;
                Some(object.entry(&**key).or_insert_with(|| json!({})))
            });
            if let Some(object) = object.and_then(Value::as_object_mut) {
                object.insert(last.to_string(), value);
            }
        }
        all
    }
}

/// `GET http://reviews:9080/a?b=c -H 'end-user: jason'`; what is given, claims and chance are not
/// part of it.
impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, scheme, authority) = (&self.method, &self.scheme, &self.authority);
        write!(f, "{method} {scheme}://{authority}{}", self.path)?;
        for (name, value) in &self.headers {
            let value = String::from_utf8_lossy(value).replace('\'', r"'\''");
            write!(f, " -H '{name}: {value}'")?;
        }
        Ok(())
    }
}
