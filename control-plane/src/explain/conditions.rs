//! What routes ask of requests, and the first thing that a request lacks, in words.

use proxy_core::head::RequestHead;
use proxy_core::router::{Unmet, path_of, query_value, unmet};
use proxy_core::xds::{
    ClaimMatch, HeaderMatch, PathMatch, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};

/// Everything that `matches` asks for.
pub(super) fn asked(matches: &RouteMatch) -> String {
    let any_path = matches!(&matches.path, PathMatch::Prefix(prefix) if &**prefix == "/");
    let path = (!any_path).then(|| format!("path {}", path_wanted(matches)));
    let headers = matches.headers.iter().map(header_wanted);
    let query = matches.query.iter().map(|parameter| {
        let name = format!("query parameter {}", parameter.name);
        value_wanted(&name, &parameter.value)
    });
    let claims = matches.claims.iter().map(claim_wanted);
    let fraction = matches.fraction.map(|fraction| {
        let (part, of) = (fraction.numerator, fraction.denominator);
        format!("{part} of {of} requests")
    });
    let all = path.into_iter().chain(headers).chain(query).chain(claims);
    let all: Vec<String> = all.chain(fraction).collect();
    match all.is_empty() {
        true => "takes every request".to_owned(),
        false => all.join(" and "),
    }
}

/// The first condition that the request does not meet; `None` if it meets those on its head.
pub(super) fn lacking(
    matches: &RouteMatch,
    head: &RequestHead,
    claims: Option<&serde_json::Value>,
) -> Option<String> {
    let path = path_of(&head.path);
    if let Some(unmet) = unmet(matches, path, head) {
        return Some(match unmet {
            Unmet::Path => format!("path `{path}` {}", path_refused(matches)),
            Unmet::Header(header) => header_lacking(header, head),
            Unmet::Query(parameter) => query_lacking(parameter, &head.path),
        });
    }
    let mut asked = matches.claims.iter();
    let claim = asked.find(|claim| !claim.matches(claims))?;
    Some(format!("the token does not say: {}", claim_wanted(claim)))
}

fn path_wanted(matches: &RouteMatch) -> String {
    let caseless = match matches.case_sensitive {
        true => "",
        false => ", in any case",
    };
    match &matches.path {
        PathMatch::Exact(path) => format!("is `{path}`{caseless}"),
        PathMatch::Prefix(prefix) => format!("begins with `{prefix}`{caseless}"),
        PathMatch::SeparatedPrefix(prefix) => format!("is `{prefix}` or below it{caseless}"),
        PathMatch::Regex(regex) => format!("fully matches `{}`", regex.source()),
    }
}

fn path_refused(matches: &RouteMatch) -> String {
    let caseless = match matches.case_sensitive {
        true => "",
        false => ", in any case",
    };
    match &matches.path {
        PathMatch::Exact(path) => format!("is not `{path}`{caseless}"),
        PathMatch::Prefix(prefix) => format!("does not begin with `{prefix}`{caseless}"),
        PathMatch::SeparatedPrefix(prefix) => format!("is not `{prefix}` or below it{caseless}"),
        PathMatch::Regex(regex) => format!("does not fully match `{}`", regex.source()),
    }
}

fn header_wanted(header: &HeaderMatch) -> String {
    let name = header_name(header);
    match (&header.value, header.invert) {
        (ValueMatch::Present(present), invert) => presence(&name, *present != invert),
        (ValueMatch::String(_), false) => value_wanted(&name, &header.value),
        (ValueMatch::String(text), true) => format!("{name} not {}", text_wanted(text)),
    }
}

fn header_lacking(header: &HeaderMatch, head: &RequestHead) -> String {
    let name = header_name(header);
    let pseudo = match &*header.name {
        ":method" => Some(&head.method),
        ":authority" => Some(&head.authority),
        ":scheme" => Some(&head.scheme),
        ":path" => Some(&head.path),
        _ => None,
    };
    let lines = head.headers.all(&header.name);
    let found: Vec<String> = match pseudo {
        Some(value) => vec![value.to_string()],
        None => lines
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect(),
    };
    lacked(&name, &found, &header.value, header.invert)
}

fn query_lacking(parameter: &QueryMatch, path: &str) -> String {
    let name = format!("query parameter {}", parameter.name);
    let value = query_value(path, &parameter.name);
    let found: Vec<String> = value.into_iter().map(str::to_owned).collect();
    lacked(&name, &found, &parameter.value, false)
}

/// `found`: the values that there are.
fn lacked(name: &str, found: &[String], wanted: &ValueMatch, invert: bool) -> String {
    let found_text = found.join("`, `");
    match wanted {
        ValueMatch::Present(_) if found.is_empty() => format!("there is no {name}"),
        ValueMatch::Present(_) => format!("{name} is there (`{found_text}`), and must not be"),
        ValueMatch::String(text) => match (found.is_empty(), invert) {
            (true, false) => format!("there is no {name}, which should be {}", text_wanted(text)),
            (true, true) => format!("there is no {name}, not even another one"),
            (false, false) => format!("{name} is `{found_text}`, not {}", text_wanted(text)),
            (false, true) => {
                format!(
                    "{name} is `{found_text}`, and must not be {}",
                    text_wanted(text)
                )
            }
        },
    }
}

fn header_name(header: &HeaderMatch) -> String {
    match header.name.strip_prefix(':') {
        Some(pseudo) => pseudo.to_owned(),
        None => format!("header {}", header.name),
    }
}

fn value_wanted(name: &str, value: &ValueMatch) -> String {
    match value {
        ValueMatch::Present(present) => presence(name, *present),
        ValueMatch::String(text) => format!("{name} {}", text_wanted(text)),
    }
}

fn presence(name: &str, present: bool) -> String {
    match present {
        true => format!("any {name}"),
        false => format!("no {name}"),
    }
}

fn text_wanted(text: &StringMatch) -> String {
    match text {
        StringMatch::Exact(text) => format!("`{text}`"),
        StringMatch::Prefix(text) => format!("`{text}...`"),
        StringMatch::Suffix(text) => format!("`...{text}`"),
        StringMatch::Contains(text) => format!("`...{text}...`"),
        StringMatch::Regex(regex) => format!("matching `{}`", regex.source()),
    }
}

fn claim_wanted(claim: &ClaimMatch) -> String {
    let path: Vec<&str> = claim.path.iter().map(|key| &**key).collect();
    let values: Vec<String> = claim.values.iter().map(text_wanted).collect();
    let not = if claim.invert { "not " } else { "" };
    format!("claim {} {not}{}", path.join("."), values.join(" or "))
}
