//! Matches in the order in which they are tried: what reaches each of them.

use crate::condition::{Condition, Place, Sent};
use crate::cover::{Cell, Search, TooHard};
use crate::domain::Domain;
use crate::space::{Region, Space};
use crate::witness::Witness;
use std::collections::BTreeSet;
use std::ops::Range;

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
    /// There are too many pairs of matches: this one and those after it were not looked at.
    Further,
}

/// For each match of `table`, in its order: does any request of `domain` reach it?
pub fn reach(table: &[Condition<'_>], domain: &Domain) -> Vec<Reach> {
    let space = Space::new(table, domain);
    let mut budget = Budget::new(&space);
    let boxes = &space.boxes;
    let by_path = space.by_path();
    (0..boxes.len())
        .map(|at| {
            if let Some(dimension) = boxes[at].empty_in {
                return Reach::Impossible(space.dimensions[dimension].place.clone());
            }
            let Some(cell) = Cell::common(&space, [&boxes[at]]) else {
                return Reach::Undecided(Undecided::Combinations);
            };
            let before = 0..at;
            let mut earlier = space.sharing_paths(&by_path, [at], &[before]);
            earlier.retain(|&other| cell.meets(&boxes[other]));
            let regions = earlier.iter().map(|&other| &boxes[other]).collect();
            match budget.outside(cell.clone(), regions) {
                Err(TooHard) => Reach::Undecided(Undecided::Combinations),
                Ok(Some(found)) => {
                    let witness = space.witness(&found.point());
                    let sent = Sent::new(&witness);
                    let mut others = earlier.iter().map(|&other| &table[other]);
                    let taken = others.any(|other| other.holds_for(&sent));
                    match table[at].holds_for(&sent) && !taken {
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
    let sent = Sent::new(&asks);
    let mut others = earlier.iter().copied();
    let taken_by = others.find(|&other| table[other].holds_for(&sent));
    let Some(taken_by) = taken_by.filter(|_| table[at].holds_for(&sent)) else {
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
    let boxes = &space.boxes;
    let by_path = space.by_path();
    let [of_olds, of_news] = [0..old.len(), old.len()..all.len()];
    let first_around = |at: usize, mut others: Range<usize>| {
        others.position(|other| boxes[at].is_within(&boxes[other]))
    };
    // What such a match takes, or one before it, never gets further.
    let last_news: Vec<Position> = (of_olds.clone())
        .map(|at| first_around(at, of_news.clone()))
        .collect();
    let last_olds: Vec<Position> = of_news
        .map(|at| first_around(at, of_olds.clone()))
        .collect();
    let is_beyond = |other: Position, last: Position| {
        last.is_some_and(|last| other.is_none_or(|other| other > last))
    };
    let mut found = Vec::new();
    for (before, after) in candidates(&by_path, old.len()) {
        if is_beyond(after, before.and_then(|at| last_news[at]))
            || is_beyond(before, after.and_then(|at| last_olds[at]))
            || !differ(before, after)
        {
            continue;
        }
        let own = [before, after.map(|at| old.len() + at)];
        let own = own.into_iter().flatten();
        let Some(cell) = Cell::common(&space, own.clone().map(|at| &boxes[at])) else {
            continue;
        };
        let of_old = 0..before.unwrap_or(old.len());
        let of_new = old.len()..old.len() + after.unwrap_or(new.len());
        let mut earlier = space.sharing_paths(&by_path, own.clone(), &[of_old, of_new]);
        let all_earlier = earlier.len();
        earlier.retain(|&at| cell.meets(&boxes[at]));
        budget.spend(all_earlier - earlier.len());
        let regions = earlier.iter().map(|&at| &boxes[at]).collect();
        let example = match budget.outside(cell, regions) {
            Ok(None) => continue,
            Err(TooHard) if budget.steps == 0 => Err(Undecided::Further),
            Err(TooHard) => Err(Undecided::Combinations),
            Ok(Some(part)) => {
                let witness = space.witness(&part.point());
                let sent = Sent::new(&witness);
                let holds = |at: usize| all[at].holds_for(&sent);
                let taken = earlier.iter().any(|&at| holds(at));
                match own.clone().all(holds) && !taken {
                    true => Ok(witness),
                    false => Err(unknown(&space)),
                }
            }
        };
        let is_last = example == Err(Undecided::Further);
        found.push(Overlap {
            old: before,
            new: after,
            example,
        });
        if is_last {
            break;
        }
    }
    found
}

/// The position of a match in its table; `None`: none matches.
type Position = Option<usize>;

/// The pairs of matches that have some path in common: others have no request in common.
fn candidates(by_path: &[Vec<usize>], olds: usize) -> BTreeSet<(Position, Position)> {
    let mut pairs = BTreeSet::new();
    for numbers in by_path {
        let (old, new) = numbers.split_at(numbers.partition_point(|&at| at < olds));
        let new: Vec<Position> = new.iter().map(|&at| Some(at - olds)).collect();
        let new = new.iter().chain([&None]);
        let old = old.iter().copied().map(Some).chain([None]);
        pairs.extend(old.flat_map(|before| new.clone().map(move |&after| (before, after))));
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

    fn spend(&mut self, steps: usize) {
        self.steps = self.steps.saturating_sub(steps);
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
