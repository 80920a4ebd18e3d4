//! Slots reused under a generation.

use std::ops::{Index, IndexMut};

/// A slot's value, the number of its last tenant, and whether it is taken.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    taken: bool,
    value: T,
}

/// Dense storage that hands out `(index, generation)` pairs.
#[derive(Debug, Default)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slab<T> {
    pub(crate) fn new() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, value: T) -> (u32, u32) {
        match self.free.pop() {
            Some(index) => {
                let slot = &mut self.slots[index as usize];
                slot.generation += 1;
                slot.taken = true;
                slot.value = value;
                (index, slot.generation)
            }
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    taken: true,
                    value,
                });
                (self.slots.len() as u32 - 1, 0)
            }
        }
    }

    /// Frees the slot; its value stays until the next tenant.
    pub(crate) fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.taken, "a slot is freed once");
        slot.taken = false;
        self.free.push(index);
    }

    /// Whether the slot is held by this very tenant.
    pub(crate) fn holds(&self, index: u32, generation: u32) -> bool {
        self.slots
            .get(index as usize)
            .is_some_and(|slot| slot.taken && slot.generation == generation)
    }

    pub(crate) fn generation(&self, index: u32) -> u32 {
        self.slots[index as usize].generation
    }

    /// The indices in use, in order.
    pub(crate) fn taken(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|&index| self.slots[index as usize].taken)
    }

    /// Slots in use.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, index: u32) -> &T {
        &self.slots[index as usize].value
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, index: u32) -> &mut T {
        &mut self.slots[index as usize].value
    }
}
