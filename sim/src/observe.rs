//! What a caller may watch of a run, and what it gets in the end.

use proxy_core::proxy::Witness;
use proxy_core::random::mix;
use proxy_core::telemetry::AccessLog;
use proxy_core::time::Nanos;
use record::RunRecord;
use std::fmt;
use std::net::SocketAddr;

/// What a run leaves behind.
#[derive(Debug)]
pub struct Outcome {
    pub record: RunRecord,
    /// Requests that went through a proxy, counted at each proxy.
    pub passes: u64,
}

type OnLine<'o> = &'o mut dyn FnMut(&LogLine<'_>);
type OnJournal<'o> = &'o mut dyn FnMut(&str, Vec<u8>);
type OnProgress<'o> = &'o mut dyn FnMut(f64);
type Watched<'o> = (&'o str, &'o mut dyn Witness);

/// Who watches. Nobody: the run is fastest.
#[derive(Default)]
pub struct Observers<'o> {
    /// Every access-log record.
    pub access_log: Option<OnLine<'o>>,
    /// Parts of the journal of every proxy, by its name; they follow one another.
    pub journal: Option<OnJournal<'o>>,
    /// One proxy by its name (`POD.NAMESPACE`), and who sees all that its machines are told and make of
    /// it. The event engine's; a proxy that writes a journal has no other witness.
    pub witness: Option<Watched<'o>>,
    /// How much of the run is done, from 0 to 1, now and then.
    pub progress: Option<OnProgress<'o>>,
}

impl fmt::Debug for Observers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Observers")
    }
}

impl Observers<'_> {
    pub(crate) fn progress(&mut self, done: f64) {
        if let Some(progress) = &mut self.progress {
            progress(done);
        }
    }

    pub(crate) fn watches(&self, proxy: &str) -> bool {
        self.witness
            .as_ref()
            .is_some_and(|(name, _)| *name == proxy)
    }

    pub(crate) fn journal(&mut self, proxy: &str, bytes: Vec<u8>) {
        if let Some(journal) = &mut self.journal {
            journal(proxy, bytes);
        }
    }
}

/// One access-log record with the names behind its ids.
#[derive(Debug)]
pub struct LogLine<'a> {
    /// When the exchange ended.
    pub at: Nanos,
    /// `POD.NAMESPACE`.
    pub proxy: &'a str,
    pub log: &'a AccessLog,
    pub cluster: Option<&'a str>,
    pub endpoint: Option<SocketAddr>,
}

impl fmt::Display for LogLine<'_> {
    /// In the order of Envoy's default access log, stamped with virtual time.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogLine {
            at,
            proxy,
            log,
            cluster,
            endpoint,
        } = self;
        write!(f, "[{:.9}] {proxy} ", at.as_secs_f64())?;
        match log.decision.as_deref() {
            Some(decision) => {
                let head = &decision.head;
                write!(f, "\"{} {} HTTP/1.1\" ", head.method, head.path)?;
                write!(f, "{} {} {} ", log.status, log.flags, log.details)?;
                write!(f, "\"{}\" ", head.authority)?;
                let route = decision.route().map_or("-", |route| &route.name);
                write!(f, "{} ", if route.is_empty() { "-" } else { route })?;
            }
            None => write!(
                f,
                "\"-\" {} {} {} \"-\" - ",
                log.status, log.flags, log.details
            )?,
        }
        write!(f, "{} ", cluster.unwrap_or("-"))?;
        match endpoint {
            Some(endpoint) => write!(f, "{endpoint} ")?,
            None => f.write_str("- ")?,
        }
        let ms = log.duration.as_millis_f64();
        write!(f, "{} {ms:.6}ms {:016x}", log.attempts, mix(log.key))
    }
}
