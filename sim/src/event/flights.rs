//! Requests and responses on their way.

use super::World;
use super::links::Locality;
use super::proxies::Exchange;
use super::schedule::{Answer, Destination, Event, Flight, Requester};
use proxy_core::contract::{Input, Protocol, ResetReason};
use proxy_core::ids::{DownstreamId, ExchangeId};
use proxy_core::time::Nanos;
use std::sync::Arc;

impl World<'_, '_> {
    #[inline]
    pub(super) fn request_arrives(&mut self, flight: u32) {
        self.flights.remove(flight);
        let Flight {
            from,
            to,
            key,
            head,
        } = &self.flights[flight];
        let (from, to, key, head) = (*from, *to, *key, Arc::clone(head));
        match to {
            Destination::Proxy {
                proxy,
                worker,
                downstream,
            } => {
                self.request_for_proxy(proxy, worker, downstream, from, key, &head);
            }
            Destination::Station { station } => self.request_for_station(station, from, key, head),
            Destination::Closing { pod } => self.answer_from(Some(pod), from, None, key),
            Destination::Line { line, generation } => match self.open_line(line, generation) {
                Some((proxy, worker, downstream)) => {
                    self.request_for_proxy(proxy, worker, downstream, from, key, &head);
                }
                None => self.answer(from, None, key),
            },
        }
    }

    #[inline]
    fn request_for_proxy(
        &mut self,
        proxy: u32,
        worker: u16,
        downstream: DownstreamId,
        from: Requester,
        key: u64,
        head: &Arc<proxy_core::head::RequestHead>,
    ) {
        // The crash that ended the proxy has told the client's end of the connection.
        if self.core(proxy).is_none() {
            return;
        }
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if !state
            .downstreams
            .holds(downstream.index, downstream.generation)
        {
            return;
        }
        state.downstreams[downstream.index].active += 1;
        let (index, generation) = state.exchanges.insert(Exchange {
            from,
            key,
            attempt: None,
            served_by: None,
        });
        self.passes += 1;
        let input = Input::Request {
            exchange: ExchangeId { index, generation },
            downstream,
            key,
            head: self.heads.numbered(head),
            ends: true,
        };
        self.feed(proxy, worker, input);
    }

    #[inline]
    pub(super) fn response_arrives(&mut self, answer: u32) {
        self.answers.remove(answer);
        let Answer { to, head } = &mut self.answers[answer];
        let (to, head) = (*to, head.take());
        match (to, head) {
            (
                Requester::Attempt {
                    proxy,
                    worker,
                    attempt,
                },
                Some(head),
            ) => {
                self.feed(
                    proxy,
                    worker,
                    Input::ResponseHead {
                        attempt,
                        head,
                        ends: true,
                    },
                );
            }
            (
                Requester::Attempt {
                    proxy,
                    worker,
                    attempt,
                },
                None,
            ) => {
                let core = self.core(proxy).map(|core| core.worker(u32::from(worker)));
                let reason = match core.and_then(|worker| worker.protocol_of(attempt)) {
                    Some(Protocol::Http2) => ResetReason::RemoteReset,
                    _ => ResetReason::ConnectionTermination,
                };
                self.feed(proxy, worker, Input::Reset { attempt, reason });
            }
            (
                Requester::Call {
                    call,
                    generation,
                    tried,
                },
                head,
            ) => {
                let status = head.map_or(0, |head| head.status);
                self.call_answered(call, generation, tried, status);
            }
        }
    }

    /// Where a requester is, and in which pod.
    #[inline]
    pub(super) fn whereabouts(&self, requester: Requester) -> (Locality, Option<u32>) {
        let pod = match requester {
            Requester::Attempt { proxy, .. } => Some(self.proxies[proxy as usize].pod),
            Requester::Call { call, .. } => self.calls[call].pod,
        };
        (
            pod.map_or(super::Links::OUTSIDE, |pod| {
                self.pods[pod as usize].locality
            }),
            pod,
        )
    }

    /// Sends a response (`None`: the news that none will come) from a pod, or from outside.
    #[inline]
    pub(super) fn answer_from(
        &mut self,
        pod: Option<u32>,
        to: Requester,
        head: Option<Arc<proxy_core::head::ResponseHead>>,
        key: u64,
    ) {
        let (locality, requester_pod) = self.whereabouts(to);
        let answer = self.answers.insert(Answer { to, head }).0;
        let event = Event::Response { answer };
        if self.together(pod, requester_pod) {
            return self.queue.after(Nanos::ZERO, event);
        }
        let from = pod.map_or(super::Links::OUTSIDE, |pod| {
            self.pods[pod as usize].locality
        });
        let (latency, constant) = self.links.latency(from, locality, key, 1);
        self.schedule(latency, constant, event);
    }

    /// The same from wherever the requester is: a failure that it sees itself.
    pub(super) fn answer(
        &mut self,
        to: Requester,
        head: Option<Arc<proxy_core::head::ResponseHead>>,
        key: u64,
    ) {
        let (_, pod) = self.whereabouts(to);
        self.answer_from(pod, to, head, key);
    }

    /// Schedules after a latency; constant ones are cheaper.
    #[inline]
    pub(super) fn schedule(&mut self, latency: Nanos, constant: bool, event: Event) {
        if constant {
            self.queue.after(latency, event);
        } else {
            self.queue.at(self.queue.now() + latency, event);
        }
    }
}
