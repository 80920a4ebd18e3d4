//! What of a pod's traffic goes through its sidecar, by its annotations.

use crate::report::Place;
use serde::Serialize;
use source::{Diagnostic, Node};
use std::net::IpAddr;

const PREFIX: &str = "traffic.sidecar.istio.io/";
const MODE: &str = "sidecar.istio.io/interceptionMode";

/// What is captured: settings as iptables gets them, `*` for everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Captured {
    /// `REDIRECT`, `TPROXY`; `NONE`: nothing is captured.
    pub mode: Setting,
    pub include_inbound_ports: Setting,
    pub exclude_inbound_ports: Setting,
    pub include_outbound_ip_ranges: Setting,
    pub exclude_outbound_ip_ranges: Setting,
    pub include_outbound_ports: Setting,
    pub exclude_outbound_ports: Setting,
}

/// A value, and the annotation that says so; `None`: the default.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Setting {
    pub value: String,
    pub place: Option<Place>,
}

#[derive(Clone, Copy)]
enum Kind {
    Ports,
    Ranges,
}

impl Captured {
    /// `pod` is a Pod or a template of one. Values that Istio's injector refuses are reported.
    pub(crate) fn of(pod: &Node, diagnostics: &mut Vec<Diagnostic>) -> Captured {
        let mut setting = |name: &str, default: &str, kind: Kind| {
            let key = format!("{PREFIX}{name}");
            let setting = Setting::of(pod, &key, default);
            if let Some(node) = annotation(pod, &key)
                && !kind.allows(&setting.value)
            {
                let want = format!("`{key}` is {}, or `*`", kind.wanted());
                let refused = "Istio's injector refuses the pod";
                diagnostics.push(Diagnostic::error(want).at(&node.span, refused));
            }
            setting
        };
        Captured {
            include_inbound_ports: setting("includeInboundPorts", "*", Kind::Ports),
            exclude_inbound_ports: setting("excludeInboundPorts", "", Kind::Ports),
            include_outbound_ip_ranges: setting("includeOutboundIPRanges", "*", Kind::Ranges),
            exclude_outbound_ip_ranges: setting("excludeOutboundIPRanges", "", Kind::Ranges),
            include_outbound_ports: setting("includeOutboundPorts", "", Kind::Ports),
            exclude_outbound_ports: setting("excludeOutboundPorts", "", Kind::Ports),
            mode: Setting::of(pod, MODE, "REDIRECT"),
        }
    }

    /// In a few words.
    pub fn inbound(&self) -> String {
        if self.mode.value == "NONE" {
            return "nothing".to_owned();
        }
        // iptables leaves the proxy's own ports alone as well.
        words(
            "port",
            &self.include_inbound_ports,
            &self.exclude_inbound_ports,
        )
    }

    /// In a few words.
    pub fn outbound(&self) -> String {
        if self.mode.value == "NONE" {
            return "nothing".to_owned();
        }
        let mut text = words(
            "to",
            &self.include_outbound_ip_ranges,
            &self.exclude_outbound_ip_ranges,
        );
        for (setting, how) in [
            (&self.include_outbound_ports, "; also port"),
            (&self.exclude_outbound_ports, ", but not port"),
        ] {
            if !setting.value.is_empty() {
                text = format!("{text}{how} {}", spaced(&setting.value));
            }
        }
        text
    }

    /// Those that annotations say, by the annotations.
    pub fn stated(&self) -> Vec<(String, &Setting)> {
        let all = [
            ("interceptionMode", &self.mode),
            ("includeInboundPorts", &self.include_inbound_ports),
            ("excludeInboundPorts", &self.exclude_inbound_ports),
            ("includeOutboundIPRanges", &self.include_outbound_ip_ranges),
            ("excludeOutboundIPRanges", &self.exclude_outbound_ip_ranges),
            ("includeOutboundPorts", &self.include_outbound_ports),
            ("excludeOutboundPorts", &self.exclude_outbound_ports),
        ];
        let stated = all.into_iter().filter(|(_, s)| s.place.is_some());
        let key = |name| match name {
            "interceptionMode" => MODE.to_owned(),
            _ => format!("{PREFIX}{name}"),
        };
        stated.map(|(name, setting)| (key(name), setting)).collect()
    }
}

impl Setting {
    fn of(pod: &Node, key: &str, default: &str) -> Setting {
        let node = annotation(pod, key);
        let value = node.map(|node| node.as_scalar().unwrap_or_default());
        Setting {
            value: value.unwrap_or(default).to_owned(),
            place: node.map(|node| Place::of(&node.span)),
        }
    }
}

impl Kind {
    fn allows(self, value: &str) -> bool {
        let parts = || value.split(',').map(str::trim);
        value.is_empty()
            || value == "*"
            || match self {
                Kind::Ports => parts().all(|part| part.parse::<u16>().is_ok()),
                Kind::Ranges => parts().all(is_range),
            }
    }

    fn wanted(self) -> &'static str {
        match self {
            Kind::Ports => "a list of ports (`80,8080`)",
            Kind::Ranges => "a list of IP ranges (`10.0.0.0/8,192.168.0.0/16`)",
        }
    }
}

fn is_range(text: &str) -> bool {
    let Some((ip, length)) = text.split_once('/') else {
        return false;
    };
    match (ip.parse::<IpAddr>(), length.parse::<u8>()) {
        (Ok(IpAddr::V4(_)), Ok(length)) => length <= 32,
        (Ok(IpAddr::V6(_)), Ok(length)) => length <= 128,
        _ => false,
    }
}

/// An annotation of a pod.
pub(crate) fn annotation<'n>(pod: &'n Node, key: &str) -> Option<&'n Node> {
    pod.at(&["metadata", "annotations", key])
}

fn words(what: &str, include: &Setting, exclude: &Setting) -> String {
    let excluded = spaced(&exclude.value);
    match (&*include.value, &*exclude.value) {
        ("", _) => "nothing".to_owned(),
        ("*", "") => "everything".to_owned(),
        ("*", _) => format!("all but {what} {excluded}"),
        (list, _) => format!("{what} {}", spaced(list)),
    }
}

fn spaced(list: &str) -> String {
    let parts: Vec<&str> = list.split(',').map(str::trim).collect();
    parts.join(", ")
}
