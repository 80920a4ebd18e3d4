//! What an EnvoyFilter's patch is for: its `match`.

use super::{choice, regex, written};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// By its present and its former name.
pub(super) const CONNECTION_MANAGERS: [&str; 2] = [
    "envoy.filters.network.http_connection_manager",
    "envoy.http_connection_manager",
];

/// The side of a proxy that a patch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PatchContext {
    Any,
    SidecarInbound,
    SidecarOutbound,
    Gateway,
}

/// Istio `ListenerMatch`, but for the filters; what is not stated is not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ListenerMatch {
    pub(crate) name: Option<Name>,
    pub(crate) port: Option<u16>,
    pub(crate) chain: Option<Name>,
    pub(crate) sni: Option<Name>,
    pub(crate) transport_protocol: Option<Name>,
    pub(crate) application_protocols: Vec<Name>,
    pub(crate) destination_port: Option<u16>,
}

/// Istio `RouteConfigurationMatch`; what is not stated is not asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TableMatch {
    pub(crate) name: Option<Name>,
    pub(crate) port: Option<u16>,
    pub(crate) port_name: Option<Name>,
    /// `NAMESPACE/NAME`.
    pub(crate) gateway: Option<Name>,
    pub(crate) virtual_host: Option<Name>,
    pub(crate) domain: Option<Name>,
    pub(crate) route: Option<Name>,
    pub(crate) action: Option<ActionMatch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ActionMatch {
    Route,
    Redirect,
    DirectResponse,
}

/// The version that proxies say they are of.
const PROXY_VERSION: &[u8] = b"1.32.0";

/// The context of a patch and the match of `class`, if there is one. `None` if it is left out, which is
/// said.
pub(super) fn read_match<'n>(
    patch: &'n Node,
    class: &str,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(PatchContext, Option<&'n Node>)> {
    let Some(node) = patch.at(&["match"]) else {
        return Some((PatchContext::Any, None));
    };
    let context = match node.at(&["context"]).map_or("ANY", written) {
        "SIDECAR_INBOUND" => PatchContext::SidecarInbound,
        "SIDECAR_OUTBOUND" => PatchContext::SidecarOutbound,
        "GATEWAY" => PatchContext::Gateway,
        "WAYPOINT" => return skip(node, "waypoints are not modelled", diagnostics),
        _ => PatchContext::Any,
    };
    let metadata = node.at(&["proxy", "metadata"]);
    let stated = |node: &&Node| node.as_map().is_none_or(|map| !map.entries.is_empty());
    if let Some(metadata) = metadata.filter(stated) {
        return skip(metadata, "proxies have no metadata here", diagnostics);
    }
    if let Some(version) = node.at(&["proxy", "proxyVersion"])
        && !written(version).is_empty()
        && !regex(version, &mut Vec::new()).is_some_and(|regex| regex.is_in(PROXY_VERSION))
    {
        let why = "proxies are of version 1.32.0 here";
        return skip(version, why, diagnostics);
    }
    Some((context, node.at(&[class])))
}

/// Says why a patch is left out.
pub(super) fn skip<T>(node: &Node, why: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<T> {
    let message = format!("a patch is for no proxy: {why}");
    diagnostics.push(Diagnostic::warning(message).at(&node.span, "the patch is left out"));
    None
}

fn text(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<Name> {
    let text = fields.text(key).filter(|text| !text.is_empty());
    text.map(Name::from)
}

/// 0 stands for every port.
fn port(fields: &mut Fields<'_, '_>, key: &'static str) -> Option<u16> {
    let number = fields.integer(key, 0..=65535)?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// The match and the HTTP filter that it names.
pub(super) fn read_listener<'n>(
    node: &'n Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(ListenerMatch, Option<&'n Node>)> {
    let mut fields = Fields::of(node, "a match of listeners", diagnostics)?;
    let mut found = ListenerMatch {
        name: text(&mut fields, "name"),
        port: port(&mut fields, "portNumber"),
        ..ListenerMatch::default()
    };
    fields.ignore(&["portName", "listenerFilter"]);
    let chain = fields.optional("filterChain");
    fields.finish();
    let mut sub_filter = None;
    if let Some(node) = chain {
        let mut fields = Fields::of(node, "a match of filter chains", diagnostics)?;
        found.chain = text(&mut fields, "name");
        found.sni = text(&mut fields, "sni");
        found.transport_protocol = text(&mut fields, "transportProtocol");
        let protocols = text(&mut fields, "applicationProtocols");
        let protocols = protocols.iter().flat_map(|list| list.split(','));
        found.application_protocols = protocols.map(Name::from).collect();
        found.destination_port = port(&mut fields, "destinationPort");
        let filter = fields.optional("filter");
        fields.finish();
        if let Some(filter) = filter {
            let name = filter.at(&["name"]).map(written).unwrap_or_default();
            if !CONNECTION_MANAGERS.contains(&name) {
                return skip(filter, "HTTP filters are in no other filter", diagnostics);
            }
            sub_filter = filter.at(&["subFilter", "name"]);
        }
    }
    Some((found, sub_filter))
}

pub(super) fn read_table(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<TableMatch> {
    let mut fields = Fields::of(node, "a match of route configurations", diagnostics)?;
    let mut found = TableMatch {
        name: text(&mut fields, "name"),
        port: port(&mut fields, "portNumber"),
        port_name: text(&mut fields, "portName"),
        gateway: text(&mut fields, "gateway"),
        ..TableMatch::default()
    };
    let host = fields.optional("vhost");
    fields.finish();
    let Some(host) = host else {
        return Some(found);
    };
    let mut fields = Fields::of(host, "a match of virtual hosts", diagnostics)?;
    found.virtual_host = text(&mut fields, "name");
    found.domain = text(&mut fields, "domainName");
    let route = fields.optional("route");
    fields.finish();
    if let Some(route) = route {
        let mut fields = Fields::of(route, "a match of routes", diagnostics)?;
        found.route = text(&mut fields, "name");
        let actions = [
            ("ANY", None),
            ("ROUTE", Some(ActionMatch::Route)),
            ("REDIRECT", Some(ActionMatch::Redirect)),
            ("DIRECT_RESPONSE", Some(ActionMatch::DirectResponse)),
        ];
        found.action = choice(&mut fields, "action", &actions).flatten();
        fields.finish();
    }
    Some(found)
}
