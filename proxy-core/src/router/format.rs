//! Command operators (`%REQ(name)%` and the like) in the values that routes add to headers.

use crate::contract::{Opened, Protocol};
use crate::head::{RequestHead, ResponseHead};
use std::borrow::Cow;

/// What the operators of one request can tell.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub request: &'a RequestHead,
    pub response: Option<&'a ResponseHead>,
    /// Of an upstream's answer; 0 before, and in the proxy's own answers.
    pub response_code: u16,
    pub opened: &'a Opened,
    /// Name of the chosen cluster.
    pub cluster: Option<&'a str>,
    /// Name of the route.
    pub route: &'a str,
}

/// One operator.
#[derive(Debug, PartialEq)]
enum Operator<'a> {
    Request {
        name: &'a str,
        otherwise: Option<&'a str>,
    },
    Response {
        name: &'a str,
        otherwise: Option<&'a str>,
    },
    ResponseCode,
    Protocol,
    RouteName,
    UpstreamCluster,
    RemoteAddress,
    RemoteIp,
    RemotePort,
    LocalAddress,
    LocalIp,
    LocalPort,
}

const SUPPORTED: &str = "REQ(name), RESP(name), RESPONSE_CODE, PROTOCOL, ROUTE_NAME, \
     UPSTREAM_CLUSTER and DOWNSTREAM_[REMOTE|DIRECT_REMOTE|LOCAL]_[ADDRESS|ADDRESS_WITHOUT_PORT|PORT]";

impl<'a> Operator<'a> {
    fn parse(command: &'a str, argument: Option<&'a str>) -> Result<Operator<'a>, String> {
        if let "REQ" | "RESP" = command {
            let argument = argument.filter(|argument| !argument.is_empty());
            let Some(argument) = argument else {
                return Err(format!("%{command}% needs the name of a header"));
            };
            let mut names = argument.split('?');
            let (name, otherwise) = (names.next().unwrap_or(argument), names.next());
            if names.next().is_some() {
                return Err(format!(
                    "%{command}({argument})% has more than one alternative"
                ));
            }
            return Ok(match command {
                "REQ" => Operator::Request { name, otherwise },
                _ => Operator::Response { name, otherwise },
            });
        }
        let operator = match command {
            "RESPONSE_CODE" => Operator::ResponseCode,
            "PROTOCOL" => Operator::Protocol,
            "ROUTE_NAME" => Operator::RouteName,
            "UPSTREAM_CLUSTER" => Operator::UpstreamCluster,
            "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => {
                Operator::RemoteAddress
            }
            "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT"
            | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT" => Operator::RemoteIp,
            "DOWNSTREAM_REMOTE_PORT" | "DOWNSTREAM_DIRECT_REMOTE_PORT" => Operator::RemotePort,
            "DOWNSTREAM_LOCAL_ADDRESS" => Operator::LocalAddress,
            "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Operator::LocalIp,
            "DOWNSTREAM_LOCAL_PORT" => Operator::LocalPort,
            _ => return Err(format!("%{command}% is not supported; {SUPPORTED} are")),
        };
        match argument {
            None => Ok(operator),
            Some(_) => Err(format!("%{command}% takes no argument")),
        }
    }

    fn evaluate(&self, context: &Context<'_>) -> Vec<u8> {
        let (peer, local) = (context.opened.peer, context.opened.original_dst);
        match self {
            Operator::Request { name, otherwise } => {
                let head = context.request;
                let first = of_request(head, name);
                let found = first.or_else(|| of_request(head, otherwise.as_ref()?));
                found.map_or(Vec::new(), |value| value.to_vec())
            }
            Operator::Response { name, otherwise } => {
                let headers = context.response.map(|head| &head.headers);
                let get = |name: &str| headers?.get(&name.to_ascii_lowercase());
                let found = get(name).or_else(|| get(otherwise.as_ref()?));
                found.map_or(Vec::new(), |value| value.to_vec())
            }
            Operator::ResponseCode => context.response_code.to_string().into_bytes(),
            Operator::Protocol => match context.opened.protocol {
                Protocol::Http1 => b"HTTP/1.1".into(),
                Protocol::Http2 => b"HTTP/2".into(),
            },
            Operator::RouteName => context.route.into(),
            Operator::UpstreamCluster => context.cluster.unwrap_or("").into(),
            Operator::RemoteAddress => peer.to_string().into_bytes(),
            Operator::RemoteIp => peer.ip().to_string().into_bytes(),
            Operator::RemotePort => peer.port().to_string().into_bytes(),
            Operator::LocalAddress => local.to_string().into_bytes(),
            Operator::LocalIp => local.ip().to_string().into_bytes(),
            Operator::LocalPort => local.port().to_string().into_bytes(),
        }
    }
}

fn of_request<'a>(head: &'a RequestHead, name: &str) -> Option<&'a [u8]> {
    match &*name.to_ascii_lowercase() {
        ":path" => Some(head.path.as_bytes()),
        ":authority" | "host" => Some(head.authority.as_bytes()),
        ":method" => Some(head.method.as_bytes()),
        ":scheme" => Some(head.scheme.as_bytes()),
        name => head.headers.get(name),
    }
}

/// A piece of a value.
enum Piece<'a> {
    Text(&'a str),
    Operator {
        operator: Operator<'a>,
        max_len: Option<usize>,
    },
}

/// The piece that `value` begins with, and the rest.
fn piece(value: &str) -> Result<(Piece<'_>, &str), String> {
    let Some(after) = value.strip_prefix('%') else {
        let (text, rest) = value.split_at(value.find('%').unwrap_or(value.len()));
        return Ok((Piece::Text(text), rest));
    };
    if let Some(rest) = after.strip_prefix('%') {
        return Ok((Piece::Text("%"), rest));
    }
    let invalid = || format!("no operator begins at `{value}`; a percent sign is written %%");
    let name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let (command, after) = after.split_at(after.find(|c| !name(c)).ok_or_else(invalid)?);
    let (argument, after) = match after.strip_prefix('(') {
        None => (None, after),
        Some(inner) => {
            let (argument, after) = inner.split_once(')').ok_or_else(invalid)?;
            (Some(argument), after)
        }
    };
    let (max_len, rest) = match after.strip_prefix(':') {
        None => (None, after.strip_prefix('%').ok_or_else(invalid)?),
        Some(after) => {
            let (digits, rest) = after.split_once('%').ok_or_else(invalid)?;
            (Some(digits.parse().map_err(|_| invalid())?), rest)
        }
    };
    if command.is_empty() {
        return Err(invalid());
    }
    let operator = Operator::parse(command, argument)?;
    Ok((Piece::Operator { operator, max_len }, rest))
}

/// Why a value cannot be taken over, if it cannot.
pub(crate) fn refusal(mut value: &str) -> Option<String> {
    while !value.is_empty() {
        match piece(value) {
            Ok((_, rest)) => value = rest,
            Err(why) => return Some(why),
        }
    }
    None
}

/// The value with its operators answered; what has no answer is left out.
pub(crate) fn formatted<'v>(value: &'v str, context: &Context<'_>) -> Cow<'v, [u8]> {
    if !value.contains('%') {
        return Cow::Borrowed(value.as_bytes());
    }
    let (mut out, mut rest) = (Vec::new(), value);
    // Values with mistakes were refused with their table.
    while let Ok((piece, after)) = piece(rest)
        && !rest.is_empty()
    {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
            Piece::Operator { operator, max_len } => {
                let mut answer = operator.evaluate(context);
                answer.truncate(max_len.unwrap_or(usize::MAX));
                out.append(&mut answer);
            }
        }
        rest = after;
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Direction;
    use crate::head::Headers;
    use crate::ids::DownstreamId;

    /// Envoy 1.40's answers.
    #[test]
    fn operators() {
        let mut headers = Headers::default();
        headers.append("x-in".into(), b"hello");
        let request = RequestHead {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "a.example".into(),
            path: "/fmt/a?q=1".into(),
            headers,
            id: None,
        };
        let mut response = ResponseHead::of_status(200);
        response.headers.append("x-q".into(), b"Q");
        let opened = Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: "127.0.0.1:37948".parse().unwrap(),
            original_dst: "[::1]:35661".parse().unwrap(),
            direction: Direction::Outbound,
            tls: None,
            protocol: Protocol::Http1,
        };
        let context = Context {
            request: &request,
            response: Some(&response),
            response_code: 200,
            opened: &opened,
            cluster: Some("c"),
            route: "r",
        };
        for (value, want) in [
            ("plain", "plain"),
            ("%REQ(x-in)%", "hello"),
            ("%REQ(X-IN)%", "hello"),
            ("%REQ(nope)%", ""),
            ("x%REQ(nope)%y", "xy"),
            ("%REQ(nope?x-in)%", "hello"),
            ("%REQ(x-in):2%", "he"),
            ("[%REQ(:path)%]", "[/fmt/a?q=1]"),
            ("%REQ(:authority)%", "a.example"),
            ("%REQ(:method)% %REQ(:scheme)%", "GET http"),
            ("%%x", "%x"),
            ("%RESP(x-q)%", "Q"),
            ("%RESPONSE_CODE%", "200"),
            ("%UPSTREAM_CLUSTER%", "c"),
            ("%PROTOCOL%", "HTTP/1.1"),
            ("%ROUTE_NAME%", "r"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "127.0.0.1:37948"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "127.0.0.1"),
            ("%DOWNSTREAM_LOCAL_PORT%", "35661"),
            ("%DOWNSTREAM_LOCAL_ADDRESS%", "[::1]:35661"),
        ] {
            assert_eq!(refusal(value), None, "{value}");
            let got = formatted(value, &context);
            assert_eq!(String::from_utf8_lossy(&got), want, "{value}");
        }
        let before_it = Context {
            response: None,
            response_code: 0,
            ..context
        };
        assert_eq!(&*formatted("%RESPONSE_CODE%", &before_it), b"0");
        assert_eq!(&*formatted("%RESP(x-q)%", &before_it), b"");
    }

    #[test]
    fn mistakes() {
        for value in [
            "100%",
            "%FOO%",
            "%REQ(x%",
            "%REQ()%",
            "%REQ%",
            "%REQ(a?b?c)%",
            "%REQ(a):x%",
            "%DOWNSTREAM_LOCAL_PORT",
            "%DOWNSTREAM_LOCAL_PORT(1)%",
            "a%b",
            "%",
            "%(x)%",
        ] {
            assert!(refusal(value).is_some(), "{value}");
        }
    }
}
