//! What the core asks of its driver.

use super::World;
use super::mixer::Subject;
use super::proxies::{Conn, Exchange, LineEnd};
use super::schedule::{Destination, Event, Flight, Requester};
use crate::plan::{Place, Plan, is_localhost};
use control_plane::Router;
use proxy_core::contract::{Action, BodySource, ConnTransport, MainInput, Protocol};
use proxy_core::head::ResponseHead;
use proxy_core::ids::{AttemptId, ConnId, DownstreamId, ExchangeId};
use proxy_core::random::key_of_try;
use proxy_core::time::Nanos;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

impl World<'_, '_> {
    #[inline]
    pub(super) fn act(&mut self, proxy: u32, worker: u16, action: Action) {
        match action {
            Action::Send {
                attempt,
                conn,
                source,
                head,
                ordinal,
                ..
            } => {
                let Some(to) = self.open_conn(proxy, worker, conn).and_then(|conn| conn.to) else {
                    return;
                };
                let key = self.key_of(proxy, worker, source, ordinal);
                self.remember_attempt(proxy, worker, source, attempt);
                let from = Requester::Attempt {
                    proxy,
                    worker,
                    attempt,
                };
                self.send(
                    proxy,
                    Flight {
                        from,
                        to,
                        key,
                        head,
                    },
                );
            }
            Action::Respond { exchange, head, .. } => {
                self.respond(proxy, worker, exchange, Some(head));
            }
            Action::Connect {
                conn,
                address,
                transport,
                protocol,
                ..
            } => {
                self.dial(proxy, worker, conn, (address, protocol), transport);
            }
            Action::CloseConn { conn } => self.close_conn(proxy, worker, conn),
            Action::CloseDownstream { downstream } => {
                self.drain_downstream(proxy, worker, downstream);
            }
            Action::Abort { exchange } => self.respond(proxy, worker, exchange, None),
            Action::Cancel { attempt, conn } => self.cancel(proxy, worker, attempt, conn),
            Action::Ask {
                exchange,
                mixer,
                head,
                peer,
                principal,
                cluster,
            } => {
                let subject = Subject {
                    exchange,
                    mixer,
                    head,
                    peer,
                    principal,
                    cluster,
                    response: None,
                };
                self.ask_mixer(proxy, worker, &subject);
            }
            Action::Report {
                exchange,
                mixer,
                head,
                peer,
                cluster,
                status,
                duration,
            } => {
                let subject = Subject {
                    exchange,
                    mixer,
                    head,
                    peer,
                    principal: None,
                    cluster,
                    response: Some((status, duration)),
                };
                self.tell_mixer(proxy, worker, &subject);
            }
            // Bodies are not modelled.
            Action::Buffer { .. } => {}
            Action::Probe { .. }
            | Action::Resolve { .. }
            | Action::Ack { .. }
            | Action::Nack { .. } => {
                debug_assert!(false, "only main machines ask for this");
            }
        }
    }

    /// An outgoing router hears of it who served an exchange.
    #[inline]
    fn remember_attempt(
        &mut self,
        proxy: u32,
        worker: u16,
        source: BodySource,
        attempt: AttemptId,
    ) {
        let state = &mut self.proxies[proxy as usize];
        if let (Some(Router::Outgoing), BodySource::Exchange(exchange)) = (state.router, source) {
            let worker = &mut state.workers[worker as usize];
            let tried = &mut worker.exchanges[exchange.index];
            if let Some(before) = tried.attempt.replace(attempt) {
                worker.attempts.remove(&before);
            }
            tried.served_by = None;
            worker.attempts.insert(attempt, exchange.index);
        }
    }

    #[inline]
    fn respond(
        &mut self,
        proxy: u32,
        worker: u16,
        exchange: ExchangeId,
        head: Option<Arc<ResponseHead>>,
    ) {
        let state = &self.proxies[proxy as usize];
        let Exchange { from, key, .. } = state.workers[worker as usize].exchanges[exchange.index];
        let pod = Some(state.pod);
        self.answer_from(pod, from, head, key);
    }

    pub(super) fn act_for_main(&mut self, proxy: u32, action: Action) {
        match action {
            Action::Resolve { host } => {
                let addresses = resolve(self.plan, &host);
                self.feed_main(proxy, MainInput::Resolved { host, addresses });
            }
            Action::Probe { probe, request, .. } => self.probe(proxy, probe, &request),
            Action::Nack { reason, .. } => {
                let name = self.proxies[proxy as usize].name.clone();
                let what = format!("{name} refuses its configuration: {reason}");
                self.tally.happened(self.queue.now(), "", what);
            }
            _ => debug_assert!(
                matches!(action, Action::Ack { .. }),
                "not asked by main machines"
            ),
        }
    }

    /// The key of a request on its way to the next hop: that of the exchange, set apart for
    /// retries and copies.
    fn key_of(&self, proxy: u32, worker: u16, source: BodySource, ordinal: u32) -> u64 {
        let exchanges = &self.proxies[proxy as usize].workers[worker as usize].exchanges;
        let (BodySource::Exchange(exchange) | BodySource::Mirror(exchange)) = source;
        key_of_try(exchanges[exchange.index].key, source, ordinal)
    }

    #[inline]
    fn send(&mut self, proxy: u32, flight: Flight) {
        let pod = self.proxies[proxy as usize].pod;
        let from = self.pods[pod as usize].locality;
        let to_pod = match flight.to {
            Destination::Station { station } => Some(station),
            Destination::Closing { pod } => Some(pod),
            Destination::Proxy { proxy, .. } => Some(self.proxies[proxy as usize].pod),
            Destination::Line { .. } => None,
        };
        let to = to_pod.and_then(|pod| self.pods.get(pod as usize));
        let to = to.map_or(super::Links::OUTSIDE, |pod| pod.locality);
        let (latency, constant) = match self.together(to_pod, Some(pod)) {
            true => (Nanos::ZERO, true),
            false => self.links.latency(from, to, flight.key, 0),
        };
        let flight = self.flights.insert(flight).0;
        self.schedule(
            latency + self.plan.overhead,
            constant,
            Event::Request { flight },
        );
    }

    fn dial(
        &mut self,
        proxy: u32,
        worker: u16,
        id: ConnId,
        (address, protocol): (SocketAddr, Protocol),
        transport: ConnTransport,
    ) {
        let plain = transport == ConnTransport::Plaintext;
        let pod = self.proxies[proxy as usize].pod;
        let own_ip = self.plan.pods[pod as usize].pod.ip;
        let own = own_ip == address.ip() || is_localhost(address.ip());
        let address = match own {
            true => SocketAddr::new(own_ip, address.port()),
            false => address,
        };
        let known = self.places.get(&address.ip()).copied();
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        let conn = Conn {
            generation: id.generation,
            open: true,
            to: None,
            protocol,
        };
        let at = id.index as usize;
        match state.conns.get_mut(at) {
            Some(slot) => (*slot, state.dialed[at]) = (conn, (address, transport)),
            None => {
                state.conns.push(conn);
                state.dialed.push((address, transport));
            }
        }
        let event = Event::Dialed {
            proxy,
            worker,
            conn: id,
        };
        match known {
            // Nobody is there to refuse: the core gives up after its connect timeout.
            None => {}
            Some(_) if own => self.queue.after(Nanos::ZERO, event),
            Some(Place::Pod(to)) if self.together(Some(pod), Some(to)) => {
                self.queue.after(Nanos::ZERO, event);
            }
            Some(place) => {
                let from = self.pods[pod as usize].locality;
                let to = match place {
                    Place::Pod(pod) => self.pods[pod as usize].locality,
                    Place::Service(_) => from,
                    Place::External(_) => super::Links::OUTSIDE,
                };
                let key = u64::from(id.index) << 32 | u64::from(id.generation);
                let (latency, constant) = self.links.latency(from, to, key, 2);
                // TCP takes one round trip, TLS 1.3 one more.
                self.schedule(latency * if plain { 2 } else { 4 }, constant, event);
            }
        }
    }

    fn close_conn(&mut self, proxy: u32, worker: u16, id: ConnId) {
        let pod = self.proxies[proxy as usize].pod;
        let Some(conn) = self.open_conn(proxy, worker, id) else {
            return;
        };
        conn.open = false;
        if let Some(Destination::Proxy {
            proxy,
            worker,
            downstream,
        }) = conn.to
        {
            let from = self.pods[pod as usize].locality;
            let to = self.pods[self.proxies[proxy as usize].pod as usize].locality;
            let key = u64::from(id.index) << 32 | u64::from(id.generation);
            let (latency, constant) = self.links.latency(from, to, key, 3);
            let event = Event::DownstreamClosed {
                proxy,
                worker,
                downstream,
            };
            self.schedule(latency, constant, event);
        }
    }

    /// A given-up attempt: on HTTP/1 its connection is closed as well, and says enough.
    fn cancel(&mut self, proxy: u32, worker: u16, attempt: AttemptId, id: ConnId) {
        let Some(conn) = self.open_conn(proxy, worker, id) else {
            return;
        };
        let (
            Some(Destination::Proxy {
                proxy: to,
                worker: at,
                ..
            }),
            Protocol::Http2,
        ) = (conn.to, conn.protocol)
        else {
            return;
        };
        let from = self.pods[self.proxies[proxy as usize].pod as usize].locality;
        let server = self.pods[self.proxies[to as usize].pod as usize].locality;
        let key = u64::from(attempt.index) << 32 | u64::from(attempt.generation);
        let (latency, constant) = self.links.latency(from, server, key, 6);
        let event = Event::StreamReset {
            proxy: to,
            worker: at,
            from: Requester::Attempt {
                proxy,
                worker,
                attempt,
            },
        };
        self.schedule(latency, constant, event);
    }

    /// A downstream connection takes no further requests: it ends now, or with its last exchange.
    fn drain_downstream(&mut self, proxy: u32, worker: u16, id: DownstreamId) {
        let state = &mut self.proxies[proxy as usize].workers[worker as usize];
        if !state.downstreams.holds(id.index, id.generation) {
            return;
        }
        let downstream = &mut state.downstreams[id.index];
        downstream.draining = true;
        if downstream.active == 0 || downstream.protocol == Protocol::Http2 {
            self.hang_up(proxy, worker, id);
        }
    }

    /// Tells the client's end of a connection to send no further requests.
    pub(super) fn hang_up(&mut self, proxy: u32, worker: u16, id: DownstreamId) {
        let own_pod = self.proxies[proxy as usize].pod;
        let state = &self.proxies[proxy as usize].workers[worker as usize];
        match state.downstreams[id.index].client {
            LineEnd::Line { line } => self.lines[line].open = false,
            LineEnd::Conn {
                proxy,
                worker,
                conn,
            } => {
                let client_pod = self.proxies[proxy as usize].pod;
                let from = self.pods[own_pod as usize].locality;
                let to = self.pods[client_pod as usize].locality;
                let key = u64::from(conn.index) << 32 | u64::from(conn.generation);
                let (latency, constant) = self.links.latency(from, to, key, 4);
                let event = Event::HungUp {
                    proxy,
                    worker,
                    conn,
                };
                self.schedule(latency, constant, event);
            }
        }
    }
}

/// The addresses of a name outside the mesh.
fn resolve(plan: &Plan, host: &str) -> Vec<IpAddr> {
    let outside = plan
        .externals
        .iter()
        .filter(|external| external.host == host);
    outside.map(|external| external.address).collect()
}
