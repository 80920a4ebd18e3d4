//! Response flags, response-code details and the access-log record.

use crate::ids::{ClusterId, DownstreamId, EndpointId, ExchangeId};
use crate::router::{Decision, TokenProblem};
use crate::time::Nanos;
use crate::xds::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// Envoy's response flags (`%RESPONSE_FLAGS%`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Flag {
    DC = 1,
    UH,
    UT,
    LR,
    UR,
    UF,
    UC,
    UO,
    URX,
    NR,
    DI,
    FI,
    UPE,
    NC,
    RL,
    SI,
    UMSDR,
    DO,
    UDO,
}

impl Flag {
    /// Every flag.
    pub const ALL: [Flag; 19] = [
        Flag::DC,
        Flag::UH,
        Flag::UT,
        Flag::LR,
        Flag::UR,
        Flag::UF,
        Flag::UC,
        Flag::UO,
        Flag::URX,
        Flag::NR,
        Flag::DI,
        Flag::FI,
        Flag::UPE,
        Flag::NC,
        Flag::RL,
        Flag::SI,
        Flag::UMSDR,
        Flag::DO,
        Flag::UDO,
    ];

    /// The short name that Envoy prints.
    pub fn as_str(self) -> &'static str {
        match self {
            Flag::DC => "DC",
            Flag::UH => "UH",
            Flag::UT => "UT",
            Flag::LR => "LR",
            Flag::UR => "UR",
            Flag::UF => "UF",
            Flag::UC => "UC",
            Flag::UO => "UO",
            Flag::URX => "URX",
            Flag::NR => "NR",
            Flag::DI => "DI",
            Flag::FI => "FI",
            Flag::UPE => "UPE",
            Flag::NC => "NC",
            Flag::RL => "RL",
            Flag::SI => "SI",
            Flag::UMSDR => "UMSDR",
            Flag::DO => "DO",
            Flag::UDO => "UDO",
        }
    }
}

/// Up to twelve flags in the order in which they were set, as Envoy prints them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Flags(pub u64);

impl Flags {
    const BITS: u32 = 5;

    /// Adds `flag` at the end unless it is set already.
    pub fn set(&mut self, flag: Flag) {
        let mut shift = 0;
        while shift < 60 {
            let code = (self.0 >> shift) & 31;
            if code == flag as u64 {
                return;
            }
            if code == 0 {
                self.0 |= (flag as u64) << shift;
                return;
            }
            shift += Self::BITS;
        }
    }

    /// Whether `flag` is set.
    pub fn has(self, flag: Flag) -> bool {
        self.iter().any(|f| f == flag)
    }

    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order set.
    pub fn iter(self) -> impl Iterator<Item = Flag> {
        (0..12).map_while(move |i| {
            let code = (self.0 >> (i * Self::BITS)) & 31;
            (code != 0).then(|| Flag::ALL[code as usize - 1])
        })
    }
}

impl fmt::Display for Flags {
    /// Comma-joined, `-` if none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (i, flag) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.as_str())?;
        }
        Ok(())
    }
}

/// Why a response is what it is (`%RESPONSE_CODE_DETAILS%`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Details {
    ViaUpstream,
    DirectResponse,
    RouteNotFound,
    ClusterNotFound,
    NoHealthyUpstream,
    ResponseTimeout,
    UpstreamPerTryTimeout,
    UpstreamPerTryIdleTimeout,
    UpstreamMaxStreamDurationReached,
    MaxDurationTimeout,
    StreamIdleTimeout,
    RetryBufferExceeded,
    FaultFilterAbort,
    CorsResponse,
    LocalRateLimited,
    /// By Mixer, with that `google.rpc.Code`. Proxies of its time had no details: this is ours.
    MixerDenied(u32),
    DropOverload,
    UnconditionalDropOverload,
    PathNormalizationFailed,
    DownstreamRemoteDisconnect,
    JwtAuthnAccessDenied(TokenProblem),
    /// By that policy; `None`: no policy allows it.
    RbacAccessDenied(Option<Name>),
    ResetBeforeResponse(UpstreamReset),
    ResetAfterResponse(UpstreamReset),
}

/// The reset reasons of Envoy's router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum UpstreamReset {
    RemoteConnectionFailure,
    LocalConnectionFailure,
    ConnectionTimeout,
    ConnectionTermination,
    RemoteReset,
    RemoteRefusedStreamReset,
    LocalReset,
    ProtocolError,
    Overflow,
}

impl UpstreamReset {
    /// As in the body of the local reply.
    pub fn as_str(self) -> &'static str {
        match self {
            UpstreamReset::RemoteConnectionFailure => "remote connection failure",
            UpstreamReset::LocalConnectionFailure => "local connection failure",
            UpstreamReset::ConnectionTimeout => "connection timeout",
            UpstreamReset::ConnectionTermination => "connection termination",
            UpstreamReset::RemoteReset => "remote reset",
            UpstreamReset::RemoteRefusedStreamReset => "remote refused stream reset",
            UpstreamReset::LocalReset => "local reset",
            UpstreamReset::ProtocolError => "protocol error",
            UpstreamReset::Overflow => "overflow",
        }
    }
}

impl fmt::Display for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = match self {
            Details::ViaUpstream => "via_upstream",
            Details::DirectResponse => "direct_response",
            Details::RouteNotFound => "route_not_found",
            Details::ClusterNotFound => "cluster_not_found",
            Details::NoHealthyUpstream => "no_healthy_upstream",
            Details::ResponseTimeout => "response_timeout",
            Details::UpstreamPerTryTimeout => "upstream_per_try_timeout",
            Details::UpstreamPerTryIdleTimeout => "upstream_per_try_idle_timeout",
            Details::UpstreamMaxStreamDurationReached => "upstream_max_stream_duration_reached",
            Details::MaxDurationTimeout => "max_duration_timeout",
            Details::StreamIdleTimeout => "stream_idle_timeout",
            Details::RetryBufferExceeded => "request_payload_exceeded_retry_buffer_limit",
            Details::FaultFilterAbort => "fault_filter_abort",
            Details::CorsResponse => "cors_response",
            Details::LocalRateLimited => "local_rate_limited",
            Details::DropOverload => "drop_overload",
            Details::UnconditionalDropOverload => "unconditional_drop_overload",
            Details::PathNormalizationFailed => "path_normalization_failed",
            Details::DownstreamRemoteDisconnect => "downstream_remote_disconnect",
            Details::JwtAuthnAccessDenied(problem) => {
                let why = problem.as_str().replace(' ', "_");
                return write!(f, "jwt_authn_access_denied{{{why}}}");
            }
            Details::MixerDenied(code) => return write!(f, "mixer_denied{{{code}}}"),
            Details::RbacAccessDenied(policy) => {
                let policy = policy.as_deref().unwrap_or("none");
                return write!(f, "rbac_access_denied_matched_policy[{policy}]");
            }
            Details::ResetBeforeResponse(reset) => {
                return write!(
                    f,
                    "upstream_reset_before_response_started{{{}}}",
                    reset.as_str().replace(' ', "_")
                );
            }
            Details::ResetAfterResponse(reset) => {
                return write!(
                    f,
                    "upstream_reset_after_response_started{{{}}}",
                    reset.as_str().replace(' ', "_")
                );
            }
        };
        f.write_str(plain)
    }
}

/// What one exchange left behind. Ids are the worker's own; it tells the names behind them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessLog {
    pub exchange: ExchangeId,
    pub downstream: DownstreamId,
    pub key: u64,
    /// When the head of the request was complete.
    pub started_at: Nanos,
    /// Until the response (or the reset) was complete.
    pub duration: Nanos,
    /// 0 if the client left before a response.
    pub status: u16,
    pub flags: Flags,
    pub details: Details,
    /// What routing made of the request; `None` when the client left before that.
    pub decision: Option<Arc<Decision>>,
    /// Index of the chosen entry among the route's weighted clusters.
    pub weighted_choice: u32,
    /// The cluster chosen, known or not to the worker.
    pub cluster: Option<ClusterId>,
    /// The last endpoint chosen; none where the queue before its connections was full.
    pub endpoint: Option<EndpointId>,
    /// Tries that came as far as choosing an endpoint (`%UPSTREAM_REQUEST_ATTEMPT_COUNT%`).
    pub attempts: u32,
}
