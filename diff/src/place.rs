//! Where requests go that are compared together: a connection and a host.

use crate::connections::{Connection, Secured};
use crate::routes;
use control_plane::Request;
use proxy_core::contract::Direction;
use proxy_core::xds::Name;
use request_set::Witness;

/// A connection and a host.
pub(crate) struct Place<'p> {
    direction: Direction,
    pub(crate) connection: &'p Connection,
    /// As reports call it.
    pub(crate) host: String,
    pub(crate) authority: Name,
    /// The host alone does not lead to the address.
    pub(crate) is_elsewhere: bool,
}

impl<'p> Place<'p> {
    /// `name`: of the proxy. Without `host`, the address.
    pub(crate) fn new(
        name: &str,
        direction: Direction,
        connection: &'p Connection,
        host: Option<&str>,
    ) -> Place<'p> {
        let port = connection.address.port();
        let secure = connection.tls == Secured::Tls;
        let (authority, label) = match (direction, host) {
            (Direction::Inbound, _) => {
                let own = name.rsplit('/').next().unwrap_or_default();
                let own = if own.contains('=') {
                    "application"
                } else {
                    own
                };
                let label = match connection.elsewhere {
                    true => "any other port".to_owned(),
                    false => format!("port {port}"),
                };
                (format!("{own}:{port}"), label)
            }
            (Direction::Gateway, Some(host)) => (host.to_owned(), host.to_owned()),
            (Direction::Outbound, Some(host)) => match (port, secure) {
                (80, false) | (443, true) => (host.to_owned(), host.to_owned()),
                _ => (format!("{host}:{port}"), format!("{host}:{port}")),
            },
            (Direction::Outbound | Direction::Gateway, None) => {
                let address = connection.address.to_string();
                (address.clone(), address)
            }
        };
        Place {
            direction,
            connection,
            host: label,
            authority: authority.into(),
            is_elsewhere: false,
        }
    }

    /// A request that goes there, told from others by `witness`; with claims, they are of `issuer`.
    pub(crate) fn request(&self, witness: Option<&Witness>, issuer: Option<&Name>) -> Request {
        let mut request = self.connection.request(self.direction);
        request.authority = self.authority.to_string();
        if let Some(witness) = witness {
            routes::fill(&mut request, witness, issuer);
        }
        request
    }
}
