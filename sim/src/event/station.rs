//! An application as a queueing station: workers, a queue, and the work in progress.

use crate::distribution::Distribution;
use crate::plan::{Plan, PlanBehavior, PlanChange, PlanScript};
use crate::random::{Purpose, WorldDraws};
use proxy_core::time::Nanos;
use scenarios::model::Discipline;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Deref;
use std::sync::Arc;

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    Starts,
    Waits,
    /// The queue is full.
    Refused,
}

/// The application of one pod. `B` holds its behaviour.
#[derive(Debug)]
pub struct Station<B> {
    pub behavior: B,
    pub(crate) draws: WorldDraws,
    /// What differs from the behaviour as planned.
    change: Option<Box<PlanChange>>,
    workers: u32,
    busy: u32,
    /// Jobs.
    queue: VecDeque<u32>,
    /// Under processor sharing.
    pub(crate) sharing: Option<Box<Sharing>>,
    /// Worker time spent since the warm-up.
    busy_ns: u64,
    counted_until: Nanos,
}

impl<B: Deref<Target = PlanBehavior>> Station<B> {
    pub(crate) fn new(behavior: B, draws: WorldDraws, warmup: Nanos) -> Station<B> {
        let sharing = behavior.discipline == Discipline::ProcessorSharing;
        Station {
            workers: behavior.workers,
            behavior,
            draws,
            change: None,
            busy: 0,
            queue: VecDeque::new(),
            sharing: sharing.then(Box::default),
            busy_ns: 0,
            counted_until: warmup,
        }
    }

    /// All work is lost.
    pub fn clear(&mut self, now: Nanos) {
        self.count_time(now);
        self.busy = 0;
        self.queue.clear();
        if let Some(sharing) = &mut self.sharing {
            sharing.clear();
        }
    }

    /// A change of behaviour; what it leaves out stays.
    pub fn change(&mut self, change: &PlanChange) {
        let own = self.change.get_or_insert_default();
        own.service_time = change.service_time.clone().or(own.service_time.take());
        own.slower_by = change.slower_by.or(own.slower_by);
        own.respond = change.respond.clone().or(own.respond.take());
        self.workers = change.workers.unwrap_or(self.workers);
    }

    /// What `change` changed is as planned again.
    pub fn restore(&mut self, change: &PlanChange) {
        let own = self.change.get_or_insert_default();
        if change.service_time.is_some() {
            own.service_time = None;
        }
        if change.slower_by.is_some() {
            own.slower_by = None;
        }
        if change.respond.is_some() {
            own.respond = None;
        }
        if change.workers.is_some() {
            self.workers = self.behavior.workers;
        }
    }

    /// Whether all jobs share the workers.
    pub(crate) fn shares(&self) -> bool {
        self.sharing.is_some()
    }

    pub(crate) fn workers(&self) -> u32 {
        self.workers
    }

    /// A job arrives.
    pub fn admit(&mut self, now: Nanos, job: u32) -> Admission {
        if self.shares() || self.busy < self.workers {
            self.count_time(now);
            self.busy += 1;
            return Admission::Starts;
        }
        let full = self
            .behavior
            .queue_limit
            .is_some_and(|most| self.queue.len() >= most as usize);
        if full {
            return Admission::Refused;
        }
        self.queue.push_back(job);
        Admission::Waits
    }

    /// A worker is free: the job that starts on it, if one waits.
    pub fn release(&mut self, now: Nanos) -> Option<u32> {
        self.count_time(now);
        self.busy -= 1;
        self.next_waiting()
    }

    /// Starts a waiting job if a worker is free.
    pub fn next_waiting(&mut self) -> Option<u32> {
        if self.busy >= self.workers {
            return None;
        }
        let next = match self.behavior.discipline {
            Discipline::Lifo => self.queue.pop_back(),
            Discipline::Fifo | Discipline::ProcessorSharing => self.queue.pop_front(),
        }?;
        self.busy += 1;
        Some(next)
    }

    /// The work for a request.
    #[inline]
    pub fn service_time(&self, script: u32, key: u64) -> Nanos {
        let change = self.change.as_deref();
        let own = change.and_then(|change| change.service_time.as_ref());
        let distribution: &Distribution =
            own.unwrap_or(&self.behavior.scripts[script as usize].1.service_time);
        let time = distribution.sample(self.draws, key, Purpose::ServiceTime);
        match change.and_then(|change| change.slower_by) {
            None => time,
            Some(factor) => Nanos(libm::round(time.0 as f64 * factor) as u64),
        }
    }

    /// The status of the answer.
    #[inline]
    pub fn status(&self, script: u32, key: u64) -> u16 {
        let own = self
            .change
            .as_ref()
            .and_then(|change| change.respond.as_ref());
        let respond = own.unwrap_or(&self.behavior.scripts[script as usize].1.respond);
        if respond.is_empty() {
            return 200;
        }
        let value = self.draws.bits(key, Purpose::Status, 0) % 1_000_000;
        let mut sum = 0;
        for &(status, ppm) in respond {
            sum += u64::from(ppm);
            if value < sum {
                return status;
            }
        }
        200
    }

    fn count_time(&mut self, now: Nanos) {
        let span = now - self.counted_until;
        self.busy_ns += span.0 * u64::from(self.busy.min(self.workers));
        self.counted_until = self.counted_until.max(now);
    }

    /// The share of the workers' time that was spent by `end`; `None` if the workers are as good as
    /// unlimited.
    pub(crate) fn utilisation(&mut self, warmup: Nanos, end: Nanos) -> Option<f64> {
        self.count_time(end);
        let whole = (end - warmup).0 * u64::from(self.workers);
        let limited = self.workers < scenarios::model::Behavior::BUILT_IN_WORKERS;
        (limited && whole > 0).then(|| self.busy_ns as f64 / whole as f64)
    }
}

impl Station<Arc<PlanBehavior>> {
    /// The application of a pod of `plan`, in the run with `seed`.
    pub fn of_pod(plan: &Plan, pod: u32, seed: u64) -> Station<Arc<PlanBehavior>> {
        let workload = &plan.workloads[plan.pods[pod as usize].workload as usize];
        let draws = WorldDraws::new(seed, &workload.full_name());
        Station::new(Arc::new(workload.behavior.clone()), draws, plan.warmup)
    }
}

impl<'p> Station<&'p PlanBehavior> {
    pub(crate) fn script(&self, script: u32) -> &'p PlanScript {
        &self.behavior.scripts[script as usize].1
    }
}

/// Jobs that share a station's workers. Each gets the same part of them, one worker at most; the
/// work done for each since the beginning of time is a clock, and a job is done when that clock
/// shows its arrival plus its size.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// Nanoseconds of work done for each job that was there all the time.
    clock_ns: f64,
    read_at: Nanos,
    /// By what the clock shows at their end (its bits order as it does), then by arrival.
    jobs: BinaryHeap<Reverse<(u64, u64, u32)>>,
    arrivals: u64,
    /// Counts changes: earlier forecasts are void.
    pub(crate) epoch: u32,
}

impl Sharing {
    fn clear(&mut self) {
        self.jobs.clear();
        self.epoch += 1;
    }

    fn advance(&mut self, now: Nanos, workers: u32) {
        if !self.jobs.is_empty() {
            self.clock_ns += (now - self.read_at).0 as f64 * self.speed(workers);
        }
        self.read_at = now;
    }

    fn speed(&self, workers: u32) -> f64 {
        (f64::from(workers) / self.jobs.len() as f64).min(1.0)
    }

    pub(crate) fn add(&mut self, now: Nanos, workers: u32, job: u32, work: Nanos) {
        self.advance(now, workers);
        let end = self.clock_ns + work.0 as f64;
        self.arrivals += 1;
        self.jobs.push(Reverse((end.to_bits(), self.arrivals, job)));
        self.epoch += 1;
    }

    /// When the next job is done, if nothing changes before.
    pub(crate) fn next_done_at(&self, workers: u32) -> Option<Nanos> {
        let Reverse((end, _, _)) = self.jobs.peek()?;
        let left_ns = (f64::from_bits(*end) - self.clock_ns).max(0.0) / self.speed(workers);
        Some(self.read_at + Nanos(libm::ceil(left_ns) as u64))
    }

    /// Takes the job that is done at `now`.
    pub(crate) fn take_done(&mut self, now: Nanos, workers: u32) -> Option<u32> {
        self.advance(now, workers);
        self.epoch += 1;
        self.jobs.pop().map(|Reverse((_, _, job))| job)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_splits_the_workers() {
        let mut sharing = Sharing::default();
        // One worker: 10 alone, then two at half speed.
        sharing.add(Nanos(0), 1, 1, Nanos(30));
        assert_eq!(sharing.next_done_at(1), Some(Nanos(30)));
        sharing.add(Nanos(10), 1, 2, Nanos(5));
        assert_eq!(sharing.next_done_at(1), Some(Nanos(20)));
        assert_eq!(sharing.take_done(Nanos(20), 1), Some(2));
        assert_eq!(sharing.next_done_at(1), Some(Nanos(35)));
        // Two workers: nobody is faster than one worker.
        let mut sharing = Sharing::default();
        sharing.add(Nanos(0), 2, 1, Nanos(30));
        assert_eq!(sharing.next_done_at(2), Some(Nanos(30)));
    }
}
