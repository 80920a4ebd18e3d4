//! What is asked about: a match, and what it asks for in each place of a request.

use crate::atom::Atom;
use crate::witness::Witness;
use proxy_core::head::RequestHead;
use proxy_core::router::{matches, path_of};
use proxy_core::xds::{
    ClaimMatch, Fraction, HeaderMatch, Name, QueryMatch, RouteMatch, StringMatch, ValueMatch,
};
use serde_json::Value;

/// Everything that one match asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition<'a> {
    /// What it asks of the request.
    pub request: &'a RouteMatch,
    /// What it asks of the circumstances.
    pub given: Vec<Given>,
}

/// A condition on something other than the request, such as the port or a label of the caller: what
/// is given under `name` has to be one of `values`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    pub name: Name,
    pub values: Vec<Name>,
}

impl<'a> Condition<'a> {
    /// On the request alone.
    pub fn of(request: &'a RouteMatch) -> Condition<'a> {
        Condition {
            request,
            given: Vec::new(),
        }
    }

    /// Whether it holds, as the core decides.
    pub(crate) fn holds_for(&self, sent: &Sent<'_>) -> bool {
        let given = |condition: &Given| {
            let mut given = sent.witness.given.iter();
            given.any(|(name, value)| *name == condition.name && condition.values.contains(value))
        };
        let claim = |claim: &ClaimMatch| claim.matches(Some(&sent.claims));
        matches(self.request, path_of(&sent.head.path), &sent.head)
            && self.request.claims.iter().all(claim)
            && self
                .request
                .fraction
                .is_none_or(|fraction| fraction.holds(sent.witness.stream_value))
            && self.given.iter().all(given)
    }
}

/// A witness as a proxy sees it.
pub(crate) struct Sent<'w> {
    witness: &'w Witness,
    head: RequestHead,
    claims: Value,
}

impl Sent<'_> {
    pub(crate) fn new(witness: &Witness) -> Sent<'_> {
        Sent {
            witness,
            head: witness.head(),
            claims: witness.claims(),
        }
    }
}

/// A place of a request in which something is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    Path,
    Method,
    Scheme,
    Authority,
    Header(Name),
    Query(Name),
    /// Keys, one below the other.
    Claim(Vec<Name>),
    /// The stream's random value.
    Chance,
    /// Beside the request.
    Given(Name),
}

/// What a match asks for in one place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Need {
    pub(crate) when_absent: bool,
    pub(crate) when_there: There,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum There {
    Is(bool),
    /// Some of its texts has one of the traits.
    Some(Vec<Trait>),
    /// None has any.
    No(Vec<Trait>),
}

/// Something that a text, or a random value, has or has not.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trait {
    Text(Atom),
    Share(Fraction),
}

impl Need {
    /// Whether it takes more than a look at how a text begins or what it is.
    pub(crate) fn has_expressions(&self) -> bool {
        let mut traits = self.when_there.traits().iter();
        traits.any(|one| matches!(one, Trait::Text(atom) if atom.is_expression()))
    }

    fn text(atom: Atom) -> Need {
        Need {
            when_absent: false,
            when_there: There::Some(vec![Trait::Text(atom)]),
        }
    }

    fn header(header: &HeaderMatch) -> Need {
        let invert = header.invert;
        match &header.value {
            ValueMatch::Present(present) => Need {
                when_absent: *present == invert,
                when_there: There::Is(*present != invert),
            },
            ValueMatch::String(wanted) => Need {
                when_absent: header.treat_missing_as_empty && wanted.matches(b"") != invert,
                when_there: There::any([wanted], invert),
            },
        }
    }

    fn query(query: &QueryMatch) -> Need {
        match &query.value {
            ValueMatch::Present(present) => Need {
                when_absent: !present,
                when_there: There::Is(*present),
            },
            ValueMatch::String(wanted) => Need::text(Atom::of_text(wanted)),
        }
    }

    fn claim(claim: &ClaimMatch) -> Need {
        Need {
            when_absent: claim.invert,
            when_there: There::any(&claim.values, claim.invert),
        }
    }
}

impl There {
    fn any<'m>(wanted: impl IntoIterator<Item = &'m StringMatch>, invert: bool) -> There {
        let wanted = wanted.into_iter();
        let traits = wanted.map(|one| Trait::Text(Atom::of_text(one))).collect();
        if invert {
            There::No(traits)
        } else {
            There::Some(traits)
        }
    }

    pub(crate) fn traits(&self) -> &[Trait] {
        match self {
            There::Is(_) => &[],
            There::Some(traits) | There::No(traits) => traits,
        }
    }
}

/// What `condition` asks for, place by place; a place can be there several times.
pub(crate) fn needs(condition: &Condition<'_>) -> Vec<(Place, Need)> {
    let request = condition.request;
    let path = Atom::of_path(&request.path, request.case_sensitive);
    let mut needs = vec![(Place::Path, Need::text(path))];
    for header in &request.headers {
        let place = match &*header.name {
            ":method" => Place::Method,
            ":scheme" => Place::Scheme,
            ":authority" => Place::Authority,
            _ => Place::Header(header.name.clone()),
        };
        needs.push((place, Need::header(header)));
    }
    for query in &request.query {
        needs.push((Place::Query(query.name.clone()), Need::query(query)));
    }
    for claim in &request.claims {
        needs.push((Place::Claim(claim.path.clone()), Need::claim(claim)));
    }
    if let Some(fraction) = request.fraction {
        let need = Need {
            when_absent: false,
            when_there: There::Some(vec![Trait::Share(fraction)]),
        };
        needs.push((Place::Chance, need));
    }
    for given in &condition.given {
        let exact = |value: &Name| StringMatch::Exact(value.clone());
        let values: Vec<StringMatch> = given.values.iter().map(exact).collect();
        let need = Need {
            when_absent: false,
            when_there: There::any(&values, false),
        };
        needs.push((Place::Given(given.name.clone()), need));
    }
    needs
}
