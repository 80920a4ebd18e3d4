//! What applications do for a request: wait for a worker, work, call others, answer.

use super::World;
use super::clients::CallFor;
use super::schedule::{Event, Requester};
use super::station::Admission;
use crate::plan::PlanCall;
use crate::random::Purpose;
use proxy_core::head::RequestHead;
use proxy_core::random::mix;
use proxy_core::time::Nanos;
use scenarios::model::OnError;
use std::sync::Arc;

/// A request at an application.
#[derive(Debug)]
pub(super) struct Job {
    station: u32,
    requester: Requester,
    key: u64,
    head: Arc<RequestHead>,
    script: u32,
    arrived_at: Nanos,
    /// The next step of calls.
    step: u32,
    /// Calls of the step not answered yet.
    outstanding: u32,
    /// A call that must not fail has failed.
    failed: bool,
    holds_worker: bool,
}

impl<'p> World<'p, '_> {
    #[inline]
    pub(super) fn request_for_station(
        &mut self,
        station: u32,
        requester: Requester,
        key: u64,
        head: Arc<RequestHead>,
    ) {
        if self.pods.get(station as usize).is_some_and(|pod| !pod.up) {
            // A proxy hears of it by its connection.
            if let Requester::Call { .. } = requester {
                self.answer_from(Some(station), requester, None, key);
            }
            return;
        }
        let now = self.queue.now();
        let script = self.stations[station as usize]
            .behavior
            .script_for(&head.path);
        let job = Job {
            station,
            requester,
            key,
            head,
            script,
            arrived_at: now,
            step: 0,
            outstanding: 0,
            failed: false,
            holds_worker: false,
        };
        let (job, _) = self.jobs.insert(job);
        match self.stations[station as usize].admit(now, job) {
            Admission::Starts => self.start_work(job),
            Admission::Waits => {}
            Admission::Refused => self.finish_job(job, 503),
        }
    }

    #[inline]
    fn start_work(&mut self, job: u32) {
        let now = self.queue.now();
        let generation = self.jobs.generation(job);
        let state = &mut self.jobs[job];
        state.holds_worker = true;
        let (number, key) = (state.station, state.key);
        let station = &mut self.stations[number as usize];
        let work = station.service_time(state.script, key);
        let workers = station.workers();
        if let Some(sharing) = &mut station.sharing {
            sharing.add(now, workers, job, work);
            self.forecast(number);
        } else {
            self.queue
                .at(now + work, Event::WorkDone { job, generation });
        }
    }

    /// Schedules the end of the next job of a station whose jobs share its workers.
    fn forecast(&mut self, station: u32) {
        let state = &self.stations[station as usize];
        let Some(sharing) = &state.sharing else {
            return;
        };
        if let Some(at) = sharing.next_done_at(state.workers()) {
            let epoch = sharing.epoch;
            self.queue.at(at, Event::SharedWorkDone { station, epoch });
        }
    }

    pub(super) fn shared_work_done(&mut self, station: u32, epoch: u32) {
        let now = self.queue.now();
        let state = &mut self.stations[station as usize];
        let workers = state.workers();
        let Some(sharing) = state
            .sharing
            .as_mut()
            .filter(|sharing| sharing.epoch == epoch)
        else {
            return;
        };
        let done = sharing.take_done(now, workers);
        self.forecast(station);
        if let Some(job) = done {
            self.work_done(job);
        }
    }

    #[inline]
    pub(super) fn work_done(&mut self, job: u32) {
        let state = &self.jobs[job];
        let (station, script) = (state.station, state.script);
        let behavior = self.stations[station as usize].behavior;
        if behavior.scripts[script as usize].1.steps.is_empty() {
            let status = self.stations[station as usize].status(script, self.jobs[job].key);
            return self.finish_job(job, status);
        }
        if behavior.asynchronous || self.stations[station as usize].shares() {
            self.release_worker(job);
        }
        self.next_step(job);
    }

    /// Makes the calls of the next step, or answers after the last.
    fn next_step(&mut self, job: u32) {
        loop {
            let state = &mut self.jobs[job];
            let (station, script, key) = (state.station, state.script, state.key);
            let script = self.stations[station as usize].script(script);
            let failed = state.failed;
            let Some(calls) = script.steps.get(state.step as usize).filter(|_| !failed) else {
                let status = match failed {
                    true => 500,
                    false => self.stations[station as usize].status(state.script, key),
                };
                return self.finish_job(job, status);
            };
            state.step += 1;
            let step = u64::from(state.step);
            let made: Vec<u32> = (0u32..)
                .zip(calls)
                .filter(|(number, call)| {
                    let draws = self.stations[station as usize].draws;
                    let n = step << 32 | u64::from(*number);
                    call.probability_ppm >= 1_000_000
                        || draws.bits(key, Purpose::CallProbability, n) % 1_000_000
                            < u64::from(call.probability_ppm)
                })
                .map(|(number, _)| number)
                .collect();
            if !made.is_empty() {
                self.jobs[job].outstanding = made.len() as u32;
                self.make_calls(job, &made);
                return;
            }
        }
    }

    fn make_calls(&mut self, job: u32, numbers: &[u32]) {
        let generation = self.jobs.generation(job);
        let state = &self.jobs[job];
        let (station, key, step) = (state.station, state.key, u64::from(state.step));
        let request = Arc::clone(&state.head);
        let pod = (station < self.pods.len() as u32).then_some(station);
        let propagate = &self.stations[station as usize].behavior.propagate;
        for &number in numbers {
            let Some(call) = self.planned_call(job, number) else {
                continue;
            };
            let head = self.heads.for_call(&call.head, &request, propagate);
            let call_key = mix(key ^ mix(step << 32 | u64::from(number)));
            self.call(
                CallFor::Job {
                    job,
                    generation,
                    number,
                },
                pod,
                call_key,
                head,
            );
        }
    }

    /// Call `number` of the step that a job is at.
    pub(super) fn planned_call(&self, job: u32, number: u32) -> Option<&'p PlanCall> {
        let state = &self.jobs[job];
        let script = self.stations[state.station as usize].script(state.script);
        script
            .steps
            .get((state.step as usize).checked_sub(1)?)?
            .get(number as usize)
    }

    /// A call that a job made has ended.
    pub(super) fn job_call_ended(&mut self, job: u32, generation: u32, number: u32, failed: bool) {
        if !self.jobs.holds(job, generation) {
            return;
        }
        let fatal = self
            .planned_call(job, number)
            .is_some_and(|c| c.on_error == OnError::Fail);
        let state = &mut self.jobs[job];
        state.failed |= failed && fatal;
        state.outstanding -= 1;
        if state.outstanding == 0 {
            self.next_step(job);
        }
    }

    fn release_worker(&mut self, job: u32) {
        let now = self.queue.now();
        if !std::mem::take(&mut self.jobs[job].holds_worker) {
            return;
        }
        let station = self.jobs[job].station;
        if let Some(next) = self.stations[station as usize].release(now) {
            self.start_work(next);
        }
    }

    #[inline]
    fn finish_job(&mut self, job: u32, status: u16) {
        let state = &self.jobs[job];
        let (station, requester, key) = (state.station, state.requester, state.key);
        let pod = (station < self.pods.len() as u32).then_some(station);
        if let Some(pod) = pod {
            self.tally.served(pod, state.arrived_at, status >= 500);
        }
        let head = self.heads.response(status);
        self.answer_from(pod, requester, Some(head), key);
        self.release_worker(job);
        self.jobs.remove(job);
    }

    /// An application ends: its requests are lost.
    pub(super) fn lose_jobs(&mut self, station: u32) {
        let now = self.queue.now();
        self.stations[station as usize].clear(now);
        let lost: Vec<u32> = self
            .jobs
            .taken()
            .filter(|&job| self.jobs[job].station == station)
            .collect();
        for job in lost {
            let (requester, key) = (self.jobs[job].requester, self.jobs[job].key);
            self.tally.served(station, self.jobs[job].arrived_at, true);
            self.jobs.remove(job);
            if let Requester::Call { .. } = requester {
                self.answer_from(Some(station), requester, None, key);
            }
        }
    }

    /// More workers may have become free by a change of behaviour.
    pub(super) fn start_waiting(&mut self, station: u32) {
        while let Some(job) = self.stations[station as usize].next_waiting() {
            self.start_work(job);
        }
    }
}
