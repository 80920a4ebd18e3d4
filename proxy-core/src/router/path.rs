//! What the connection manager does to a path before it is routed.

use crate::xds::{EscapedSlashes, HttpConnectionManager};

/// What normalisation made of a path.
#[derive(Debug, PartialEq)]
pub(crate) enum Normalized {
    Unchanged,
    Changed(String),
    /// The client is sent to this path.
    Redirect(String),
    Refused,
}

/// Envoy's three steps, in its order: escaped slashes, dot segments, adjacent slashes. None of them
/// touches the query.
pub(crate) fn clean(manager: &HttpConnectionManager, path: &str) -> Normalized {
    if path.contains('#') {
        return Normalized::Refused;
    }
    let escaped = manager.escaped_slashes != EscapedSlashes::Keep && path.contains('%');
    let plain = !escaped
        && (!manager.normalize_path || is_plain(path))
        && (!manager.merge_slashes || !path.contains("//"));
    if plain {
        return Normalized::Unchanged;
    }
    let (bare, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let unescaped = match escaped {
        true => unescape_slashes(bare),
        false => bare.to_owned(),
    };
    let had_slashes = unescaped != bare;
    if had_slashes && manager.escaped_slashes == EscapedSlashes::Reject {
        return Normalized::Refused;
    }
    let mut cleaned = unescaped;
    if manager.normalize_path {
        match normalize(&cleaned) {
            Some(path) => cleaned = path,
            None => return Normalized::Refused,
        }
    }
    if manager.merge_slashes {
        cleaned = merge_slashes(&cleaned);
    }
    if cleaned == bare {
        return Normalized::Unchanged;
    }
    cleaned.push_str(query);
    if had_slashes && manager.escaped_slashes == EscapedSlashes::UnescapeAndRedirect {
        Normalized::Redirect(cleaned)
    } else {
        Normalized::Changed(cleaned)
    }
}

/// `%2F` and `%5C` written out.
fn unescape_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let slash = match rest.get(at..at + 3) {
            Some("%2F" | "%2f") => Some('/'),
            Some("%5C" | "%5c") => Some('\\'),
            _ => None,
        };
        out.push(slash.unwrap_or('%'));
        rest = &rest[at + if slash.is_some() { 3 } else { 1 }..];
    }
    out.push_str(rest);
    out
}

/// A path without query, its `.` and `..` segments resolved, `\` turned to `/`, unreserved
/// characters decoded and those that no URL may hold escaped. `None`: it is not a path.
fn normalize(path: &str) -> Option<String> {
    if path.contains("%00") {
        return None;
    }
    let escaped = escape_forbidden(&decode_unreserved(path).replace('\\', "/"));
    let rest = escaped.strip_prefix('/')?;
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = rest.split('/').peekable();
    while let Some(part) = parts.next() {
        let bare = part.split(';').next().unwrap_or(part);
        let last = parts.peek().is_none();
        match bare {
            "." | ".." => {
                if bare == ".." {
                    // Above the root there is nothing to leave.
                    segments.pop();
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    Some(format!("/{}", segments.join("/")))
}

fn is_forbidden(c: char) -> bool {
    matches!(c, '"' | '<' | '>' | '^' | '`' | '{' | '|' | '}') || !c.is_ascii()
}

fn escape_forbidden(path: &str) -> String {
    if !path.contains(is_forbidden) {
        return path.to_owned();
    }
    let mut out = String::with_capacity(path.len() + 8);
    let mut utf8 = [0; 4];
    for c in path.chars() {
        if is_forbidden(c) {
            for byte in c.encode_utf8(&mut utf8).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Whether [`normalize`] would leave `path` as it is; cheap, for the common case.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains("/.")
        && !path.contains(|c| matches!(c, '%' | '\\') || is_forbidden(c))
}

/// Adjacent slashes merged into one.
fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged
}

fn decode_unreserved(path: &str) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let bytes = path.as_bytes();
    let mut out = String::with_capacity(path.len());
    let mut rest = path.char_indices();
    while let Some((at, c)) = rest.next() {
        if c == '%'
            && let (Some(high), Some(low)) = (
                bytes.get(at + 1).and_then(|&b| hex(b)),
                bytes.get(at + 2).and_then(|&b| hex(b)),
            )
        {
            let code = char::from((high * 16 + low) as u8);
            if code.is_ascii_alphanumeric() || matches!(code, '-' | '.' | '_' | '~') {
                out.push(code);
                rest.next();
                rest.next();
                continue;
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xds::RouteSource;

    fn manager(
        escaped_slashes: EscapedSlashes,
        normalize_path: bool,
        merge_slashes: bool,
    ) -> HttpConnectionManager {
        HttpConnectionManager {
            normalize_path,
            merge_slashes,
            escaped_slashes,
            ..HttpConnectionManager::new(RouteSource::Rds("t".into()))
        }
    }

    /// Envoy 1.40's answers.
    #[test]
    fn normalises_like_envoy() {
        let manager = manager(EscapedSlashes::Keep, true, false);
        for (path, want) in [
            ("/a/../b", "/b"),
            ("/a/./b?x=/../", "/a/b?x=/../"),
            ("/a/%2e%2E/b", "/b"),
            ("/%41", "/A"),
            ("/%41%7e%2e%2E/x", "/A~../x"),
            ("/a\\b", "/a/b"),
            ("/a/..;x=1/b", "/b"),
            ("/a/.;p/b", "/a/b"),
            ("/a/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/..", "/"),
            ("/a/../../b", "/b"),
            ("/./a//./b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("/a/%2e%2e%2fb", "/a/..%2fb"),
            ("/a{b}", "/a%7Bb%7D"),
            ("/a<b>", "/a%3Cb%3E"),
            ("/a|b", "/a%7Cb"),
            ("/a\"b", "/a%22b"),
            ("/a^b", "/a%5Eb"),
            ("/a`b", "/a%60b"),
            ("/%2e", "/"),
        ] {
            assert_eq!(
                clean(&manager, path),
                Normalized::Changed(want.into()),
                "{path}"
            );
        }
        for path in [
            "/",
            "/a/...",
            "/.a",
            "/a..",
            "/%",
            "/%zz",
            "/a;p/b",
            "/a%2Fb",
            "/a%21",
            "/a[b]",
            "/a%80",
            "/a%0ab",
            "/a?b=/../{}",
            "/a~b!$&'()*+,;=:@b",
            "/a%c3%a9",
            "/a;x=../b",
            "//a",
        ] {
            assert_eq!(clean(&manager, path), Normalized::Unchanged, "{path}");
        }
        for path in ["/a%00b", "/a#b", "/a?b#", "*"] {
            assert_eq!(clean(&manager, path), Normalized::Refused, "{path}");
        }
    }

    /// Envoy 1.40's answers.
    #[test]
    fn escaped_slashes_and_adjacent_ones() {
        use EscapedSlashes::*;
        let changed = |path: &str| Normalized::Changed(path.into());
        let redirect = |path: &str| Normalized::Redirect(path.into());
        for (action, normalize, merge, path, want) in [
            (Keep, false, true, "//a///b?c=//", changed("/a/b?c=//")),
            (Keep, false, true, "/./a//./b", changed("/./a/./b")),
            (Keep, false, false, "//a//b", Normalized::Unchanged),
            (Reject, false, false, "/a%2Fb", Normalized::Refused),
            (Reject, true, true, "/a%5cb", Normalized::Refused),
            (Reject, false, false, "/a?x=%2F", Normalized::Unchanged),
            (Reject, false, false, "/%41", Normalized::Unchanged),
            (
                UnescapeAndForward,
                false,
                false,
                "/a%2fb%5Cc?x=%2F",
                changed("/a/b\\c?x=%2F"),
            ),
            (
                UnescapeAndForward,
                true,
                true,
                "/a%2fb%5Cc?x=%2F",
                changed("/a/b/c?x=%2F"),
            ),
            (
                UnescapeAndForward,
                true,
                true,
                "/a/..%2f..%2fb",
                changed("/b"),
            ),
            (
                UnescapeAndForward,
                false,
                false,
                "/a/..%2f..%2fb",
                changed("/a/../../b"),
            ),
            (
                UnescapeAndForward,
                false,
                true,
                "/a%2F%2Fb",
                changed("/a/b"),
            ),
            (
                UnescapeAndForward,
                false,
                true,
                "/a/%2e%2e%2fb",
                changed("/a/%2e%2e/b"),
            ),
            (
                UnescapeAndRedirect,
                true,
                true,
                "/a/..%2f..%2fb",
                redirect("/b"),
            ),
            (
                UnescapeAndRedirect,
                false,
                false,
                "/a%5cb",
                redirect("/a\\b"),
            ),
            (UnescapeAndRedirect, true, true, "/a/../b", changed("/b")),
        ] {
            let manager = manager(action, normalize, merge);
            assert_eq!(
                clean(&manager, path),
                want,
                "{action:?} {normalize} {merge} {path}"
            );
        }
    }
}
