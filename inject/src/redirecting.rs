//! The init container that sends a pod's traffic through its sidecar.

use crate::sidecar::Sidecar;
use serde_json::{Value, json};

impl Sidecar<'_> {
    /// `None`: nothing is captured.
    pub(crate) fn redirecting_name(&self) -> Option<&'static str> {
        match (&*self.captured.mode.value, self.cni) {
            ("NONE", _) => None,
            (_, true) => Some("istio-validation"),
            (_, false) => Some("istio-init"),
        }
    }

    /// Sets up iptables, or sees that the node agent did.
    pub(crate) fn redirecting(&self) -> Option<Value> {
        Some(json!({
            "name": self.redirecting_name()?,
            "image": self.image(),
            "args": self.iptables_args(),
            "resources": self.resources(),
            "securityContext": redirecting_security(self.cni),
        }))
    }

    /// Those stated, and the status port.
    pub(crate) fn excluded_inbound(&self) -> String {
        let stated = self.captured.exclude_inbound_ports.value.split(',');
        let stated = stated.map(str::trim).filter(|port| !port.is_empty());
        let mut ports: Vec<&str> = stated.collect();
        let own = self.status_port();
        if own != "0" && !ports.contains(&own) {
            ports.push(own);
        }
        ports.join(",")
    }

    fn iptables_args(&self) -> Vec<String> {
        let captured = &self.captured;
        let excluded = self.excluded_inbound();
        let excluded = match excluded.is_empty() {
            true => "15090,15021".to_owned(),
            false => format!("15090,15021,{excluded}"),
        };
        let mut args = vec!["istio-iptables".to_owned()];
        for (flag, value) in [
            ("-p", "15001"),
            ("-z", "15006"),
            ("-u", "1337"),
            ("-m", &captured.mode.value),
            ("-i", &captured.include_outbound_ip_ranges.value),
            ("-x", &captured.exclude_outbound_ip_ranges.value),
            ("-b", &captured.include_inbound_ports.value),
            ("-d", &excluded),
        ] {
            args.extend([flag.to_owned(), value.to_owned()]);
        }
        for (flag, setting) in [
            ("-q", &captured.include_outbound_ports),
            ("-o", &captured.exclude_outbound_ports),
        ] {
            if setting.place.is_some() {
                args.extend([flag.to_owned(), setting.value.clone()]);
            }
        }
        let virtual_interfaces = self
            .annotation("istio.io/reroute-virtual-interfaces")
            .or_else(|| self.annotation("traffic.sidecar.istio.io/kubevirtInterfaces"));
        let excluded = self.annotation("traffic.sidecar.istio.io/excludeInterfaces");
        for (flag, interfaces) in [("-k", virtual_interfaces), ("-c", excluded)] {
            if let Some(interfaces) = interfaces {
                args.extend([flag.to_owned(), interfaces.to_owned()]);
            }
        }
        args.push(self.log_level());
        if self.cni {
            args.extend(["--run-validation", "--skip-rule-apply"].map(str::to_owned));
        }
        args
    }
}

fn redirecting_security(cni: bool) -> Value {
    let user = if cni { 1337 } else { 0 };
    let mut capabilities = json!({"drop": ["ALL"]});
    if !cni {
        capabilities["add"] = json!(["NET_ADMIN", "NET_RAW"]);
    }
    json!({
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "capabilities": capabilities,
        "readOnlyRootFilesystem": cni,
        "runAsGroup": user,
        "runAsUser": user,
        "runAsNonRoot": cni,
    })
}
