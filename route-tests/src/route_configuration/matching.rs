//! Envoy's matchers of paths, headers and query parameters.

use super::proto::{number, refuse};
use proxy_core::xds::{
    ClaimMatch, Fraction, HeaderMatch, Name, PathMatch, QueryMatch, Regex, RouteMatch, StringMatch,
    ValueMatch,
};
use source::fields::expected;
use source::{Diagnostic, Fields, Node, Value};

/// The condition on the runtime of a route (`runtime_fraction`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RuntimeFraction {
    /// The key that switches it on.
    pub(crate) key: Name,
    pub(crate) fraction: Fraction,
}

/// Envoy `HeaderMatcher`, with what the data plane has no word for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct HeaderMatcher {
    pub(crate) matcher: HeaderMatch,
    /// From, inclusive, and to, exclusive: instead of the value of `matcher`.
    pub(crate) range: Option<(i64, i64)>,
    /// The field that says what it asks for, such as `string_match.exact`.
    pub(crate) field: &'static str,
    /// The text of an exact match.
    pub(crate) exact: Option<Name>,
}

/// Envoy `RouteMatch`.
pub(super) fn route_match(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(RouteMatch, Option<RuntimeFraction>)> {
    let mut fields = Fields::of(node, "a match", diagnostics)?;
    refuse(
        &mut fields,
        &[
            "connect_matcher",
            "path_match_policy",
            "tls_context",
            "filter_state",
            "cookies",
        ],
    );
    let path = path_match(&mut fields);
    let case_sensitive = fields.boolean("case_sensitive").unwrap_or(true);
    let runtime = fields.optional("runtime_fraction");
    let runtime = runtime.and_then(|node| runtime_fraction(node, fields.diagnostics));
    let mut headers = Vec::new();
    for node in fields.list("headers") {
        let Some(header) = HeaderMatcher::read(node, fields.diagnostics) else {
            continue;
        };
        if header.range.is_some() {
            let problem = Diagnostic::error("`range_match` of a route is not done here");
            fields
                .diagnostics
                .push(problem.at(&node.span, "would change what is decided"));
        }
        headers.push(header.matcher);
    }
    if let (Some(_), Ok(regex)) = (
        fields.optional("grpc"),
        Regex::new("application/grpc(\\+.*)?"),
    ) {
        headers.push(HeaderMatch {
            name: "content-type".into(),
            value: ValueMatch::String(StringMatch::Regex(regex)),
            invert: false,
            treat_missing_as_empty: false,
        });
    }
    let query = fields.list("query_parameters").iter();
    let query = query
        .filter_map(|node| query_match(node, fields.diagnostics))
        .collect();
    let claims = fields.list("dynamic_metadata").iter();
    let claims = claims
        .filter_map(|node| metadata_match(node, fields.diagnostics))
        .collect();
    fields.finish();
    let matches = RouteMatch {
        path: path?,
        case_sensitive,
        headers,
        query,
        claims,
        fraction: runtime.as_ref().map(|runtime| runtime.fraction),
    };
    Some((matches, runtime))
}

/// Envoy `MetadataMatcher`. The namespace is the first key of the path.
fn metadata_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ClaimMatch> {
    let mut fields = Fields::of(node, "a metadata match", diagnostics)?;
    let filter = fields.required_text("filter");
    let mut path: Vec<Name> = filter.into_iter().map(Name::from).collect();
    for node in fields.list("path") {
        let mut segment = Fields::of(node, "a key of metadata", fields.diagnostics)?;
        path.extend(segment.required_text("key").map(Name::from));
        segment.finish();
    }
    let invert = fields.boolean("invert").unwrap_or(false);
    let value = fields.required("value");
    fields.finish();
    let mut fields = Fields::of(value?, "a value match", diagnostics)?;
    refuse(
        &mut fields,
        &[
            "null_match",
            "double_match",
            "bool_match",
            "present_match",
            "list_match",
            "or_match",
        ],
    );
    // `false` is a value too: there is no other matcher than this one.
    let matcher = fields.required("string_match");
    let matcher = matcher.and_then(|node| string_match(node, fields.diagnostics));
    fields.finish();
    Some(ClaimMatch {
        path,
        values: matcher.into_iter().map(|(_, matcher)| matcher).collect(),
        in_list: false,
        invert,
    })
}

fn path_match(fields: &mut Fields<'_, '_>) -> Option<PathMatch> {
    let text = |fields: &mut Fields<'_, '_>, key| fields.text(key).map(Name::from);
    let stated = [
        text(fields, "prefix").map(PathMatch::Prefix),
        text(fields, "path").map(PathMatch::Exact),
        text(fields, "path_separated_prefix").map(PathMatch::SeparatedPrefix),
        fields
            .optional("safe_regex")
            .and_then(|node| regex(node, fields.diagnostics))
            .map(PathMatch::Regex),
    ];
    let mut stated = stated.into_iter().flatten();
    let path = stated.next();
    if path.is_none() || stated.next().is_some() {
        let message = "a match has one of `prefix`, `path`, `safe_regex`, `path_separated_prefix`";
        let label = if path.is_none() {
            "has none"
        } else {
            "has more"
        };
        let problem = Diagnostic::error(message).at(fields.span(), label);
        fields.diagnostics.push(problem);
    }
    path
}

fn runtime_fraction(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<RuntimeFraction> {
    let mut fields = Fields::of(node, "a runtime fraction", diagnostics)?;
    let key = fields.text("runtime_key").unwrap_or_default();
    let default = fields.required("default_value");
    fields.finish();
    let mut fields = Fields::of(default?, "a fractional percent", diagnostics)?;
    let numerator = number(&mut fields, "numerator", u64::from(u32::MAX)).unwrap_or(0);
    let unit = fields.optional("denominator");
    let denominator = match unit.map(|node| (node, node.as_str())) {
        None | Some((_, Some("HUNDRED"))) => 100,
        Some((_, Some("TEN_THOUSAND"))) => 10_000,
        Some((_, Some("MILLION"))) => 1_000_000,
        Some((node, _)) => {
            let want = "`denominator` is HUNDRED, TEN_THOUSAND or MILLION";
            fields.diagnostics.push(expected(node, want));
            100
        }
    };
    fields.finish();
    Some(RuntimeFraction {
        key: key.into(),
        fraction: Fraction {
            // So that the tool can switch it on.
            numerator: numerator.max(1) as u32,
            denominator,
        },
    })
}

/// Envoy `RegexMatcher`.
pub(super) fn regex(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Regex> {
    let mut fields = Fields::of(node, "a regular expression", diagnostics)?;
    fields.ignore(&["google_re2"]);
    let place = fields.required("regex");
    let source = fields.required_text("regex");
    fields.finish();
    match Regex::new(&source?) {
        Ok(regex) => Some(regex),
        Err(why) => {
            let problem = Diagnostic::error("not a regular expression that Envoy takes");
            diagnostics.push(problem.at(&place?.span, why.lines().last().unwrap_or_default()));
            None
        }
    }
}

/// Envoy `StringMatcher`: the field that is set, and the match.
fn string_match(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<(&'static str, StringMatch)> {
    let mut fields = Fields::of(node, "a string match", diagnostics)?;
    refuse(&mut fields, &["custom"]);
    let any_case = fields.boolean("ignore_case").unwrap_or(false);
    let text = |fields: &mut Fields<'_, '_>, key| fields.text(key).map(Name::from);
    let stated = [
        ("exact", text(&mut fields, "exact").map(StringMatch::Exact)),
        (
            "prefix",
            text(&mut fields, "prefix").map(StringMatch::Prefix),
        ),
        (
            "suffix",
            text(&mut fields, "suffix").map(StringMatch::Suffix),
        ),
        (
            "contains",
            text(&mut fields, "contains").map(StringMatch::Contains),
        ),
        (
            "safe_regex",
            fields
                .optional("safe_regex")
                .and_then(|node| regex(node, fields.diagnostics))
                .map(StringMatch::Regex),
        ),
    ];
    let mut stated = stated
        .into_iter()
        .filter_map(|(field, found)| Some((field, found?)));
    let Some((field, found)) = stated.next() else {
        let message = "a string match has `exact`, `prefix`, `suffix`, `contains` or `safe_regex`";
        let problem = Diagnostic::error(message).at(fields.span(), "has none");
        fields.diagnostics.push(problem);
        return None;
    };
    fields.finish();
    match any_case {
        true => Some((field, in_any_case(found))),
        false => Some((field, found)),
    }
}

/// Regular expressions know no `ignore_case`.
fn in_any_case(matcher: StringMatch) -> StringMatch {
    let (before, text, after) = match &matcher {
        StringMatch::Exact(text) => ("", text, ""),
        StringMatch::Prefix(text) => ("", text, ".*"),
        StringMatch::Suffix(text) => (".*", text, ""),
        StringMatch::Contains(text) => (".*", text, ".*"),
        StringMatch::Regex(_) => return matcher,
    };
    let text = regex_syntax::escape(text);
    let pattern = format!("(?is:{before}{text}{after})");
    Regex::new(&pattern).map_or(matcher, StringMatch::Regex)
}

impl HeaderMatcher {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<HeaderMatcher> {
        let mut fields = Fields::of(node, "a header match", diagnostics)?;
        let name = fields.required_text("name").unwrap_or_default();
        let invert = fields.boolean("invert_match").unwrap_or(false);
        let treat_missing_as_empty = fields
            .boolean("treat_missing_header_as_empty")
            .unwrap_or(false);
        let mut range = None;
        let (field, value) = if let Some(node) = fields.optional("range_match") {
            range = range_of(node, fields.diagnostics);
            ("range_match", ValueMatch::Present(true))
        } else if let Some(node) = fields.optional("string_match") {
            let (field, matcher) = string_match(node, fields.diagnostics)?;
            (string_match_field(field), ValueMatch::String(matcher))
        } else {
            older_match(&mut fields)
        };
        fields.finish();
        let exact = match &value {
            ValueMatch::String(StringMatch::Exact(text)) => Some(text.clone()),
            _ => None,
        };
        Some(HeaderMatcher {
            matcher: HeaderMatch {
                name: name.to_ascii_lowercase().into(),
                value,
                invert,
                treat_missing_as_empty,
            },
            range,
            field,
            exact,
        })
    }
}

fn string_match_field(field: &str) -> &'static str {
    match field {
        "exact" => "string_match.exact",
        "prefix" => "string_match.prefix",
        "suffix" => "string_match.suffix",
        "contains" => "string_match.contains",
        _ => "string_match.safe_regex",
    }
}

/// The forms that are deprecated, and presence, which also holds where nothing is said.
fn older_match(fields: &mut Fields<'_, '_>) -> (&'static str, ValueMatch) {
    let text = |fields: &mut Fields<'_, '_>, key| fields.text(key).map(Name::from);
    let stated = [
        (
            "exact_match",
            text(fields, "exact_match").map(StringMatch::Exact),
        ),
        (
            "prefix_match",
            text(fields, "prefix_match").map(StringMatch::Prefix),
        ),
        (
            "suffix_match",
            text(fields, "suffix_match").map(StringMatch::Suffix),
        ),
        (
            "contains_match",
            text(fields, "contains_match").map(StringMatch::Contains),
        ),
        (
            "safe_regex_match",
            fields
                .optional("safe_regex_match")
                .and_then(|node| regex(node, fields.diagnostics))
                .map(StringMatch::Regex),
        ),
    ];
    let present = fields.boolean("present_match").unwrap_or(true);
    let mut stated = stated
        .into_iter()
        .filter_map(|(field, found)| Some((field, found?)));
    match stated.next() {
        Some((field, found)) => (field, ValueMatch::String(found)),
        None => ("present_match", ValueMatch::Present(present)),
    }
}

fn range_of(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<(i64, i64)> {
    let mut fields = Fields::of(node, "a range", diagnostics)?;
    let mut bound = |key: &'static str| {
        let node = fields.optional(key)?;
        let value = match &node.value {
            Value::Int(value) => Some(*value),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        if value.is_none() {
            let want = format!("`{key}` is a whole number");
            fields.diagnostics.push(expected(node, &want));
        }
        value
    };
    let (start, end) = (bound("start"), bound("end"));
    fields.finish();
    Some((start.unwrap_or(0), end.unwrap_or(0)))
}

fn query_match(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<QueryMatch> {
    let mut fields = Fields::of(node, "a query parameter match", diagnostics)?;
    let name = fields.required_text("name")?;
    let value = match fields.optional("string_match") {
        Some(node) => ValueMatch::String(string_match(node, fields.diagnostics)?.1),
        None => ValueMatch::Present(fields.boolean("present_match").unwrap_or(true)),
    };
    fields.finish();
    Some(QueryMatch {
        name: name.into(),
        value,
    })
}
