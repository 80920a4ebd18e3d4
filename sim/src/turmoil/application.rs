//! What applications do for a request: wait for a worker, work, call others, answer.

use super::clients::{Lines, call_from_job};
use super::network::Io;
use super::reports::Report;
use super::world::{Job, World};
use super::{MILLISECOND, duration};
use crate::event::station::Admission;
use crate::plan::PlanCall;
use crate::random::Purpose;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use proxy_core::head::{HeaderText, Headers, RequestHead};
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use proxy_core::xds::Name;
use scenarios::model::OnError;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::sleep;

/// What carries the key of a request.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Serves one connection.
pub(super) async fn serve(world: Rc<World>, station: u32, io: Io) {
    let lines = world.lines_of(station);
    let service = service_fn(move |request| answer(Rc::clone(&lines), station, request));
    // A client that leaves does not concern the application.
    let _ = http1::Builder::new()
        .auto_date_header(false)
        .serve_connection(io, service)
        .await;
}

/// The answer to a request. Its work goes on if the client leaves.
async fn answer(
    lines: Rc<Lines>,
    station: u32,
    request: Request<Incoming>,
) -> Result<Response<String>, oneshot::error::RecvError> {
    let (status, answered) = oneshot::channel();
    spawn_local(async move {
        let status_of_job = run_job(&lines, station, &request).await;
        // Nobody listens if the client has left.
        let _ = status.send(status_of_job);
    });
    let mut response = Response::new(String::new());
    *response.status_mut() =
        StatusCode::from_u16(answered.await?).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    Ok(response)
}

/// A request at an application, up to its answer.
async fn run_job(lines: &Rc<Lines>, station: u32, request: &Request<Incoming>) -> u16 {
    let world = &lines.world;
    let key = key_of(request);
    let application = &world.applications[station as usize];
    let behavior = Rc::clone(&application.borrow().station.behavior);
    let script = behavior.script_for(request.uri().path());
    let Some((job, start)) = admit(world, station) else {
        served(world, station, world.now(), 503);
        return 503;
    };
    if let Some(start) = start
        && start.await.is_err()
    {
        return 503;
    }
    let work = application.borrow().station.service_time(script, key);
    sleep(duration(rounded(work))).await;
    let steps = &behavior.scripts[script as usize].1.steps;
    let mut worker = Some(job);
    if behavior.asynchronous && !steps.is_empty() {
        release(world, station, worker.take());
    }
    let mut failed = false;
    for (step, calls) in (1u64..).zip(steps) {
        failed = make_calls(lines, station, key, (step, calls), request).await;
        if failed {
            break;
        }
    }
    let status = match failed {
        true => 500,
        false => application.borrow().station.status(script, key),
    };
    let arrived_at = application.borrow_mut().jobs.remove(&job);
    if let Some(job) = arrived_at {
        served(world, station, job.arrived_at, status);
    }
    release(world, station, worker);
    status
}

/// Its number, and what to wait for if no worker is free; `None`: the queue is full.
fn admit(world: &World, station: u32) -> Option<(u32, Option<oneshot::Receiver<()>>)> {
    let application = &mut *world.applications[station as usize].borrow_mut();
    let job = application.next_job;
    application.next_job = job.wrapping_add(1);
    let arrived_at = world.now();
    let (start, started) = match application.station.admit(arrived_at, job) {
        Admission::Refused => return None,
        Admission::Starts => (None, None),
        Admission::Waits => {
            let (start, started) = oneshot::channel();
            (Some(start), Some(started))
        }
    };
    application.jobs.insert(job, Job { arrived_at, start });
    Some((job, started))
}

fn release(world: &World, station: u32, worker: Option<u32>) {
    if worker.is_none() {
        return;
    }
    let application = &mut *world.applications[station as usize].borrow_mut();
    let next = application.station.release(world.now());
    if let Some(next) = next {
        application.start(next);
    }
}

impl super::world::Application {
    /// A job that waited has a worker.
    pub(super) fn start(&mut self, job: u32) {
        if let Some(start) = self.jobs.get_mut(&job).and_then(|job| job.start.take()) {
            // It waits for nothing else, and ends only with its host.
            let _ = start.send(());
        }
    }
}

fn served(world: &World, station: u32, started_at: Nanos, status: u16) {
    if (station as usize) < world.plan.pods.len() {
        world.report(Report::Served {
            pod: station,
            started_at,
            failed: status >= 500,
        });
    }
}

/// Makes the calls of a step at the same time; true if one failed that must not.
async fn make_calls(
    lines: &Rc<Lines>,
    station: u32,
    key: u64,
    (step, calls): (u64, &[PlanCall]),
    request: &Request<Incoming>,
) -> bool {
    let application = &lines.world.applications[station as usize];
    let draws = application.borrow().station.draws;
    let behavior = Rc::clone(&application.borrow().station.behavior);
    let mut made: Vec<(OnError, JoinHandle<bool>)> = Vec::new();
    for (number, call) in (0u64..).zip(calls) {
        let n = step << 32 | number;
        let value = draws.bits(key, Purpose::CallProbability, n) % 1_000_000;
        if call.probability_ppm < 1_000_000 && value >= u64::from(call.probability_ppm) {
            continue;
        }
        let head = head_of_call(&call.head, request, &behavior.propagate);
        let call_key = mix(key ^ mix(n));
        let (lines, planned) = (Rc::clone(lines), call.clone());
        let task = async move { call_from_job(&lines, &planned, call_key, head).await };
        made.push((call.on_error, spawn_local(task)));
    }
    let mut failed = false;
    for (on_error, call) in made {
        let succeeded = call.await.unwrap_or(false);
        failed |= !succeeded && on_error == OnError::Fail;
    }
    failed
}

/// The head of a call: its own, with the headers in `propagate` taken from the request.
fn head_of_call(
    own: &Arc<RequestHead>,
    request: &Request<Incoming>,
    propagate: &[Name],
) -> Arc<RequestHead> {
    if propagate.is_empty() {
        return Arc::clone(own);
    }
    let mut head = (**own).clone();
    let lines = request.headers().iter();
    let passed_on = lines.filter(|(name, _)| propagate.iter().any(|p| **p == *name.as_str()));
    let passed_on =
        passed_on.map(|(name, value)| (name.as_str().into(), HeaderText::new(value.as_bytes())));
    let Headers(headers) = &mut head.headers;
    headers.extend(passed_on);
    Arc::new(head)
}

fn key_of(request: &Request<Incoming>) -> u64 {
    let id = request.headers().get(REQUEST_ID);
    let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
    u64::from_str_radix(id, 16).unwrap_or_else(|_| hash_text(id))
}

/// To the nearest millisecond, so that the mean stays.
fn rounded(work: Nanos) -> Nanos {
    Nanos((work + Nanos(MILLISECOND.0 / 2)).0 / MILLISECOND.0 * MILLISECOND.0)
}
