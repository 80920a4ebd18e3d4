//! One cluster as the main machine runs it: its hosts, who judges them, and what the workers are
//! told.

use super::members::{Members, Moves};
use crate::contract::{Out, ProbeOutcome, StateChange, WorkerSet};
use crate::ids::{ClusterId, ProbeId};
use crate::messages::{HostStatistics, ToMain, ToWorker};
use crate::random::Draws;
use crate::resilience::health_check::{Checked, Checker};
use crate::resilience::outlier::{Detector, Standing, Verdicts};
use crate::time::Nanos;
use crate::xds::{Cluster, LoadAssignment};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a cluster needs of the machine it runs on.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) draws: Draws,
    pub(super) workers: u32,
    /// Of the next health check.
    pub(super) next_probe: u64,
}

/// One version of a cluster.
#[derive(Debug)]
pub(super) struct RunningCluster {
    id: ClusterId,
    pub(super) config: Arc<Cluster>,
    /// `None` until discovery has spoken.
    members: Option<Members>,
    detector: Option<Box<Detector>>,
    checker: Option<Box<Checker>>,
    /// The workers have it.
    warm: bool,
    /// Results of health checks to wait for before it is warm.
    first_checks: usize,
    /// Workers that have not handed over yet what they counted.
    collecting: u32,
}

impl RunningCluster {
    pub(super) fn new(id: ClusterId, config: Arc<Cluster>, now: Nanos) -> RunningCluster {
        let detector = config.outlier_detection.as_ref();
        let detector = detector.map(|d| Box::new(Detector::new(id, &config.name, d.clone(), now)));
        let checked = !config.health_checks.is_empty();
        RunningCluster {
            id,
            members: None,
            detector,
            checker: checked.then(|| Box::new(Checker::new(id, Arc::clone(&config)))),
            config,
            warm: false,
            first_checks: 0,
            collecting: 0,
        }
    }

    /// What discovery said last.
    pub(super) fn discovered(&self) -> Option<Arc<LoadAssignment>> {
        self.members.as_ref().map(|m| Arc::clone(&m.discovered))
    }

    /// Whether an earlier version had connections.
    pub(super) fn inherit(&mut self, older: &RunningCluster) {
        if let (Some(checker), Some(older)) = (&mut self.checker, &older.checker) {
            checker.used = older.used;
        }
    }

    /// It has endpoints, and their first health checks are over.
    pub(super) fn is_ready(&self) -> bool {
        self.members.is_some() && self.first_checks == 0
    }

    /// The workers are to use it from now on.
    pub(super) fn hand_over(&mut self, out: &mut Out) {
        self.warm = true;
        tell(
            out,
            ToWorker::Cluster {
                id: self.id,
                cluster: Arc::clone(&self.config),
            },
        );
        out.changes.push(StateChange::Warmed { cluster: self.id });
        if let Some(members) = &mut self.members {
            members.deliver_all(self.id, &mut |message| tell(out, message));
        }
    }

    pub(super) fn deadline(&self) -> Option<Nanos> {
        let members = self.members.as_ref().and_then(Members::deadline);
        let detector = self.detector.as_deref().map(Detector::deadline);
        let checker = self.checker.as_deref().and_then(Checker::deadline);
        [members, detector, checker].into_iter().flatten().min()
    }

    /// Discovery's word on its endpoints.
    pub(super) fn assign(
        &mut self,
        now: Nanos,
        assignment: &Arc<LoadAssignment>,
        around: &Surroundings,
        out: &mut Out,
    ) {
        let first = self.members.is_none();
        let config = &self.config;
        let members = self
            .members
            .get_or_insert_with(|| Members::new(Arc::clone(config)));
        if !first && members.discovered == *assignment {
            return;
        }
        let moves = members.assign(now, Arc::clone(assignment));
        self.moved(now, moves, around, out);
        if let Some(members) = &mut self.members
            && first
            && self.checker.is_some()
        {
            self.first_checks = members.len();
        }
    }

    fn moved(&mut self, now: Nanos, moves: Moves, around: &Surroundings, out: &mut Out) {
        let Some(members) = &mut self.members else {
            return;
        };
        for &address in &moves.removed {
            if let Some(detector) = &mut self.detector {
                detector.remove(address);
            }
            if let Some(checker) = &mut self.checker {
                checker.remove(address);
            }
        }
        for &address in &moves.added {
            if let Some(detector) = &mut self.detector {
                detector.add(address);
            }
            if let Some(checker) = &mut self.checker {
                let mutual_tls = members.speaks_mutual_tls(address);
                checker.add(now, address, mutual_tls, &around.draws);
            }
        }
        self.deliver(&moves.due, out);
    }

    fn deliver(&mut self, due: &[u32], out: &mut Out) {
        if let Some(members) = &mut self.members
            && self.warm
        {
            members.deliver(self.id, due, &mut |message| tell(out, message));
        }
    }

    pub(super) fn tick(&mut self, now: Nanos, around: &mut Surroundings, out: &mut Out) {
        if let Some(members) = &mut self.members {
            let due = members.tick(now);
            self.deliver(&due, out);
        }
        if let Some(checker) = &mut self.checker {
            let draws = around.draws;
            for checked in checker.tick(now, &draws, &mut around.next_probe, out) {
                self.checked(now, checked, around, out);
            }
        }
        if let Some(detector) = &mut self.detector
            && detector.deadline() <= now
        {
            let mut verdicts = Verdicts::default();
            detector.begin_sweep(now, &mut verdicts);
            let collects = detector.counts() && self.warm;
            self.act_on(now, verdicts, out);
            if collects {
                self.collecting = around.workers;
                tell(out, ToWorker::CollectStatistics { id: self.id });
            } else {
                self.end_sweep(now, around, out);
            }
        }
    }

    fn end_sweep(&mut self, now: Nanos, around: &Surroundings, out: &mut Out) {
        if let Some(detector) = &mut self.detector {
            let mut verdicts = Verdicts::default();
            detector.end_sweep(now, &around.draws, &mut verdicts);
            self.act_on(now, verdicts, out);
        }
    }

    /// What a worker has to say.
    pub(super) fn told(
        &mut self,
        now: Nanos,
        message: ToMain,
        around: &Surroundings,
        out: &mut Out,
    ) {
        let mut verdicts = Verdicts::default();
        match (message, &mut self.detector) {
            (
                ToMain::Outlier {
                    address, reason, ..
                },
                Some(detector),
            ) => detector.detected(now, address, reason, &around.draws, &mut verdicts),
            (ToMain::Degraded { address, .. }, Some(detector)) => {
                detector.degraded(now, address, &mut verdicts);
            }
            (ToMain::Statistics { hosts, .. }, Some(_)) => {
                return self.counted(now, &hosts, around, out);
            }
            (ToMain::Used { .. }, _) => {
                if let Some(checker) = &mut self.checker {
                    checker.used = true;
                }
            }
            (_, None) => {}
        }
        self.act_on(now, verdicts, out);
    }

    fn counted(
        &mut self,
        now: Nanos,
        hosts: &[HostStatistics],
        around: &Surroundings,
        out: &mut Out,
    ) {
        if self.collecting == 0 {
            return;
        }
        if let Some(detector) = &mut self.detector {
            detector.counted(hosts);
        }
        self.collecting -= 1;
        if self.collecting == 0 {
            self.end_sweep(now, around, out);
        }
    }

    fn act_on(&mut self, now: Nanos, verdicts: Verdicts, out: &mut Out) {
        let id = self.id;
        for (address, which) in verdicts.reset {
            tell(out, ToWorker::ResetCounters { id, address, which });
        }
        for (address, standing) in verdicts.hosts {
            let Some(members) = &mut self.members else {
                continue;
            };
            if let Some(member) = members.get_mut(address) {
                match standing {
                    Standing::Ejected => member.ejected = true,
                    Standing::Unejected => member.ejected = false,
                    Standing::Degraded => member.degraded = true,
                    Standing::Undegraded => member.degraded = false,
                }
            }
            let due = members.health_changed(now);
            self.deliver(&due, out);
            if standing == Standing::Ejected {
                self.drain(address, out);
            }
        }
        out.changes.extend(verdicts.changes);
    }

    /// The answer to a health check.
    pub(super) fn probed(
        &mut self,
        now: Nanos,
        probe: ProbeId,
        outcome: ProbeOutcome,
        around: &Surroundings,
        out: &mut Out,
    ) {
        let checker = self.checker.as_mut();
        let checked = checker.and_then(|c| c.answered(now, probe, outcome, &around.draws));
        if let Some(checked) = checked {
            self.checked(now, checked, around, out);
        }
    }

    fn checked(&mut self, now: Nanos, checked: Checked, around: &Surroundings, out: &mut Out) {
        let address = checked.address;
        let Some(member) = self.members.as_mut().and_then(|m| m.get_mut(address)) else {
            return;
        };
        let failed = !checked.healthy;
        let turned = std::mem::replace(&mut member.failed_check, failed) != failed;
        let changed = std::mem::take(&mut member.unchecked) || turned;
        let comes_back = checked.passed && !failed && member.ejected;
        if turned {
            out.changes.push(StateChange::HealthChecked {
                cluster: self.id,
                address,
                healthy: checked.healthy,
            });
        }
        if changed {
            self.health_checked(now, address, failed && turned, around, out);
        }
        if comes_back
            && let Some(detector) = &mut self.detector
            && detector.takes_passing_checks()
        {
            let mut verdicts = Verdicts::default();
            detector.passed_check(now, address, &mut verdicts);
            self.act_on(now, verdicts, out);
        }
        self.first_checks = self.first_checks.saturating_sub(1);
    }

    fn health_checked(
        &mut self,
        now: Nanos,
        address: SocketAddr,
        turned_bad: bool,
        around: &Surroundings,
        out: &mut Out,
    ) {
        let Some(members) = &mut self.members else {
            return;
        };
        // A host that only its passing checks kept leaves now that they fail.
        if turned_bad && !members.discovers(address) {
            let discovered = Arc::clone(&members.discovered);
            let moves = members.assign(now, discovered);
            return self.moved(now, moves, around, out);
        }
        let due = members.health_changed(now);
        self.deliver(&due, out);
        if turned_bad {
            self.drain(address, out);
        }
    }

    fn drain(&mut self, address: SocketAddr, out: &mut Out) {
        if let Some(members) = &mut self.members
            && self.warm
        {
            members.drain(self.id, address, &mut |message| tell(out, message));
        }
    }
}

pub(super) fn tell(out: &mut Out, message: ToWorker) {
    out.to_workers.push((WorkerSet::All, message));
}
