//! What the driver keeps behind the dense ids of the contract.

/// Slots under a generation. The ids of a table are either chosen here ([`Table::claim`],
/// [`Table::release`]) or by the core ([`Table::put`], [`Table::take`]).
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Table<T> {
        Table {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Fills a free slot; gives its index and generation.
    pub(crate) fn claim(&mut self, value: T) -> (u32, u32) {
        let value = Some(value);
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.generation += 1;
                slot.value = value;
                (index, slot.generation)
            }
            None => {
                let generation = 0;
                self.slots.push(Slot { generation, value });
                (self.slots.len() as u32 - 1, generation)
            }
        }
    }

    /// Frees a claimed slot.
    pub(crate) fn release(&mut self, index: u32, generation: u32) -> Option<T> {
        let value = self.take(index, generation)?;
        self.free.push(index);
        Some(value)
    }

    /// Fills the slot that the core names.
    pub(crate) fn put(&mut self, index: u32, generation: u32, value: T) {
        while self.slots.len() <= index as usize {
            self.slots.push(Slot {
                generation: 0,
                value: None,
            });
        }
        self.slots[index as usize] = Slot {
            generation,
            value: Some(value),
        };
    }

    pub(crate) fn get_mut(&mut self, index: u32, generation: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index as usize)?;
        slot.value
            .as_mut()
            .filter(|_| slot.generation == generation)
    }

    pub(crate) fn take(&mut self, index: u32, generation: u32) -> Option<T> {
        let slot = self.slots.get_mut(index as usize)?;
        if slot.generation != generation {
            return None;
        }
        slot.value.take()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    #[test]
    fn a_slot_is_reused_under_a_new_generation() {
        let mut table = Table::new();
        assert_eq!(table.claim('a'), (0, 0));
        assert_eq!(table.claim('b'), (1, 0));
        assert_eq!(table.release(0, 0), Some('a'));
        assert_eq!(table.release(0, 0), None);
        assert_eq!(table.claim('c'), (0, 1));
        assert_eq!(table.get_mut(0, 0), None);
        assert_eq!(table.get_mut(0, 1), Some(&mut 'c'));
    }

    #[test]
    fn the_core_may_leave_slots_out() {
        let mut table = Table::new();
        table.put(2, 7, 'x');
        assert_eq!(table.get_mut(1, 0), None);
        assert_eq!(table.take(2, 6), None);
        assert_eq!(table.take(2, 7), Some('x'));
        assert_eq!(table.take(2, 7), None);
    }
}
