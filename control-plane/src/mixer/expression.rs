//! The language of Mixer's expressions: `==`, `!=`, `&&`, `||`, `|` (the first with a value),
//! attributes, entries of maps, and literals. Operators bind as in Go, whose parser Mixer used.

use super::attributes::{ATTRIBUTES, Absent, Attribute, MixerAttributes, Type, Value};
use crate::config::parse_duration;
use proxy_core::time::Nanos;
use source::{Diagnostic, Node};
use std::borrow::Cow;

/// An expression whose types fit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    Text(String),
    Number(i64),
    Boolean(bool),
    Duration(Nanos),
    Attribute(&'static Attribute),
    Entry(&'static Attribute, String),
    Equal(Box<(Expression, Expression)>),
    Unequal(Box<(Expression, Expression)>),
    And(Box<(Expression, Expression)>),
    Or(Box<(Expression, Expression)>),
    /// The first that is there and not empty.
    First(Box<(Expression, Expression)>),
}

impl Expression {
    /// A condition.
    pub(super) fn read_condition(
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<Expression> {
        let expression = Expression::read(node, diagnostics)?;
        if expression.kind() == Type::Boolean {
            return Some(expression);
        }
        let label = format!("this is {}", expression.kind().as_str());
        diagnostics.push(Diagnostic::error("a condition is true or false").at(&node.span, label));
        None
    }

    /// A value of any type. What is not modelled of it is warned of.
    pub(super) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Expression> {
        let Some(text) = node.as_scalar() else {
            diagnostics.push(source::fields::expected(node, "an expression is text"));
            return None;
        };
        let mut parser = Parser::new(text);
        let found = parser.whole();
        for attribute in &parser.absent {
            let message = format!("no request has `{attribute}` here");
            let label = "bodies, sizes and points in time are not modelled";
            let warning = Diagnostic::warning(message).at(&node.span, label);
            if !diagnostics.contains(&warning) {
                diagnostics.push(warning);
            }
        }
        match found {
            Ok(expression) => Some(expression),
            Err(problem) => {
                let message = "not an expression of Mixer's language";
                let mut diagnostic = Diagnostic::error(message).at(&node.span, problem.what);
                diagnostic.help = problem.help;
                diagnostics.push(diagnostic);
                None
            }
        }
    }

    fn kind(&self) -> Type {
        match self {
            Expression::Text(_) | Expression::Entry(..) => Type::Text,
            Expression::Number(_) => Type::Number,
            Expression::Duration(_) => Type::Duration,
            Expression::Attribute(attribute) => attribute.of,
            Expression::First(both) => both.0.kind(),
            Expression::Boolean(_)
            | Expression::Equal(_)
            | Expression::Unequal(_)
            | Expression::And(_)
            | Expression::Or(_) => Type::Boolean,
        }
    }

    /// What it comes to for a request: `Ok(None)` is an entry that its map does not have.
    pub(super) fn value<'a>(
        &'a self,
        of: &'a MixerAttributes<'_>,
    ) -> Result<Option<Value<'a>>, Absent> {
        Ok(Some(match self {
            Expression::Text(text) => Value::Text(Cow::Borrowed(text)),
            Expression::Number(number) => Value::Number(*number),
            Expression::Boolean(truth) => Value::Boolean(*truth),
            Expression::Duration(duration) => Value::Duration(*duration),
            Expression::Attribute(attribute) => of.value(attribute).ok_or(Absent)?,
            Expression::Entry(map, key) => return of.entry(map, key),
            Expression::Equal(both) => Value::Boolean(equal(both, of)?),
            Expression::Unequal(both) => Value::Boolean(!equal(both, of)?),
            Expression::And(both) => Value::Boolean(both.0.holds(of)? && both.1.holds(of)?),
            Expression::Or(both) => Value::Boolean(both.0.holds(of)? || both.1.holds(of)?),
            Expression::First(both) => match both.0.value(of) {
                Ok(Some(value)) if !value.is_empty() => value,
                _ => return both.1.value(of),
            },
        }))
    }

    /// Whether a condition holds; `Err`: it looks at an attribute that the request has not.
    pub(super) fn holds(&self, of: &MixerAttributes<'_>) -> Result<bool, Absent> {
        Ok(self.value(of)? == Some(Value::Boolean(true)))
    }

    /// As text, for labels; `None`: there is no value.
    pub(super) fn text(&self, of: &MixerAttributes<'_>) -> Option<String> {
        Some(match self.value(of).ok()?? {
            Value::Text(text) => text.into_owned(),
            Value::Number(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Duration(duration) => format!("{}s", duration.as_secs_f64()),
        })
    }
}

/// A `*` at the end or the beginning of the right side stands for anything.
fn equal(
    (left, right): &(Expression, Expression),
    of: &MixerAttributes<'_>,
) -> Result<bool, Absent> {
    let (left, right) = (left.value(of)?, right.value(of)?);
    Ok(match (&left, &right) {
        (Some(Value::Text(left)), Some(Value::Text(right))) => {
            match (right.strip_suffix('*'), right.strip_prefix('*')) {
                (Some(prefix), _) => left.starts_with(prefix),
                (None, Some(suffix)) => left.ends_with(suffix),
                (None, None) => left == right,
            }
        }
        // Nothing equals what is not there.
        (Some(left), Some(right)) => left == right,
        _ => false,
    })
}

/// Why a text is no expression.
struct Problem {
    what: String,
    help: Option<String>,
}

fn problem<T>(what: impl Into<String>) -> Result<T, Problem> {
    let what = what.into();
    Err(Problem { what, help: None })
}

/// Nested deeper, a text is refused.
const DEPTH_MAX: u32 = 64;
/// A chain of operators is as deep as it is long.
const OPERATORS_MAX: u32 = 256;

struct Parser<'t> {
    rest: &'t str,
    depth: u32,
    operators: u32,
    /// Attributes that no request has here.
    absent: Vec<&'static str>,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Parser<'t> {
        Parser {
            rest: text.trim(),
            depth: 0,
            operators: 0,
            absent: Vec::new(),
        }
    }

    fn whole(&mut self) -> Result<Expression, Problem> {
        let expression = self.either()?;
        match self.rest {
            "" => Ok(expression),
            rest => problem(format!("not expected here: `{}`", start_of(rest))),
        }
    }

    /// Takes `token`, which no longer one begins with.
    fn take(&mut self, token: &str) -> bool {
        let longer = token == "|" && self.rest.starts_with("||");
        match self.rest.strip_prefix(token) {
            Some(rest) if !longer => {
                self.rest = rest.trim_start();
                true
            }
            _ => false,
        }
    }

    fn take_operator(&mut self, token: &str) -> Result<bool, Problem> {
        if !self.take(token) {
            return Ok(false);
        }
        self.operators += 1;
        match self.operators > OPERATORS_MAX {
            true => problem(format!("more than {OPERATORS_MAX} operators")),
            false => Ok(true),
        }
    }

    fn either(&mut self) -> Result<Expression, Problem> {
        let mut left = self.both()?;
        while self.take_operator("||")? {
            let right = self.both()?;
            left = Expression::Or(conditions(left, right, "||")?);
        }
        Ok(left)
    }

    fn both(&mut self) -> Result<Expression, Problem> {
        let mut left = self.comparison()?;
        while self.take_operator("&&")? {
            let right = self.comparison()?;
            left = Expression::And(conditions(left, right, "&&")?);
        }
        Ok(left)
    }

    fn comparison(&mut self) -> Result<Expression, Problem> {
        let mut left = self.first()?;
        loop {
            left = if self.take_operator("==")? {
                let right = self.first()?;
                Expression::Equal(alike(left, right, "==")?)
            } else if self.take_operator("!=")? {
                let right = self.first()?;
                Expression::Unequal(alike(left, right, "!=")?)
            } else if self.rest.starts_with(['<', '>']) {
                return problem(format!("Mixer has no operator `{}`", start_of(self.rest)));
            } else {
                return Ok(left);
            };
        }
    }

    fn first(&mut self) -> Result<Expression, Problem> {
        let mut left = self.entry()?;
        while self.take_operator("|")? {
            let right = self.entry()?;
            left = Expression::First(alike(left, right, "|")?);
        }
        Ok(left)
    }

    /// A value, or what a map holds under a key.
    fn entry(&mut self) -> Result<Expression, Problem> {
        let value = self.value()?;
        let Expression::Attribute(map) = value else {
            return Ok(value);
        };
        if !self.take("[") {
            return match map.of {
                Type::Map => problem(format!("`{}` is a map: `[\"KEY\"]` is missing", map.name)),
                _ => Ok(value),
            };
        }
        if map.of != Type::Map {
            return problem(format!("`{}` is no map", map.name));
        }
        let key = self.text_literal()?;
        match self.take("]") {
            true => Ok(Expression::Entry(map, key)),
            false => problem("a `]` is missing"),
        }
    }

    fn value(&mut self) -> Result<Expression, Problem> {
        if self.take("(") {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return problem("nested too deep");
            }
            let inside = self.either()?;
            self.depth -= 1;
            return match self.take(")") {
                true => Ok(inside),
                false => problem("a `)` is missing"),
            };
        }
        match self.rest.chars().next() {
            None => problem("a value is missing at the end"),
            Some('"' | '`') => {
                let text = self.text_literal()?;
                Ok(match parse_duration(&text) {
                    Some(duration) => Expression::Duration(duration),
                    None => Expression::Text(text),
                })
            }
            Some(c) if c.is_ascii_digit() || c == '-' => self.number(),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.name(),
            Some(_) => problem(format!("not expected here: `{}`", start_of(self.rest))),
        }
    }

    /// In double quotes with `\"` and `\\`, or in back quotes as it stands.
    fn text_literal(&mut self) -> Result<String, Problem> {
        let quote = match self.rest.chars().next() {
            Some(quote @ ('"' | '`')) => quote,
            _ => return problem("text in quotes is missing"),
        };
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Ok(text);
                }
                '\\' if quote == '"' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((_, c)) => return problem(format!("`\\{c}` in a text is not supported")),
                    None => break,
                },
                c => text.push(c),
            }
        }
        problem("a quote is missing at the end")
    }

    fn number(&mut self) -> Result<Expression, Problem> {
        let inside = |c: char| c.is_ascii_digit() || c == '.' || c == '-';
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        let Ok(number) = text.parse() else {
            return problem(format!("`{text}` is not a whole number"));
        };
        self.rest = rest.trim_start();
        Ok(Expression::Number(number))
    }

    fn name(&mut self) -> Result<Expression, Problem> {
        let inside = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let end = self.rest.find(|c| !inside(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        if name.eq_ignore_ascii_case("true") || name.eq_ignore_ascii_case("false") {
            return Ok(Expression::Boolean(name.eq_ignore_ascii_case("true")));
        }
        if self.rest.starts_with('(') {
            return problem(format!(
                "functions, as `{name}(...)`, are not supported yet"
            ));
        }
        let Some(attribute) = Attribute::find(name) else {
            let names = ATTRIBUTES.iter().map(|attribute| attribute.name);
            let near = source::nearest(name, names);
            return Err(Problem {
                what: format!("there is no attribute `{name}`"),
                help: near.map(|near| format!("did you mean `{near}`?")),
            });
        };
        if !attribute.modelled && !self.absent.contains(&attribute.name) {
            self.absent.push(attribute.name);
        }
        Ok(Expression::Attribute(attribute))
    }
}

type Both = Box<(Expression, Expression)>;

fn alike(left: Expression, right: Expression, operator: &str) -> Result<Both, Problem> {
    let (a, b) = (left.kind(), right.kind());
    if a == b {
        return Ok(Box::new((left, right)));
    }
    let (a, b) = (a.as_str(), b.as_str());
    problem(format!(
        "`{operator}` has {a} on its left and {b} on its right"
    ))
}

fn conditions(left: Expression, right: Expression, operator: &str) -> Result<Both, Problem> {
    for side in [&left, &right] {
        if side.kind() != Type::Boolean {
            let kind = side.kind().as_str();
            return problem(format!(
                "`{operator}` is between conditions, and this is {kind}"
            ));
        }
    }
    Ok(Box::new((left, right)))
}

/// Enough of a text to know it again.
fn start_of(text: &str) -> &str {
    let end = text.char_indices().nth(12).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
