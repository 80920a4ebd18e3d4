//! Is a box covered by others together?

use crate::set::Set;
use crate::space::{Region, Space};

/// A box that is being cut down; `None`: all points of the dimension.
#[derive(Clone, Debug)]
pub(crate) struct Cell(Vec<Option<Set>>);

/// It takes too many steps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooHard;

impl Cell {
    /// What the boxes have in common; `None`: nothing.
    pub(crate) fn common<'r>(
        space: &Space,
        boxes: impl IntoIterator<Item = &'r Region>,
    ) -> Option<Cell> {
        let mut cell = Cell(vec![None; space.dimensions.len()]);
        for (dimension, set) in boxes.into_iter().flat_map(|region| &region.sets) {
            match &mut cell.0[*dimension] {
                Some(known) => known.keep_only(set),
                free => *free = Some(set.clone()),
            }
        }
        let empty = cell.0.iter().flatten().any(Set::is_empty);
        (!empty).then_some(cell)
    }

    /// The preferred point in it.
    pub(crate) fn point(&self) -> Vec<usize> {
        let first = |set: &Option<Set>| set.as_ref().and_then(Set::first).unwrap_or(0);
        self.0.iter().map(first).collect()
    }

    pub(crate) fn meets(&self, region: &Region) -> bool {
        region.sets.iter().all(|(dimension, set)| {
            let own = &self.0[*dimension];
            own.as_ref()
                .map_or(!set.is_empty(), |own| own.intersects(set))
        })
    }

    /// The part that is outside of `set` in one dimension.
    fn without(&mut self, dimension: usize, set: &Set, bound: usize) {
        let own = self.0[dimension].get_or_insert_with(|| Set::full(bound));
        own.remove_all(set);
    }

    fn within(&mut self, dimension: usize, set: &Set) {
        match &mut self.0[dimension] {
            Some(own) => own.keep_only(set),
            free => *free = Some(set.clone()),
        }
    }
}

/// Looks for points outside of boxes, within a number of steps.
pub(crate) struct Search<'s> {
    pub(crate) space: &'s Space,
    /// How many more times a box may be held against a cell.
    pub(crate) steps: usize,
}

impl Search<'_> {
    /// A part of `cell` outside of all `boxes`.
    pub(crate) fn outside(
        &mut self,
        mut cell: Cell,
        mut boxes: Vec<&Region>,
    ) -> Result<Option<Cell>, TooHard> {
        // A box that can be left in one dimension only leaves no choice.
        loop {
            let mut choices = Vec::new();
            let mut forced = false;
            for region in boxes {
                self.steps = self.steps.checked_sub(1).ok_or(TooHard)?;
                if !cell.meets(region) {
                    continue;
                }
                match &self.ways_out(&cell, region)[..] {
                    [] => return Ok(None),
                    [only] => {
                        forced = true;
                        self.leave(&mut cell, region, *only);
                    }
                    _ => choices.push(region),
                }
            }
            boxes = choices;
            if !forced {
                break;
            }
        }
        let easiest = (0..boxes.len()).min_by_key(|&at| self.ways_out(&cell, boxes[at]).len());
        let Some(easiest) = easiest else {
            return Ok(Some(cell));
        };
        let region = boxes.swap_remove(easiest);
        for way in self.ways_out(&cell, region) {
            let mut part = cell.clone();
            self.leave(&mut part, region, way);
            if let Some(found) = self.outside(part, boxes.clone())? {
                return Ok(Some(found));
            }
            let (dimension, set) = &region.sets[way];
            cell.within(*dimension, set);
        }
        Ok(None)
    }

    /// Which sets of `region`, by their position, do not hold all of `cell`.
    fn ways_out(&self, cell: &Cell, region: &Region) -> Vec<usize> {
        let sets = region.sets.iter().enumerate();
        let open = sets.filter(|(_, (dimension, set))| match &cell.0[*dimension] {
            Some(own) => !own.is_within(set),
            // No box lists a set of all points.
            None => true,
        });
        open.map(|(at, _)| at).collect()
    }

    fn leave(&self, cell: &mut Cell, region: &Region, way: usize) {
        let (dimension, set) = &region.sets[way];
        cell.without(*dimension, set, self.bound(*dimension));
    }

    fn bound(&self, dimension: usize) -> usize {
        self.space.dimensions[dimension].points.len()
    }
}
