//! One verification, from configurations to a report.

use crate::bootstrap::{Entries, bootstrap};
use crate::client::{Answer, Line};
use crate::compare::{Compared, Field, compare, of_envoy};
use crate::core::{Core, warmup};
use crate::envoy::{Envoy, FLUSH, Folder};
use crate::logs::{Lines, access_log};
use crate::mapping::{LONGEST_DELAY, Places, prefix};
use crate::report::{Difference, Report};
use crate::sample::{self, Shares};
use crate::seen::{Asked, SAMPLE, Seen};
use crate::upstream::Upstreams;
use crate::{Config, Failure, Settings, generate};
use control_plane::{Request, Resources, explain};
use proxy_core::router::has_overlapping_chains;
use proxy_core::time::Nanos;
use proxy_core::xds::{Discovery, RouteAction};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Stands in for the address of a proxy without an IPv4 one.
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// More of them tell nothing new, and each is searched for long.
const MOST_DIFFERENCES: usize = 20;
/// How often the access log is looked at for lines that are missing.
const LOOKS: u32 = 60;

/// Everything about one configuration on this machine.
struct Prepared {
    mapped: Resources,
    asked: Vec<Asked>,
    samples: Vec<Asked>,
    entries: Entries,
}

pub(crate) async fn run(configs: &[Config], settings: &Settings) -> Result<Report, Failure> {
    let mut places = Places::new();
    let mut notes = Vec::new();
    let configs = &without_refused(configs, &mut notes);
    let mut prepared = Vec::new();
    for (number, config) in configs.iter().enumerate() {
        prepared.push(prepare(number, config, &mut places, &mut notes)?);
    }
    let mut upstreams = Upstreams::default();
    let addresses = Rc::new(listen(&prepared, &mut places, &mut upstreams)?);
    let mut cores: Vec<Core> = prepared
        .iter()
        .map(|one| Core::new(&one.mapped, Rc::clone(&addresses)))
        .collect();
    if settings.sample_size > 0 {
        for ((one, core), config) in prepared.iter_mut().zip(&mut cores).zip(configs) {
            one.samples = samples(&one.asked, &config.resources, core);
        }
    }
    let folder = Folder::new()?;
    let log = folder.join("access.log");
    let answers = ask_envoy(&prepared, &mut places, settings, (&folder, &log)).await?;
    let lines = all_lines(&prepared, &answers, settings, &log).await?;
    let mut report = Report::new(configs.len(), notes);
    'all: for (number, one) in prepared.iter().enumerate() {
        let mut side = Side {
            config: &configs[number],
            prepared: one,
            core: &mut cores[number],
            lines: &lines,
            upstreams: &upstreams,
        };
        for asked in &one.asked {
            side.compare(asked, answers.get(&asked.id), &mut report);
            if report.differences.len() == MOST_DIFFERENCES {
                let note = format!("not compared after {MOST_DIFFERENCES} differences");
                report.notes.push(note);
                break 'all;
            }
        }
        for asked in &one.samples {
            side.compare_shares(asked, settings.sample_size, &mut report);
        }
    }
    report.agreement.sort_by_key(|counts| counts.field);
    Ok(report)
}

/// Envoy refuses listeners with overlapping chains, and ends if it is started with one; the core
/// refuses them too.
fn without_refused(configs: &[Config], notes: &mut Vec<String>) -> Vec<Config> {
    let mut configs = configs.to_vec();
    for config in &mut configs {
        config.resources.listeners.retain(|listener| {
            let refused = has_overlapping_chains(listener);
            if refused {
                let (name, listener) = (&config.name, &listener.name);
                notes.push(format!(
                    "{name}: both refuse listener {listener}: not asked"
                ));
            }
            !refused
        });
    }
    configs
}

fn prepare(
    number: usize,
    config: &Config,
    places: &mut Places,
    notes: &mut Vec<String>,
) -> Result<Prepared, Failure> {
    let mapped = places.map(number, &config.resources)?;
    let requests: Vec<Request> = match config.requests.is_empty() {
        false => config.requests.clone(),
        true => {
            let made = generate::requests(&config.resources, config.proxy.ip);
            notes.extend(
                made.notes
                    .iter()
                    .map(|note| format!("{}: {note}", config.name)),
            );
            made.requests
        }
    };
    if has_long_delays(&config.resources) {
        let limit = LONGEST_DELAY.as_millis();
        let note = format!("injected delays are cut to {limit} ms");
        if !notes.contains(&note) {
            notes.push(note);
        }
    }
    let mut asked = Vec::new();
    for (at, request) in requests.iter().enumerate() {
        let Some(address) = request.address else {
            notes.push(format!(
                "{}: a request to nowhere is not asked",
                config.name
            ));
            continue;
        };
        let destination = places.destination(number, address)?;
        let peer = peer(config.proxy.ip, number, at);
        let id = format!("verify-{number}-{at}");
        asked.push(Asked::new(
            (id, number),
            request,
            &config.resources,
            peer,
            destination,
        ));
    }
    let entries = Entries {
        outbound: places.free_port()?,
        inbound: places.free_port()?,
    };
    Ok(Prepared {
        mapped,
        asked,
        samples: Vec::new(),
        entries,
    })
}

/// Some clients near the proxy's own address, and a port for each request.
fn peer(ip: IpAddr, config: usize, at: usize) -> SocketAddr {
    let ip = match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => SOMEBODY,
    };
    let ip = Ipv4Addr::from_bits(ip.to_bits() ^ (at as u32 % 8) << 8);
    let port = 1024 + (config * 1009 + at) % 60_000;
    SocketAddr::from((ip, port as u16))
}

fn has_long_delays(resources: &Resources) -> bool {
    let hosts = resources
        .routes
        .iter()
        .flat_map(|table| &table.virtual_hosts);
    let mut faults = hosts
        .flat_map(|host| &host.routes)
        .filter_map(|route| route.fault.as_ref());
    faults.any(|fault| {
        fault
            .delay
            .as_ref()
            .is_some_and(|delay| delay.fixed > LONGEST_DELAY)
    })
}

/// Listens wherever connections may go.
fn listen(
    prepared: &[Prepared],
    places: &mut Places,
    upstreams: &mut Upstreams,
) -> Result<BTreeSet<SocketAddr>, Failure> {
    let mut addresses: BTreeSet<SocketAddr> = places.endpoints().collect();
    for address in &addresses {
        if let Some(listener) = places.release(*address) {
            upstreams.serve(listener)?;
        }
    }
    for one in prepared {
        let ports: BTreeSet<u16> = one
            .mapped
            .clusters
            .iter()
            .filter_map(|cluster| match cluster.discovery {
                Discovery::OriginalDst { port } => port,
                _ => None,
            })
            .collect();
        for asked in &one.asked {
            let to = asked.destination;
            let others = ports.iter().map(|port| SocketAddr::new(to.ip(), *port));
            for address in others.chain([to]) {
                if addresses.insert(address) {
                    upstreams.serve(TcpListener::bind(address)?)?;
                }
            }
        }
    }
    Ok(addresses)
}

/// One request for each set of ways that requests may take.
fn samples(asked: &[Asked], resources: &Resources, core: &mut Core) -> Vec<Asked> {
    let mut known = BTreeSet::new();
    let mut samples = Vec::new();
    for one in asked
        .iter()
        .filter(|one| !one.is_tcp() && !one.is_scripted())
    {
        if let Some(ways) = sample::ways(core, one)
            && !copies_in_turn(resources, &one.request)
            && known.insert(ways)
        {
            let mut sample = one.clone();
            sample.id = format!("{SAMPLE}{}", one.id);
            let mut head = (*sample.head).clone();
            head.headers
                .set(crate::seen::ID.into(), sample.id.as_bytes());
            sample.head = head.into();
            samples.push(sample);
        }
    }
    samples
}

/// Whether copies go where the request goes. Then, where endpoints take turns, it meets the same ones
/// again and again; which, no share tells.
fn copies_in_turn(resources: &Resources, request: &Request) -> bool {
    let matched = explain(resources, request).matched;
    let Some(RouteAction::Forward(forward)) = matched.as_ref().map(|route| &route.action) else {
        return false;
    };
    let mut mirrors = forward.mirrors.iter().map(|mirror| &mirror.cluster);
    mirrors.any(|name| forward.clusters.iter().any(|entry| entry.cluster == *name))
}

/// The answers, by the request's id; none where the connection was closed.
type Answers = BTreeMap<String, Option<Answer>>;

async fn ask_envoy(
    prepared: &[Prepared],
    places: &mut Places,
    settings: &Settings,
    (folder, log): (&Folder, &Path),
) -> Result<Answers, Failure> {
    let admin = places.free_port()?;
    let entries: Vec<Entries> = prepared.iter().map(|one| one.entries).collect();
    let mapped: Vec<Resources> = prepared.iter().map(|one| one.mapped.clone()).collect();
    let bootstrap = bootstrap(&mapped, &entries, admin, access_log(log))?;
    for port in entries
        .iter()
        .flat_map(|own| [own.outbound, own.inbound])
        .chain([admin])
    {
        places.release(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    std::fs::write(log, "")?;
    let envoy = Envoy::start(&settings.envoy, &bootstrap, admin, folder, 1).await?;
    let warm = mapped.iter().map(warmup).max().unwrap_or(Nanos::ZERO);
    tokio::time::sleep(Duration::from_nanos(warm.0)).await;
    let mut tasks = JoinSet::new();
    for one in prepared {
        let (asked, samples) = (one.asked.clone(), one.samples.clone());
        tasks.spawn_local(ask_all(one.entries, asked, samples, settings.sample_size));
    }
    let mut answers = Answers::new();
    while let Some(done) = tasks.join_next().await {
        answers.extend(done.map_err(|error| Failure::Machine(error.to_string()))??);
    }
    // Copies of requests may still be on their way, and the log is written now and then.
    tokio::time::sleep(FLUSH * 4).await;
    drop(envoy);
    Ok(answers)
}

/// One after another, so that no request changes what becomes of another.
async fn ask_all(
    entries: Entries,
    asked: Vec<Asked>,
    samples: Vec<Asked>,
    sample_size: u64,
) -> Result<Answers, Failure> {
    let mut answers = Answers::new();
    for one in asked {
        let mut line = Line::open(entries.of(one.direction), &one).await?;
        let answer = line.ask(&one).await?;
        answers.insert(one.id, answer);
    }
    for one in samples {
        let mut line = Line::open(entries.of(one.direction), &one).await?;
        for _ in 0..sample_size {
            if line.ask(&one).await?.is_none() {
                line = Line::open(entries.of(one.direction), &one).await?;
            }
        }
    }
    Ok(answers)
}

/// Envoy's log, once it has a line for every answer.
async fn all_lines(
    prepared: &[Prepared],
    answers: &Answers,
    settings: &Settings,
    log: &Path,
) -> Result<Lines, Failure> {
    let http = prepared
        .iter()
        .flat_map(|one| &one.asked)
        .filter(|asked| !asked.is_tcp());
    let answered = http
        .filter(|asked| answers.get(&asked.id).is_some_and(Option::is_some))
        .count();
    let samples: usize = prepared.iter().map(|one| one.samples.len()).sum();
    for _ in 0..LOOKS {
        let lines = Lines::read(log)?;
        let sampled: usize = lines.samples.values().map(Vec::len).sum();
        if lines.by_id.len() >= answered && sampled as u64 >= samples as u64 * settings.sample_size
        {
            return Ok(lines);
        }
        tokio::time::sleep(FLUSH).await;
    }
    let lines = Lines::read(log)?;
    let mut all = prepared.iter().flat_map(|one| &one.asked);
    let missing = all.find(|asked| !asked.is_tcp() && !lines.by_id.contains_key(&asked.id));
    let which = missing.map_or_else(|| "of a sample".to_owned(), described);
    Err(Failure::Envoy(format!(
        "its access log misses lines: {which}"
    )))
}

/// The request as it was meant, from where it comes.
fn from(asked: &Asked) -> Request {
    Request {
        source: Some(asked.peer.ip()),
        ..asked.request.clone()
    }
}

/// One configuration with both its sides.
struct Side<'a> {
    config: &'a Config,
    prepared: &'a Prepared,
    core: &'a mut Core,
    lines: &'a Lines,
    upstreams: &'a Upstreams,
}

impl Side<'_> {
    fn compare(&mut self, asked: &Asked, answer: Option<&Option<Answer>>, report: &mut Report) {
        let answer = answer.and_then(Option::as_ref);
        let line = match asked.is_tcp() {
            false => self.lines.by_id.get(&asked.id),
            true => self.lines.by_peer.get(&asked.peer.port()),
        };
        let hits = self.upstreams.notes.borrow().hits.get(&asked.id).cloned();
        let envoy = of_envoy(asked, answer, line, hits.unwrap_or_default());
        let compared = match asked.is_tcp() {
            false => compare(self.core, asked, &envoy),
            true => self.compare_tcp(asked, &envoy),
        };
        if let Some(fields) = report.count(&compared) {
            report.differences.push(Difference {
                config: self.config.name.clone(),
                request: described(asked),
                trail: explain(&self.config.resources, &from(asked)).trail,
                details: format!("{} {} {}", envoy.status, envoy.flags, envoy.details),
                fields,
            });
        }
    }

    /// The core leaves TCP to its drivers; what it would do is explained.
    fn compare_tcp(&self, asked: &Asked, envoy: &Seen) -> Vec<Compared> {
        let request = Request {
            address: Some(asked.destination),
            ..from(asked)
        };
        let mine = explain(&self.prepared.mapped, &request);
        let text = |one: Option<String>| one.unwrap_or_else(|| "none".to_owned());
        let differ = |field, core: String, envoy: String| Compared {
            field,
            differs: (core != envoy).then_some((core, envoy)),
        };
        let details = mine.details.as_deref().unwrap_or_default();
        // Envoy connects upstream before it has read what it then denies.
        if [details, &*envoy.details]
            .iter()
            .any(|text| text.starts_with("rbac_"))
        {
            return vec![differ(
                Field::Details,
                details.to_owned(),
                envoy.details.clone(),
            )];
        }
        let cluster = envoy.cluster.clone();
        // Of a cluster that is not there Envoy does not say which.
        let there = |name: &str| {
            let mut clusters = self.prepared.mapped.clusters.iter();
            clusters.any(|one| *one.name == *name)
        };
        let expected = mine.clusters.iter().map(|share| {
            let name = there(&share.name).then(|| share.name.to_string());
            (name != cluster, name)
        });
        let expected = expected.min().and_then(|(_, name)| name);
        let mut compared = vec![differ(Field::Cluster, text(expected), text(cluster))];
        if let Some(endpoint) = mine.endpoint {
            let theirs = text(envoy.endpoint.map(|address| address.to_string()));
            compared.push(differ(Field::Endpoint, endpoint.to_string(), theirs));
        }
        compared
    }

    fn compare_shares(&mut self, asked: &Asked, count: u64, report: &mut Report) {
        let (core, core_reached) = sample::of_core(self.core, asked, count);
        let mut envoy = Shares::new();
        for line in self.lines.samples.get(&asked.id).into_iter().flatten() {
            let cluster = line.cluster(asked.config);
            let status = line.status.unwrap_or_default();
            let way = sample::words(cluster.as_deref(), line.endpoint.as_deref(), status);
            *envoy.entry(way).or_default() += 1;
        }
        let counts = &self.upstreams.notes.borrow().counts;
        let reached = counts.iter().filter(|((id, _), _)| *id == asked.id);
        let reached: Shares = reached
            .map(|((_, at), count)| (at.to_string(), *count))
            .collect();
        let about = |of| (self.config.name.clone(), described(asked), of);
        report
            .samples
            .push(sample::judged(about("ways of requests"), &core, &envoy));
        let upstream = sample::judged(about("upstreams reached"), &core_reached, &reached);
        report.samples.push(upstream);
    }
}

/// A request in words.
fn described(asked: &Asked) -> String {
    let request = &asked.request;
    let to = request
        .address
        .map_or_else(String::new, |address| format!(" (to {address})"));
    let headers = request
        .headers
        .iter()
        .map(|(name, value)| format!(" {name}: {value}"));
    let headers: String = headers.collect();
    let kind = if asked.is_tcp() {
        "TCP"
    } else {
        &*request.method
    };
    let text = format!("{kind} {}{}{headers}{to}", request.authority, request.path);
    text.replace(&prefix(asked.config), "")
}
