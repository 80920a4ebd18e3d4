//! Envoy's access log.

use crate::mapping::prefix;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// A line of the access log.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Line {
    /// Of the request; none of a TCP connection.
    pub(crate) id: Option<String>,
    /// The client's port.
    pub(crate) peer: Option<u16>,
    pub(crate) route: Option<String>,
    pub(crate) cluster: Option<String>,
    pub(crate) status: Option<u16>,
    pub(crate) flags: Option<String>,
    pub(crate) details: Option<String>,
    /// Why a connection was closed.
    pub(crate) termination: Option<String>,
    pub(crate) attempts: Option<u32>,
    pub(crate) endpoint: Option<String>,
}

impl Line {
    /// The cluster, by its own name.
    pub(crate) fn cluster(&self, config: usize) -> Option<String> {
        let name = self.cluster.as_deref()?;
        Some(
            name.strip_prefix(&prefix(config))
                .unwrap_or(name)
                .to_owned(),
        )
    }

    pub(crate) fn endpoint(&self) -> Option<SocketAddr> {
        self.endpoint.as_deref()?.parse().ok()
    }

    /// Without what Envoy adds about the transport.
    pub(crate) fn details(&self) -> String {
        let details = self.details.as_deref().or(self.termination.as_deref());
        let text = details.unwrap_or_default();
        match text.split_once('|') {
            Some((reason, _)) if text.ends_with('}') => format!("{reason}}}"),
            _ => text.to_owned(),
        }
    }
}

/// `typed_config` of the log that [`Lines`] reads.
pub(crate) fn access_log(path: &Path) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": path.display().to_string(),
        "log_format": { "json_format": {
            "id": "%REQ(X-REQUEST-ID)%",
            "peer": "%DOWNSTREAM_REMOTE_PORT%",
            "route": "%ROUTE_NAME%",
            "cluster": "%UPSTREAM_CLUSTER%",
            "status": "%RESPONSE_CODE%",
            "flags": "%RESPONSE_FLAGS%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "termination": "%CONNECTION_TERMINATION_DETAILS%",
            "attempts": "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
            "endpoint": "%UPSTREAM_HOST%",
        }},
    })
}

/// The log so far.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) by_id: BTreeMap<String, Line>,
    pub(crate) by_peer: BTreeMap<u16, Line>,
    /// Of samples: how often each id ended how.
    pub(crate) samples: BTreeMap<String, Vec<Line>>,
}

impl Lines {
    /// Reads the log at `path`; the last line may still be incomplete.
    pub(crate) fn read(path: &Path) -> std::io::Result<Lines> {
        let text = std::fs::read_to_string(path)?;
        let mut lines = Lines::default();
        for line in text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
        {
            let line: Line = serde_json::from_str(line)?;
            match &line.id {
                Some(id) if id.starts_with(crate::seen::SAMPLE) => {
                    lines.samples.entry(id.clone()).or_default().push(line);
                }
                Some(id) => {
                    lines.by_id.insert(id.clone(), line);
                }
                None => {
                    if let Some(peer) = line.peer {
                        lines.by_peer.insert(peer, line);
                    }
                }
            }
        }
        Ok(lines)
    }
}
