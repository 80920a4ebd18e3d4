//! Which local rate limits a request meets, and which of their descriptors it has.

use super::Found;
use super::matching::request_header_matches;
use super::rbac::client;
use crate::contract::Opened;
use crate::head::RequestHead;
use crate::xds::{
    FilterPlace, HttpConnectionManager, LocalRateLimit, Name, RateLimitAction, RateLimitActions,
    RateLimitDescriptor, RouteAction,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cmp::Ordering;
use std::sync::Arc;

/// A local rate limit before a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limited {
    pub place: FilterPlace,
    pub limit: Arc<LocalRateLimit>,
    pub owner: LimitOwner,
    /// Those that the request has, the one that fills slowest first.
    pub descriptors: Vec<u32>,
}

/// Whose configuration applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitOwner {
    /// That of the filter, by its number among those of its kind.
    Filter(u32),
    Table {
        virtual_host: Name,
        /// Of that route, by its number.
        route: Option<u32>,
    },
}

/// What decides about local rate limits besides the routes.
#[derive(Clone, Copy)]
pub(super) struct Limits<'a> {
    pub(super) manager: &'a HttpConnectionManager,
    pub(super) head: &'a RequestHead,
    pub(super) opened: &'a Opened,
}

impl Limits<'_> {
    /// The limits in their order; `first`: what was found before the JWT filter had a say.
    pub(super) fn of(self, first: Option<Found<'_>>, found: Option<Found<'_>>) -> Vec<Limited> {
        let filters = self.manager.local_rate_limits.iter().enumerate();
        let limits = filters.filter_map(|(number, filter)| {
            let found = match filter.place {
                FilterPlace::First => first,
                _ => found,
            };
            let own = found.and_then(own_limit);
            let (limit, owner) = own.unwrap_or((&filter.config, LimitOwner::Filter(number as u32)));
            let acts = limit.enabled.numerator > 0
                && (limit.bucket.is_some() || !limit.descriptors.is_empty());
            acts.then(|| Limited {
                place: filter.place,
                limit: Arc::clone(limit),
                owner,
                descriptors: self.descriptors(limit, found),
            })
        });
        limits.collect()
    }

    fn descriptors(self, limit: &LocalRateLimit, found: Option<Found<'_>>) -> Vec<u32> {
        if limit.descriptors.is_empty() {
            return Vec::new();
        }
        let actions = match &limit.rate_limits[..] {
            [] => found.map_or(&[][..], of_route),
            own => own,
        };
        let made = actions.iter().filter_map(|actions| self.entries(actions));
        let mut found: Vec<u32> = made
            .filter_map(|made| {
                let mut all = limit.descriptors.iter();
                Some(all.position(|descriptor| is(descriptor, &made))? as u32)
            })
            .collect();
        found.sort_by(|a, b| {
            let of = |number: u32| &limit.descriptors[number as usize];
            slower(of(*a), of(*b))
        });
        found
    }

    /// The entries of one descriptor, if all of them can be made.
    fn entries<'r>(&'r self, actions: &'r RateLimitActions) -> Option<Vec<Entry<'r>>> {
        let mut entries = Vec::new();
        for action in actions {
            let (key, value): (&str, Cow<'_, [u8]>) = match action {
                RateLimitAction::RemoteAddress => {
                    let address = client(self.manager, self.head, self.opened).to_string();
                    ("remote_address", address.into_bytes().into())
                }
                RateLimitAction::RequestHeader {
                    header,
                    key,
                    skip_if_absent,
                } => match (value_of(self.head, header), skip_if_absent) {
                    (Some(value), _) => (key, value.into()),
                    (None, true) => continue,
                    (None, false) => return None,
                },
                RateLimitAction::GenericKey { key, value } => (key, value.as_bytes().into()),
                RateLimitAction::HeaderValueMatch {
                    key,
                    value,
                    headers,
                    expect_match,
                } => {
                    let mut headers = headers.iter();
                    let matches = headers.all(|header| request_header_matches(header, self.head));
                    if matches != *expect_match {
                        return None;
                    }
                    (key, value.as_bytes().into())
                }
            };
            entries.push((key, value));
        }
        Some(entries)
    }
}

/// Key and value.
type Entry<'r> = (&'r str, Cow<'r, [u8]>);

/// Whether the descriptors of a limit can depend on the connection.
pub(super) fn look_at_the_connection(limits: &[Limited], found: Option<Found<'_>>) -> bool {
    let by_address = |actions: &RateLimitActions| actions.contains(&RateLimitAction::RemoteAddress);
    limits.iter().any(|one| {
        let of_route = found.map_or(&[][..], of_route);
        !one.limit.descriptors.is_empty()
            && (one.limit.rate_limits.iter().any(by_address) || of_route.iter().any(by_address))
    })
}

/// That of the route, else of its virtual host.
fn own_limit(found: Found<'_>) -> Option<(&Arc<LocalRateLimit>, LimitOwner)> {
    let (number, route) = found.route?;
    let owner = |route| LimitOwner::Table {
        virtual_host: Arc::clone(&found.host.name),
        route,
    };
    match (&route.local_rate_limit, &found.host.local_rate_limit) {
        (Some(limit), _) => Some((limit, owner(Some(number as u32)))),
        (None, Some(limit)) => Some((limit, owner(None))),
        (None, None) => None,
    }
}

/// What a route says, if it forwards; where it says nothing, its virtual host.
fn of_route(found: Found<'_>) -> &[RateLimitActions] {
    match found.route.map(|(_, route)| &route.action) {
        Some(RouteAction::Forward(forward)) if !forward.rate_limits.is_empty() => {
            &forward.rate_limits
        }
        Some(RouteAction::Forward(_)) => &found.host.rate_limits,
        _ => &[],
    }
}

fn is(descriptor: &RateLimitDescriptor, made: &[Entry<'_>]) -> bool {
    let entries = descriptor.entries.iter();
    descriptor.entries.len() == made.len()
        && entries
            .zip(made)
            .all(|((key, value), (k, v))| **key == **k && *value.as_bytes() == **v)
}

/// By tokens in a span.
fn slower(a: &RateLimitDescriptor, b: &RateLimitDescriptor) -> Ordering {
    let cross = |a: &RateLimitDescriptor, b: &RateLimitDescriptor| {
        u128::from(a.bucket.tokens_per_fill) * u128::from(b.bucket.fill_interval.0)
    };
    cross(a, b).cmp(&cross(b, a))
}

/// The first line of a header, or a pseudo-header.
fn value_of<'r>(head: &'r RequestHead, name: &str) -> Option<&'r [u8]> {
    match name {
        ":method" => Some(head.method.as_bytes()),
        ":authority" => Some(head.authority.as_bytes()),
        ":scheme" => Some(head.scheme.as_bytes()),
        ":path" => Some(head.path.as_bytes()),
        _ => head.headers.get(name),
    }
}
