//! Who sees an object: `exportTo`.

use super::syntax::{demand_of, dns_label};
use super::{Named, named_list};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields};

/// Who sees an object (`exportTo`).
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExportTo {
    /// Everyone, unless the mesh has another default.
    Unstated,
    Everyone,
    /// These namespaces; an empty list is nobody (`~`).
    Namespaces(Vec<Name>),
}

impl ExportTo {
    /// Whether an object with this `exportTo` is visible in `namespace`.
    pub(crate) fn shows(&self, namespace: &str) -> bool {
        match self {
            ExportTo::Unstated | ExportTo::Everyone => true,
            ExportTo::Namespaces(names) => names.iter().any(|name| **name == *namespace),
        }
    }

    /// Reads the items of an `exportTo`; `.` is `own`, the namespace of the object.
    pub(crate) fn of<'a>(items: impl Iterator<Item = &'a str>, own: &Name) -> ExportTo {
        let items: Vec<&str> = items.collect();
        if items.is_empty() {
            return ExportTo::Unstated;
        }
        if items.contains(&"*") {
            return ExportTo::Everyone;
        }
        if items.contains(&"~") {
            return ExportTo::Namespaces(Vec::new());
        }
        ExportTo::Namespaces(
            items
                .into_iter()
                .map(|item| match item {
                    "." => own.clone(),
                    other => other.into(),
                })
                .collect(),
        )
    }

    /// With the `default` of the mesh for objects of the namespace `own` that do not state it.
    pub(crate) fn or(&self, default: &[Name], own: &Name) -> ExportTo {
        match self {
            ExportTo::Unstated => ExportTo::of(default.iter().map(|item| &**item), own),
            stated => stated.clone(),
        }
    }

    /// Whether everybody sees the object.
    pub(crate) fn is_everyone(&self) -> bool {
        matches!(self, ExportTo::Unstated | ExportTo::Everyone)
    }

    /// Reads the `exportTo` of an object of the namespace `own`.
    pub(super) fn read(fields: &mut Fields<'_, '_>, own: &Name, exporter: Exporter) -> ExportTo {
        let items = named_list(fields, "exportTo");
        check(&items, own, exporter, fields.diagnostics);
        ExportTo::of(items.iter().map(|item| &*item.text), own)
    }
}

/// Whose `exportTo` it is: not everybody may say everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exporter {
    Rule,
    /// Can be hidden from everybody (`~`).
    ServiceEntry,
    /// A DestinationRule with a workload selector: of its own namespace only.
    SelectingRule,
}

fn check(items: &[Named], own: &Name, exporter: Exporter, diagnostics: &mut Vec<Diagnostic>) {
    let meant = |item: &Named| match &*item.text {
        "." => own.clone(),
        _ => item.text.clone(),
    };
    for (at, item) in items.iter().enumerate() {
        let mut refuse = |message: String, label: &str| {
            diagnostics.push(Diagnostic::error(message).at(&item.span, label));
        };
        if items[..at].iter().any(|other| meant(other) == meant(item)) {
            let message = format!("`exportTo` names `{}` twice", meant(item));
            refuse(message, "the second time");
        }
        match &*item.text {
            "*" if items.len() > 1 => {
                let message = "`*` in `exportTo` stands alone";
                refuse(message.to_owned(), "everybody, beside others");
            }
            "~" if exporter != Exporter::ServiceEntry => {
                let message = "`~` (nobody) is for the `exportTo` of ServiceEntries only";
                refuse(message.to_owned(), "hides it from everybody");
            }
            "~" if items.len() > 1 => {
                let message = "`~` in `exportTo` stands alone";
                refuse(message.to_owned(), "nobody, beside others");
            }
            "*" | "." | "~" => {}
            text => demand_of(
                diagnostics,
                item,
                "`.`, `*` or a namespace",
                dns_label(text),
            ),
        }
    }
    let elsewhere = items.iter().find(|item| meant(item) != *own);
    if let (Exporter::SelectingRule, Some(item)) = (exporter, elsewhere) {
        let message = "a DestinationRule with a workload selector holds in its own namespace only";
        let label = "another namespace";
        diagnostics.push(Diagnostic::error(message).at(&item.span, label));
    }
}
