//! Request and response heads.

use crate::ids::HeadId;
use crate::xds::Name;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Header lines in order; names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Headers(pub Vec<(Name, HeaderText)>);

impl Headers {
    /// The first line called `name` (lower case).
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(n, _)| **n == *name)
            .map(|(_, v)| v.as_bytes())
    }

    /// Every line called `name`, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(n, _)| &**n == name)
            .map(|(_, v)| v.as_bytes())
    }

    /// Adds a line.
    pub fn append(&mut self, name: Name, value: &[u8]) {
        self.0.push((name, HeaderText(value.into())));
    }

    /// Replaces all lines called `name` by one, at the place of the first.
    pub fn set(&mut self, name: Name, value: &[u8]) {
        match self.0.iter().position(|(n, _)| *n == name) {
            None => self.append(name, value),
            Some(at) => {
                self.0[at].1 = HeaderText(value.into());
                let mut index = 0;
                self.0.retain(|(n, _)| {
                    let keep = *n != name || index == at;
                    index += 1;
                    keep
                });
            }
        }
    }

    /// Removes all lines called `name`.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(n, _)| &**n != name);
    }
}

/// The bytes of a header value; written out as Latin-1 text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderText(Box<[u8]>);

impl HeaderText {
    /// Copies `bytes`.
    pub fn new(bytes: &[u8]) -> HeaderText {
        HeaderText(bytes.into())
    }

    /// The value as sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for HeaderText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|&byte| char::from(byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for HeaderText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<HeaderText, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|c| {
                u8::try_from(u32::from(c)).map_err(|_| serde::de::Error::custom("not Latin-1"))
            })
            .collect::<Result<Box<[u8]>, _>>()
            .map(HeaderText)
    }
}

/// The head of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestHead {
    pub method: Name,
    pub scheme: Name,
    pub authority: Name,
    /// With query, as sent.
    pub path: Name,
    pub headers: Headers,
    /// Set by drivers that intern heads.
    pub id: Option<HeadId>,
}

/// The head of a response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseHead {
    pub status: u16,
    pub headers: Headers,
}

impl ResponseHead {
    /// A head with no headers.
    pub fn of_status(status: u16) -> ResponseHead {
        ResponseHead {
            status,
            headers: Headers::default(),
        }
    }
}
