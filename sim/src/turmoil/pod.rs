//! A host: its proxy, its application, and its listener.

use super::application;
use super::clients::ask;
use super::network::{HANDSHAKE, Net, PORT, io};
use super::reports::proxy_sink;
use super::world::{Order, RunningProxy, World};
use control_plane::ProxyKind;
use proxy::preface::Preface;
use proxy::{Accepted, Driver, Setup};
use proxy_core::Identity;
use proxy_core::contract::{Direction, Opened, Protocol};
use proxy_core::ids::DownstreamId;
use proxy_core::xds::Name;
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use turmoil::net::{TcpListener, TcpStream};

/// A pod, from its start to its end.
pub(super) async fn run(world: Rc<World>, pod: u32) -> turmoil::Result {
    if !world.is_up(pod) {
        return std::future::pending().await;
    }
    let driver = start_proxy(&world, pod);
    let (orders, mut ordered) = mpsc::unbounded_channel();
    world.pods.borrow_mut()[pod as usize].orders = Some(orders);
    spawn_local(listen(Rc::clone(&world), pod, driver.clone()));
    let lines = world.lines_of(pod);
    while let Some(order) = ordered.recv().await {
        match order {
            Order::Push { version, deltas } => {
                for delta in deltas {
                    if let Some(driver) = &driver {
                        driver.xds(delta, version);
                    }
                }
            }
            Order::Ask {
                source,
                key,
                head,
                ended,
            } => {
                let lines = Rc::clone(&lines);
                spawn_local(async move {
                    ask(&lines, source, key, head).await;
                    // The source may have ended.
                    let _ = ended.send(());
                });
            }
        }
    }
    std::future::pending().await
}

/// A service outside the mesh.
pub(super) async fn run_external(world: Rc<World>, station: u32) -> turmoil::Result {
    listen(world, station, None).await;
    std::future::pending().await
}

/// Starts the proxy of a pod, if it has one, with all that the control plane knows.
fn start_proxy(world: &Rc<World>, pod: u32) -> Option<Driver<Net>> {
    let own = &world.plan.pods[pod as usize].pod;
    let identity = own.identities().into_iter().next()?;
    let name: Name = Arc::clone(&identity.name);
    let number = world.proxies.replace(world.proxies.get() + 1);
    let setup = Setup {
        identity: Identity::new(world.seed, Arc::clone(&name), world.plan.concurrency.max(1)),
        keys_of_tries: true,
        journal: world.keeps_journals,
        sink: proxy_sink(Rc::clone(world), pod, number, Arc::clone(&name)),
    };
    let driver = Driver::start(setup, Net::new(Rc::clone(world), pod));
    let state = &mut world.pods.borrow_mut()[pod as usize];
    let journal_name = match state.starts {
        0 => name.to_string(),
        restarts => format!("{name}-restart-{restarts}"),
    };
    state.starts += 1;
    state.proxy = Some(RunningProxy {
        driver: driver.clone(),
        journal_name,
    });
    let mut control_plane = world.control_plane.borrow_mut();
    let push = control_plane.connect(world.now(), identity);
    if control_plane.is_stopped() {
        (state.ready, state.unconfigured) = (false, true);
        let mut own = own.clone();
        own.ready = false;
        control_plane.set_pod(world.now(), own);
    }
    for delta in push.deltas {
        driver.xds(delta, push.version);
    }
    Some(driver)
}

/// Takes connections for the proxy, or for the application where there is none.
async fn listen(world: Rc<World>, station: u32, driver: Option<Driver<Net>>) {
    let Ok(listener) = TcpListener::bind(("0.0.0.0", PORT)).await else {
        return;
    };
    while let Ok((stream, _)) = listener.accept().await {
        spawn_local(take(Rc::clone(&world), station, driver.clone(), stream));
    }
}

async fn take(world: Rc<World>, station: u32, driver: Option<Driver<Net>>, mut stream: TcpStream) {
    let Ok(preface) = Preface::read(&mut stream).await else {
        return;
    };
    let Some(driver) = driver else {
        if preface.tls.is_some() && stream.write_all(HANDSHAKE).await.is_err() {
            return;
        }
        return application::serve(world, station, io(stream)).await;
    };
    let direction = match world.plan.pods[station as usize].pod.proxy {
        ProxyKind::Gateway => Direction::Gateway,
        _ => Direction::Inbound,
    };
    if preface.tls.is_some() {
        let opened = Opened {
            downstream: DownstreamId {
                index: 0,
                generation: 0,
            },
            peer: preface.source,
            original_dst: preface.destination,
            direction,
            tls: preface.tls.clone(),
            protocol: Protocol::Http1,
        };
        let taken = driver.with_proxy(|proxy| proxy.worker(0).takes(&opened));
        if !taken || stream.write_all(HANDSHAKE).await.is_err() {
            return;
        }
    }
    driver.accept(Accepted {
        io: io(stream),
        peer: preface.source,
        original_dst: preface.destination,
        direction,
        tls: preface.tls,
    });
}
