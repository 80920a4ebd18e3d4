//! Matches in the order in which they are tried: what reaches each of them.

use crate::condition::{Condition, Place};
use crate::cover::{Cell, Search, TooHard};
use crate::domain::Domain;
use crate::space::{Region, Space};
use crate::witness::Witness;
use std::collections::BTreeSet;

/// How often a box may be held against a cell for one answer, and for all answers about a table.
const STEPS_MAX: usize = 200_000;
const ALL_STEPS_MAX: usize = 20_000_000;
/// Of so many matches that take everything together, it is found out which are needed for it.
const TAKERS_MAX: usize = 64;

/// Whether any request gets to a match that stands in a table.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    /// This one does: it meets the condition, and that of none before it.
    Reached(Witness),
    /// None does: each that asks for it is taken before.
    Never {
        /// A request that meets the condition.
        asks: Witness,
        /// The earlier match that takes that request.
        taken_by: usize,
        /// Earlier matches that together take all that meet the condition, ascending; none of them can
        /// be spared, unless there are very many.
        takers: Vec<usize>,
    },
    /// No request meets the condition, whatever stands before it: what it asks for in this place
    /// cannot be.
    Impossible(Place),
    Undecided(Undecided),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undecided {
    /// The conditions on this place are too many or too large.
    Place(Place),
    /// The conditions can be combined in too many ways.
    Combinations,
}

/// For each match of `table`, in its order: does any request of `domain` reach it?
pub fn reach(table: &[Condition<'_>], domain: &Domain) -> Vec<Reach> {
    let space = Space::new(table, domain);
    let mut budget = Budget::new(&space);
    let boxes = &space.boxes;
    (0..boxes.len())
        .map(|at| {
            if let Some(dimension) = boxes[at].empty_in {
                return Reach::Impossible(space.dimensions[dimension].place.clone());
            }
            let Some(cell) = Cell::common(&space, [&boxes[at]]) else {
                return Reach::Undecided(Undecided::Combinations);
            };
            let earlier: Vec<usize> = (0..at).filter(|&j| cell.meets(&boxes[j])).collect();
            let regions = earlier.iter().map(|&j| &boxes[j]).collect();
            match budget.outside(cell.clone(), regions) {
                Err(TooHard) => Reach::Undecided(Undecided::Combinations),
                Ok(Some(found)) => {
                    let witness = space.witness(&found.point());
                    let reaches = table[at].holds(&witness)
                        && !table[..at].iter().any(|earlier| earlier.holds(&witness));
                    match reaches {
                        true => Reach::Reached(witness),
                        false => Reach::Undecided(unknown(&space)),
                    }
                }
                Ok(None) => never(&space, table, at, cell, &earlier, &mut budget),
            }
        })
        .collect()
}

fn never(
    space: &Space,
    table: &[Condition<'_>],
    at: usize,
    cell: Cell,
    earlier: &[usize],
    budget: &mut Budget<'_>,
) -> Reach {
    let asks = space.witness(&cell.point());
    let taken_by = table[..at].iter().position(|earlier| earlier.holds(&asks));
    let Some(taken_by) = taken_by.filter(|_| table[at].holds(&asks)) else {
        return Reach::Undecided(unknown(space));
    };
    let alone = earlier.iter().copied().find(|&j| {
        let found = budget.outside(cell.clone(), vec![&space.boxes[j]]);
        matches!(found, Ok(None))
    });
    let mut takers = match alone {
        Some(alone) => vec![alone],
        None => earlier.to_vec(),
    };
    if takers.len() <= TAKERS_MAX {
        // The latest first: what comes first is what a reader expects to be named.
        for spared in takers.clone().into_iter().rev() {
            let rest = takers.iter().filter(|&&j| j != spared);
            let regions = rest.map(|&j| &space.boxes[j]).collect();
            if matches!(budget.outside(cell.clone(), regions), Ok(None)) {
                takers.retain(|&j| j != spared);
            }
        }
    }
    Reach::Never {
        asks,
        taken_by,
        takers,
    }
}

fn unknown(space: &Space) -> Undecided {
    let place = space.undecided().next();
    place.map_or(Undecided::Combinations, |place| {
        Undecided::Place(place.clone())
    })
}

/// Requests that two tables answer by a certain match each.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlap {
    /// The position of the match in the old table; `None`: none matches.
    pub old: Option<usize>,
    pub new: Option<usize>,
    /// One of the requests, or why it is not known whether there is one.
    pub example: Result<Witness, Undecided>,
}

/// Every pair of matches, `None` standing for no match at all, that some request of `domain` gets to
/// in the two tables, as far as `differ` says that it matters; in the order of the old table, then of the new one.
pub fn overlaps(
    old: &[Condition<'_>],
    new: &[Condition<'_>],
    domain: &Domain,
    mut differ: impl FnMut(Option<usize>, Option<usize>) -> bool,
) -> Vec<Overlap> {
    let all: Vec<Condition<'_>> = old.iter().chain(new).cloned().collect();
    let space = Space::new(&all, domain);
    let mut budget = Budget::new(&space);
    let (of_old, of_new) = space.boxes.split_at(old.len());
    let mut found = Vec::new();
    for (before, after) in candidates(&space, old.len()) {
        if !differ(before, after) {
            continue;
        }
        let own = [before.map(|at| &of_old[at]), after.map(|at| &of_new[at])];
        let Some(cell) = Cell::common(&space, own.into_iter().flatten()) else {
            continue;
        };
        let earlier_old = &of_old[..before.unwrap_or(old.len())];
        let earlier_new = &of_new[..after.unwrap_or(new.len())];
        let earlier = earlier_old.iter().chain(earlier_new);
        let earlier: Vec<&Region> = earlier.filter(|region| cell.meets(region)).collect();
        let example = match budget.outside(cell, earlier) {
            Ok(None) => continue,
            Err(TooHard) => Err(Undecided::Combinations),
            Ok(Some(part)) => {
                let witness = space.witness(&part.point());
                let first = |table: &[Condition<'_>]| table.iter().position(|c| c.holds(&witness));
                match (first(old), first(new)) == (before, after) {
                    true => Ok(witness),
                    false => Err(unknown(&space)),
                }
            }
        };
        found.push(Overlap {
            old: before,
            new: after,
            example,
        });
    }
    found
}

/// The position of a match in its table; `None`: none matches.
type Position = Option<usize>;

/// The pairs of matches that have some path in common: others have no request in common.
fn candidates(space: &Space, olds: usize) -> BTreeSet<(Position, Position)> {
    let path = space
        .dimensions
        .iter()
        .position(|dimension| dimension.place == Place::Path);
    let points = path.map_or(0, |path| space.dimensions[path].points.len());
    let mut by_point = vec![(vec![Position::None], vec![Position::None]); points];
    for (number, region) in space.boxes.iter().enumerate() {
        if region.empty_in.is_some() {
            continue;
        }
        let mut sets = region.sets.iter();
        let set = sets.find(|(dimension, _)| Some(*dimension) == path);
        let mut put = |at: usize| match number.checked_sub(olds) {
            None => by_point[at].0.push(Some(number)),
            Some(number) => by_point[at].1.push(Some(number)),
        };
        match set {
            Some((_, set)) => set.iter().for_each(&mut put),
            None => (0..points).for_each(&mut put),
        }
    }
    let mut pairs = BTreeSet::new();
    for (old, new) in &by_point {
        pairs.extend(old.iter().flat_map(|&a| new.iter().map(move |&b| (a, b))));
    }
    pairs
}

/// The steps that may still be taken for a table.
struct Budget<'s> {
    space: &'s Space,
    steps: usize,
}

impl Budget<'_> {
    fn new(space: &Space) -> Budget<'_> {
        Budget {
            space,
            steps: ALL_STEPS_MAX,
        }
    }

    fn outside(&mut self, cell: Cell, regions: Vec<&Region>) -> Result<Option<Cell>, TooHard> {
        let steps = self.steps.min(STEPS_MAX);
        let mut search = Search {
            space: self.space,
            steps,
        };
        let found = search.outside(cell, regions);
        self.steps -= steps - search.steps;
        found
    }
}
