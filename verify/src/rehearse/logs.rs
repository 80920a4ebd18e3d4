//! What Envoy wrote: its access log and the log of its outlier detection.

use super::runs::{Ejection, Exchange, Run};
use super::script::Arrival;
use crate::Failure;
use proxy_core::time::Nanos;
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// A line of the access log, as the listeners ask for it.
#[derive(Deserialize)]
struct Line {
    /// Of the script's arrivals.
    n: Option<String>,
    status: u16,
    flags: Option<String>,
    cluster: Option<String>,
    endpoint: Option<String>,
    attempts: Option<u32>,
}

/// A line of the outlier log.
#[derive(Deserialize)]
struct Event {
    timestamp: String,
    cluster_name: String,
    upstream_url: String,
    /// `EJECT`, which is left out, or `UNEJECT`.
    action: Option<String>,
    /// Left out where a detection is not enforced.
    #[serde(default)]
    enforced: bool,
}

/// What `arrivals` came to. `started_ns`: the time of day at the scenario's start.
pub(super) fn read(
    folder: &Path,
    arrivals: &[Arc<Arrival>],
    started_ns: u64,
) -> Result<Run, Failure> {
    let mut run = Run::default();
    let access = folder.join("access.log");
    for text in read_to_string(&access)?.lines() {
        let line: Line = parse(text, &access)?;
        let arrival = line
            .n
            .and_then(|n| n.parse::<usize>().ok())
            .and_then(|n| arrivals.get(n));
        let Some(arrival) = arrival else { continue };
        run.exchanges.push(Exchange {
            at: arrival.at,
            cluster: line.cluster.map(|name| name.as_str().into()),
            endpoint: line.endpoint.and_then(|address| address.parse().ok()),
            status: line.status,
            flags: line.flags.unwrap_or_else(|| "-".to_owned()),
            attempts: line.attempts.unwrap_or_default(),
        });
    }
    let outlier = folder.join("outlier.log");
    for text in read_to_string(&outlier)?.lines() {
        let event: Event = parse(text, &outlier)?;
        let out = event.action.as_deref() != Some("UNEJECT");
        let wrong = || Failure::Envoy(format!("{}: not understood: {text}", outlier.display()));
        let at = time_of_day(&event.timestamp).ok_or_else(wrong)?;
        let host: SocketAddr = event.upstream_url.parse().map_err(|_| wrong())?;
        if out && !event.enforced {
            continue;
        }
        let (at, cluster) = (
            Nanos(at.saturating_sub(started_ns)),
            event.cluster_name.as_str().into(),
        );
        run.ejections.push(Ejection {
            at,
            cluster,
            host,
            out,
        });
    }
    run.ejections.sort_by_key(|ejection| ejection.at);
    Ok(run)
}

/// A log that nothing was written to may not be there.
fn read_to_string(path: &Path) -> Result<String, Failure> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        read => Ok(read?),
    }
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str, path: &Path) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::Envoy(format!("{}: {error}: {text}", path.display())))
}

/// Nanoseconds since 1970 of a time as Envoy writes it: `2026-11-25T00:32:43.019Z`.
fn time_of_day(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let hours: u64 = time.next()?.parse().ok()?;
    let minutes: u64 = time.next()?.parse().ok()?;
    let seconds: f64 = time.next()?.parse().ok()?;
    // Days since 1970 by the civil calendar, March first, so that leap days come last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1 - 719_468;
    let whole = (u64::try_from(days).ok()? * 24 + hours) * 3600 + minutes * 60;
    Some(whole * 1_000_000_000 + (seconds * 1e9).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day() {
        assert_eq!(time_of_day("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(
            time_of_day("2026-11-25T00:32:43.019Z"),
            Some(1_795_566_763_019_000_000)
        );
        assert_eq!(
            time_of_day("2024-02-29T23:59:59.5Z"),
            Some(1_709_251_199_500_000_000)
        );
        assert_eq!(time_of_day("yesterday"), None);
    }
}
