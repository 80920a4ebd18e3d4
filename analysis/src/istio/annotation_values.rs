//! Values that Istio's injection understands.

use crate::read::entries;
use source::{Dialect, SourceFile, Value, parse};
use std::net::IpAddr;

/// What is wrong with the value of an annotation, if anything.
pub(super) fn problem(annotation: &str, value: &str) -> Option<String> {
    match annotation {
        "sidecar.istio.io/interceptionMode" => {
            let modes = ["REDIRECT", "TPROXY", "NONE"];
            (!modes.contains(&value)).then(|| "expected REDIRECT, TPROXY or NONE".to_owned())
        }
        "status.sidecar.istio.io/port" => port(value),
        "readiness.status.sidecar.istio.io/initialDelaySeconds"
        | "readiness.status.sidecar.istio.io/periodSeconds"
        | "readiness.status.sidecar.istio.io/failureThreshold" => {
            let number = digits(value).and_then(|digits| digits.parse::<u32>().ok());
            number
                .is_none()
                .then(|| "expected a whole number".to_owned())
        }
        "traffic.sidecar.istio.io/includeOutboundIPRanges" if value == "*" => None,
        "traffic.sidecar.istio.io/includeInboundPorts" if value == "*" => None,
        "traffic.sidecar.istio.io/includeOutboundIPRanges"
        | "traffic.sidecar.istio.io/excludeOutboundIPRanges" => ranges(value),
        "traffic.sidecar.istio.io/includeInboundPorts"
        | "traffic.sidecar.istio.io/excludeInboundPorts"
        | "traffic.sidecar.istio.io/excludeOutboundPorts" => ports(value),
        "traffic.sidecar.istio.io/excludeInterfaces"
        | "traffic.sidecar.istio.io/kubevirtInterfaces"
        | "istio.io/reroute-virtual-interfaces" => interfaces(value),
        "prometheus.istio.io/merge-metrics" => {
            let all = [
                "1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False",
            ];
            (!all.contains(&value)).then(|| "expected true or false".to_owned())
        }
        "proxy.istio.io/config" => proxy_config(value),
        "sidecar.istio.io/proxyCPU"
        | "sidecar.istio.io/proxyCPULimit"
        | "sidecar.istio.io/proxyMemory"
        | "sidecar.istio.io/proxyMemoryLimit" => {
            (!is_quantity(value)).then(|| "expected a quantity, such as 100m or 128Mi".to_owned())
        }
        _ => None,
    }
}

fn digits(value: &str) -> Option<&str> {
    let all = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    all.then_some(value)
}

fn port(value: &str) -> Option<String> {
    let number = digits(value.trim()).and_then(|digits| digits.parse::<u16>().ok());
    number
        .is_none()
        .then(|| format!("`{value}` is no port: expected a number from 0 to 65535"))
}

fn ports(value: &str) -> Option<String> {
    match value.trim() {
        "" => None,
        list => list.split(',').find_map(port),
    }
}

fn ranges(value: &str) -> Option<String> {
    let wrong = value.split(',').find(|range| !is_range(range))?;
    let help = "expected ADDRESS/LENGTH, such as 10.0.0.0/8";
    (!value.is_empty()).then(|| format!("`{wrong}` is no range: {help}"))
}

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    let padded = length.len() > 1 && length.starts_with('0');
    let length = digits(length).and_then(|digits| digits.parse::<u8>().ok());
    !padded && length.is_some_and(|length| length <= most)
}

/// Names of network interfaces, as Linux allows them.
fn interfaces(value: &str) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.len() <= 15
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    };
    let mut wrong = value
        .split(',')
        .map(str::trim)
        .filter(|name| !is_name(name));
    wrong
        .next()
        .map(|name| format!("`{name}` is no name of a network interface"))
}

/// A number, and the unit that Kubernetes knows for it.
fn is_quantity(value: &str) -> bool {
    let unsigned = value.strip_prefix(['+', '-']).unwrap_or(value);
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, unit) = unsigned.split_at(end);
    let is_number =
        number.bytes().any(|byte| byte.is_ascii_digit()) && number.matches('.').count() <= 1;
    let units = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let exponent = || {
        let digits_of =
            |text: &str| digits(text.strip_prefix(['+', '-']).unwrap_or(text)).is_some();
        unit.strip_prefix(['e', 'E']).is_some_and(digits_of)
    };
    is_number && (units.contains(&unit) || exponent())
}

/// A ProxyConfig in YAML: values of other types than its fields have. Unknown fields are passed over, as
/// Istio does.
fn proxy_config(value: &str) -> Option<String> {
    let file = SourceFile::new("annotation", value);
    let (documents, diagnostics) = parse(&file, Dialect::Kubernetes);
    let document = documents.first();
    if !diagnostics.is_empty() || document.is_some_and(|read| read.as_map().is_none()) {
        return Some("expected a ProxyConfig in YAML".to_owned());
    }
    let entries = entries(document?, &[]);
    entries.iter().find_map(|entry| {
        let want = match entry.key.as_str() {
            "concurrency" | "statusPort" | "proxyAdminPort" | "statNameLength" => "a whole number",
            "drainDuration" | "terminationDrainDuration" | "fileFlushInterval" => "a duration",
            "holdApplicationUntilProxyStarts" | "statsCompression" => "true or false",
            "proxyMetadata"
            | "runtimeValues"
            | "tracing"
            | "gatewayTopology"
            | "image"
            | "proxyStatsMatcher"
            | "proxyHeaders"
            | "readinessProbe"
            | "privateKeyProvider"
            | "envoyAccessLogService"
            | "envoyMetricsService" => "a map",
            "extraStatTags" | "caCertificatesPem" => "a list",
            "interceptionMode" => "REDIRECT, TPROXY or NONE",
            "configPath"
            | "binaryPath"
            | "serviceCluster"
            | "discoveryAddress"
            | "meshId"
            | "statsdUdpAddress"
            | "customConfigFile"
            | "proxyBootstrapTemplatePath" => "text",
            _ => return None,
        };
        let fits = match (&entry.value.value, want) {
            (Value::Null, _) => true,
            (Value::Int(_), "a whole number") => true,
            (Value::String(text), "a whole number") => text.parse::<i32>().is_ok(),
            (Value::String(text), "a duration") => is_duration(text),
            (Value::Bool(_), "true or false") => true,
            (Value::Map(_), "a map") => true,
            (Value::Seq(_), "a list") => true,
            (Value::String(mode), "REDIRECT, TPROXY or NONE") => {
                ["REDIRECT", "TPROXY", "NONE"].contains(&mode.as_str())
            }
            (Value::String(text), "text") => !text.is_empty() || entry.key == "meshId",
            _ => false,
        };
        (!fits).then(|| format!("expected {want} for `{}` of a ProxyConfig", entry.key))
    })
}

/// Seconds, as protobuf writes durations in JSON, and more than none.
fn is_duration(text: &str) -> bool {
    let seconds = text
        .strip_suffix('s')
        .and_then(|number| number.parse::<f64>().ok());
    seconds.is_some_and(|seconds| seconds >= 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        for (annotation, good, bad) in [
            ("sidecar.istio.io/interceptionMode", "TPROXY", "tproxy"),
            ("status.sidecar.istio.io/port", "15021", "65536"),
            ("readiness.status.sidecar.istio.io/periodSeconds", "2", "-1"),
            (
                "traffic.sidecar.istio.io/includeOutboundIPRanges",
                "*",
                "**",
            ),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "10.0.0.0/8,::1/128",
                "10.0.0.0",
            ),
            (
                "traffic.sidecar.istio.io/excludeOutboundIPRanges",
                "",
                "10.0.0.0/33",
            ),
            (
                "traffic.sidecar.istio.io/excludeInboundPorts",
                "80, 443",
                "80,http",
            ),
            ("traffic.sidecar.istio.io/includeInboundPorts", "*", "80,*"),
            ("istio.io/reroute-virtual-interfaces", "net1,net2", "1net"),
            ("prometheus.istio.io/merge-metrics", "true", "yes"),
            ("sidecar.istio.io/proxyCPU", "100m", "100 m"),
            ("sidecar.istio.io/proxyMemory", "1.5Gi", "1.5.Gi"),
            ("sidecar.istio.io/proxyMemory", "1e3", "Gi"),
            (
                "proxy.istio.io/config",
                "concurrency: 2",
                "concurrency: many",
            ),
            (
                "proxy.istio.io/config",
                "drainDuration: 5s",
                "drainDuration: 5",
            ),
            ("proxy.istio.io/config", "unknown: 1", "- a list"),
        ] {
            assert_eq!(problem(annotation, good), None, "{annotation} {good}");
            assert!(problem(annotation, bad).is_some(), "{annotation} {bad}");
        }
    }
}
