//! The other side: `tower`'s balancer over services that answer at once, and pingora's.

use crate::Batch;
use crate::ours::{RTT, address, in_flight};
use crate::random::mix;
use futures_util::future::{Ready, ready};
use futures_util::task::noop_waker;
use pingora_load_balancing::LoadBalancer;
use pingora_load_balancing::selection::{
    BackendIter, BackendSelection, Consistent, Random, RoundRobin,
};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::Service;
use tower::balance::p2c::Balance;
use tower::discover::ServiceList;
use tower::load::{CompleteOnResponse, Load, PeakEwma, PendingRequests};

/// Those that have the policy.
pub fn of(policy: &str, endpoints: u32) -> Vec<(&'static str, Batch)> {
    match policy {
        "round robin" => pingora::<RoundRobin>(endpoints),
        "random" => pingora::<Random>(endpoints),
        "consistent" => pingora::<Consistent>(endpoints),
        "least request" => vec![(
            "tower",
            tower(endpoints, |n| {
                PendingRequests::new(Endpoint(n), CompleteOnResponse::default())
            }),
        )],
        _ => vec![(
            "tower",
            tower(endpoints, |n| {
                let (rtt, decay) = (Duration::from_nanos(RTT.0), 10e9);
                PeakEwma::new(Endpoint(n), rtt, decay, CompleteOnResponse::default())
            }),
        )],
    }
}

/// Its selector alone, and as its users call it, which looks at health too.
fn pingora<S>(endpoints: u32) -> Vec<(&'static str, Batch)>
where
    S: BackendSelection + Send + Sync + 'static,
    S::Iter: BackendIter,
{
    let balancer = LoadBalancer::<S>::try_from_iter((0..endpoints).map(address))
        .expect("addresses need no look-up");
    let selector = Arc::new(S::build(&balancer.backends().get_backend()));
    let (mut key, mut other_key) = (0u64, 0u64);
    vec![
        (
            "pingora's selector",
            Box::new(move |choices| {
                for _ in 0..choices {
                    key += 1;
                    black_box(selector.iter(&mix(key).to_le_bytes()).next());
                }
            }),
        ),
        (
            "pingora",
            Box::new(move |choices| {
                for _ in 0..choices {
                    other_key += 1;
                    black_box(balancer.select(&mix(other_key).to_le_bytes(), 256));
                }
            }),
        ),
    ]
}

struct Endpoint(u32);

impl Service<()> for Endpoint {
    type Response = u32;
    type Error = Infallible;
    type Future = Ready<Result<u32, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(self.0))
    }
}

/// A request is over when its future is dropped.
fn tower<S>(endpoints: u32, service: impl Fn(u32) -> S) -> Batch
where
    S: Service<(), Error = Infallible> + Load + 'static,
    S::Metric: std::fmt::Debug,
    S::Future: 'static,
{
    let services: Vec<S> = (0..endpoints).map(service).collect();
    let mut balance = Balance::new(ServiceList::new(services));
    let waker = noop_waker();
    let mut unfinished = VecDeque::new();
    Box::new(move |choices| {
        let mut context = Context::from_waker(&waker);
        for _ in 0..choices {
            while balance.poll_ready(&mut context).is_pending() {}
            unfinished.push_back(balance.call(()));
            if unfinished.len() > in_flight(endpoints) {
                black_box(unfinished.pop_front());
            }
        }
    })
}
