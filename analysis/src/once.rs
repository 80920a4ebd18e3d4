//! Several checks look at the same things; what one has said of a place, no other says again.

use source::{Diagnostic, Span};

/// Adds those of `more` whose code has not been said of the same place.
pub fn add_unsaid(found: &mut Vec<Diagnostic>, more: impl IntoIterator<Item = Diagnostic>) {
    let before = found.len();
    for one in more {
        let said = |earlier: &Diagnostic| {
            one.code.is_some()
                && earlier.code == one.code
                && match (&earlier.span, &one.span) {
                    (Some(a), Some(b)) => overlap(a, b),
                    _ => earlier.resource == one.resource,
                }
        };
        if !found[..before].iter().any(said) {
            found.push(one);
        }
    }
}

fn overlap(a: &Span, b: &Span) -> bool {
    let (one, other) = (a.range(), b.range());
    a.file.name == b.file.name && one.start < other.end && other.start < one.end
}
