//! Texts that a regular expression matches.

use regex_syntax::hir::{Class, Hir, HirKind};

/// The shortest choice everywhere, and one with the last alternatives and a repetition more; none
/// of an expression that cannot be read.
pub(crate) fn texts(expression: &str) -> Vec<String> {
    let Ok(hir) = regex_syntax::parse(expression) else {
        return Vec::new();
    };
    let mut texts: Vec<String> = Vec::new();
    for generous in [false, true] {
        let mut text = String::new();
        write(&hir, generous, &mut text);
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    texts
}

fn write(hir: &Hir, generous: bool, text: &mut String) {
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => {}
        HirKind::Literal(literal) => text.push_str(&String::from_utf8_lossy(&literal.0)),
        HirKind::Class(class) => text.push(member(class)),
        HirKind::Repetition(repetition) => {
            let more = u32::from(generous && repetition.max != Some(repetition.min));
            for _ in 0..repetition.min + more {
                write(&repetition.sub, generous, text);
            }
        }
        HirKind::Capture(capture) => write(&capture.sub, generous, text),
        HirKind::Concat(parts) => parts.iter().for_each(|part| write(part, generous, text)),
        HirKind::Alternation(parts) => {
            let part = if generous {
                parts.last()
            } else {
                parts.first()
            };
            if let Some(part) = part {
                write(part, generous, text);
            }
        }
    }
}

/// A harmless character of a class, if it has one.
fn member(class: &Class) -> char {
    let has = |c: char| match class {
        Class::Unicode(class) => class
            .iter()
            .any(|range| (range.start()..=range.end()).contains(&c)),
        Class::Bytes(class) => {
            let holds = |byte: u8| class.iter().any(|r| (r.start()..=r.end()).contains(&byte));
            u8::try_from(c).is_ok_and(holds)
        }
    };
    let harmless = ('a'..='z')
        .chain('0'..='9')
        .chain('A'..='Z')
        .chain("-_./~ ".chars());
    let mut members = harmless.filter(|c| has(*c));
    members.next().unwrap_or('a')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match() {
        for expression in [
            "/v[0-9]+/(users|groups)",
            "^(.*?;)?(user=jason)(;.*)?$",
            "a{2,3}b?",
            ".*",
        ] {
            let regex = proxy_core::xds::Regex::new(expression).unwrap();
            let texts = texts(expression);
            assert!(!texts.is_empty(), "{expression}");
            for text in texts {
                assert!(regex.is_full_match(text.as_bytes()), "{expression}: {text}");
            }
        }
        assert_eq!(texts("ab|cd"), ["ab", "cd"]);
        assert!(texts("(").is_empty());
    }
}
