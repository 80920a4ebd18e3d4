//! What one side does with requests: on a connection, and for one host.

use crate::access::rules_of;
use crate::connections::{Connection, Handling};
use crate::guard;
use crate::outcome::Outcome;
use crate::side::Indexed;
use proxy_core::xds::{HttpConnectionManager, Rbac, Route, RouteTable, VirtualHost};
use std::sync::Arc;

/// How one side answers what comes over a connection.
pub(crate) enum Answering<'r> {
    /// Whatever is asked.
    Fixed(Outcome),
    ByHost(&'r RouteTable, &'r HttpConnectionManager),
}

impl<'r> Answering<'r> {
    pub(crate) fn table(&self) -> Option<&'r RouteTable> {
        match self {
            Answering::Fixed(_) => None,
            Answering::ByHost(table, _) => Some(table),
        }
    }

    /// Tells it from others: the address of the table, or the outcome in words.
    pub(crate) fn key(&self) -> (usize, String) {
        match self {
            Answering::Fixed(outcome) => (0, outcome.destination.clone()),
            Answering::ByHost(table, _) => (table_address(Some(table)), String::new()),
        }
    }

    pub(crate) fn manager(&self) -> Option<&'r HttpConnectionManager> {
        match self {
            Answering::Fixed(_) => None,
            Answering::ByHost(_, manager) => Some(manager),
        }
    }
}

/// `None`: 0.
pub(crate) fn table_address(table: Option<&RouteTable>) -> usize {
    table.map_or(0, |table| std::ptr::from_ref(table) as usize)
}

/// What one side does with the requests for a host.
pub(crate) struct HostAnswers<'r> {
    pub(crate) routes: &'r [Arc<Route>],
    /// Of each route.
    pub(crate) outcomes: Vec<Outcome>,
    /// Of requests that no route takes.
    pub(crate) rest: Outcome,
}

impl<'r> HostAnswers<'r> {
    pub(crate) fn of(
        answering: &Answering<'r>,
        host: Option<&'r VirtualHost>,
        plain: bool,
    ) -> HostAnswers<'r> {
        let rest = match (answering, host) {
            (Answering::Fixed(outcome), _) => outcome.clone(),
            (Answering::ByHost(..), None) => Outcome::refused("no virtual host: 404"),
            (Answering::ByHost(..), Some(host)) => Outcome::of(host, None, plain),
        };
        let routes = host.map_or(&[][..], |host| &host.routes);
        let outcome = |route: &Arc<Route>| {
            host.map_or_else(
                || rest.clone(),
                |host| Outcome::of(host, Some(route), plain),
            )
        };
        HostAnswers {
            routes,
            outcomes: routes.iter().map(outcome).collect(),
            rest,
        }
    }

    pub(crate) fn outcome(&self, route: Option<usize>) -> &Outcome {
        route.map_or(&self.rest, |at| &self.outcomes[at])
    }

    pub(crate) fn route(&self, route: Option<usize>) -> Option<&'r Route> {
        route.map(|at| &*self.routes[at])
    }
}

pub(crate) fn answering<'r>(side: &Indexed<'r>, handling: &Handling<'r>) -> Answering<'r> {
    match handling {
        Handling::Refused(why) => Answering::Fixed(Outcome::closed(why)),
        Handling::Tcp(_, tcp) => {
            // Filter chains do not say which rule they are of.
            let clusters = tcp
                .clusters
                .iter()
                .filter_map(|(name, _)| side.clusters.get(name));
            let rules = clusters.filter_map(|cluster| cluster.origin.clone());
            Answering::Fixed(Outcome {
                rules: rules.collect(),
                ..Outcome::passed(&tcp.clusters)
            })
        }
        Handling::Http(manager) => match side.table(manager) {
            Some(table) => Answering::ByHost(table, manager),
            None => Answering::Fixed(Outcome::refused("no route table: 404")),
        },
    }
}

/// What nobody may send does not get to a route.
pub(crate) fn guard_first<'r>(
    filters: &[Rbac],
    connection: &Connection,
    answering: Answering<'r>,
) -> Answering<'r> {
    match guard::never_passes(filters, connection) {
        true => Answering::Fixed(Outcome {
            rules: rules_of(filters),
            ..Outcome::refused("denied: 403")
        }),
        false => answering,
    }
}

pub(crate) fn guarding<'r>(handling: &Handling<'r>) -> &'r [Rbac] {
    match handling {
        Handling::Refused(_) => &[],
        Handling::Tcp(chain, _) => &chain.rbac,
        Handling::Http(manager) => &manager.rbac,
    }
}
