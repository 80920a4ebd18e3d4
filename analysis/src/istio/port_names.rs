//! Ports of Services whose names tell no protocol (IST0118, IST0150).

use super::input::{Input, Report};
use super::workloads::is_control_plane;
use crate::codes::{IST0118, IST0150};
use crate::documents::{Document, SERVICE};
use crate::read::{items, number, present, text};
use source::Node;

/// Deployments and Services that Istio makes for Gateways.
const MANAGED: [&str; 3] = [
    "istio.io-gateway-controller",
    "istio.io-mesh-controller",
    "istio.io-eastwest-controller",
];

const PROTOCOLS: [&str; 12] = [
    "tcp",
    "udp",
    "grpc",
    "grpc-web",
    "http",
    "http_proxy",
    "http2",
    "https",
    "tls",
    "mongo",
    "redis",
    "mysql",
];

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    for service in input.of(SERVICE) {
        let managed = service.label("gateway.istio.io/managed");
        if is_control_plane(service) || managed.is_some_and(|by| MANAGED.contains(&by)) {
            continue;
        }
        for port in items(&service.node, &["spec", "ports"]) {
            check(service, port, report);
        }
    }
}

fn check(service: &Document, port: &Node, report: &mut Report<'_>) {
    let name = text(port, &["name"]);
    let external = text(&service.node, &["spec", "type"]) == "ExternalName";
    if tells_protocol(port) && !(external && name == "tcp") {
        return;
    }
    let place = port.at(&["name"]).or_else(|| port.at(&["port"]));
    let place = &place.unwrap_or(port).span;
    let number = number(port, &["port"]);
    let diagnostic = match external {
        true => IST0150
            .says("a port of an ExternalName Service tells no protocol other than TCP")
            .at(place, "requests to it may not be forwarded")
            .help("name it by its protocol, such as `https` or `tls-NAME`"),
        false => IST0118
            .says(format!(
                "the name of port {number} tells no protocol: `{name}`"
            ))
            .at(place, "the protocol is found out from each connection")
            .help("name it `http`, `tcp-NAME` or the like, or set `appProtocol`"),
    };
    report.say(service, diagnostic);
}

/// By `appProtocol`, by its name up to a `-`, or because servers speak first on it.
fn tells_protocol(port: &Node) -> bool {
    let app = present(port, &["appProtocol"]).and_then(Node::as_scalar);
    let name = app.unwrap_or_else(|| text(port, &["name"])).to_lowercase();
    let of_kubernetes = ["kubernetes.io/h2c", "kubernetes.io/ws", "kubernetes.io/wss"];
    text(port, &["protocol"]) == "UDP"
        || app.is_some_and(|app| of_kubernetes.contains(&app))
        || name.starts_with("grpc-web")
        || PROTOCOLS.contains(&name.split('-').next().unwrap_or_default())
        || [25, 53, 3306, 27017].contains(&number(port, &["port"]))
}
