//! TLS of listeners: whether it ends there, and whether the certificates that it needs are there.

use super::certificates::Authority;
use super::gateway::{Gateway, Listener};
use super::known::{Known, Problem};
use super::listeners::Owner;
use super::reference::ObjectReference;
use crate::config::{ServerTls, label};
use crate::object::Object;
use proxy_core::xds::Name;

/// What the listener does with TLS. With a problem, it would end it.
pub(crate) fn tls_mode(
    known: &Known<'_>,
    owner: &Owner<'_>,
    listener: &Listener,
) -> Result<Option<ServerTls>, Problem> {
    let Some(tls) = &listener.tls else {
        return Ok(None);
    };
    if tls.passthrough {
        return Ok(Some(ServerTls::Passthrough));
    }
    let built_in = label(&tls.options, "gateway.istio.io/tls-terminate-mode");
    if built_in.is_some_and(|mode| mode.starts_with("ISTIO_")) {
        return Ok(Some(ServerTls::Terminate));
    }
    certificates(known, owner, &tls.certificates)?;
    client_certificates(known, owner, listener)?;
    Ok(Some(ServerTls::Terminate))
}

/// One of them has to be usable.
fn certificates(
    known: &Known<'_>,
    owner: &Owner<'_>,
    references: &[ObjectReference],
) -> Result<(), Problem> {
    if references.len() > 2 {
        let message = "TLS mode can only support up to 2 server certificates";
        return Err(Problem::new("InvalidCertificateRef", message));
    }
    let own = &owner.object.reference.namespace;
    let mut problem: Option<Problem> = None;
    let mut usable = 0;
    for reference in references {
        let namespace = reference.namespace_or(own);
        let name = &reference.name.text;
        let found = match known.granted(owner.kind, own, ("", "Secret"), namespace, name) {
            false => Err(Problem::new(
                "RefNotPermitted",
                format!(
                    "certificateRef {name}/{namespace} not accessible to a Gateway in namespace \
                     \"{own}\" (missing a ReferenceGrant?)"
                ),
            )),
            true => usable_secret(known, reference, namespace)
                .map_err(|why| Problem::new("InvalidCertificateRef", why)),
        };
        match (found, &mut problem) {
            (Ok(()), _) => usable += 1,
            (Err(new), Some(first)) => first.message.push_str(&format!("; {}", new.message)),
            (Err(new), None) => problem = Some(new),
        }
    }
    match problem {
        Some(problem) if usable == 0 => Err(problem),
        _ => Ok(()),
    }
}

fn usable_secret(
    known: &Known<'_>,
    reference: &ObjectReference,
    namespace: &str,
) -> Result<(), String> {
    let name = &reference.name.text;
    let shown = shown(reference);
    if reference.group_kind("", "Secret") != ("", "Secret") {
        return Err(format!(
            "invalid certificate reference {shown}, only secret is allowed"
        ));
    }
    match known.secret(namespace, name) {
        None => Err(format!(
            "invalid certificate reference {shown}, secret {namespace}/{name} not found"
        )),
        Some(found) if !found.server => Err(format!(
            "invalid certificate reference {shown}, the certificate is malformed"
        )),
        Some(_) => Ok(()),
    }
}

fn shown(reference: &ObjectReference) -> String {
    let text = |text: &Option<Name>| text.as_deref().unwrap_or_default().to_owned();
    format!(
        "{}/{}/{}.{}",
        text(&reference.group),
        text(&reference.kind),
        reference.name.text,
        text(&reference.namespace)
    )
}

/// Whether the client certificate that a Gateway shows to backends is there.
pub(crate) fn backend_certificate(
    known: &Known<'_>,
    object: &Object,
    gateway: &Gateway,
) -> Option<Problem> {
    let reference = gateway.backend_certificate.as_ref()?;
    let own = &object.reference.namespace;
    let namespace = reference.namespace_or(own);
    let name = &reference.name.text;
    if let Err(why) = usable_secret(known, reference, namespace) {
        let why = why.replacen("certificate reference", "clientCertificateRef", 1);
        return Some(Problem::new("InvalidClientCertificateRef", why));
    }
    let granted = known.granted("Gateway", own, ("", "Secret"), namespace, name);
    (!granted).then(|| {
        Problem::new(
            "RefNotPermitted",
            format!(
                "clientCertificateRef {name}/{namespace} not accessible to a Gateway in namespace \
                 \"{own}\" (missing a ReferenceGrant?)"
            ),
        )
    })
}

/// The authority that clients' certificates have to be of.
fn client_certificates(
    known: &Known<'_>,
    owner: &Owner<'_>,
    listener: &Listener,
) -> Result<(), Problem> {
    let validation = owner.gateway.frontend.at(listener.port);
    let references = validation.map_or(&[][..], |found| &found.certificates);
    let reference = match references {
        [] => return Ok(()),
        [reference] => reference,
        _ => {
            let message = "only one caCertificateRef is supported";
            return Err(Problem::new("InvalidCACertificateRef", message));
        }
    };
    let own = &owner.object.reference.namespace;
    let namespace = reference.namespace_or(own);
    let name = &reference.name.text;
    let of = reference.group_kind("", "");
    let to = match of {
        ("", "Secret") => ("", "Secret"),
        _ => ("", "ConfigMap"),
    };
    if !known.granted(owner.kind, own, to, namespace, name) {
        return Err(Problem::new(
            "RefNotPermitted",
            format!(
                "caCertificateRef {namespace}/{name} not accessible to a Gateway in namespace \
                 \"{own}\" (missing a ReferenceGrant?)"
            ),
        ));
    }
    let shown = shown(reference);
    let found = match of {
        ("", "ConfigMap") => known.config_map(namespace, name),
        ("", "Secret") => known.secret(namespace, name),
        _ => {
            let message = format!(
                "invalid CA certificate reference {shown}, only secret and configmap are allowed"
            );
            return Err(Problem::new("InvalidCACertificateKind", message));
        }
    };
    let kind = to.1.to_ascii_lowercase();
    let why = match found.map(|found| found.authority) {
        None => format!("{kind} {namespace}/{name} not found"),
        Some(Authority::Missing) => {
            "found secret, but didn't have expected keys cacert or ca.crt".to_owned()
        }
        Some(Authority::Malformed) => "the bundle is malformed".to_owned(),
        Some(Authority::WellFormed) => return Ok(()),
    };
    let message = format!("invalid CA certificate reference {shown}, {why}");
    Err(Problem::new("InvalidCACertificateRef", message))
}
