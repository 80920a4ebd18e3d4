//! ServiceEntries of EgressRules.

use super::Converter;
use crate::config::{EgressProtocol, EgressRule};
use crate::of_2017::egress_rules;
use proxy_core::xds::Name;
use serde_json::{Value, json};

impl Converter<'_, '_> {
    pub(super) fn add_egress(&mut self) {
        let rules: Vec<(Name, EgressRule)> = egress_rules(self.objects)
            .into_iter()
            .map(|(object, rule)| (object.reference.namespace.clone(), rule.clone()))
            .collect();
        for (namespace, rule) in rules {
            if &*rule.host.text == "*" {
                let message = "an EgressRule for every host has no equivalent";
                let label = "`outboundTrafficPolicy: {mode: ALLOW_ANY}` of the mesh comes near";
                self.warn(&rule.host.span, message, label);
                continue;
            }
            let ports = rule.ports.iter().map(|(number, protocol)| {
                // Applications speak plain HTTP; a DestinationRule has TLS begun.
                let protocol = match protocol {
                    EgressProtocol::Http2 => "HTTP2",
                    EgressProtocol::Http | EgressProtocol::Https => "HTTP",
                };
                let name = format!("{}-{number}", protocol.to_lowercase());
                json!({"number": number, "name": name, "protocol": protocol})
            });
            let spec = json!({
                "hosts": [&*rule.host.text],
                "location": "MESH_EXTERNAL",
                "resolution": "NONE",
                "ports": ports.collect::<Vec<Value>>(),
            });
            let (_, name) = self.place(&rule.host.text);
            self.add("ServiceEntry", &namespace, &name, &spec);
        }
    }
}
