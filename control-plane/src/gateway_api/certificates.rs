//! Secrets and ConfigMaps, as far as Gateways and policies refer to their certificates.

use source::Node;

/// What a Secret or ConfigMap can be used for. The certificates themselves are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// A certificate and its key, both well-formed.
    pub(crate) server: bool,
    pub(crate) authority: Authority,
}

/// The certificate of an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    Missing,
    Malformed,
    WellFormed,
}

impl Certificates {
    /// Of a Secret: `data` is in base64, `stringData` is not.
    pub(crate) fn of_secret(document: &Node) -> Certificates {
        Certificates::of(&|key| {
            let plain = document.at(&["stringData", key]).and_then(Node::as_scalar);
            let encoded = || document.at(&["data", key]).and_then(Node::as_scalar);
            match plain {
                Some(text) => Some(text.as_bytes().to_vec()),
                None => base64(encoded()?),
            }
        })
    }

    /// Of a ConfigMap.
    pub(crate) fn of_config_map(document: &Node) -> Certificates {
        Certificates::of(&|key| {
            let text = document.at(&["data", key]).and_then(Node::as_scalar)?;
            Some(text.as_bytes().to_vec())
        })
    }

    fn of(value: &dyn Fn(&str) -> Option<Vec<u8>>) -> Certificates {
        let value = |key| value(key).filter(|bytes| !bytes.is_empty());
        let pairs = [("cert", "key"), ("tls.crt", "tls.key")];
        let pair = pairs
            .into_iter()
            .find_map(|(cert, key)| Some((value(cert)?, value(key)?)));
        let authority = value("cacert").or_else(|| value("ca.crt"));
        Certificates {
            server: pair.is_some_and(|(certificate, key)| {
                holds_pem(&certificate, "CERTIFICATE") && holds_pem(&key, "PRIVATE KEY")
            }),
            authority: match authority {
                None => Authority::Missing,
                Some(bytes) if holds_pem(&bytes, "CERTIFICATE") => Authority::WellFormed,
                Some(_) => Authority::Malformed,
            },
        }
    }
}

/// Whether a block whose label ends like that is in `bytes`.
fn holds_pem(bytes: &[u8], label: &str) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let mut blocks = text.split("-----BEGIN ").skip(1);
    blocks.any(|block| {
        let Some((found, rest)) = block.split_once("-----") else {
            return false;
        };
        let body = rest.split_once(&format!("-----END {found}-----"));
        found.ends_with(label) && body.is_some_and(|(body, _)| base64(body).is_some())
    })
}

/// Decodes base64, whitespace left out.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace()) {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => break,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_decoded() {
        for (text, want) in [
            ("", Some("")),
            ("SGVsbG8gd29ybGQK", Some("Hello world\n")),
            ("SGVs\n bG8=", Some("Hello")),
            ("SGVs!", None),
        ] {
            assert_eq!(base64(text), want.map(|w| w.as_bytes().to_vec()), "{text}");
        }
    }

    #[test]
    fn certificates_are_blocks_of_pem() {
        let pem = b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(holds_pem(pem, "PRIVATE KEY"));
        assert!(!holds_pem(pem, "CERTIFICATE"));
        assert!(!holds_pem(b"hello", "CERTIFICATE"));
    }
}
