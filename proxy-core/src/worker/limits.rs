//! The local rate limit filter.

use super::Worker;
use super::reply::LocalReply;
use crate::contract::{Out, WorkerSet};
use crate::head::ResponseHead;
use crate::messages::ToWorker;
use crate::random::Purpose;
use crate::resilience::rate_limit::{Bucket, BucketId, BucketOwner, ChainId};
use crate::router::{Decision, LimitOwner, Limited};
use crate::telemetry::{Details, Flag};
use crate::xds::{FilterPlace, NetworkFilter, RouteSource, TokenBucket};
use std::sync::Arc;

/// A bucket that the response tells of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown {
    /// Of the decision's limits.
    limit: u32,
    descriptor: Option<u32>,
}

impl Worker {
    /// Whether a limit at `place` refuses the request, which is answered then.
    #[inline]
    pub(super) fn limited(
        &mut self,
        x: u32,
        decision: &Decision,
        place: FilterPlace,
        out: &mut Out,
    ) -> bool {
        !decision.limits.is_empty() && self.refused_at(x, decision, place, out)
    }

    fn refused_at(
        &mut self,
        x: u32,
        decision: &Decision,
        place: FilterPlace,
        out: &mut Out,
    ) -> bool {
        let key = self.exchanges[x as usize].key;
        for (number, one) in decision.limits.iter().enumerate() {
            if one.place != place {
                continue;
            }
            let n = number as u64;
            let enabled = self.draws.draw(key, Purpose::RateLimitEnabled, n);
            if !one.limit.enabled.holds(enabled) {
                continue;
            }
            let (allowed, bucket) = self.take_tokens(x, decision, one, out);
            if one.limit.x_ratelimit_headers
                && let Some(descriptor) = bucket
            {
                let limit = number as u32;
                let shown = Shown { limit, descriptor };
                self.exchanges[x as usize].shown.push(shown);
            }
            let enforced = self.draws.draw(key, Purpose::RateLimitEnforced, n);
            if !allowed && one.limit.enforced.holds(enforced) {
                self.refuse(x, one, out);
                return true;
            }
        }
        false
    }

    fn refuse(&mut self, x: u32, one: &Limited, out: &mut Out) {
        let exchange = &mut self.exchanges[x as usize];
        exchange.flags.set(Flag::RL);
        exchange.limited_before_cors = one.place < FilterPlace::BeforeRouter;
        let reply = LocalReply {
            status: one.limit.status,
            grpc_status: one.limit.resource_exhausted.then_some(8),
            header: None,
            first: None,
            body: self.local_texts.of("local_rate_limited"),
            details: Details::LocalRateLimited,
        };
        self.answer_with(x, reply, &one.limit.response_headers, out);
    }

    /// Whether there was a token in every bucket, and the bucket that decided; `None`: there is none.
    fn take_tokens(
        &mut self,
        x: u32,
        decision: &Decision,
        one: &Limited,
        out: &mut Out,
    ) -> (bool, Option<Option<u32>>) {
        for &number in &one.descriptors {
            let size = one.limit.descriptors[number as usize].bucket;
            if !self.take_token(x, decision, one, (Some(number), size), out) {
                return (false, Some(Some(number)));
            }
        }
        let first = one.descriptors.first().map(|number| Some(*number));
        match one.limit.bucket {
            Some(size) if first.is_none() || one.limit.always_consume_default_bucket => {
                // Of a bucket that is never filled Envoy has nothing to tell.
                if size.max_tokens == 0 {
                    return (false, None);
                }
                let taken = self.take_token(x, decision, one, (None, size), out);
                let decided = if taken { first.unwrap_or(None) } else { None };
                (taken, Some(decided))
            }
            _ => (true, first),
        }
    }

    fn take_token(
        &mut self,
        x: u32,
        decision: &Decision,
        one: &Limited,
        (descriptor, size): (Option<u32>, TokenBucket),
        out: &mut Out,
    ) -> bool {
        let now = self.now;
        if one.limit.per_connection {
            let id = self.exchanges[x as usize].downstream;
            return self.downstream_mut(id).is_some_and(|downstream| {
                let known = &mut downstream.buckets;
                let at = known.iter().position(|(of, _)| *of == descriptor);
                let at = at.unwrap_or_else(|| {
                    known.push((descriptor, Bucket::new(size)));
                    known.len() - 1
                });
                known[at].1.take(now)
            });
        }
        let Some(bucket) = self.bucket_id(x, decision, one, descriptor) else {
            return true;
        };
        let taken = self.bucket(bucket.clone(), size).take(now);
        if taken && self.shares {
            let message = ToWorker::TokenTaken { bucket, size };
            out.to_workers.push((WorkerSet::Others, message));
        }
        taken
    }

    /// A bucket that all workers share.
    pub(super) fn bucket(&mut self, id: BucketId, size: TokenBucket) -> &mut Bucket {
        self.buckets.entry(id).or_insert_with(|| Bucket::new(size))
    }

    fn bucket_id(
        &self,
        x: u32,
        decision: &Decision,
        one: &Limited,
        descriptor: Option<u32>,
    ) -> Option<BucketId> {
        let chain = &self
            .downstream(self.exchanges[x as usize].downstream)?
            .chain;
        let id = || ChainId {
            listener: Arc::clone(&chain.listener.name),
            chain: chain.index(),
        };
        let owner = match &one.owner {
            LimitOwner::Filter(filter) => BucketOwner::Filter {
                chain: id(),
                filter: *filter,
            },
            LimitOwner::Table {
                virtual_host,
                route,
            } => BucketOwner::Table {
                chain: match &chain.chain()?.filter {
                    NetworkFilter::Http(manager) => match manager.routes {
                        RouteSource::Inline(_) => Some(id()),
                        RouteSource::Rds(_) => None,
                    },
                    NetworkFilter::Tcp(_) => None,
                },
                table: Arc::clone(&decision.table),
                virtual_host: Arc::clone(virtual_host),
                route: *route,
            },
        };
        Some(BucketId { owner, descriptor })
    }

    /// The head with what limits tell of their buckets.
    #[inline]
    pub(super) fn with_limits(&self, x: u32, head: Arc<ResponseHead>) -> Arc<ResponseHead> {
        match self.exchanges[x as usize].shown.is_empty() {
            true => head,
            false => self.telling(x, head),
        }
    }

    fn telling(&self, x: u32, mut head: Arc<ResponseHead>) -> Arc<ResponseHead> {
        let exchange = &self.exchanges[x as usize];
        let Some(decision) = &exchange.decision else {
            return head;
        };
        // The last filter before the router sees the response first.
        for shown in exchange.shown.iter().rev() {
            let Some(bucket) = self.shown_bucket(x, decision, *shown) else {
                continue;
            };
            let headers = &mut Arc::make_mut(&mut head).headers;
            for (name, value) in [
                ("x-ratelimit-limit", u64::from(bucket.size().max_tokens)),
                ("x-ratelimit-remaining", bucket.remaining(self.now)),
                ("x-ratelimit-reset", bucket.seconds_to_next(self.now)),
            ] {
                headers.append(name.into(), value.to_string().as_bytes());
            }
        }
        head
    }

    fn shown_bucket(&self, x: u32, decision: &Decision, shown: Shown) -> Option<&Bucket> {
        let one = &decision.limits[shown.limit as usize];
        if one.limit.per_connection {
            let downstream = self.downstream(self.exchanges[x as usize].downstream)?;
            let mut known = downstream.buckets.iter();
            return known
                .find(|(of, _)| *of == shown.descriptor)
                .map(|(_, bucket)| bucket);
        }
        let id = self.bucket_id(x, decision, one, shown.descriptor)?;
        self.buckets.get(&id)
    }
}
