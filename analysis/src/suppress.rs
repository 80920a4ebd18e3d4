//! What the user does not want to be told, in the ways of `istioctl analyze`: an annotation of the
//! object, and `-S CODE=RESOURCE`.

use crate::documents::Documents;
use source::Diagnostic;
use std::collections::BTreeMap;

/// Lists codes, or `*`, that are not told of the object that has it.
pub const ANNOTATION: &str = "galley.istio.io/analyze-suppress";

/// One code not to be told of some objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub code: String,
    /// `Kind namespace/name` or `Kind name.namespace`; `*` stands for any text.
    resource: String,
}

impl Suppression {
    /// Reads `CODE=RESOURCE`; else says what is wrong.
    pub fn parse(text: &str) -> Result<Suppression, String> {
        match text.split_once('=') {
            Some((code, resource)) if !code.is_empty() && !resource.contains('=') => {
                Ok(Suppression {
                    code: code.to_owned(),
                    resource: resource.to_owned(),
                })
            }
            _ => Err(format!(
                "`{text}` is not CODE=RESOURCE, such as \"IST0102=Namespace staging\" or \
                 \"IST0101=VirtualService prod/*\""
            )),
        }
    }

    /// Whether it is about this code of this `Kind namespace/name`.
    pub fn covers(&self, code: &str, resource: &str) -> bool {
        self.code == code
            && (is_like(&self.resource, resource)
                || dotted(resource).is_some_and(|dotted| is_like(&self.resource, &dotted)))
    }
}

/// Removes what annotations of the objects, or `suppressions`, do not want to be told.
pub fn suppress(
    diagnostics: &mut Vec<Diagnostic>,
    documents: &Documents,
    suppressions: &[Suppression],
) {
    let annotated: BTreeMap<String, &str> = documents
        .iter()
        .filter_map(|document| Some((document.resource(), document.annotation(ANNOTATION)?)))
        .collect();
    diagnostics.retain(|diagnostic| {
        let (Some(code), Some(resource)) = (diagnostic.code, &diagnostic.resource) else {
            return true;
        };
        let of_object = annotated.get(resource).is_some_and(|codes| {
            let mut codes = codes.split(',');
            codes.any(|listed| listed == "*" || listed == code)
        });
        !of_object && !suppressions.iter().any(|one| one.covers(code, resource))
    });
}

/// `Kind name.namespace`, as istioctl's help writes it.
fn dotted(resource: &str) -> Option<String> {
    let (kind, full_name) = resource.split_once(' ')?;
    let (namespace, name) = full_name.split_once('/')?;
    Some(format!("{kind} {name}.{namespace}"))
}

/// `*` stands for any text.
fn is_like(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::IST0101;
    use source::SourceFile;

    #[test]
    fn patterns() {
        let covers = |pattern: &str, resource: &str| {
            let suppression = Suppression::parse(&format!("IST0101={pattern}"));
            suppression.expect("it is one").covers("IST0101", resource)
        };
        assert!(covers("VirtualService prod/web", "VirtualService prod/web"));
        assert!(covers("VirtualService web.prod", "VirtualService prod/web"));
        assert!(covers("VirtualService *.prod", "VirtualService prod/web"));
        assert!(covers("*", "Namespace prod"));
        assert!(covers("V*S*/w*b", "VirtualService prod/web"));
        assert!(!covers("V*S*/w*a", "VirtualService prod/web"));
        assert!(!covers("VirtualService prod/we", "VirtualService prod/web"));
        assert!(Suppression::parse("IST0101").is_err());
    }

    #[test]
    fn by_annotation() {
        let file = SourceFile::new(
            "a.yaml",
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: web\n  \
             annotations:\n    galley.istio.io/analyze-suppress: IST0130,IST0101\n",
        );
        let documents = Documents::read(&file, &mut Vec::new());
        let about = |resource: &str| {
            let mut diagnostic = IST0101.says("not there");
            diagnostic.resource = Some(resource.to_owned());
            diagnostic
        };
        let mut diagnostics = vec![
            about("VirtualService default/web"),
            about("VirtualService default/other"),
        ];
        suppress(&mut diagnostics, &documents, &[]);
        assert_eq!(diagnostics, [about("VirtualService default/other")]);
    }
}
