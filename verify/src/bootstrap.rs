//! One bootstrap for many configurations, each with entries where connections arrive as if they had
//! been redirected.

use crate::Failure;
use crate::mapping::{named_apart, prefix};
use control_plane::Resources;
use proxy_core::contract::Direction;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};

/// Where connections of one configuration arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries {
    /// From the application, or at a gateway.
    pub(crate) outbound: u16,
    pub(crate) inbound: u16,
}

impl Entries {
    pub(crate) fn of(self, direction: Direction) -> SocketAddr {
        let port = match direction {
            Direction::Outbound | Direction::Gateway => self.outbound,
            Direction::Inbound => self.inbound,
        };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    }
}

/// A bootstrap with all of `mapped`, by configuration.
pub(crate) fn bootstrap(
    mapped: &[Resources],
    entries: &[Entries],
    admin: u16,
    access_log: Value,
) -> Result<Value, Failure> {
    let mut all = Resources::default();
    for (config, resources) in mapped.iter().enumerate() {
        let apart = named_apart(config, resources);
        all.clusters.extend(apart.clusters);
        all.endpoints.extend(apart.endpoints);
        all.listeners.extend(apart.listeners);
        all.routes.extend(apart.routes);
    }
    let frame = export::Bootstrap {
        node: "meshsim-verify".to_owned(),
        admin_port: Some(admin),
        access_log: Some(access_log),
    };
    let resources = export::Resources {
        clusters: &all.clusters,
        endpoints: &all.endpoints,
        listeners: &all.listeners,
        routes: &all.routes,
    };
    let mut bootstrap = frame.with_static(&resources).map_err(|problems| {
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::Config(problems.join("\n"))
    })?;
    let listeners = bootstrap["static_resources"]["listeners"].as_array_mut();
    let listeners = listeners.ok_or_else(|| Failure::Config("no listeners".to_owned()))?;
    for listener in listeners.iter_mut() {
        listener["bind_to_port"] = json!(false);
        keep_request_ids(listener);
    }
    for (config, own) in entries.iter().enumerate() {
        let name = |name: &str| json!(format!("{}{name}", prefix(config)));
        match listeners
            .iter_mut()
            .find(|one| one["name"] == name("virtualOutbound"))
        {
            Some(listener) => receive(listener, own.outbound),
            None => {
                let mut gateway = json!({ "name": name("entry"), "use_original_dst": true });
                receive(&mut gateway, own.outbound);
                // It never keeps a connection; Envoy wants a chain all the same.
                gateway["filter_chains"] = json!([{}]);
                listeners.push(gateway);
            }
        }
        if let Some(listener) = listeners
            .iter_mut()
            .find(|one| one["name"] == name("virtualInbound"))
        {
            receive(listener, own.inbound);
        }
    }
    Ok(bootstrap)
}

/// At the edge of a mesh requests get new ids, unless told otherwise; ours are told apart by them.
fn keep_request_ids(listener: &mut Value) {
    let chains = listener["filter_chains"].as_array_mut();
    for filter in chains.into_iter().flatten() {
        let config = &mut filter["filters"][0]["typed_config"];
        if config["use_remote_address"] == json!(true) {
            config["preserve_external_request_id"] = json!(true);
        }
    }
}

/// Makes the listener take connections that begin with a PROXY header.
fn receive(listener: &mut Value, port: u16) {
    let address = json!({ "address": "127.0.0.1", "port_value": port });
    listener["address"] = json!({ "socket_address": address });
    listener["bind_to_port"] = json!(true);
    let kind = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol";
    let first = json!({
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": { "@type": format!("type.googleapis.com/{kind}") },
    });
    match listener["listener_filters"].as_array_mut() {
        Some(filters) => filters.insert(0, first),
        None => listener["listener_filters"] = json!([first]),
    }
}
