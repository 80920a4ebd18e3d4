//! The control plane's pushes, and the timeline.

use super::World;
use super::proxies::LineEnd;
use super::schedule::Event;
use crate::plan::PlanHappening;
use crate::random::Purpose;
use control_plane::Push;
use proxy_core::contract::MainInput;
use proxy_core::ids::ConnId;
use proxy_core::random::{hash_text, mix};
use proxy_core::time::Nanos;
use proxy_core::xds::XdsDelta;

/// How long a pod that was scaled away may take to finish (Kubernetes' default).
const TERMINATION_GRACE: Nanos = Nanos::from_secs(30);

/// A push on its way to a proxy.
#[derive(Debug)]
pub(super) struct PendingPush {
    proxy: u32,
    version: u64,
    deltas: Vec<XdsDelta>,
}

impl World<'_, '_> {
    /// Something that the control plane watches has changed.
    pub(super) fn set_control_timer(&mut self) {
        let deadline = self.control_plane.deadline().unwrap_or(Nanos::MAX);
        if deadline < self.control_timer_at {
            self.control_timer_at = deadline;
            self.queue.at(deadline, Event::ControlPlaneTimer);
        }
    }

    pub(super) fn control_plane_timer(&mut self) {
        let now = self.queue.now();
        if now < self.control_timer_at {
            return;
        }
        self.control_timer_at = Nanos::MAX;
        let pushes = self.control_plane.tick(now);
        self.send_pushes(pushes);
        self.set_control_timer();
    }

    fn send_pushes(&mut self, pushes: Vec<Push>) {
        let now = self.queue.now();
        for push in pushes {
            let found = self
                .proxies
                .iter()
                .rposition(|proxy| proxy.name == push.proxy);
            let Some(proxy) = found else { continue };
            let key = mix(hash_text(&push.proxy) ^ mix(now.0));
            let delay = self
                .plan
                .push_delay
                .sample(self.push_draws, key, Purpose::PushDelay);
            let state = &mut self.proxies[proxy];
            let at = (now + delay).max(state.last_push_at);
            state.last_push_at = at;
            let (version, deltas) = (push.version, push.deltas);
            let (push, _) = self.pushes.insert(PendingPush {
                proxy: proxy as u32,
                version,
                deltas,
            });
            self.queue.at(at, Event::Push { push });
        }
    }

    pub(super) fn push_arrives(&mut self, push: u32) {
        self.pushes.remove(push);
        let PendingPush {
            proxy,
            version,
            deltas,
        } = &mut self.pushes[push];
        let (proxy, version, deltas) = (*proxy, *version, std::mem::take(deltas));
        for delta in deltas {
            self.feed_main(proxy, MainInput::Xds { delta, version });
        }
        let pod = self.proxies[proxy as usize].pod;
        let state = &mut self.pods[pod as usize];
        if state.proxy == Some(proxy) && std::mem::take(&mut state.unconfigured) {
            state.ready = true;
            self.control_plane
                .set_pod(self.queue.now(), self.plan.pods[pod as usize].pod.clone());
            self.set_control_timer();
        }
    }

    /// The streams of pods' proxies break, or are back.
    fn set_streams(&mut self, pods: &[u32], connected: bool) {
        for &pod in pods {
            for identity in self.plan.pods[pod as usize].pod.identities() {
                let name = &identity.name;
                if connected {
                    let pushes = self.control_plane.reconnect(self.queue.now(), name);
                    self.send_pushes(pushes);
                } else {
                    self.control_plane.break_stream(name);
                }
            }
        }
    }

    pub(super) fn timeline(&mut self, number: u32) {
        let now = self.queue.now();
        let plan = self.plan;
        let event = &plan.timeline[number as usize];
        self.tally.happened(now, &event.name, event.what.clone());
        match &event.happening {
            PlanHappening::Config(objects) => {
                self.control_plane.set_objects(now, objects.clone());
                if let Some(mixer) = &mut self.mixer {
                    mixer.configure(objects);
                }
            }
            PlanHappening::Scale { workload, replicas } => self.scale(*workload, *replicas),
            PlanHappening::Crash {
                pods,
                noticed_after,
                restart_after,
            } => {
                for &pod in pods {
                    self.crash(pod, *noticed_after, *restart_after);
                }
            }
            PlanHappening::Restart { pods } => pods.iter().for_each(|&pod| self.restart(pod)),
            PlanHappening::Drain { pods } => pods.iter().for_each(|&pod| self.drain(pod)),
            PlanHappening::Stop => self.control_plane.stop(),
            PlanHappening::Start => {
                let pushes = self.control_plane.start(now);
                self.send_pushes(pushes);
            }
            PlanHappening::Disconnect { pods } => self.set_streams(pods, false),
            PlanHappening::Reconnect { pods } => self.set_streams(pods, true),
            PlanHappening::Behave { pods, change } => {
                for &pod in pods {
                    self.stations[pod as usize].change(change);
                    self.start_waiting(pod);
                }
            }
            PlanHappening::Restore { pods, change } => {
                for &pod in pods {
                    self.stations[pod as usize].restore(change);
                    self.start_waiting(pod);
                }
            }
            PlanHappening::Mixer(change) => {
                if let Some(mixer) = &mut self.mixer {
                    mixer.change(change);
                }
            }
            PlanHappening::Rate { traffic, per_s } => self.change_rate(*traffic, *per_s),
            PlanHappening::Users { traffic, users } => self.change_users(*traffic, *users),
        }
        self.set_control_timer();
    }

    fn scale(&mut self, workload: u32, replicas: u32) {
        let pods = &self.plan.workloads[workload as usize].pods;
        for (ordinal, &pod) in (0u32..).zip(pods) {
            let there = self.pods[pod as usize].is_there();
            if ordinal < replicas && !there {
                self.restart(pod);
            } else if ordinal >= replicas && there {
                self.drain(pod);
                let life = self.pods[pod as usize].life;
                let at = self.queue.now() + TERMINATION_GRACE;
                self.queue.at(at, Event::Terminated { pod, life });
            }
        }
    }

    fn drain(&mut self, pod: u32) {
        self.pods[pod as usize].ready = false;
        self.pods[pod as usize].unconfigured = false;
        let mut own = self.plan.pods[pod as usize].pod.clone();
        own.terminating = true;
        self.control_plane.set_pod(self.queue.now(), own);
    }

    fn crash(&mut self, pod: u32, noticed_after: Nanos, restart_after: Option<Nanos>) {
        if !self.pods[pod as usize].up {
            return;
        }
        self.break_off(pod);
        let life = self.pods[pod as usize].life;
        let now = self.queue.now();
        self.queue
            .at(now + noticed_after, Event::Noticed { pod, life });
        if let Some(after) = restart_after {
            self.queue.at(now + after, Event::Restart { pod, life });
        }
    }

    pub(super) fn crash_noticed(&mut self, pod: u32, life: u32) {
        if self.pods[pod as usize].life != life {
            return;
        }
        self.pods[pod as usize].ready = false;
        let mut own = self.plan.pods[pod as usize].pod.clone();
        own.ready = false;
        self.control_plane.set_pod(self.queue.now(), own);
        self.set_control_timer();
    }

    /// A pod starts, or starts again.
    pub(super) fn restart(&mut self, pod: u32) {
        let state = &mut self.pods[pod as usize];
        if state.is_there() {
            return;
        }
        let was_up = state.up;
        state.life += 1;
        state.up = true;
        state.ready = true;
        self.control_plane
            .set_pod(self.queue.now(), self.plan.pods[pod as usize].pod.clone());
        if !was_up {
            self.start_proxies(pod);
        }
        self.set_control_timer();
    }

    /// The end of a pod that was scaled away.
    pub(super) fn stop(&mut self, pod: u32) {
        if self.pods[pod as usize].up {
            self.break_off(pod);
            let own = &self.plan.pods[pod as usize].pod;
            self.control_plane
                .remove_pod(self.queue.now(), &own.namespace, &own.name);
            self.set_control_timer();
        }
    }

    /// A pod ends at once: its requests are lost and its connections break.
    fn break_off(&mut self, pod: u32) {
        let state = &mut self.pods[pod as usize];
        state.up = false;
        state.unconfigured = false;
        state.life += 1;
        let proxies = [state.proxy.take(), state.incoming.take()];
        self.lose_jobs(pod);
        self.break_connections_to(pod);
        for proxy in proxies.into_iter().flatten() {
            self.break_connections_from(proxy);
            self.drop_lines_to(proxy);
            self.stop_proxy(proxy);
        }
    }

    /// Every proxy with a connection to the pod hears of its end.
    fn break_connections_to(&mut self, pod: u32) {
        let address = self.plan.pods[pod as usize].pod.ip;
        for (proxy, state) in (0u32..).zip(&self.proxies) {
            let from = self.pods[state.pod as usize].locality;
            let to = self.pods[pod as usize].locality;
            for (worker, of_worker) in (0u16..).zip(&state.workers) {
                for (index, (conn, dialed)) in
                    (0u32..).zip(of_worker.conns.iter().zip(&of_worker.dialed))
                {
                    if conn.open && conn.to.is_some() && dialed.0.ip() == address {
                        let conn = ConnId {
                            index,
                            generation: conn.generation,
                        };
                        let key = u64::from(index) << 32 | u64::from(conn.generation);
                        let (latency, _) = self.links.latency(from, to, key, 5);
                        let event = Event::ConnClosed {
                            proxy,
                            worker,
                            conn,
                        };
                        self.queue.at(self.queue.now() + latency, event);
                    }
                }
            }
        }
    }

    /// The servers that a proxy was connected to hear of its end.
    fn break_connections_from(&mut self, proxy: u32) {
        for (number, state) in (0u32..).zip(&self.proxies) {
            for (worker, of_worker) in (0u16..).zip(&state.workers) {
                for index in of_worker.downstreams.taken() {
                    let LineEnd::Conn { proxy: client, .. } = of_worker.downstreams[index].client
                    else {
                        continue;
                    };
                    if client == proxy {
                        let generation = of_worker.downstreams.generation(index);
                        let downstream = proxy_core::ids::DownstreamId { index, generation };
                        let event = Event::DownstreamClosed {
                            proxy: number,
                            worker,
                            downstream,
                        };
                        self.queue.at(self.queue.now(), event);
                    }
                }
            }
        }
    }
}
