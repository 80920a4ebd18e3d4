//! What a simulated network cannot say about a redirected connection, sent ahead of its bytes: the
//! PROXY protocol, version 2 (HAProxy `doc/proxy-protocol.txt`). TLS is not done, so what the
//! client would have offered in its handshake comes along: TLV `SSL` for the fact, `AUTHORITY` for
//! the server name, and `ALPN` `istio` for Istio's mutual TLS, with the URI of the client's certificate
//! in a TLV of our own.

use ppp::v2::{Addresses, Builder, Command, Header, Protocol, Type, Version};
use proxy_core::contract::DownstreamTls;
use proxy_core::xds::Name;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Signature, version, family and the length of the rest.
const FIXED_BYTES: usize = 16;
const ALPN_MUTUAL: &[u8] = b"istio";
/// The first that is free for anybody's use.
const PRINCIPAL: u8 = 0xe0;
/// `PP2_CLIENT_SSL`, and four bytes of "verified".
const SSL: [u8; 5] = [1, 0, 0, 0, 0];

/// Where a connection comes from and was going.
#[derive(Clone, Debug, PartialEq)]
pub struct Preface {
    pub source: SocketAddr,
    /// Before redirection.
    pub destination: SocketAddr,
    /// `None`: plain text.
    pub tls: Option<DownstreamTls>,
}

impl Preface {
    /// Sends the preface. Fails if the addresses are of different families or the connection does.
    pub async fn write(&self, io: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        io.write_all(&self.encode()?).await
    }

    fn encode(&self) -> io::Result<Vec<u8>> {
        if self.source.is_ipv4() != self.destination.is_ipv4() {
            return Err(invalid("the addresses are of different families"));
        }
        let addresses: Addresses = (self.source, self.destination).into();
        let start = Version::Two | Command::Proxy;
        let mut header = Builder::with_addresses(start, Protocol::Stream, addresses);
        if let Some(tls) = &self.tls {
            header = header.write_tlv(Type::SSL, &SSL)?;
            if tls.mutual {
                header = header.write_tlv(Type::ALPN, ALPN_MUTUAL)?;
            }
            if let Some(sni) = &tls.sni {
                header = header.write_tlv(Type::Authority, sni.as_bytes())?;
            }
            if let Some(principal) = &tls.principal {
                header = header.write_tlv(PRINCIPAL, principal.as_bytes())?;
            }
        }
        header.build()
    }

    /// Receives a preface; the bytes after it are left unread. Fails with `InvalidData` if it is
    /// none.
    pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> io::Result<Preface> {
        let mut bytes = vec![0; FIXED_BYTES];
        io.read_exact(&mut bytes).await?;
        if !bytes.starts_with(ppp::v2::PROTOCOL_PREFIX) {
            return Err(invalid("not a PROXY protocol header"));
        }
        let rest = u16::from_be_bytes([bytes[14], bytes[15]]);
        bytes.resize(FIXED_BYTES + usize::from(rest), 0);
        io.read_exact(&mut bytes[FIXED_BYTES..]).await?;
        Preface::decode(&bytes)
    }

    fn decode(bytes: &[u8]) -> io::Result<Preface> {
        let header = Header::try_from(bytes).map_err(|error| invalid(&error.to_string()))?;
        let (source, destination) = match &header.addresses {
            Addresses::IPv4(ip) => (
                SocketAddr::from((ip.source_address, ip.source_port)),
                SocketAddr::from((ip.destination_address, ip.destination_port)),
            ),
            Addresses::IPv6(ip) => (
                SocketAddr::from((ip.source_address, ip.source_port)),
                SocketAddr::from((ip.destination_address, ip.destination_port)),
            ),
            Addresses::Unspecified | Addresses::Unix(_) => {
                return Err(invalid("the addresses are not of IP"));
            }
        };
        let text = |value: &[u8]| {
            let text = std::str::from_utf8(value).map(Name::from);
            text.map_err(|_| invalid("a name is not text"))
        };
        let (mut secure, mut mutual, mut sni, mut principal) = (false, false, None, None);
        for tlv in header.tlvs() {
            let tlv = tlv.map_err(|error| invalid(&error.to_string()))?;
            if tlv.kind == u8::from(Type::SSL) {
                secure = true;
            } else if tlv.kind == u8::from(Type::ALPN) {
                mutual = *tlv.value == *ALPN_MUTUAL;
            } else if tlv.kind == u8::from(Type::Authority) {
                sni = Some(text(&tlv.value)?);
            } else if tlv.kind == PRINCIPAL {
                principal = Some(text(&tlv.value)?);
            }
        }
        Ok(Preface {
            source,
            destination,
            tls: secure.then_some(DownstreamTls {
                sni,
                mutual,
                principal,
            }),
        })
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn preface(source: &str, destination: &str, tls: Option<DownstreamTls>) -> Preface {
        Preface {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            tls,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let istio = DownstreamTls {
            sni: Some("outbound_.80_._.reviews".into()),
            mutual: true,
            principal: Some("spiffe://cluster.local/ns/default/sa/web".into()),
        };
        let plain_tls = DownstreamTls {
            sni: None,
            mutual: false,
            principal: None,
        };
        for preface in [
            preface("10.0.0.1:40000", "10.96.0.7:80", None),
            preface("10.0.0.1:40000", "10.0.0.2:9080", Some(istio)),
            preface("[fd00::1]:40000", "[fd00::2]:9080", Some(plain_tls)),
        ] {
            let bytes = preface.encode().unwrap();
            assert_eq!(Preface::decode(&bytes).unwrap(), preface);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert!(preface("10.0.0.1:1", "[fd00::2]:1", None).encode().is_err());
        let bytes = preface("10.0.0.1:1", "10.0.0.2:1", None).encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Preface::decode(&bytes[..cut]).is_err());
        }
    }
}
