//! What a worker counts for the outlier detectors that look at whole intervals.

use super::Worker;
use super::response::Report;
use crate::cluster::Host;
use crate::contract::Out;
use crate::head::ResponseHead;
use crate::ids::ClusterId;
use crate::messages::{HostStatistics, Successes, ToMain};

impl Host {
    /// Counts a result; events of the proxy's own making apart if `split`.
    pub(super) fn count(&mut self, report: Report, split: bool) {
        let (Report::Status(status) | Report::LocalOrigin(status)) = report;
        match report {
            Report::LocalOrigin(_) if split => self.local_origin.count(false),
            _ => self.external.count(!(500..600).contains(&status)),
        }
    }
}

impl Worker {
    /// A host may say that it is degraded.
    pub(super) fn notice_degraded(
        &self,
        id: ClusterId,
        host: u32,
        head: &ResponseHead,
        out: &mut Out,
    ) {
        let cluster = self.cluster(id);
        let looks = cluster
            .config
            .outlier_detection
            .as_ref()
            .is_some_and(|config| config.detect_degraded_hosts);
        let host = &cluster.hosts[host as usize];
        if looks && host.listed && head.headers.get("x-envoy-degraded").is_some() {
            out.to_main.push(ToMain::Degraded {
                id,
                address: host.address,
            });
        }
    }

    /// Hands the counts over to the main machine, and starts new ones.
    pub(super) fn hand_over_statistics(&mut self, id: ClusterId, out: &mut Out) {
        let mut counted = Vec::new();
        for host in &mut self.cluster_mut(id).hosts {
            let external = std::mem::take(&mut host.external);
            let local_origin = std::mem::take(&mut host.local_origin);
            let any = external != Successes::default() || local_origin != Successes::default();
            if any && host.listed {
                counted.push(HostStatistics {
                    address: host.address,
                    external,
                    local_origin,
                });
            }
        }
        out.to_main.push(ToMain::Statistics { id, hosts: counted });
    }
}
