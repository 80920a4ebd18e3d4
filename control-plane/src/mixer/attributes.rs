//! What Mixer knows of a request.

use crate::model::Pod;
use proxy_core::head::RequestHead;
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use std::borrow::Cow;

/// A request that Mixer is asked about, or told of.
#[derive(Clone, Debug)]
pub struct MixerAttributes<'a> {
    pub source: MixerParty<'a>,
    pub destination: MixerParty<'a>,
    pub request: &'a RequestHead,
    /// Status and duration, once there is a response.
    pub response: Option<(u16, Nanos)>,
}

/// One end of a request. What the proxy does not tell, Mixer takes from the pod, if it knows one.
#[derive(Clone, Debug, Default)]
pub struct MixerParty<'a> {
    /// `reviews.default.svc.cluster.local`.
    pub service: Option<Name>,
    pub labels: Option<Cow<'a, [(Name, Name)]>>,
    pub pod: Option<&'a Pod>,
    /// By its certificate.
    pub user: Option<Name>,
}

impl<'a> MixerParty<'a> {
    /// A pod, as Mixer's adapter for Kubernetes knows it: of the service that its label `app` names.
    pub fn of_pod(pod: &'a Pod) -> MixerParty<'a> {
        let app = pod.labels.iter().find(|(key, _)| &**key == "app");
        let service = app.map(|(_, app)| format!("{app}.{}.svc.cluster.local", pod.namespace));
        MixerParty {
            service: service.map(Name::from),
            labels: Some(Cow::Borrowed(&pod.labels)),
            pod: Some(pod),
            user: None,
        }
    }

    fn value(&self, name: &str) -> Option<Value<'_>> {
        let text = |text: &Name| Value::Text(Cow::Owned(text.to_string()));
        let of_pod = |field: fn(&Pod) -> String| {
            let pod = self.pod?;
            Some(Value::Text(Cow::Owned(field(pod))))
        };
        match name {
            "service" => self.service.as_ref().map(text),
            "user" => self.user.as_ref().map(text),
            "name" => of_pod(|pod| pod.name.to_string()),
            "namespace" => of_pod(|pod| pod.namespace.to_string()),
            "serviceAccount" => of_pod(|pod| pod.service_account.to_string()),
            "uid" => of_pod(|pod| format!("kubernetes://{}.{}", pod.name, pod.namespace)),
            "ip" => of_pod(|pod| pod.ip.to_string()),
            _ => None,
        }
    }
}

/// What an attribute or an expression is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Number,
    Boolean,
    Duration,
    /// From text to text.
    Map,
    /// A point in time, an address: nothing can be done with it but to hand it on.
    Other,
}

impl Type {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Type::Text => "text",
            Type::Number => "a number",
            Type::Boolean => "true or false",
            Type::Duration => "a duration",
            Type::Map => "a map",
            Type::Other => "a time",
        }
    }
}

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Number(i64),
    Boolean(bool),
    Duration(Nanos),
}

impl Value<'_> {
    /// The zero of its type, which `|` passes over.
    pub(super) fn is_empty(&self) -> bool {
        match self {
            Value::Text(text) => text.is_empty(),
            Value::Number(number) => *number == 0,
            Value::Boolean(truth) => !truth,
            Value::Duration(duration) => *duration == Nanos::ZERO,
        }
    }
}

/// An attribute of Istio 0.1 or 0.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(super) name: &'static str,
    pub(super) of: Type,
    /// It has a value for some requests here.
    pub(super) modelled: bool,
}

const fn here(name: &'static str, of: Type) -> Attribute {
    Attribute {
        name,
        of,
        modelled: true,
    }
}

const fn absent(name: &'static str, of: Type) -> Attribute {
    Attribute {
        name,
        of,
        modelled: false,
    }
}

pub(super) const ATTRIBUTES: [Attribute; 41] = [
    here("source.service", Type::Text),
    here("source.labels", Type::Map),
    here("source.name", Type::Text),
    here("source.namespace", Type::Text),
    here("source.serviceAccount", Type::Text),
    here("source.uid", Type::Text),
    here("source.ip", Type::Text),
    here("source.user", Type::Text),
    absent("source.port", Type::Number),
    here("destination.service", Type::Text),
    here("destination.labels", Type::Map),
    here("destination.name", Type::Text),
    here("destination.namespace", Type::Text),
    here("destination.serviceAccount", Type::Text),
    here("destination.uid", Type::Text),
    here("destination.ip", Type::Text),
    absent("destination.user", Type::Text),
    absent("destination.port", Type::Number),
    here("request.path", Type::Text),
    here("request.host", Type::Text),
    here("request.method", Type::Text),
    here("request.scheme", Type::Text),
    here("request.headers", Type::Map),
    here("request.referer", Type::Text),
    here("request.useragent", Type::Text),
    absent("request.size", Type::Number),
    absent("request.time", Type::Other),
    absent("request.id", Type::Text),
    absent("request.reason", Type::Text),
    here("response.code", Type::Number),
    here("response.duration", Type::Duration),
    absent("response.latency", Type::Duration),
    absent("response.size", Type::Number),
    absent("response.time", Type::Other),
    absent("response.headers", Type::Map),
    here("context.protocol", Type::Text),
    absent("api.name", Type::Text),
    absent("api.method", Type::Text),
    absent("api.service", Type::Text),
    absent("api.version", Type::Text),
    absent("check.status", Type::Number),
];

impl Attribute {
    /// By name; the names of 0.1 are others for the same.
    pub(super) fn find(name: &str) -> Option<&'static Attribute> {
        let today = match name.split_once('.') {
            Some(("target", rest)) => Cow::Owned(format!("destination.{rest}")),
            Some(("origin", rest)) => Cow::Owned(format!("source.{rest}")),
            _ => Cow::Borrowed(name),
        };
        ATTRIBUTES.iter().find(|attribute| attribute.name == today)
    }
}

impl MixerAttributes<'_> {
    /// `None`: this request has none.
    pub(super) fn value(&self, attribute: &Attribute) -> Option<Value<'_>> {
        if let Some(name) = attribute.name.strip_prefix("source.") {
            return self.source.value(name);
        }
        if let Some(name) = attribute.name.strip_prefix("destination.") {
            return self.destination.value(name);
        }
        let head = self.request;
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        match attribute.name {
            "request.path" => text(&head.path),
            "request.host" => text(&head.authority),
            "request.method" => text(&head.method),
            "request.scheme" => text(&head.scheme),
            "request.referer" => self.header("referer").map(Value::Text),
            "request.useragent" => self.header("user-agent").map(Value::Text),
            "response.code" => self
                .response
                .map(|(status, _)| Value::Number(status.into())),
            "response.duration" => self.response.map(|(_, duration)| Value::Duration(duration)),
            "context.protocol" => text("http"),
            _ => None,
        }
    }

    /// What a map holds under `key`; `Err`: this request has no such map.
    pub(super) fn entry(&self, map: &Attribute, key: &str) -> Result<Option<Value<'_>>, Absent> {
        let labels = match map.name {
            "source.labels" => &self.source.labels,
            "destination.labels" => &self.destination.labels,
            "request.headers" => return Ok(self.header(key).map(Value::Text)),
            _ => return Err(Absent),
        };
        let labels = labels.as_ref().ok_or(Absent)?;
        let found = labels.iter().find(|(name, _)| **name == *key);
        Ok(found.map(|(_, value)| Value::Text(Cow::Borrowed(&**value))))
    }

    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.request.headers.get(name).map(String::from_utf8_lossy)
    }
}

/// An attribute without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absent;
