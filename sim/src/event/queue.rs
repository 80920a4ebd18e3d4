//! The event queue: events in order of time, and of scheduling where times are equal.
//!
//! Most delays of a run are few constants (network latencies), and time only moves forward, so
//! events of one such delay are in order as they are scheduled: each constant gets a lane, a plain
//! queue. All other events go through a heap.

use proxy_core::time::Nanos;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Lanes are searched one by one, so there are few.
const LANES_MAX: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Scheduled<E> {
    at: Nanos,
    sequence: u64,
    event: E,
}

impl<E> Scheduled<E> {
    #[inline]
    fn order(&self) -> (Nanos, u64) {
        (self.at, self.sequence)
    }
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}
impl<E> Eq for Scheduled<E> {}
impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<E> Ord for Scheduled<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[derive(Debug)]
struct Lane<E> {
    delay: Nanos,
    queue: VecDeque<Scheduled<E>>,
}

/// Events to come.
#[derive(Debug)]
pub(crate) struct EventQueue<E> {
    now: Nanos,
    sequence: u64,
    heap: BinaryHeap<Reverse<Scheduled<E>>>,
    lanes: Vec<Lane<E>>,
}

impl<E: Copy> EventQueue<E> {
    pub(crate) fn new() -> EventQueue<E> {
        EventQueue {
            now: Nanos::ZERO,
            sequence: 0,
            heap: BinaryHeap::new(),
            lanes: Vec::new(),
        }
    }

    /// Time of the event taken last.
    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Schedules `event` at `at`, or now if that is past.
    #[inline]
    pub(crate) fn at(&mut self, at: Nanos, event: E) {
        let scheduled = self.stamp(at.max(self.now), event);
        self.heap.push(Reverse(scheduled));
    }

    /// Schedules `event` after a `delay` that many events share.
    #[inline]
    pub(crate) fn after(&mut self, delay: Nanos, event: E) {
        let scheduled = self.stamp(self.now + delay, event);
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.delay == delay) {
            lane.queue.push_back(scheduled);
        } else if self.lanes.len() < LANES_MAX {
            let queue = VecDeque::from([scheduled]);
            self.lanes.push(Lane { delay, queue });
        } else {
            self.heap.push(Reverse(scheduled));
        }
    }

    #[inline]
    fn stamp(&mut self, at: Nanos, event: E) -> Scheduled<E> {
        self.sequence += 1;
        Scheduled {
            at,
            sequence: self.sequence,
            event,
        }
    }

    /// Takes the next event, unless it lies after `until`; time moves to it.
    #[inline]
    pub(crate) fn pop(&mut self, until: Nanos) -> Option<E> {
        let mut best = self.heap.peek().map(|Reverse(first)| first.order());
        let mut from = None;
        for (number, lane) in self.lanes.iter().enumerate() {
            if let Some(first) = lane.queue.front()
                && best.is_none_or(|best| first.order() < best)
            {
                best = Some(first.order());
                from = Some(number);
            }
        }
        let (at, _) = best?;
        if at > until {
            return None;
        }
        let taken = match from {
            Some(lane) => self.lanes[lane].queue.pop_front()?,
            None => self.heap.pop()?.0,
        };
        self.now = taken.at;
        Some(taken.event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Lanes or heap, the order is that of (time, scheduling).
        #[test]
        fn order_is_time_then_scheduling(delays in prop::collection::vec((0u64..12, any::<bool>()), 1..300)) {
            let mut queue = EventQueue::new();
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (i, (delay, shared)) in delays.iter().enumerate() {
                let now = queue.now().0;
                if *shared { queue.after(Nanos(*delay), i as u32) } else { queue.at(Nanos(now + delay), i as u32) }
                model.push((now + delay, i as u32));
                if i % 3 == 0 {
                    model.sort_unstable();
                    let (at, event) = model.remove(0);
                    prop_assert_eq!(queue.pop(Nanos::MAX), Some(event));
                    prop_assert_eq!(queue.now().0, at);
                }
            }
            model.sort_unstable();
            let rest: Vec<u32> = std::iter::from_fn(|| queue.pop(Nanos::MAX)).collect();
            prop_assert_eq!(rest, model.iter().map(|m| m.1).collect::<Vec<_>>());
        }
    }

    #[test]
    fn nothing_after_the_end() {
        let mut queue = EventQueue::new();
        queue.at(Nanos(5), 1);
        assert_eq!(queue.pop(Nanos(4)), None);
        assert_eq!(queue.pop(Nanos(5)), Some(1));
    }
}
