//! The timers of a worker: one doubly linked list for each distinct span. Spans are few and time
//! only moves forward, so every list is in order of expiry and starting, stopping and firing a
//! timer are constant-time; a stopped timer leaves nothing behind.

use crate::time::Nanos;

const NONE: u32 = u32::MAX;

/// A running timer, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId(u32);

impl TimerId {
    pub(crate) const NONE: TimerId = TimerId(NONE);
}

#[derive(Debug)]
struct Node<P> {
    expires_at: Nanos,
    previous: u32,
    next: u32,
    /// Index into `lists`; `NONE` while the node is free.
    list: u32,
    payload: P,
}

#[derive(Debug)]
struct List {
    span: Nanos,
    first: u32,
    last: u32,
}

/// Timers carrying a payload of type `P` each.
#[derive(Debug)]
pub(crate) struct Timers<P> {
    lists: Vec<List>,
    nodes: Vec<Node<P>>,
    free: u32,
    /// Never later than the earliest expiry.
    earliest_at: Nanos,
}

impl<P: Copy> Timers<P> {
    pub(crate) fn new() -> Timers<P> {
        Timers {
            lists: Vec::new(),
            nodes: Vec::new(),
            free: NONE,
            earliest_at: Nanos::MAX,
        }
    }

    /// When to call [`Timers::pop`] next: may be early, never late.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        (self.earliest_at != Nanos::MAX).then_some(self.earliest_at)
    }

    pub(crate) fn start(&mut self, now: Nanos, span: Nanos, payload: P) -> TimerId {
        let list = self.list_of(span);
        let last = self.lists[list as usize].last;
        let node = Node {
            expires_at: now + span,
            previous: last,
            next: NONE,
            list,
            payload,
        };
        let index = self.place(node);
        match last {
            NONE => self.lists[list as usize].first = index,
            last => self.nodes[last as usize].next = index,
        }
        self.lists[list as usize].last = index;
        self.earliest_at = self.earliest_at.min(now + span);
        TimerId(index)
    }

    /// Stops the timer, if it runs, and forgets its id.
    pub(crate) fn stop(&mut self, timer: &mut TimerId) {
        let index = std::mem::replace(timer, TimerId::NONE).0;
        if index != NONE {
            self.unlink(index);
        }
    }

    /// The next timer due at `now`; the caller forgets its id.
    pub(crate) fn pop(&mut self, now: Nanos) -> Option<P> {
        if self.earliest_at > now {
            return None;
        }
        let first = self
            .lists
            .iter()
            .filter(|list| list.first != NONE)
            .map(|list| list.first)
            .min_by_key(|&first| self.nodes[first as usize].expires_at);
        let Some(first) = first else {
            self.earliest_at = Nanos::MAX;
            return None;
        };
        let node = &self.nodes[first as usize];
        self.earliest_at = node.expires_at;
        if node.expires_at > now {
            return None;
        }
        let payload = node.payload;
        self.unlink(first);
        Some(payload)
    }

    fn list_of(&mut self, span: Nanos) -> u32 {
        if let Some(at) = self.lists.iter().position(|list| list.span == span) {
            return at as u32;
        }
        match self.lists.iter().position(|list| list.first == NONE) {
            Some(at) => {
                self.lists[at].span = span;
                at as u32
            }
            None => {
                self.lists.push(List {
                    span,
                    first: NONE,
                    last: NONE,
                });
                (self.lists.len() - 1) as u32
            }
        }
    }

    fn place(&mut self, node: Node<P>) -> u32 {
        match self.free {
            NONE => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
            index => {
                self.free = self.nodes[index as usize].next;
                self.nodes[index as usize] = node;
                index
            }
        }
    }

    fn unlink(&mut self, index: u32) {
        let Node {
            previous,
            next,
            list,
            ..
        } = self.nodes[index as usize];
        assert!(list != NONE, "a timer is stopped once");
        match previous {
            NONE => self.lists[list as usize].first = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => self.lists[list as usize].last = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        let node = &mut self.nodes[index as usize];
        node.list = NONE;
        node.next = self.free;
        self.free = index;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drain(timers: &mut Timers<u32>, now: u64) -> Vec<u32> {
        std::iter::from_fn(|| timers.pop(Nanos(now))).collect()
    }

    proptest! {
        /// Against a sorted list: what is started and not stopped fires once, in order, never early.
        #[test]
        fn fires_like_a_sorted_list(steps in prop::collection::vec((0u64..5, 0u64..4, any::<bool>()), 1..200)) {
            let mut timers = Timers::new();
            let mut model: Vec<(u64, u32, TimerId)> = Vec::new();
            let mut now = 0;
            for (i, (pause, span, stop)) in steps.into_iter().enumerate() {
                now += pause;
                let due: Vec<(u64, u32, TimerId)> = model.iter().copied().filter(|t| t.0 <= now).collect();
                model.retain(|t| t.0 > now);
                let mut fired = drain(&mut timers, now);
                let mut expected: Vec<u32> = due.iter().map(|t| t.1).collect();
                fired.sort_unstable();
                expected.sort_unstable();
                prop_assert_eq!(fired, expected);
                if stop && !model.is_empty() {
                    let (_, _, mut id) = model.remove(0);
                    timers.stop(&mut id);
                }
                let span = 1 + span * 3;
                let id = timers.start(Nanos(now), Nanos(span), i as u32);
                model.push((now + span, i as u32, id));
                let earliest = model.iter().map(|t| t.0).min();
                prop_assert!(timers.deadline().map(|d| d.0) <= earliest, "late deadline");
            }
        }
    }

    #[test]
    fn stopped_timers_leave_nothing_behind() {
        let mut timers = Timers::new();
        for step in 0..10_000 {
            let mut id = timers.start(Nanos(step), Nanos(1_000_000), 0u32);
            timers.stop(&mut id);
        }
        assert_eq!(timers.nodes.len(), 1);
    }
}
