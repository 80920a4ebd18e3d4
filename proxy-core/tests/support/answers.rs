//! What became of requests.

use super::*;

impl World {
    pub fn log(&self, key: u64) -> &AccessLog {
        &self.logs.iter().find(|(_, log)| log.key == key).unwrap().1
    }

    /// Status, flags, details and end (ms) of the exchange with that key.
    pub fn outcome(&self, key: u64) -> (u16, String, String, u64) {
        let log = self.log(key);
        (
            log.status,
            log.flags.to_string(),
            log.details.to_string(),
            (log.started_at + log.duration).as_millis(),
        )
    }

    pub fn short(&self, key: u64) -> (u16, String) {
        let (status, flags, ..) = self.outcome(key);
        (status, flags)
    }

    pub fn response(&self, key: u64) -> (&ResponseHead, String) {
        let id = self.log(key).exchange;
        let (_, head, body) = self.responses.iter().find(|r| r.0 == id).unwrap();
        let text = match body {
            Body::Local(text) => text.to_string(),
            Body::Empty => String::new(),
            Body::Relay(_) => "relayed".into(),
        };
        (head, text)
    }

    pub fn host_of(&self, key: u64) -> u16 {
        let endpoint = self.log(key).endpoint.unwrap();
        let address = self.proxy.worker(0).endpoint_address(endpoint).unwrap();
        match address {
            SocketAddr::V4(v4) => u16::from(v4.ip().octets()[3]),
            SocketAddr::V6(_) => unreachable!(),
        }
    }

    /// When the endpoint was sent to, in ms.
    pub fn sent_to(&self, host: u8) -> Vec<u64> {
        self.sent
            .iter()
            .filter(|sent| sent.1 == address(host))
            .map(|sent| sent.0.as_millis())
            .collect()
    }

    pub fn connects(&self) -> usize {
        let connect = |a: &&(Nanos, Action)| matches!(a.1, Action::Connect { .. });
        self.actions.iter().filter(connect).count()
    }

    /// What attempts were told of their time (`x-envoy-expected-rq-timeout-ms`).
    pub fn expected_timeouts(&self) -> Vec<u64> {
        let told = |(_, action): &(Nanos, Action)| match action {
            Action::Send {
                expected_timeout_ms,
                ..
            } => Some(*expected_timeout_ms),
            _ => None,
        };
        self.actions.iter().filter_map(told).collect()
    }

    /// Attempts given up.
    pub fn cancelled(&self) -> usize {
        let cancel = |a: &&(Nanos, Action)| matches!(a.1, Action::Cancel { .. });
        self.actions.iter().filter(cancel).count()
    }

    pub fn header(&self, key: u64, name: &str) -> Option<String> {
        let value = self.response(key).0.headers.get(name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// When connections were opened, and when closed by the proxy, in ms.
    pub fn opened_and_closed(&self) -> (Vec<u64>, Vec<u64>) {
        let at = |wanted: fn(&Action) -> bool| {
            let found = self.actions.iter().filter(|a| wanted(&a.1));
            found.map(|a| a.0.as_millis()).collect()
        };
        (
            at(|action| matches!(action, Action::Connect { .. })),
            at(|action| matches!(action, Action::CloseConn { .. })),
        )
    }

    /// When a host was checked, in ms.
    pub fn checked(&self, host: u8) -> Vec<u64> {
        let of_host = |action: &Action| matches!(action, Action::Probe { probe, .. } if probe.address == address(host));
        let found = self.actions.iter().filter(|a| of_host(&a.1));
        found.map(|a| a.0.as_millis()).collect()
    }

    /// When hosts were ejected (and for what), and when they came back: time in ms, host.
    pub fn ejections(&self) -> Vec<(u64, u8, Option<EjectionReason>)> {
        let host = |address: &SocketAddr| match address {
            SocketAddr::V4(v4) => v4.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!(),
        };
        let found = self.changes.iter().filter_map(|(at, change)| match change {
            StateChange::Ejected {
                address, reason, ..
            } => Some((at.as_millis(), host(address), Some(*reason))),
            StateChange::Unejected { address, .. } => Some((at.as_millis(), host(address), None)),
            _ => None,
        });
        found.collect()
    }

    pub fn slots(&self) -> [u64; 4] {
        self.proxy.worker(0).slots_taken()
    }
}
