//! A whole proxy on one thread: the main machine and its workers, with the messages between them
//! delivered at once. Drivers that run workers on threads of their own use the machines directly.

use crate::contract::{Input, MainInput, Out, WorkerSet};
use crate::main_thread::Main;
use crate::messages::{ToMain, ToWorker};
use crate::time::Nanos;
use crate::worker::{Identity, Worker};

/// An input on its way to a machine.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    Main(&'a MainInput),
    Worker(u32, &'a Input),
}

/// Sees what every machine is given and what it makes of it: a journal.
pub trait Witness {
    /// `out` holds what the machine appended for this input, and nothing else.
    fn saw(&mut self, now: Nanos, step: Step<'_>, out: &Out);
}

/// What the machines of a proxy ask for, apart: ids in a worker's actions are that worker's own.
#[derive(Debug, Default)]
pub struct Outs {
    pub main: Out,
    pub workers: Vec<Out>,
}

impl Outs {
    /// Room for `workers` workers.
    pub fn new(workers: u32) -> Outs {
        Outs {
            main: Out::default(),
            workers: (0..workers.max(1)).map(|_| Out::default()).collect(),
        }
    }
}

/// A proxy: one main machine and its workers.
#[derive(Debug)]
pub struct Proxy {
    main: Main,
    workers: Vec<Worker>,
    /// Emptied lists of messages, kept for their capacity.
    spare: Vec<Messages>,
}

type Messages = (Vec<ToMain>, Vec<(WorkerSet, ToWorker)>);

impl Proxy {
    /// A proxy that has been told nothing yet.
    pub fn new(identity: &Identity) -> Proxy {
        Proxy {
            main: Main::new(identity),
            workers: (0..identity.workers.max(1))
                .map(|number| Worker::new(identity, number))
                .collect(),
            spare: Vec::new(),
        }
    }

    /// A worker, to look up names behind ids.
    #[inline]
    pub fn worker(&self, worker: u32) -> &Worker {
        &self.workers[worker as usize]
    }

    /// How many workers there are.
    pub fn workers(&self) -> u32 {
        self.workers.len() as u32
    }

    /// When the main machine next needs a tick.
    pub fn main_deadline(&self) -> Option<Nanos> {
        self.main.deadline()
    }

    /// Gives the main machine an input, and the workers what it has to tell them.
    pub fn handle_main(
        &mut self,
        now: Nanos,
        input: MainInput,
        outs: &mut Outs,
        witness: Option<&mut dyn Witness>,
    ) {
        Delivery {
            proxy: self,
            outs,
            now,
            witness,
        }
        .main(input);
    }

    /// Gives a worker an input. True if other machines were told something, so that their outs may
    /// hold actions too.
    #[inline]
    pub fn handle_worker(
        &mut self,
        now: Nanos,
        worker: u32,
        input: Input,
        outs: &mut Outs,
        witness: Option<&mut dyn Witness>,
    ) -> bool {
        if witness.is_none() {
            let out = &mut outs.workers[worker as usize];
            self.workers[worker as usize].handle(now, input, out);
            let told = !out.to_main.is_empty() || !out.to_workers.is_empty();
            if told {
                Delivery {
                    proxy: self,
                    outs,
                    now,
                    witness,
                }
                .pass_on(Some(worker));
            }
            told
        } else {
            Delivery {
                proxy: self,
                outs,
                now,
                witness,
            }
            .worker(worker, input);
            true
        }
    }
}

/// One input and all the messages that follow from it.
struct Delivery<'a, 'w> {
    proxy: &'a mut Proxy,
    outs: &'a mut Outs,
    now: Nanos,
    witness: Option<&'w mut dyn Witness>,
}

impl Delivery<'_, '_> {
    fn main(&mut self, input: MainInput) {
        match self.witness.as_deref_mut() {
            None => self.proxy.main.handle(self.now, input, &mut self.outs.main),
            Some(witness) => {
                let mut own = Out::default();
                self.proxy.main.handle(self.now, input.clone(), &mut own);
                witness.saw(self.now, Step::Main(&input), &own);
                self.outs.main.append(own);
            }
        }
        self.pass_on(None);
    }

    fn worker(&mut self, worker: u32, input: Input) {
        let out = &mut self.outs.workers[worker as usize];
        let machine = &mut self.proxy.workers[worker as usize];
        match self.witness.as_deref_mut() {
            None => machine.handle(self.now, input, out),
            Some(witness) => {
                let mut own = Out::default();
                machine.handle(self.now, input.clone(), &mut own);
                witness.saw(self.now, Step::Worker(worker, &input), &own);
                out.append(own);
            }
        }
        self.pass_on(Some(worker));
    }

    /// Delivers the messages that `from` (`None`: the main machine) has just sent.
    fn pass_on(&mut self, from: Option<u32>) {
        let out = match from {
            None => &mut self.outs.main,
            Some(worker) => &mut self.outs.workers[worker as usize],
        };
        if out.to_main.is_empty() && out.to_workers.is_empty() {
            return;
        }
        let (mut to_main, mut to_workers) = self.proxy.spare.pop().unwrap_or_default();
        std::mem::swap(&mut out.to_main, &mut to_main);
        std::mem::swap(&mut out.to_workers, &mut to_workers);
        for message in to_main.drain(..) {
            self.main(MainInput::Message {
                worker: from.unwrap_or(0),
                message,
            });
        }
        for (set, message) in to_workers.drain(..) {
            for worker in 0..self.proxy.workers() {
                if set == WorkerSet::All || Some(worker) != from {
                    self.worker(worker, Input::Message(message.clone()));
                }
            }
        }
        self.proxy.spare.push((to_main, to_workers));
    }
}
