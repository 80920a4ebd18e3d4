//! Sets of the points of one dimension.

/// Numbers below a bound that all sets of a dimension share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Set(Box<[u64]>);

const BITS: usize = u64::BITS as usize;

impl Set {
    pub(crate) fn empty(bound: usize) -> Set {
        Set(vec![0; bound.div_ceil(BITS)].into())
    }

    pub(crate) fn full(bound: usize) -> Set {
        let mut set = Set(vec![u64::MAX; bound.div_ceil(BITS)].into());
        if let Some(last) = set.0.last_mut()
            && !bound.is_multiple_of(BITS)
        {
            *last = (1 << (bound % BITS)) - 1;
        }
        set
    }

    /// Those below `bound` that `holds` is true of.
    pub(crate) fn of(bound: usize, holds: impl Fn(usize) -> bool) -> Set {
        let mut set = Set::empty(bound);
        (0..bound)
            .filter(|&at| holds(at))
            .for_each(|at| set.insert(at));
        set
    }

    pub(crate) fn insert(&mut self, at: usize) {
        self.0[at / BITS] |= 1 << (at % BITS);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    pub(crate) fn first(&self) -> Option<usize> {
        let at = self.0.iter().position(|&word| word != 0)?;
        Some(at * BITS + self.0[at].trailing_zeros() as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            (0..BITS).filter_map(move |bit| (word >> bit & 1 == 1).then_some(at * BITS + bit))
        })
    }

    pub(crate) fn intersects(&self, other: &Set) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    pub(crate) fn is_within(&self, other: &Set) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a & !b == 0)
    }

    pub(crate) fn add_all(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    pub(crate) fn remove_all(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= !b);
    }

    pub(crate) fn keep_only(&mut self, other: &Set) {
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a &= b);
    }
}
