//! What a driver may say next.

use proptest::prelude::*;
use proxy_core::contract::*;
use proxy_core::xds::*;

#[derive(Clone, Debug)]
pub enum Step {
    Request {
        path: usize,
        downstream: u32,
        ends: bool,
    },
    RequestEnd(usize),
    BufferFull(usize),
    Cancel(usize),
    Connected(usize),
    Refused(usize),
    Closed(usize),
    GoAway(usize),
    Settings(usize, u32),
    Probed(usize, ProbeOutcome),
    Head {
        attempt: usize,
        status: u16,
        ends: bool,
    },
    End(usize),
    Reset(usize),
    Stale(usize),
    Wait(u64),
    Endpoints(u8),
    Breakers(u32),
    Policies {
        protocol: HttpProtocol,
        checks: usize,
        statistics: bool,
    },
    RemoveCluster,
    Routes,
    Leave,
}

pub fn step() -> impl Strategy<Value = Step> {
    let n = 0usize..64;
    prop_oneof![
        8 => (0usize..6, 0u32..2, any::<bool>())
            .prop_map(|(path, downstream, ends)| Step::Request { path, downstream, ends }),
        2 => n.clone().prop_map(Step::RequestEnd),
        1 => n.clone().prop_map(Step::BufferFull),
        1 => n.clone().prop_map(Step::Cancel),
        8 => n.clone().prop_map(Step::Connected),
        2 => n.clone().prop_map(Step::Refused),
        1 => n.clone().prop_map(Step::Closed),
        1 => n.clone().prop_map(Step::GoAway),
        1 => (n.clone(), 0u32..5).prop_map(|(conn, most)| Step::Settings(conn, most)),
        3 => (n.clone(), prop::sample::select(OUTCOMES.to_vec()))
            .prop_map(|(probe, outcome)| Step::Probed(probe, outcome)),
        8 => (n.clone(), prop::sample::select(vec![200, 503, 500, 409]), any::<bool>())
            .prop_map(|(attempt, status, ends)| Step::Head { attempt, status, ends }),
        4 => n.clone().prop_map(Step::End),
        2 => n.clone().prop_map(Step::Reset),
        2 => n.prop_map(Step::Stale),
        4 => (0u64..400).prop_map(Step::Wait),
        2 => (0u64..80).prop_map(Step::Wait),
        1 => (0u8..8).prop_map(Step::Endpoints),
        1 => (0u32..4).prop_map(Step::Breakers),
        2 => (prop::sample::select(PROTOCOLS.to_vec()), 0usize..3, any::<bool>()).prop_map(
            |(protocol, checks, statistics)| Step::Policies { protocol, checks, statistics }
        ),
        1 => Just(Step::RemoveCluster),
        1 => Just(Step::Routes),
        1 => Just(Step::Leave),
    ]
}

const PROTOCOLS: [HttpProtocol; 3] = [
    HttpProtocol::Http1,
    HttpProtocol::Http2,
    HttpProtocol::UseDownstream,
];

const OUTCOMES: [ProbeOutcome; 4] = [
    ProbeOutcome::Status(200),
    ProbeOutcome::Status(200),
    ProbeOutcome::Status(503),
    ProbeOutcome::Failed,
];
