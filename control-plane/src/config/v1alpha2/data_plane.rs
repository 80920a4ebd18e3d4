//! The data planes of 2017.

/// What stood before applications in 2017, and read the rules of that year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlane {
    /// Envoy, told by Pilot of Istio 0.1 and 0.2.
    Envoy2017,
    /// Linkerd 1.1.1, which asked Pilot of Istio 0.1 for its rules.
    Linkerd111,
}

impl DataPlane {
    /// Each with its name.
    pub const NAMES: [(&'static str, DataPlane); 2] = [
        ("envoy-2017", DataPlane::Envoy2017),
        ("linkerd-1.1.1", DataPlane::Linkerd111),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            DataPlane::Envoy2017 => "envoy-2017",
            DataPlane::Linkerd111 => "linkerd-1.1.1",
        }
    }
}
