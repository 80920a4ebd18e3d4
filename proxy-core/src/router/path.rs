//! Path normalisation, as Istio's default (`pathNormalization: BASE`) has Envoy do it.

/// The path with `.` and `..` segments resolved, `\` turned to `/` and unreserved characters
/// decoded; the query is left alone. `None`: the path climbs above the root or is not a path.
pub(crate) fn normalize(path: &str) -> Option<String> {
    let (path, query) = match path.find('?') {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let decoded = decode_unreserved(path).replace('\\', "/");
    let rest = decoded.strip_prefix('/')?;
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = rest.split('/').peekable();
    while let Some(part) = parts.next() {
        let bare = part.split(';').next().unwrap_or(part);
        let last = parts.peek().is_none();
        match bare {
            "." | ".." => {
                if bare == ".." {
                    segments.pop()?;
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    Some(format!("/{}{query}", segments.join("/")))
}

/// Whether [`normalize`] would leave `path` as it is; cheap, for the common case.
pub(crate) fn is_plain(path: &str) -> bool {
    path.starts_with('/') && !path.contains("/.") && !path.contains(['%', '\\'])
}

/// Adjacent slashes of the path (not the query) merged into one.
pub(crate) fn merge_slashes(path: &str) -> String {
    let end = path.find('?').unwrap_or(path.len());
    let mut merged = String::with_capacity(path.len());
    for c in path[..end].chars() {
        if c != '/' || !merged.ends_with('/') {
            merged.push(c);
        }
    }
    merged + &path[end..]
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

    #[test]
    fn normalises_like_envoy() {
        for (path, want) in [
            ("/a/../b", Some("/b")),
            ("/a/./b?x=/../", Some("/a/b?x=/../")),
            ("/a/%2e%2E/b", Some("/b")),
            ("/%41", Some("/A")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a\\b", Some("/a/b")),
            ("/a/..;x=1/b", Some("/b")),
            ("/a/..", Some("/")),
            ("/a/.", Some("/a/")),
            ("/..", None),
            ("*", None),
            ("/", Some("/")),
        ] {
            assert_eq!(normalize(path).as_deref(), want, "{path}");
            if is_plain(path) {
                assert_eq!(normalize(path).as_deref(), Some(path));
            }
        }
    }

    #[test]
    fn merges_slashes_outside_the_query() {
        assert_eq!(merge_slashes("//a///b?c=//"), "/a/b?c=//");
    }
}
