//! Conditions on one text.

use proxy_core::xds::{Name, PathMatch, StringMatch};

/// A condition on one text, as the core's matchers decide it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Atom {
    pub(crate) how: How,
    /// Never of regular expressions.
    pub(crate) ignore_case: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum How {
    Text(StringMatch),
    /// The text itself, and what it leads with a slash between.
    SeparatedPrefix(Name),
}

impl Atom {
    pub(crate) fn of_text(wanted: &StringMatch) -> Atom {
        Atom {
            how: How::Text(wanted.clone()),
            ignore_case: false,
        }
    }

    pub(crate) fn of_path(path: &PathMatch, case_sensitive: bool) -> Atom {
        let how = match path {
            PathMatch::Exact(text) => How::Text(StringMatch::Exact(text.clone())),
            PathMatch::Prefix(text) => How::Text(StringMatch::Prefix(text.clone())),
            PathMatch::SeparatedPrefix(text) => How::SeparatedPrefix(text.clone()),
            PathMatch::Regex(regex) => How::Text(StringMatch::Regex(regex.clone())),
        };
        Atom {
            ignore_case: !case_sensitive && !matches!(path, PathMatch::Regex(_)),
            how,
        }
    }

    /// Atoms with the same key say the same.
    pub(crate) fn key(&self) -> (u8, bool, &str) {
        let (kind, text) = match &self.how {
            How::Text(StringMatch::Exact(text)) => (0, &**text),
            How::Text(StringMatch::Prefix(text)) => (1, &**text),
            How::Text(StringMatch::Suffix(text)) => (2, &**text),
            How::Text(StringMatch::Contains(text)) => (3, &**text),
            How::Text(StringMatch::Regex(regex)) => (4, regex.source()),
            How::SeparatedPrefix(text) => (5, &**text),
        };
        (kind, self.ignore_case, text)
    }

    /// Neither a text nor a prefix.
    pub(crate) fn is_expression(&self) -> bool {
        let How::Text(wanted) = &self.how else {
            return false;
        };
        !matches!(wanted, StringMatch::Exact(_) | StringMatch::Prefix(_))
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let of = |wanted: &StringMatch| match self.ignore_case {
            true => wanted.matches_ignoring_case(text),
            false => wanted.matches(text),
        };
        match &self.how {
            How::Text(wanted) => of(wanted),
            How::SeparatedPrefix(prefix) => {
                of(&StringMatch::Prefix(prefix.clone()))
                    && matches!(text.get(prefix.len()), None | Some(b'/'))
            }
        }
    }
}
