//! A proxy that is asked what it is told, of a pod that no object has.

use control_plane::{ProxyIdentity, ProxyKind};

pub(crate) fn client(
    kind: ProxyKind,
    namespace: &str,
    labels: &[(&str, &str)],
    locality: &str,
) -> ProxyIdentity {
    let labels = labels.iter();
    ProxyIdentity {
        name: format!("client.{namespace}").into(),
        kind,
        namespace: namespace.into(),
        labels: labels.map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        ip: [10, 0, 0, 99].into(),
        locality: locality.into(),
    }
}
