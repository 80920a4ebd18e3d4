//! Timeouts, retries and faults of a RouteRule.

use crate::config::{count, duration, number, refuse};
use proxy_core::time::Nanos;
use proxy_core::xds::{FaultAbort, FaultDelay};
use source::{Diagnostic, Fields, Node, Span};

/// Istio `HTTPRetry.SimpleRetryPolicy`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SimpleRetry {
    /// 0: no retries.
    pub(crate) attempts: u32,
    pub(crate) per_try_timeout: Nanos,
}

/// Istio `HTTPFaultInjection`, as Pilot carried it out: without a percentage nothing is hit.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault2017 {
    pub(crate) delay: Option<FaultDelay>,
    pub(crate) abort: Option<FaultAbort>,
}

/// The one way of several to say `key` that is carried out, opened up: `simpleTimeout` and such.
fn simple<'n>(
    fields: &mut Fields<'n, '_>,
    key: &'static str,
    simple: &'static str,
    custom: &'static [&'static str],
) -> Option<&'n Node> {
    let node = fields.optional(key)?;
    let mut inner = Fields::of(node, "a policy", fields.diagnostics)?;
    let found = inner.optional(simple);
    for key in custom {
        if let Some(node) = inner.optional(key) {
            inner.diagnostics.push(
                Diagnostic::warning(format!("Pilot made nothing of `{key}`"))
                    .at(&node.span, "has no effect"),
            );
        }
    }
    inner.finish();
    found
}

/// Which header overrides it: hidden, and nothing came of it.
fn warn_of_override(fields: &mut Fields<'_, '_>) {
    if let Some(node) = fields.optional("overrideHeaderName") {
        fields.diagnostics.push(
            Diagnostic::warning("Pilot made nothing of `overrideHeaderName`")
                .at(&node.span, "has no effect"),
        );
    }
}

/// `httpReqTimeout`: of the whole request, retries included.
pub(super) fn read_timeout(fields: &mut Fields<'_, '_>) -> Option<Nanos> {
    let node = simple(fields, "httpReqTimeout", "simpleTimeout", &["custom"])?;
    let mut inner = Fields::of(node, "a timeout", fields.diagnostics)?;
    inner.required("timeout");
    let timeout = duration(&mut inner, "timeout");
    warn_of_override(&mut inner);
    inner.finish();
    timeout
}

/// `httpReqRetries`.
pub(super) fn read_retry(fields: &mut Fields<'_, '_>) -> Option<SimpleRetry> {
    let node = simple(fields, "httpReqRetries", "simpleRetry", &["custom"])?;
    let mut inner = Fields::of(node, "a retry policy", fields.diagnostics)?;
    let attempts = count(&mut inner, "attempts").unwrap_or(0);
    inner.required("perTryTimeout");
    let per_try_timeout = duration(&mut inner, "perTryTimeout");
    warn_of_override(&mut inner);
    inner.finish();
    Some(SimpleRetry {
        attempts,
        per_try_timeout: per_try_timeout?,
    })
}

/// `httpFault`.
pub(super) fn read_fault(fields: &mut Fields<'_, '_>) -> Option<Fault2017> {
    let node = fields.optional("httpFault")?;
    let mut inner = Fields::of(node, "a fault", fields.diagnostics)?;
    let delay = inner.optional("delay");
    let delay = delay.and_then(|node| read_delay(node, inner.diagnostics));
    let abort = inner.optional("abort");
    let abort = abort.and_then(|node| read_abort(node, inner.diagnostics));
    inner.finish();
    Some(Fault2017 { delay, abort })
}

/// Whole percents, as Pilot cut them off; a fault that hits nothing is said.
fn share(fields: &mut Fields<'_, '_>, span: &Span, what: &str) -> Option<u32> {
    let percent = number(fields, "percent", 0.0, 100.0);
    let stated = fields.optional("percent");
    if stated.is_some() && percent.is_none() {
        return None;
    }
    let whole = percent.unwrap_or(0.0) as u32;
    if whole == 0 {
        let label = match stated {
            None => "without `percent` Pilot left it out",
            Some(_) => "less than one percent: Pilot left it out",
        };
        let place = stated.map_or(span, |node| &node.span);
        fields
            .diagnostics
            .push(Diagnostic::warning(format!("{what} hits no request")).at(place, label));
        return None;
    }
    Some(whole * 10_000)
}

fn read_delay(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<FaultDelay> {
    let mut fields = Fields::of(node, "a delay", diagnostics)?;
    let fraction_ppm = share(&mut fields, &node.span, "a delay");
    fields.required("fixedDelay");
    let fixed = duration(&mut fields, "fixedDelay");
    if let Some(node) = fields.optional("exponentialDelay") {
        let message = "Istio did not support `exponentialDelay`";
        refuse(fields.diagnostics, &node.span, message, "use `fixedDelay`");
    }
    warn_of_override(&mut fields);
    fields.finish();
    Some(FaultDelay {
        fixed: fixed?,
        fraction_ppm: fraction_ppm?,
    })
}

fn read_abort(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<FaultAbort> {
    let mut fields = Fields::of(node, "an abort", diagnostics)?;
    let fraction_ppm = share(&mut fields, &node.span, "an abort");
    if let Some(node) = fields.optional("grpcStatus") {
        let message = "Istio did not support faults of gRPC";
        refuse(fields.diagnostics, &node.span, message, "use `httpStatus`");
    }
    fields.unsupported(&["http2Error"]);
    let status = fields.integer("httpStatus", 0..=600);
    if let (Some(0..200), Some(node)) = (status, fields.optional("httpStatus")) {
        fields.diagnostics.push(
            Diagnostic::warning("an abort with such a status does nothing")
                .at(&node.span, "Envoy takes 200 to 600"),
        );
    }
    warn_of_override(&mut fields);
    fields.finish();
    let status = status.and_then(|status| u16::try_from(status).ok());
    let status = status.filter(|status| *status >= 200)?;
    Some(FaultAbort {
        status,
        grpc_status: None,
        fraction_ppm: fraction_ppm?,
    })
}
