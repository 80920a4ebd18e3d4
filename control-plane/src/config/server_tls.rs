//! TLS of a Gateway's server or of a Sidecar's ingress listener.

use super::{choice, refuse, schema_warning, written};
use source::{Diagnostic, Fields, Node};

/// Whether TLS ends at the proxy (Istio `ServerTLSSettings.TLSmode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerTls {
    Terminate,
    Passthrough,
}

/// Istio `ServerTLSSettings.TLSmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerTlsMode {
    Passthrough,
    AutoPassthrough,
    Simple,
    Mutual,
    OptionalMutual,
    IstioMutual,
}

const MODES: [(&str, ServerTlsMode); 6] = [
    ("PASSTHROUGH", ServerTlsMode::Passthrough),
    ("AUTO_PASSTHROUGH", ServerTlsMode::AutoPassthrough),
    ("SIMPLE", ServerTlsMode::Simple),
    ("MUTUAL", ServerTlsMode::Mutual),
    ("OPTIONAL_MUTUAL", ServerTlsMode::OptionalMutual),
    ("ISTIO_MUTUAL", ServerTlsMode::IstioMutual),
];

impl ServerTlsMode {
    pub(super) fn passes_through(self) -> bool {
        matches!(
            self,
            ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough
        )
    }
}

/// Istio `ServerTLSSettings`, as far as others look at it.
pub(super) struct ServerTlsSettings {
    pub(super) mode: ServerTlsMode,
    pub(super) https_redirect: bool,
    /// Certificate, key or authority are files.
    pub(super) files: bool,
}

pub(super) fn read_server_tls(
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) -> Option<ServerTlsSettings> {
    let mut fields = Fields::of(node, "server TLS settings", diagnostics)?;
    let https_redirect = fields.boolean("httpsRedirect").unwrap_or(false);
    let mode = choice(&mut fields, "mode", &MODES);
    let settings = ServerTlsSettings {
        mode: mode.unwrap_or(ServerTlsMode::Passthrough),
        https_redirect,
        files: ["serverCertificate", "privateKey", "caCertificates"]
            .into_iter()
            .any(|key| states(&mut fields, key)),
    };
    check_versions(&mut fields);
    check_ciphers(&mut fields);
    match settings.mode {
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            warn_of_unused(&mut fields);
            check_sources(&mut fields);
        }
        ServerTlsMode::IstioMutual => {
            for key in CERTIFICATES {
                if let (true, Some(node)) = (states(&mut fields, key), fields.optional(key)) {
                    let message =
                        format!("mode ISTIO_MUTUAL brings its own certificates, no `{key}`");
                    refuse(fields.diagnostics, &node.span, message, "is the mesh's");
                }
            }
        }
        _ => {
            check_sources(&mut fields);
            check_terminating(&mut fields, settings.mode);
        }
    }
    // What clients are checked for: no secrets are modelled.
    fields.ignore(&[
        "caCertCredentialName",
        "insecureSkipVerify",
        "subjectAltNames",
        "verifyCertificateSpki",
        "verifyCertificateHash",
    ]);
    fields.finish();
    Some(settings)
}

const CERTIFICATES: [&str; 6] = [
    "serverCertificate",
    "privateKey",
    "caCertificates",
    "tlsCertificates",
    "credentialName",
    "credentialNames",
];

/// Whether `key` is there and not empty.
fn states(fields: &mut Fields<'_, '_>, key: &'static str) -> bool {
    fields
        .optional(key)
        .is_some_and(|node| match node.as_seq() {
            Some(items) => !items.is_empty(),
            None => !written(node).is_empty(),
        })
}

fn check_versions(fields: &mut Fields<'_, '_>) {
    let versions = [
        ("TLS_AUTO", false),
        ("TLSV1_0", true),
        ("TLSV1_1", true),
        ("TLSV1_2", false),
        ("TLSV1_3", false),
    ];
    let old = choice(fields, "minProtocolVersion", &versions) == Some(true);
    choice(fields, "maxProtocolVersion", &versions);
    if let (true, Some(node)) = (old, fields.optional("minProtocolVersion"))
        && !states(fields, "cipherSuites")
    {
        let message = "a TLS version below 1.2 needs `cipherSuites` that it knows";
        fields
            .diagnostics
            .push(schema_warning(message).at(&node.span, "none by default"));
    }
}

const CIPHERS: [&str; 16] = [
    "ALL",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];

fn check_ciphers(fields: &mut Fields<'_, '_>) {
    let suites = fields.list("cipherSuites");
    let text = |node: &Node| node.as_scalar().unwrap_or_default().to_owned();
    for (at, node) in suites.iter().enumerate() {
        let suite = text(node);
        // Other first characters are operators.
        let named = suite.starts_with(char::is_alphanumeric);
        let warning = if named && !CIPHERS.contains(&suite.as_str()) {
            schema_warning(format!("`{suite}` is not a cipher suite"))
                .at(&node.span, "left out")
                .nearest(&suite, CIPHERS)
        } else if suites[..at].iter().any(|earlier| text(earlier) == suite) {
            schema_warning(format!("cipher suite `{suite}` is there twice"))
                .at(&node.span, "the second one")
        } else {
            continue;
        };
        fields.diagnostics.push(warning);
    }
}

fn warn_of_unused(fields: &mut Fields<'_, '_>) {
    let mut keys = CERTIFICATES.into_iter().chain(["caCrl"]);
    let unused = keys.find(|key| states(fields, key));
    if let Some(node) = unused.and_then(|key| fields.optional(key)) {
        let message = "certificates have no effect where TLS passes through";
        fields
            .diagnostics
            .push(schema_warning(message).at(&node.span, "not used"));
    }
    let revoked = states(fields, "caCrl") && states(fields, "credentialName");
    if let (true, Some(node)) = (revoked, fields.optional("caCrl")) {
        let message = "`caCrl` is part of the secret that `credentialName` names";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "beside `credentialName`",
        );
    }
}

/// Certificates come from one place.
fn check_sources(fields: &mut Fields<'_, '_>) {
    let files = states(fields, "serverCertificate") && states(fields, "privateKey");
    let others = ["credentialName", "credentialNames", "tlsCertificates"];
    let others = others.into_iter().filter(|key| states(fields, key)).count();
    if usize::from(files) + others > 1 {
        let message = "a server has one of `credentialName`, `credentialNames`, `tlsCertificates`, \
                       or `serverCertificate` with `privateKey`";
        let span = fields.span();
        refuse(fields.diagnostics, span, message, "several are stated");
    }
    let names = fields.list("credentialNames");
    if let Some(third) = names.get(2) {
        let message = "`credentialNames` has two entries at most";
        refuse(fields.diagnostics, &third.span, message, "a third one");
    }
}

/// What is needed where TLS ends at the server.
fn check_terminating(fields: &mut Fields<'_, '_>, mode: ServerTlsMode) {
    let span = fields.span();
    if states(fields, "credentialName") || states(fields, "credentialNames") {
        return;
    }
    let simple = mode == ServerTlsMode::Simple;
    let what = if simple { "simple" } else { "mutual" };
    if !simple && !states(fields, "caCertificates") {
        let message = "mutual TLS needs `caCertificates`, or a `credentialName` with them";
        refuse(
            fields.diagnostics,
            span,
            message,
            "clients are not verified",
        );
    }
    let several = fields.list("tlsCertificates");
    if let Some(third) = several.get(2) {
        let message = "a server has two certificates at most";
        fields
            .diagnostics
            .push(schema_warning(message).at(&third.span, "a third one"));
    }
    let mut own = true;
    for key in ["serverCertificate", "privateKey"] {
        own &= states(fields, key);
    }
    let complete = |node: &Node| {
        ["serverCertificate", "privateKey"].into_iter().all(|key| {
            let file = node.at(&[key]).and_then(Node::as_scalar);
            file.is_some_and(|file| !file.is_empty())
        })
    };
    let lacking = match several {
        [] => (!own).then_some(span),
        _ => several.iter().find(|node| !complete(node)).map(|n| &n.span),
    };
    if let Some(span) = lacking {
        let message =
            format!("{what} TLS needs `credentialName`, or `serverCertificate` and `privateKey`");
        refuse(fields.diagnostics, span, message, "no certificate to show");
    }
    if let (true, true, Some(node)) = (simple, states(fields, "caCrl"), fields.optional("caCrl")) {
        let message = "`caCrl` needs clients that show certificates";
        refuse(
            fields.diagnostics,
            &node.span,
            message,
            "mode SIMPLE asks for none",
        );
    }
}
