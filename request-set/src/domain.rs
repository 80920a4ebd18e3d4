//! Which requests there may be.

use proxy_core::xds::{EscapedSlashes, HttpConnectionManager, Name, Regex};
use std::collections::BTreeMap;

/// Which requests are asked about.
#[derive(Clone, Debug, Default)]
pub struct Domain {
    pub paths: Paths,
    pub authorities: Authorities,
    /// All that may be given under a name (see [`crate::Given`]); a name that is not here may be given
    /// anything.
    pub given: BTreeMap<Name, Vec<Name>>,
}

/// What the connection manager does to paths before they are routed: paths that it would change are
/// none that a route sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paths {
    /// `normalize_path`.
    pub normalized: bool,
    /// `merge_slashes`.
    pub merged: bool,
    /// `path_with_escaped_slashes_action` is set.
    pub unescaped_slashes: bool,
}

impl Paths {
    /// Of a connection manager.
    pub fn of(manager: &HttpConnectionManager) -> Paths {
        Paths {
            normalized: manager.normalize_path,
            merged: manager.merge_slashes,
            unescaped_slashes: manager.escaped_slashes != EscapedSlashes::Keep,
        }
    }
}

impl Default for Paths {
    /// Istio's default, `BASE`.
    fn default() -> Paths {
        Paths {
            normalized: true,
            merged: false,
            unescaped_slashes: false,
        }
    }
}

/// Which `:authority` a request may have.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Authorities {
    #[default]
    Any,
    /// Those; the first is preferred in witnesses.
    OneOf(Vec<Name>),
    /// Those that match, preferably one of the list.
    Matching(Regex, Vec<Name>),
}
