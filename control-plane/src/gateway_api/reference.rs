//! References between objects of the Gateway API, and who may refer across namespaces.

use crate::config::{Named, named, port, required_named};
use proxy_core::xds::Name;
use source::{Diagnostic, Fields, Node};

/// The group of the Gateway API.
pub(crate) const GROUP: &str = "gateway.networking.k8s.io";

/// An object by group, kind, namespace and name; what is `None` has its default.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ObjectReference {
    pub(crate) group: Option<Name>,
    pub(crate) kind: Option<Name>,
    pub(crate) namespace: Option<Name>,
    pub(crate) name: Named,
}

/// Gateway API `ParentReference`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ParentRef {
    pub(crate) to: ObjectReference,
    pub(crate) section: Option<Name>,
    pub(crate) port: Option<u16>,
}

/// Gateway API `ReferenceGrant`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ReferenceGrant {
    /// Group, kind and namespace of those that may refer.
    pub(crate) from: Vec<(Name, Name, Name)>,
    /// Group, kind and, unless all are meant, name of what may be referred to.
    pub(crate) to: Vec<(Name, Name, Option<Name>)>,
}

impl ObjectReference {
    /// Reads the fields that all references share.
    pub(crate) fn read(fields: &mut Fields<'_, '_>) -> Option<ObjectReference> {
        let group = fields.text("group").map(Name::from);
        let kind = fields.text("kind").map(Name::from);
        let namespace = fields.text("namespace").filter(|text| !text.is_empty());
        Some(ObjectReference {
            group,
            kind,
            namespace: namespace.map(Name::from),
            name: required_named(fields, "name")?,
        })
    }

    /// A map of nothing else.
    pub(crate) fn read_node(
        node: &Node,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Option<ObjectReference> {
        let mut fields = Fields::of(node, "a reference", diagnostics)?;
        let reference = ObjectReference::read(&mut fields);
        fields.finish();
        reference
    }

    /// Group and kind, where `group` and `kind` are the defaults.
    pub(crate) fn group_kind<'a>(&'a self, group: &'a str, kind: &'a str) -> (&'a str, &'a str) {
        (
            self.group.as_deref().unwrap_or(group),
            self.kind.as_deref().unwrap_or(kind),
        )
    }

    /// The namespace, `own` unless stated.
    pub(crate) fn namespace_or<'a>(&'a self, own: &'a Name) -> &'a Name {
        self.namespace.as_ref().unwrap_or(own)
    }
}

impl ParentRef {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ParentRef> {
        let mut fields = Fields::of(node, "a parentRef", diagnostics)?;
        let to = ObjectReference::read(&mut fields);
        let section = named(&mut fields, "sectionName").map(|name| name.text);
        let port = port(&mut fields, "port");
        fields.finish();
        Some(ParentRef {
            to: to?,
            section: section.filter(|name| !name.is_empty()),
            port,
        })
    }

    /// Group and kind: a Gateway unless stated.
    pub(crate) fn group_kind(&self) -> (&str, &str) {
        self.to.group_kind(GROUP, "Gateway")
    }

    /// By what references are ordered and told apart.
    pub(crate) fn key(&self, own: &Name) -> String {
        let (group, kind) = self.group_kind();
        format!(
            "{group}/{kind}/{}/{}/{}.{}",
            self.to.name.text,
            self.section.as_deref().unwrap_or_default(),
            self.port.unwrap_or_default(),
            self.to.namespace_or(own)
        )
    }
}

impl ReferenceGrant {
    pub(crate) fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<ReferenceGrant> {
        let mut fields = Fields::of(node, "a ReferenceGrant", diagnostics)?;
        fields.required("from");
        fields.required("to");
        let mut from = Vec::new();
        for node in fields.list("from") {
            let mut inner = Fields::of(node, "a from of a grant", fields.diagnostics)?;
            let group = inner.text("group").unwrap_or_default();
            let kind = inner.required_text("kind");
            let namespace = inner.required_text("namespace");
            inner.finish();
            from.push((group.into(), kind?.into(), namespace?.into()));
        }
        let mut to = Vec::new();
        for node in fields.list("to") {
            let mut inner = Fields::of(node, "a to of a grant", fields.diagnostics)?;
            let group = inner.text("group").unwrap_or_default();
            let kind = inner.required_text("kind");
            let name = inner.text("name").map(Name::from);
            inner.finish();
            to.push((group.into(), kind?.into(), name));
        }
        fields.finish();
        Some(ReferenceGrant { from, to })
    }
}
