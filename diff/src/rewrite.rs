//! What becomes of paths, and whether two rules do the same to all paths of a class.

use proxy_core::xds::{
    PathMatch, PathRewrite, RedirectPath, Regex, Route, RouteAction, RouteMatch,
};

/// What a route does to a path; the query stays.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PathEffect<'r> {
    Keep,
    /// The first bytes are replaced; `None`: all of them.
    Cut {
        matched: Option<&'r str>,
        by: &'r str,
    },
    Regex {
        pattern: &'r Regex,
        substitution: &'r str,
    },
    /// Of a redirect: the whole path, and the query too if there is one here.
    Replace(&'r str),
}

/// Whether two effects are the same for every path of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Same,
    Different,
    Undecided,
}

impl<'r> PathEffect<'r> {
    pub(crate) fn of(route: &'r Route) -> PathEffect<'r> {
        let matched = match &route.matches.path {
            PathMatch::Prefix(prefix) | PathMatch::SeparatedPrefix(prefix) => Some(&**prefix),
            PathMatch::Exact(_) | PathMatch::Regex(_) => None,
        };
        match &route.action {
            RouteAction::Forward(forward) => match &forward.path_rewrite {
                PathRewrite::None => PathEffect::Keep,
                PathRewrite::Prefix(by) => PathEffect::Cut { matched, by },
                PathRewrite::Regex {
                    pattern,
                    substitution,
                } => PathEffect::Regex {
                    pattern,
                    substitution,
                },
            },
            RouteAction::Redirect(redirect) => match &redirect.path {
                RedirectPath::Keep => PathEffect::Keep,
                RedirectPath::Prefix(by) => PathEffect::Cut { matched, by },
                RedirectPath::Replace(path) => PathEffect::Replace(path),
            },
            RouteAction::DirectResponse { .. } => PathEffect::Keep,
        }
    }

    /// In a few words; `None`: nothing.
    pub(crate) fn told(self) -> Option<String> {
        match self {
            PathEffect::Keep => None,
            PathEffect::Cut {
                matched: Some(matched),
                by,
            } => Some(format!("{matched} -> {by}")),
            PathEffect::Cut { matched: None, by } => Some(format!("all of it -> {by}")),
            PathEffect::Regex {
                pattern,
                substitution,
            } => Some(format!("{} -> {substitution}", pattern.source())),
            PathEffect::Replace(path) => Some(format!("all of it -> {path}")),
        }
    }

    fn apply(self, path: &str) -> String {
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (bare, rest) = path.split_at(end);
        match self {
            PathEffect::Keep => path.to_owned(),
            PathEffect::Cut { matched, by } => {
                let cut = matched.map_or(bare.len(), str::len).min(path.len());
                format!("{by}{}", path.get(cut..).unwrap_or_default())
            }
            PathEffect::Regex {
                pattern,
                substitution,
            } => format!("{}{rest}", pattern.replace_all(bare, substitution)),
            PathEffect::Replace(by) if by.contains('?') => by.to_owned(),
            PathEffect::Replace(by) => format!("{by}{rest}"),
        }
    }

    /// Two effects of this kind are the same for all paths that both prefixes match, or for none.
    fn is_uniform(self) -> bool {
        matches!(
            self,
            PathEffect::Keep
                | PathEffect::Cut {
                    matched: Some(_),
                    ..
                }
        )
    }
}

/// Whether both routes do the same to every path, as can be seen at once.
pub(crate) fn alike(old: &Route, new: &Route) -> bool {
    match (PathEffect::of(old), PathEffect::of(new)) {
        (PathEffect::Keep, PathEffect::Keep) => true,
        (PathEffect::Replace(a), PathEffect::Replace(b)) => a == b,
        (
            PathEffect::Cut {
                matched: cut_a,
                by: a,
            },
            PathEffect::Cut {
                matched: cut_b,
                by: b,
            },
        ) => a == b && cut_a.map(str::len) == cut_b.map(str::len),
        (
            PathEffect::Regex {
                pattern: a,
                substitution: with_a,
            },
            PathEffect::Regex {
                pattern: b,
                substitution: with_b,
            },
        ) => a == b && with_a == with_b,
        _ => false,
    }
}

/// Whether both routes do the same to the paths of all requests that both match; `path` is one of
/// those.
pub(crate) fn same_effect(old: &Route, new: &Route, path: &str) -> Verdict {
    let (before, after) = (PathEffect::of(old), PathEffect::of(new));
    if before.apply(path) != after.apply(path) {
        return Verdict::Different;
    }
    let sensitive = old.matches.case_sensitive && new.matches.case_sensitive;
    let uniform = before.is_uniform() && after.is_uniform() && sensitive;
    let single = is_of_one_path(&old.matches) || is_of_one_path(&new.matches);
    match alike(old, new) || uniform || single {
        true => Verdict::Same,
        false => Verdict::Undecided,
    }
}

fn is_of_one_path(matches: &RouteMatch) -> bool {
    matches.case_sensitive && matches!(matches.path, PathMatch::Exact(_))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proxy_core::xds::Forward;

    fn route(path: PathMatch, rewrite: PathRewrite) -> Route {
        let matches = RouteMatch {
            path,
            ..RouteMatch::default()
        };
        let forward = Forward {
            path_rewrite: rewrite,
            ..Forward::to("a".into())
        };
        Route::new(matches, RouteAction::Forward(forward))
    }

    fn prefix(matched: &str, by: &str) -> Route {
        route(
            PathMatch::Prefix(matched.into()),
            PathRewrite::Prefix(by.into()),
        )
    }

    #[test]
    fn prefixes_that_add_up_to_the_same() {
        let (long, short) = (prefix("/a/b", "/x/b"), prefix("/a", "/x"));
        assert_eq!(same_effect(&long, &short, "/a/b/c?q"), Verdict::Same);
        let other = prefix("/a", "/y");
        assert_eq!(same_effect(&long, &other, "/a/b/c"), Verdict::Different);
        let none = route(PathMatch::Prefix("/".into()), PathRewrite::None);
        assert_eq!(
            same_effect(&prefix("/a", "/a"), &none, "/a/c"),
            Verdict::Same
        );
    }

    #[test]
    fn expressions_are_compared_as_written() {
        let regex = |pattern: &str| PathRewrite::Regex {
            pattern: Regex::new(pattern).unwrap(),
            substitution: "/x".into(),
        };
        let at = |path: &str, pattern: &str| route(PathMatch::Prefix(path.into()), regex(pattern));
        let (a, b) = (at("/", "^/a"), at("/", "^/(a)"));
        assert_eq!(same_effect(&a, &a, "/a"), Verdict::Same);
        assert_eq!(same_effect(&a, &b, "/a"), Verdict::Undecided);
        let exact = route(PathMatch::Exact("/a".into()), regex("^/a"));
        assert_eq!(same_effect(&exact, &b, "/a"), Verdict::Same);
        assert_eq!(same_effect(&at("/", "^/b"), &b, "/a"), Verdict::Different);
    }
}
