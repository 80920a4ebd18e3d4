//! Credentials of Gateways: Secrets that are not there, or hold no valid certificate (IST0101, IST0161).

use super::gateways::{say_no_pods, selector};
use super::input::{Input, Report};
use super::pod_index::PodIndex;
use crate::codes::{IST0101, IST0161};
use crate::documents::{Document, GATEWAY, SECRET};
use crate::hosts::named;
use crate::read::{entries, items, present, value_of};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use source::Node;
use x509_cert::Certificate;
use x509_cert::der::DecodePem;

pub(super) fn analyze(input: &Input<'_>, report: &mut Report<'_>) {
    let index = PodIndex::new(input);
    for gateway in input.of(GATEWAY) {
        let selector = selector(gateway);
        // Istio looks for Secrets where the gateway runs.
        let Some(pods) = index.selected(&selector).next() else {
            say_no_pods(input, gateway, &selector, report);
            continue;
        };
        for server in items(&gateway.node, &["spec", "servers"]) {
            if let Some(credential) = present(server, &["tls", "credentialName"]) {
                check(input, gateway, pods.namespace, credential, report);
            }
        }
    }
}

fn check(
    input: &Input<'_>,
    gateway: &Document,
    namespace: &str,
    credential: &Node,
    report: &mut Report<'_>,
) {
    let written = credential.as_scalar().unwrap_or_default();
    if written.is_empty() || !input.knows(SECRET) {
        return;
    }
    let (namespace, name) = named(written, namespace);
    let Some(secret) = input.find(SECRET, namespace, name) else {
        let elsewhere = input.of(SECRET).find(|secret| secret.name == name);
        let names = input
            .of(SECRET)
            .filter(|secret| secret.namespace == namespace);
        let diagnostic = IST0101
            .says(format!("credentialName `{written}` not found"))
            .at(&credential.span, format!("no Secret {namespace}/{name}"));
        let diagnostic = match elsewhere {
            Some(secret) => diagnostic.help(format!(
                "there is {}: a Secret has to be in the namespace of the gateway's pods",
                secret.full_name()
            )),
            None => diagnostic.nearest(name, names.map(|secret| &*secret.name)),
        };
        report.say(gateway, diagnostic);
        return;
    };
    if let Err(problem) = check_secret(secret) {
        let diagnostic = IST0161
            .says(format!(
                "Secret {} holds no valid certificate",
                secret.full_name()
            ))
            .at(&credential.span, problem)
            .help("a Secret of type kubernetes.io/tls has `tls.crt` and `tls.key`, in PEM");
        report.say(gateway, diagnostic);
    }
}

/// 2026-08-22, in seconds since 1970: the day of the Istio that is modelled. It is later now, but nobody
/// asks a clock, so that what is said of files does not change by itself.
const TODAY_OR_BEFORE_S: u64 = 1_787_356_800;

/// Whether it holds a certificate and a key, and the certificate has not certainly expired.
fn check_secret(secret: &Document) -> Result<(), &'static str> {
    let pairs = [("cert", "key"), ("tls.crt", "tls.key")];
    let certificate = pairs.into_iter().find_map(|(certificate, key)| {
        let key = value(secret, key);
        value(secret, certificate).filter(|_| key.is_some())
    });
    let certificate = certificate.ok_or("it has no `tls.crt` with `tls.key`")?;
    let text = String::from_utf8_lossy(&certificate);
    let block = first_block(&text).ok_or("its certificate is not in PEM")?;
    let parsed = Certificate::from_pem(block).map_err(|_| "its certificate is malformed")?;
    let ends = parsed.tbs_certificate().validity().not_after;
    match ends.to_unix_duration().as_secs() < TODAY_OR_BEFORE_S {
        true => Err("its certificate has expired"),
        false => Ok(()),
    }
}

/// What is there under a key, unless it is empty.
fn value(secret: &Document, key: &str) -> Option<Vec<u8>> {
    let within = |map| value_of(entries(&secret.node, &[map]), key);
    let bytes = match within("stringData") {
        Some(text) => text.as_bytes().to_vec(),
        None => {
            let encoded: String = within("data")?.split_whitespace().collect();
            STANDARD.decode(encoded).ok()?
        }
    };
    (!bytes.is_empty()).then_some(bytes)
}

/// From `-----BEGIN` to the end of the block.
fn first_block(text: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----";
    let begin = text.find("-----BEGIN CERTIFICATE-----")?;
    let end = text[begin..].find(END)? + END.len();
    Some(&text[begin..begin + end])
}
