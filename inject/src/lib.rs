//! Which pods of manifests get a proxy and why, what it captures, and the manifests that injection
//! leaves. Whether a pod gets one is decided by [`control_plane::injection`].
//!
//! | module | holds |
//! |---|---|
//! | `documents` | the pods and namespaces of manifests, and the injector's configuration |
//! | `captured` | what of a pod's traffic goes through its sidecar |
//! | `report` | a line for each pod, with the place of what decided |
//! | `sidecar`, `redirecting`, `volumes` | what Istio 1.32 adds to a pod |
//! | `linkerd` | what `linkerd-inject` of 2017 adds |
//! | `manifest` | manifests with that |
//! | `edit`, `yaml` | additions to a text that leave the rest as it was written |

mod captured;
mod documents;
mod edit;
mod linkerd;
mod manifest;
mod redirecting;
mod report;
mod sidecar;
mod volumes;
mod yaml;

pub use captured::{Captured, Setting};
pub use documents::Manifests;
pub use linkerd::LinkerdInject;
pub use manifest::{Injection, Made, PodMade, manifest};
pub use report::{Place, PodReport, survey};
