//! One proxy, before and after: connection by connection, host by host, route by route.

use crate::access::{bare, of_manager, rules_of, rules_of_manager};
use crate::answers::{Answering, HostAnswers, answering, guard_first, guarding, table_address};
use crate::clusters::{PolicyChange, policies};
use crate::connections::{self, Connection, Handling, Listeners, NOBODY, Secured, Taker};
use crate::guard;
use crate::hosts;
use crate::labels::cluster_label;
use crate::outcome::{Outcome, Way};
use crate::place::Place;
use crate::report::{Change, Kind, Treatment, Undecided, Witness};
use crate::rewrite::{self, PathEffect, Verdict, same_effect};
use crate::routes;
use crate::settings::{SettingChange, treatment};
use crate::side::{Indexed, Side};
use control_plane::Request;
use proxy_core::contract::Direction;
use proxy_core::xds::{
    ConfigRef, HttpConnectionManager, Name, Rbac, Route, RouteTable, VirtualHost,
};
use request_set::{Authorities, Domain};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::rc::Rc;

/// What was found at one proxy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) changes: Vec<Change>,
    pub(crate) undecided: Vec<Undecided>,
}

/// Everything found in `direction`; `name`: of the proxy.
pub(crate) fn compare(name: &str, direction: Direction, old: Side<'_>, new: Side<'_>) -> Found {
    let (before, after) = (Indexed::new(old), Indexed::new(new));
    let listeners = [old, new]
        .map(|side: Side<'_>| Listeners::of(&side.resources.listeners, direction, side.ip));
    let classes = connections::classes(&listeners[0], &listeners[1]);
    let mut comparison = Comparison {
        name,
        direction,
        policies: policies(&before, &after),
        told: BTreeSet::new(),
        hosts: BTreeMap::new(),
        compared: BTreeSet::new(),
        guarded: [&[], &[]],
        old: &before,
        new: &after,
        found: Found::default(),
    };
    for class in &classes {
        comparison.connection(&class.witness, &class.old, &class.new);
    }
    comparison.found
}

/// What both sides do on a connection: the address of a table, or an outcome in words; whether it was
/// plain; its address, if only the host that has it was looked at.
type Compared = ([(usize, String); 2], bool, Option<IpAddr>);

/// The hosts that two tables tell apart.
struct Hosts<'r> {
    classes: Vec<hosts::Class<'r>>,
    /// Routes look at more of a host than its virtual host.
    by_authority: bool,
}

struct Comparison<'r, 'c> {
    name: &'c str,
    direction: Direction,
    old: &'c Indexed<'r>,
    new: &'c Indexed<'r>,
    policies: BTreeMap<&'r Name, PolicyChange>,
    /// Clusters whose change has a witness.
    told: BTreeSet<&'r Name>,
    /// Of pairs of tables, by their addresses.
    hosts: BTreeMap<[usize; 2], Rc<Hosts<'r>>>,
    compared: BTreeSet<Compared>,
    /// What requests have to pass on the connection that is looked at.
    guarded: [&'r [Rbac]; 2],
    found: Found,
}

impl<'r> Comparison<'r, '_> {
    fn connection(&mut self, connection: &Connection, old: &'r Taker, new: &'r Taker) {
        let (before, after) = (old.handling(connection), new.handling(connection));
        let guarded = [guarding(&before), guarding(&after)];
        let was = guard_first(guarded[0], connection, answering(self.old, &before));
        let is = guard_first(guarded[1], connection, answering(self.new, &after));
        self.guarded = guarded;
        let Some(place) = self.answers(connection, &was, &is) else {
            return;
        };
        if let (Handling::Http(before), Handling::Http(after)) = (before, after) {
            self.managers(&place, before, after);
        }
        if was.table().is_some() == is.table().is_some() {
            self.guards(&place, guarded);
        }
    }

    /// Compares what both sides do with the requests on a connection; where some of them go.
    fn answers<'p>(
        &mut self,
        connection: &'p Connection,
        old: &Answering<'r>,
        new: &Answering<'r>,
    ) -> Option<Place<'p>> {
        let plain = connection.tls == Secured::Plain;
        if let (Answering::Fixed(before), Answering::Fixed(after)) = (old, new) {
            let place = self.place(connection, None);
            let request = place.request(None, None);
            self.outcomes(&place, request, (before, None), (after, None));
            return (before.way != Way::Refuses || after.way != Way::Refuses).then_some(place);
        }
        let (old_table, new_table) = (old.table(), new.table());
        let hosts = self.hosts(old_table, new_table);
        let first = hosts.classes.first();
        let first = first.map(|class| self.place(connection, Some(&class.host)));
        let both = old_table.is_some() && new_table.is_some();
        // Hosts by addresses would be too many: of what is at one address, only its own host.
        let ip = connection.address.ip();
        let own_only = !both && self.direction == Direction::Outbound && ip != NOBODY;
        let key = |ip| ([old.key(), new.key()], plain, ip);
        if self.compared.contains(&key(None)) || !self.compared.insert(key(own_only.then_some(ip)))
        {
            return first;
        }
        let is_in_class = |class: &hosts::Class<'r>, authority: &str| {
            let same = |table: Option<&'r RouteTable>, host: Option<&VirtualHost>| {
                let found = table.and_then(|table| table.virtual_host(authority));
                found.map(std::ptr::from_ref) == host.map(std::ptr::from_ref)
            };
            same(old_table, class.old) && same(new_table, class.new)
        };
        let own = match ip {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let managers: Vec<_> = old.manager().into_iter().chain(new.manager()).collect();
        for class in &hosts.classes {
            if own_only && !is_in_class(class, &own) {
                continue;
            }
            let mut place = self.place(connection, Some(&class.host));
            place.is_elsewhere = !both && class.is_at_other_addresses(ip);
            let alike = match (class.old, class.new) {
                (Some(before), Some(after)) => routes::same_host(before, after),
                (before, after) => before.is_none() && after.is_none(),
            };
            if alike && both && !self.touches(class.new) {
                continue;
            }
            let sides = [
                HostAnswers::of(old, class.old, plain),
                HostAnswers::of(new, class.new, plain),
            ];
            let authorities = match hosts.by_authority {
                true => class.authorities(&place.authority),
                false => Authorities::OneOf(vec![place.authority.clone()]),
            };
            let domain = routes::domain(&managers, authorities);
            let is_in_class = |authority: &str| is_in_class(class, authority);
            self.host(&place, &sides, &domain, is_in_class, &managers);
        }
        first
    }

    fn hosts(&mut self, old: Option<&'r RouteTable>, new: Option<&'r RouteTable>) -> Rc<Hosts<'r>> {
        let key = [old, new].map(table_address);
        let known = self.hosts.entry(key).or_insert_with(|| {
            let by_authority = looks_at_authority(old) || looks_at_authority(new);
            let classes = match by_authority {
                true => hosts::each_host(old, new),
                false => hosts::classes(old, new),
            };
            Rc::new(Hosts {
                classes,
                by_authority,
            })
        });
        Rc::clone(known)
    }

    /// Whether requests for the host may go to a cluster that is used otherwise, and of which no request
    /// is known yet.
    fn touches(&self, host: Option<&VirtualHost>) -> bool {
        let routes = host.into_iter().flat_map(|host| &host.routes);
        let mut clusters = routes.flat_map(|route| routes::clusters_of(route));
        clusters.any(|name| self.is_to_be_told(name))
    }

    fn is_to_be_told(&self, cluster: &Name) -> bool {
        self.policies.contains_key(cluster) && !self.told.contains(cluster)
    }

    fn host(
        &mut self,
        place: &Place<'_>,
        [old, new]: &[HostAnswers<'r>; 2],
        domain: &Domain,
        is_in_class: impl Fn(&str) -> bool,
        managers: &[&HttpConnectionManager],
    ) {
        let wanted = |before: Option<usize>, after: Option<usize>| {
            let (was, is) = (old.outcome(before), new.outcome(after));
            let paths_differ = match (old.route(before), new.route(after)) {
                (Some(before), Some(after)) => !rewrite::alike(before, after),
                _ => false,
            };
            let mut common = was
                .clusters()
                .filter(|name| is.clusters().any(|one| one == *name));
            !was.is_same(is) || paths_differ || common.any(|name| self.is_to_be_told(name))
        };
        let providers = managers.iter().filter_map(|manager| manager.jwt.as_ref());
        let issuer = providers.flat_map(|jwt| &jwt.providers).next();
        let issuer = issuer.map(|provider| &provider.issuer);
        for pair in routes::pairs(old.routes, new.routes, domain, wanted) {
            let (was, is) = (old.outcome(pair.old), new.outcome(pair.new));
            match pair.example {
                Ok(witness) if is_in_class(&witness.authority) => {
                    let request = place.request(Some(&witness), issuer);
                    let (before, after) = (old.route(pair.old), new.route(pair.new));
                    self.outcomes(place, request, (was, before), (is, after));
                }
                Ok(witness) => {
                    let reason = format!("{} is of another host", witness.authority);
                    self.undecided_about(place, reason, was, is);
                }
                Err(reason) => self.undecided_about(place, reason, was, is),
            }
        }
    }

    fn undecided_about(&mut self, place: &Place<'_>, reason: String, old: &Outcome, new: &Outcome) {
        let about = format!(
            "whether requests to {} change from {} to {}",
            place.host, old.destination, new.destination
        );
        self.undecided(about, reason, old.rules.clone(), new.rules.clone());
    }

    fn outcomes(
        &mut self,
        place: &Place<'_>,
        request: Request,
        (old, before): (&Outcome, Option<&Route>),
        (new, after): (&Outcome, Option<&Route>),
    ) {
        if self.direction == Direction::Inbound && (old.closes != new.closes) {
            return self.secured(place, &request, old, new);
        }
        let mut settings = differences(old, new);
        let paths = match (before, after) {
            (Some(before), Some(after)) if old.way == new.way => {
                same_effect(before, after, &request.path)
            }
            _ => Verdict::Same,
        };
        let told = |route: Option<&Route>| {
            let effect = route.and_then(|route| PathEffect::of(route).told());
            effect.unwrap_or_else(|| "none".to_owned())
        };
        match paths {
            Verdict::Same => {}
            Verdict::Different => settings.push(SettingChange {
                kind: Kind::Rewrite,
                setting: "path".to_owned(),
                old: told(before),
                new: told(after),
            }),
            Verdict::Undecided => self.undecided(
                format!("the rewritten paths of requests to {}", place.host),
                format!(
                    "the rewrites are written differently: {} and {}",
                    told(before),
                    told(after)
                ),
                old.rules.clone(),
                new.rules.clone(),
            ),
        }
        if !settings.is_empty() {
            let sides = [self.old.side.resources, self.new.side.resources];
            let Some(request) = guard::passing(sides, self.guarded, &request) else {
                let reason = "no request was found that may pass".to_owned();
                return self.undecided_about(place, reason, old, new);
            };
            self.found.changes.push(self.change(
                place,
                &request,
                treatment(
                    &old.destination,
                    &settings,
                    |one| &one.old,
                    old.rules.clone(),
                ),
                treatment(
                    &new.destination,
                    &settings,
                    |one| &one.new,
                    new.rules.clone(),
                ),
                settings,
            ));
        }
        self.policies_of(place, &request, old, new);
    }

    /// Connections to an application are taken by one side only.
    fn secured(&mut self, place: &Place<'_>, request: &Request, old: &Outcome, new: &Outcome) {
        if old.way == Way::Refuses && new.way == Way::Refuses {
            return;
        }
        let sides = [self.old.side.resources, self.new.side.resources];
        let Some(request) = guard::passing(sides, self.guarded, request) else {
            return;
        };
        let taken = |outcome: &Outcome| if outcome.closes { "closed" } else { "taken" };
        let how = match place.connection.tls {
            Secured::Plain => "plain text connections",
            Secured::Tls => "TLS connections",
            Secured::Mutual => "mutual TLS connections",
        };
        let settings = vec![SettingChange {
            kind: Kind::Access,
            setting: how.to_owned(),
            old: taken(old).to_owned(),
            new: taken(new).to_owned(),
        }];
        let port = place.connection.address.port();
        let rules = |side: &Side<'_>| (side.mutual_tls_rule)(port).into_iter().collect();
        let change = self.change(
            place,
            &request,
            treatment("", &settings, |one| &one.old, rules(&self.old.side)),
            treatment("", &settings, |one| &one.new, rules(&self.new.side)),
            settings,
        );
        self.found.changes.push(change);
    }

    /// Tells of the clusters that the requests of a pair go to on both sides.
    fn policies_of(&mut self, place: &Place<'_>, request: &Request, old: &Outcome, new: &Outcome) {
        let clusters =
            |outcome: &Outcome| -> BTreeSet<Name> { outcome.clusters().cloned().collect() };
        for name in clusters(old).intersection(&clusters(new)) {
            let Some((&name, change)) = self.policies.get_key_value(name) else {
                continue;
            };
            if self.told.contains(name) {
                continue;
            }
            let mut told = self.change(
                place,
                request,
                change.old.clone(),
                change.new.clone(),
                change.settings.clone(),
            );
            told.hosts = vec![cluster_label(name)];
            self.told.insert(name);
            self.found.changes.push(told);
        }
    }

    fn managers(
        &mut self,
        place: &Place<'_>,
        old: &HttpConnectionManager,
        new: &HttpConnectionManager,
    ) {
        let settings = of_manager(old).changes(&of_manager(new));
        if settings.is_empty() {
            return;
        }
        let request = place.request(None, None);
        let change = self.change(
            place,
            &request,
            treatment("", &settings, |one| &one.old, rules_of_manager(old)),
            treatment("", &settings, |one| &one.new, rules_of_manager(new)),
            settings,
        );
        self.found.changes.push(change);
    }

    fn guards(&mut self, place: &Place<'_>, [old, new]: [&[Rbac]; 2]) {
        if bare(old) == bare(new) {
            return;
        }
        let sides = [self.old.side.resources, self.new.side.resources];
        let base = place.request(None, None);
        let judged = guard::judge(sides, [old, new], &base);
        if judged.is_empty() {
            self.undecided(
                format!("who may pass to {}", place.host),
                "the rules differ, and no request was found that they judge differently".to_owned(),
                rules_of(old),
                rules_of(new),
            );
        }
        for one in judged {
            let change = self.change(place, &one.request, one.old, one.new, one.settings);
            self.found.changes.push(change);
        }
    }

    fn change(
        &self,
        place: &Place<'_>,
        request: &Request,
        old: Treatment,
        new: Treatment,
        settings: Vec<SettingChange>,
    ) -> Change {
        let kinds: BTreeSet<Kind> = settings.iter().map(|one| one.kind).collect();
        Change {
            kinds: kinds.into_iter().collect(),
            settings,
            old,
            new,
            witness: Witness {
                proxy: self.name.to_owned(),
                request: request.clone(),
                is_elsewhere: place.is_elsewhere,
            },
            hosts: vec![place.host.clone()],
            proxies: vec![self.name.to_owned()],
        }
    }

    fn undecided(
        &mut self,
        about: String,
        reason: String,
        old: Vec<ConfigRef>,
        new: Vec<ConfigRef>,
    ) {
        self.found.undecided.push(Undecided {
            about,
            reason,
            old,
            new,
            proxies: vec![self.name.to_owned()],
        });
    }

    fn place<'p>(&self, connection: &'p Connection, host: Option<&str>) -> Place<'p> {
        Place::new(self.name, self.direction, connection, host)
    }
}

/// What differs between two outcomes.
fn differences(old: &Outcome, new: &Outcome) -> Vec<SettingChange> {
    let mut changes = Vec::new();
    if old.comes_to_the_same(new) {
        return changes;
    }
    let same_targets = old.shares.keys().eq(new.shares.keys()) && !old.shares.is_empty();
    if old.destination != new.destination || old.shares != new.shares {
        changes.push(SettingChange {
            kind: match same_targets && old.way == new.way {
                true => Kind::Weights,
                false => Kind::Destination,
            },
            setting: "destination".to_owned(),
            old: old.destination.clone(),
            new: new.destination.clone(),
        });
    }
    if old.way == new.way {
        changes.extend(old.settings.changes(&new.settings));
    }
    changes
}

fn looks_at_authority(table: Option<&RouteTable>) -> bool {
    let hosts = table.into_iter().flat_map(|table| &table.virtual_hosts);
    let mut routes = hosts.flat_map(|host| &host.routes);
    routes.any(|route| {
        let mut headers = route.matches.headers.iter();
        headers.any(|header| &*header.name == ":authority")
    })
}
