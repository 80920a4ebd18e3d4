//! Port protocols as Istio tells them apart (`pkg/config/kube/conversion.go`).

/// What a port speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Http2,
    Grpc,
    GrpcWeb,
    Https,
    Tls,
    Tcp,
    /// Found out per connection.
    Auto,
    Udp,
}

impl Protocol {
    /// Istio's name of a protocol, any case.
    pub(crate) fn parse(name: &str) -> Option<Protocol> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" => Protocol::Http,
            "http2" => Protocol::Http2,
            "grpc" => Protocol::Grpc,
            "grpc-web" => Protocol::GrpcWeb,
            "https" => Protocol::Https,
            "tls" => Protocol::Tls,
            "tcp" | "mongo" | "mysql" | "redis" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        })
    }

    /// Of a Kubernetes Service port: `appProtocol`, else the name up to its first `-`, else to be
    /// found out, except where the server speaks first.
    pub(crate) fn of_port(name: &str, app_protocol: Option<&str>, number: u16) -> Protocol {
        match app_protocol {
            Some("kubernetes.io/h2c") => return Protocol::Http2,
            Some("kubernetes.io/ws") => return Protocol::Http,
            Some("kubernetes.io/wss") => return Protocol::Https,
            _ => {}
        }
        let text = app_protocol.unwrap_or(name);
        if text.to_ascii_lowercase().starts_with("grpc-web") {
            return Protocol::GrpcWeb;
        }
        let first = text.split('-').next().unwrap_or_default();
        match Protocol::parse(first) {
            Some(found) => found,
            None if matches!(number, 25 | 53 | 3306 | 27017) => Protocol::Tcp,
            None => Protocol::Auto,
        }
    }

    /// Requests are always routed one by one.
    pub(crate) fn is_http(self) -> bool {
        matches!(
            self,
            Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb
        )
    }

    /// Requests may be routed one by one.
    pub(crate) fn is_http_or_auto(self) -> bool {
        self.is_http() || self == Protocol::Auto
    }

    /// Encrypted by the client, so that only the server name is seen.
    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Protocol::Https | Protocol::Tls)
    }

    /// Spoken upstream as HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Protocol::Http2 | Protocol::Grpc | Protocol::GrpcWeb)
    }

    pub(crate) fn is_grpc(self) -> bool {
        matches!(self, Protocol::Grpc | Protocol::GrpcWeb)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_tell_their_protocol() {
        for (name, app, number, want) in [
            ("http-web", None, 80, Protocol::Http),
            ("HTTP", None, 80, Protocol::Http),
            ("grpc-web-x", None, 80, Protocol::GrpcWeb),
            ("web", None, 80, Protocol::Auto),
            ("db", None, 3306, Protocol::Tcp),
            ("web", Some("kubernetes.io/h2c"), 80, Protocol::Http2),
            ("http", Some("tcp"), 80, Protocol::Tcp),
            ("mongo", None, 9, Protocol::Tcp),
        ] {
            assert_eq!(Protocol::of_port(name, app, number), want, "{name} {app:?}");
        }
    }
}
