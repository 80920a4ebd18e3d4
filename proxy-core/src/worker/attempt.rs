//! One try: a host is picked, and the attempt goes to its pool.

use super::Worker;
use super::state::{Attempt, Expiry, NONE, Owner, Stage};
use crate::balancer::subset::Criteria;
use crate::cluster::Selection;
use crate::contract::{Out, Protocol};
use crate::ids::{ClusterId, EndpointId, ExchangeId};
use crate::random::{Purpose, mix};
use crate::router::Matched;
use crate::telemetry::{Details, Flag};
use crate::time::Nanos;
use crate::timers::TimerId;
use crate::xds::{Discovery, Forward, Mirror};
use std::sync::Arc;

impl Worker {
    /// Starts the next try of an exchange that has a cluster.
    pub(super) fn try_host(&mut self, x: u32, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        let (Some(id), Some(decision)) = (exchange.cluster, exchange.decision.clone()) else {
            return;
        };
        let Some((matched, forward)) = decision.forward() else {
            return;
        };
        let Some(host) = self.select_host(x, id, forward) else {
            self.local_reply(
                x,
                503,
                "no healthy upstream",
                Details::NoHealthyUpstream,
                Some(Flag::UH),
                out,
            );
            return;
        };
        let state = &self.cluster(id).hosts[host as usize];
        let (endpoint, tried) = (state.endpoint, state.id);
        let exchange = &mut self.exchanges[x as usize];
        let first = exchange.attempts == 0;
        exchange.attempts += 1;
        exchange.endpoint = Some(endpoint);
        if forward.retry.is_some() {
            exchange.tried.push(tried);
        }
        let (id_of_exchange, choice) = (exchange.id, exchange.weighted_choice as usize);
        let head = Arc::clone(&matched.upstream_heads[choice]);
        let attempt = self.new_attempt(Owner::Exchange(x), id, host);
        let exchange = &mut self.exchanges[x as usize];
        exchange.attempt = Some(attempt);
        let elapsed = match exchange.request_complete {
            true => self.now - exchange.completed_at,
            false => Nanos::ZERO,
        };
        let expected = matched.timeouts.expected_ms(elapsed);
        let state = &mut self.attempts[attempt];
        state.head = Some(head);
        state.expected_timeout_ms = expected;
        state.grpc_timeout_ms = matched.timeouts.grpc_ms(expected);
        state.include_attempt_count = matched.include_attempt_count;
        self.queue_or_send(attempt, out);
        if first && !forward.mirrors.is_empty() {
            self.mirror_all(id_of_exchange, x, matched, forward, out);
        }
    }

    fn select_host(&mut self, x: u32, id: ClusterId, forward: &Forward) -> Option<u32> {
        if let Discovery::OriginalDst { port } = self.cluster(id).config.discovery {
            return self.original_host(x, id, port);
        }
        let exchange = &mut self.exchanges[x as usize];
        // The predicate and the retry priority look only at retries.
        let (tried, previous_priorities, max_repicks) = match &forward.retry {
            Some(retry) if exchange.attempts > 0 => {
                let frequency = retry.previous_priorities_update_frequency;
                let (tried, priorities) = exchange.tried.parts(frequency);
                let repicks = retry.host_selection_retry_max_attempts;
                let avoid = retry.avoid_previous_hosts;
                (tried, priorities, if avoid { repicks } else { 0 })
            }
            _ => (&[][..], None, 0),
        };
        let cluster = self.clusters[id.0 as usize].awake_mut()?;
        let entry = &forward.clusters[exchange.weighted_choice as usize];
        let criteria = cluster.config.subsets.as_ref().map(|_| Criteria {
            route: &forward.subset,
            weighted_cluster: &entry.subset,
        });
        cluster.select(Selection {
            now: self.now,
            key: exchange.key,
            attempt: exchange.attempts,
            hash: exchange.hash,
            criteria,
            tried,
            max_repicks,
            previous_priorities,
        })
    }

    /// The host at the address the client was connecting to.
    fn original_host(&mut self, x: u32, id: ClusterId, port: Option<u16>) -> Option<u32> {
        let downstream = self.exchanges[x as usize].downstream;
        let mut address = self.downstream(downstream)?.opened.original_dst;
        if let Some(port) = port {
            address.set_port(port);
        }
        let now = self.now;
        if let Some(host) = self.cluster(id).member(address) {
            return Some(host);
        }
        let endpoint = EndpointId(self.endpoints.insert_full(address).0 as u32);
        Some(self.cluster_mut(id).add_host(endpoint, address, now))
    }

    fn new_attempt(&mut self, owner: Owner, cluster: ClusterId, host: u32) -> u32 {
        let attempt = Attempt {
            owner,
            cluster,
            host,
            stage: Stage::Pending,
            protocol: Protocol::Http1,
            conn: NONE,
            sent_at: self.now,
            timer: TimerId::NONE,
            idle: TimerId::NONE,
            duration: TimerId::NONE,
            head: None,
            expected_timeout_ms: 0,
            grpc_timeout_ms: 0,
            include_attempt_count: false,
            timed_out: false,
            next_hedged: NONE,
            previous: NONE,
            next: NONE,
        };
        self.attempts.insert(attempt).0
    }

    /// Copies of the request, each decided by the stream's one random value.
    fn mirror_all(
        &mut self,
        id: ExchangeId,
        x: u32,
        matched: &Matched,
        forward: &Forward,
        out: &mut Out,
    ) {
        let stream_value = self.exchanges[x as usize].stream_value;
        let key = self.exchanges[x as usize].key;
        // Nothing is mirrored if the first attempt was answered on the spot.
        if !self.exchanges[x as usize].live {
            return;
        }
        for (number, mirror) in forward.mirrors.iter().enumerate() {
            if mirror.fraction.holds(stream_value) {
                let key = mix(key ^ mix(number as u64 + 1));
                self.mirror(id, key, mirror, matched, forward, out);
            }
        }
    }

    fn mirror(
        &mut self,
        of: ExchangeId,
        key: u64,
        mirror: &Mirror,
        matched: &Matched,
        forward: &Forward,
        out: &mut Out,
    ) {
        let Some(id) = self.usable(&mirror.cluster) else {
            return;
        };
        let choice = self.exchanges[of.index as usize].weighted_choice as usize;
        let head = Arc::clone(&matched.upstream_heads[choice]);
        let selection = Selection {
            now: self.now,
            key,
            attempt: 0,
            hash: None,
            criteria: Some(Criteria {
                route: &forward.subset,
                weighted_cluster: &forward.clusters[choice].subset,
            }),
            tried: &[],
            max_repicks: 0,
            previous_priorities: None,
        };
        self.wake(id, out);
        let Some(cluster) = self.clusters[id.0 as usize].awake_mut() else {
            return;
        };
        let Some(host) = cluster.select(selection) else {
            return;
        };
        let attempt = self.new_attempt(Owner::Mirror(of), id, host);
        let state = &mut self.attempts[attempt];
        state.head = Some(if mirror.shadow_suffix {
            shadow(&head)
        } else {
            head
        });
        // A copy of what the first try was told; but where the route limits the time, the copy has all
        // of it.
        let of_first_try = matched.timeouts.expected_ms(Nanos::ZERO);
        state.expected_timeout_ms = of_first_try;
        state.grpc_timeout_ms = matched.timeouts.grpc_ms(of_first_try);
        state.include_attempt_count = matched.include_attempt_count;
        if let Some(timeout) = matched.timeouts.route {
            state.expected_timeout_ms = timeout.as_millis();
            state.timer = self
                .timers
                .start(self.now, timeout, Expiry::Attempt(attempt));
        }
        self.queue_or_send(attempt, out);
    }

    /// The timers of an attempt: the cluster's limit runs from when it is on a connection, those of
    /// a try from the later of that and the end of the request.
    pub(super) fn start_per_try(&mut self, x: u32) {
        let exchange = &self.exchanges[x as usize];
        let (Some(a), Some(decision)) = (exchange.attempt, &exchange.decision) else {
            return;
        };
        let Some((matched, forward)) = decision.forward() else {
            return;
        };
        let (complete, per_try) = (exchange.request_complete, matched.timeouts.per_try);
        let retry = forward.retry.as_ref();
        let idle = retry.and_then(|retry| retry.per_try_idle_timeout);
        let state = &mut self.attempts[a];
        if state.stage != Stage::Sent {
            return;
        }
        let cluster = self.clusters[state.cluster.0 as usize].awake();
        let duration = cluster.and_then(|c| c.config.max_stream_duration);
        let (now, timers) = (self.now, &mut self.timers);
        let mut start = |timer: &mut TimerId, span: Option<Nanos>, expiry| {
            if let Some(span) = span.filter(|&span| span != Nanos::ZERO)
                && *timer == TimerId::NONE
            {
                *timer = timers.start(now, span, expiry);
            }
        };
        start(&mut state.duration, duration, Expiry::AttemptDuration(a));
        if complete {
            start(&mut state.timer, per_try, Expiry::Attempt(a));
            start(&mut state.idle, idle, Expiry::AttemptIdle(a));
        }
    }

    /// The draw behind a back-off.
    pub(super) fn back_off_draw(&self, x: u32) -> u64 {
        let exchange = &self.exchanges[x as usize];
        self.draws
            .draw(exchange.key, Purpose::BackOff, u64::from(exchange.retries))
    }
}

/// The head of a mirrored request: `host-shadow`, before the port.
fn shadow(head: &crate::head::RequestHead) -> Arc<crate::head::RequestHead> {
    let authority = match head.authority.rsplit_once(':') {
        Some((host, port)) => format!("{host}-shadow:{port}"),
        None => format!("{}-shadow", head.authority),
    };
    Arc::new(crate::head::RequestHead {
        authority: authority.into(),
        id: None,
        ..head.clone()
    })
}
