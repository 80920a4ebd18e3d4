//! Slots reused under a generation: what the ids of a worker, and of its driver, are made of.

use std::ops::{Index, IndexMut};

/// A slot's value, the number of its last tenant, and whether it is taken.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    taken: bool,
    value: T,
}

/// Dense storage that hands out `(index, generation)` pairs.
#[derive(Debug)]
pub struct Slab<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab::new()
    }
}

impl<T> Slab<T> {
    /// No slots yet.
    pub fn new() -> Slab<T> {
        Slab {
            slots: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Takes a free slot, or adds one: its index and generation.
    pub fn insert(&mut self, value: T) -> (u32, u32) {
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
    pub fn remove(&mut self, index: u32) {
        let slot = &mut self.slots[index as usize];
        assert!(slot.taken, "a slot is freed once");
        slot.taken = false;
        self.free.push(index);
    }

    /// Whether the slot is held by this very tenant.
    pub fn holds(&self, index: u32, generation: u32) -> bool {
        self.slots
            .get(index as usize)
            .is_some_and(|slot| slot.taken && slot.generation == generation)
    }

    /// The generation of a slot's tenant, or of its last one.
    pub fn generation(&self, index: u32) -> u32 {
        self.slots[index as usize].generation
    }

    /// The indices in use, in order.
    pub fn taken(&self) -> impl Iterator<Item = u32> {
        (0..self.slots.len() as u32).filter(|&index| self.slots[index as usize].taken)
    }

    /// Slots in use.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether no slot is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
