//! Once capacities are reached an exchange allocates nothing.

mod support;

use proxy_core::Identity;
use proxy_core::contract::*;
use proxy_core::head::{RequestHead, ResponseHead};
use proxy_core::ids::*;
use proxy_core::proxy::{Outs, Proxy};
use proxy_core::time::Nanos;
use proxy_core::xds::*;
use std::sync::Arc;
use support::*;

struct Loop {
    proxy: Proxy,
    outs: Outs,
    head: Arc<RequestHead>,
    answer: Arc<ResponseHead>,
    todo: Vec<Action>,
    passes: u64,
}

/// Denies a path, and asks about every request; Mixer is asked about and told of all of them.
fn guarded() -> Listener {
    let mut guarded = listener();
    if let NetworkFilter::Http(manager) = &mut guarded.filter_chains[0].filter {
        let mixer = Mixer {
            check: true,
            report: true,
            ..Mixer::new("mixer_server".into())
        };
        manager.mixer = Some(mixer.into());
        manager.rbac = vec![Rbac {
            action: RbacAction::Deny,
            policies: vec![RbacPolicy {
                name: "some".into(),
                permissions: vec![Condition::Path(StringMatch::Exact("/denied".into()))],
                principals: vec![Condition::Any],
                origin: None,
            }],
        }];
    }
    guarded
}

/// What follows from an action.
fn answer(action: Action, head: &Arc<ResponseHead>) -> Option<Input> {
    Some(match action {
        Action::Connect { conn, .. } => Input::Connected { conn },
        Action::Ask { exchange, .. } => Input::Answered {
            exchange,
            verdict: Verdict::Allowed,
        },
        Action::Send { attempt, .. } => Input::ResponseHead {
            attempt,
            head: Arc::clone(head),
            ends: true,
        },
        _ => return None,
    })
}

impl Loop {
    fn new(workers: u32, path: &str, status: u16) -> Loop {
        let identity = Identity::new(1, "p".into(), workers);
        let mut proxy = Proxy::new(&identity);
        let mut outs = Outs::new(workers);
        let forward = Forward {
            timeout: Some(ms(1000)),
            retry: Some(retries(2, "5xx")),
            ..to_c()
        };
        let routes = vec![
            Arc::new(route("/c", RouteAction::Forward(forward))),
            Arc::new(route(
                "/none",
                RouteAction::Forward(Forward::to("d".into())),
            )),
        ];
        let host = VirtualHost {
            name: "v".into(),
            domains: vec!["*".into()],
            routes,
            ..VirtualHost::default()
        };
        // Counted, but never as far as a detection, which is a change of state.
        let outlier_detection = Some(OutlierDetection {
            consecutive_5xx: u32::MAX,
            consecutive_gateway_failure: u32::MAX,
            ..OutlierDetection::default()
        });
        let cluster = Cluster {
            outlier_detection,
            ..cluster()
        };
        for delta in [
            XdsDelta::Clusters {
                upsert: vec![cluster.into()],
                remove: vec![],
            },
            XdsDelta::Endpoints {
                upsert: vec![assignment("c", (1..=10).map(|n| (n, 0)).collect()).into()],
            },
            XdsDelta::Routes {
                upsert: vec![RouteTable::new("t".into(), vec![host], true).into()],
                remove: vec![],
            },
            XdsDelta::Listeners {
                upsert: vec![guarded().into()],
                remove: vec![],
            },
        ] {
            let input = MainInput::Xds { delta, version: 1 };
            proxy.handle_main(Nanos::ZERO, input, &mut outs, None);
        }
        for worker in 0..workers {
            let input = Input::Opened(opened(0));
            proxy.handle_worker(Nanos::ZERO, worker, input, &mut outs, None);
        }
        let mut head = head(path, &[]);
        head.id = Some(HeadId(0));
        Loop {
            proxy,
            outs,
            head: Arc::new(head),
            answer: Arc::new(ResponseHead::of_status(status)),
            todo: Vec::new(),
            passes: 0,
        }
    }

    fn pass(&mut self, worker: u32) {
        self.passes += 1;
        let now = Nanos(self.passes * 1_000_000_000);
        let w = worker as usize;
        let request = Input::Request {
            exchange: ExchangeId {
                index: 0,
                generation: self.passes as u32,
            },
            downstream: downstream(0),
            key: self.passes,
            head: Arc::clone(&self.head),
            ends: true,
        };
        self.proxy
            .handle_worker(now, worker, request, &mut self.outs, None);
        while self.outs.workers[w].logs.is_empty() {
            std::mem::swap(&mut self.todo, &mut self.outs.workers[w].actions);
            let idle = self.todo.is_empty();
            for action in self.todo.drain(..) {
                let Some(input) = answer(action, &self.answer) else {
                    continue;
                };
                self.proxy
                    .handle_worker(now, worker, input, &mut self.outs, None);
            }
            if idle {
                let later = now + ms(300);
                self.proxy
                    .handle_worker(later, worker, Input::Tick, &mut self.outs, None);
                return self.settle(later, worker);
            }
        }
        self.clear(w);
    }

    /// Back-offs: the clock has moved on; answer what is retried.
    fn settle(&mut self, at: Nanos, worker: u32) {
        let w = worker as usize;
        let mut now = at;
        while self.outs.workers[w].logs.is_empty() {
            std::mem::swap(&mut self.todo, &mut self.outs.workers[w].actions);
            for action in self.todo.drain(..) {
                let Some(input) = answer(action, &self.answer) else {
                    continue;
                };
                self.proxy
                    .handle_worker(now, worker, input, &mut self.outs, None);
            }
            if self.outs.workers[w].actions.is_empty() {
                now += ms(60);
                self.proxy
                    .handle_worker(now, worker, Input::Tick, &mut self.outs, None);
            }
        }
        self.clear(w);
    }

    fn clear(&mut self, worker: usize) {
        let out = &mut self.outs.workers[worker];
        assert_eq!(out.logs.len(), 1);
        out.actions.clear();
        out.logs.clear();
        for out in self.outs.workers.iter_mut().chain([&mut self.outs.main]) {
            out.changes.clear();
        }
    }
}

#[test]
fn steady_state_allocates_nothing() {
    for (workers, path, status) in [
        (1, "/c", 200),
        (3, "/c", 200),
        (1, "/c", 503), // retried twice, then passed on
        (1, "/none", 0),
        (1, "/nowhere", 0),
        (1, "/denied", 0),
    ] {
        let mut all = Loop::new(workers, path, status);
        for n in 0..2000 {
            all.pass(n % workers);
        }
        let used = allocation_counter::measure(|| {
            for n in 0..1000 {
                all.pass(n % workers);
            }
        });
        assert_eq!(used.count_total, 0, "{workers} workers, {path} {status}");
    }
}
