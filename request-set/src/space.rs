//! All requests that may be, in as many points as the compared matches tell apart: one dimension for
//! each place that they look at. A match is then a box.

use crate::alphabet::Alphabet;
use crate::atom::Atom;
use crate::classes::{self, Class, Texts};
use crate::condition::{Condition, Need, Place, There, Trait, needs};
use crate::domain::{Authorities, Domain};
use crate::expressions::TooLarge;
use crate::set::Set;
use crate::witness::Witness;
use proxy_core::xds::{Fraction, Name, StringMatch};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::ops::Range;

/// So many different sets of lines of one header are considered.
const LINE_SETS_MAX: usize = 256;

/// The dimensions that a number of matches have together, and each match as a box in them.
pub(crate) struct Space {
    pub(crate) dimensions: Vec<Dimension>,
    /// In the order of the matches.
    pub(crate) boxes: Vec<Region>,
    /// The number of the dimension of paths.
    path: usize,
}

/// One place of a request.
pub(crate) struct Dimension {
    pub(crate) place: Place,
    /// The first is preferred in witnesses.
    pub(crate) points: Vec<Point>,
}

/// What stands in a place, as far as it matters.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Point {
    value: Value,
    /// The numbers of the traits that it has, ascending.
    traits: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Absent,
    /// The lines of a header; of all else one.
    Texts(Vec<Vec<u8>>),
    Number(u64),
    /// Not known: whether a need of this place, which is too hard to decide, is met.
    Undecided,
}

/// A box: in each dimension that is listed, ascending, one of a set of points; in the others any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Region {
    pub(crate) sets: Vec<(usize, Set)>,
    /// A dimension in which no point is left.
    pub(crate) empty_in: Option<usize>,
}

impl Space {
    pub(crate) fn new(conditions: &[Condition<'_>], domain: &Domain) -> Space {
        let mut by_place: BTreeMap<Place, Vec<(usize, Need)>> = BTreeMap::new();
        for (number, condition) in conditions.iter().enumerate() {
            for (place, need) in needs(condition) {
                by_place.entry(place).or_default().push((number, need));
            }
        }
        // A witness has them, whether asked about or not.
        for place in [Place::Path, Place::Method, Place::Scheme, Place::Authority] {
            by_place.entry(place).or_default();
        }
        let mut space = Space {
            dimensions: Vec::new(),
            boxes: vec![Region::default(); conditions.len()],
            path: 0,
        };
        for (place, needs) in by_place {
            let is_path = place == Place::Path;
            space.add(place, needs, domain);
            if is_path {
                // What is too hard to decide comes before.
                space.path = space.dimensions.len() - 1;
            }
        }
        space
    }

    /// Adds a dimension, and to every box what its match needs there.
    fn add(&mut self, place: Place, needs: Vec<(usize, Need)>, domain: &Domain) {
        let traits = Traits::of(needs.iter().map(|(_, need)| need));
        let several = can_be_several(&place) && some_look_at_several(&needs);
        let points = points(&place, &traits.list, several, domain);
        let Ok(points) = points else {
            // Without the expressions it is usually easy.
            let (hard, easy): (Vec<_>, Vec<_>) = needs
                .into_iter()
                .partition(|(_, need)| need.has_expressions());
            match hard.is_empty() {
                true => self.add_undecided(&place, easy),
                false => {
                    self.add_undecided(&place, hard);
                    self.add(place, easy, domain);
                }
            }
            return;
        };
        let dimension = self.dimensions.len();
        let there = Set::of(points.len(), |at| points[at].value != Value::Absent);
        let mut having = vec![Set::empty(points.len()); traits.list.len()];
        for (at, point) in points.iter().enumerate() {
            for &number in &point.traits {
                having[number as usize].insert(at);
            }
        }
        for (number, need) in &needs {
            let mut met = match &need.when_there {
                There::Is(true) => there.clone(),
                There::Is(false) => Set::empty(points.len()),
                There::Some(wanted) | There::No(wanted) => {
                    let mut some = Set::empty(points.len());
                    for number in wanted.iter().filter_map(|one| traits.number(one)) {
                        some.add_all(&having[number as usize]);
                    }
                    match &need.when_there {
                        There::No(_) => {
                            let mut none = there.clone();
                            none.remove_all(&some);
                            none
                        }
                        _ => some,
                    }
                }
            };
            if need.when_absent {
                let absent = Set::of(points.len(), |at| points[at].value == Value::Absent);
                met.add_all(&absent);
            }
            if met != Set::full(points.len()) {
                self.boxes[*number].restrict(dimension, met);
            }
        }
        self.dimensions.push(Dimension { place, points });
    }

    /// What is too hard to decide may be met or not, each need on its own: a larger space, in which
    /// nothing is covered that is not covered in the true one.
    fn add_undecided(&mut self, place: &Place, needs: Vec<(usize, Need)>) {
        let mut dimensions: Vec<(Need, usize)> = Vec::new();
        for (number, need) in needs {
            let known = dimensions.iter().find(|(other, _)| *other == need);
            let dimension = match known {
                Some(&(_, dimension)) => dimension,
                None => {
                    let dimension = self.dimensions.len();
                    dimensions.push((need, dimension));
                    let point = Point {
                        value: Value::Undecided,
                        traits: Vec::new(),
                    };
                    self.dimensions.push(Dimension {
                        place: place.clone(),
                        points: vec![point.clone(), point],
                    });
                    dimension
                }
            };
            self.boxes[number].restrict(dimension, Set::of(2, |at| at == 1));
        }
    }

    /// For each point of the dimension of paths the numbers of the boxes that have it, ascending.
    pub(crate) fn by_path(&self) -> Vec<Vec<usize>> {
        let mut by_path = vec![Vec::new(); self.dimensions[self.path].points.len()];
        for (number, region) in self.boxes.iter().enumerate() {
            if region.empty_in.is_some() {
                continue;
            }
            match region.set(self.path) {
                Some(set) => set.iter().for_each(|at| by_path[at].push(number)),
                None => by_path.iter_mut().for_each(|all| all.push(number)),
            }
        }
        by_path
    }

    /// The numbers in `ranges` of the boxes that may have a path that all `boxes` have, ascending.
    pub(crate) fn sharing_paths(
        &self,
        by_path: &[Vec<usize>],
        boxes: impl IntoIterator<Item = usize>,
        ranges: &[Range<usize>],
    ) -> Vec<usize> {
        let sets = boxes
            .into_iter()
            .filter_map(|at| self.boxes[at].set(self.path));
        let common = sets.cloned().reduce(|mut common, set| {
            common.keep_only(&set);
            common
        });
        let Some(common) = common else {
            return ranges.iter().cloned().flatten().collect();
        };
        let mut numbers: Vec<usize> = Vec::new();
        for having in common.iter().map(|at| &by_path[at]) {
            for range in ranges {
                let from = having.partition_point(|&at| at < range.start);
                let to = having.partition_point(|&at| at < range.end);
                numbers.extend(&having[from..to]);
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }

    /// The places that were too hard to decide.
    pub(crate) fn undecided(&self) -> impl Iterator<Item = &Place> {
        let hard = |dimension: &&Dimension| dimension.points[0].value == Value::Undecided;
        self.dimensions
            .iter()
            .filter(hard)
            .map(|dimension| &dimension.place)
    }

    /// The request of a point: its number in each dimension.
    pub(crate) fn witness(&self, point: &[usize]) -> Witness {
        let mut witness = Witness {
            method: "GET".into(),
            scheme: "http".into(),
            authority: "x".into(),
            path: "/".into(),
            headers: Vec::new(),
            claims: Vec::new(),
            stream_value: 0,
            given: Vec::new(),
        };
        let mut query: Vec<String> = Vec::new();
        for (dimension, &at) in self.dimensions.iter().zip(point) {
            let texts = match &dimension.points[at].value {
                Value::Texts(texts) => texts,
                Value::Number(value) => {
                    witness.stream_value = *value;
                    continue;
                }
                Value::Absent | Value::Undecided => continue,
            };
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
            let first = texts.first().map(text).unwrap_or_default();
            match &dimension.place {
                Place::Path => witness.path = first.into(),
                Place::Method => witness.method = first.into(),
                Place::Scheme => witness.scheme = first.into(),
                Place::Authority => witness.authority = first.into(),
                Place::Header(name) => {
                    let lines = texts.iter().map(|line| (name.clone(), line.clone()));
                    witness.headers.extend(lines);
                }
                Place::Query(name) => query.push(format!("{name}={first}")),
                Place::Claim(path) => {
                    let texts = texts.iter().map(text).collect();
                    witness.claims.push((path.clone(), texts));
                }
                Place::Given(name) => witness.given.push((name.clone(), first.into())),
                Place::Chance => {}
            }
        }
        if !query.is_empty() {
            witness.path = format!("{}?{}", witness.path, query.join("&")).into();
        }
        witness
    }
}

impl Region {
    fn set(&self, dimension: usize) -> Option<&Set> {
        let mut sets = self.sets.iter();
        sets.find_map(|(known, set)| (*known == dimension).then_some(set))
    }

    /// Whether `other` has all points of this one.
    pub(crate) fn is_within(&self, other: &Region) -> bool {
        let mut others = other.sets.iter();
        others.all(|(dimension, set)| self.set(*dimension).is_some_and(|own| own.is_within(set)))
    }

    fn restrict(&mut self, dimension: usize, set: Set) {
        match self.sets.last_mut() {
            Some((last, known)) if *last == dimension => known.keep_only(&set),
            _ => self.sets.push((dimension, set)),
        }
        if self.sets.last().is_some_and(|(_, set)| set.is_empty()) {
            self.empty_in.get_or_insert(dimension);
        }
    }
}

/// The traits asked for in one place, each once.
#[derive(Default)]
struct Traits<'n> {
    list: Vec<&'n Trait>,
    texts: FxHashMap<(u8, bool, &'n str), u32>,
}

impl<'n> Traits<'n> {
    fn of(needs: impl Iterator<Item = &'n Need>) -> Traits<'n> {
        let mut traits = Traits::default();
        for wanted in needs.flat_map(|need| need.when_there.traits()) {
            if traits.number(wanted).is_none() {
                if let Trait::Text(atom) = wanted {
                    traits.texts.insert(atom.key(), traits.list.len() as u32);
                }
                traits.list.push(wanted);
            }
        }
        traits
    }

    fn number(&self, wanted: &Trait) -> Option<u32> {
        match wanted {
            Trait::Text(atom) => self.texts.get(&atom.key()).copied(),
            Trait::Share(_) => {
                let at = self.list.iter().position(|known| *known == wanted);
                at.map(|at| at as u32)
            }
        }
    }
}

fn can_be_several(place: &Place) -> bool {
    matches!(place, Place::Header(_) | Place::Claim(_))
}

/// Whether several lines can do what one line cannot: where all ask for some line that has
/// something, each for one thing, any line that is one of several serves as well alone.
fn some_look_at_several(needs: &[(usize, Need)]) -> bool {
    let inverted = |(_, need): &(usize, Need)| matches!(need.when_there, There::No(_));
    let twice = |pair: &[(usize, Need)]| pair[0].0 == pair[1].0;
    needs.iter().any(inverted) || needs.windows(2).any(twice)
}

/// All that may stand in `place`, as far as `traits` tell it apart.
fn points(
    place: &Place,
    traits: &[&Trait],
    several: bool,
    domain: &Domain,
) -> Result<Vec<Point>, TooLarge> {
    let mut atoms: Vec<Atom> = Vec::new();
    let mut shares: Vec<Fraction> = Vec::new();
    for one in traits {
        match one {
            Trait::Text(atom) => atoms.push(atom.clone()),
            Trait::Share(share) => shares.push(*share),
        }
    }
    let unasked = |example: &str| {
        vec![Class {
            atoms: Vec::new(),
            example: example.into(),
        }]
    };
    let texts = |alphabet, preferred| Texts {
        alphabet,
        required: None,
        preferred,
    };
    let found = match place {
        Place::Chance => return Ok(chances(&shares)),
        Place::Path if atoms.is_empty() => unasked("/"),
        Place::Method if atoms.is_empty() => unasked("GET"),
        Place::Path => classes::of(texts(Alphabet::Path(domain.paths), &[]), &atoms)?,
        Place::Method => classes::of(texts(Alphabet::Method, &METHODS), &atoms)?,
        Place::Scheme => classes::of_list(["http", "https"], &atoms),
        Place::Authority => of_authorities(&domain.authorities, atoms)?,
        // `:path` is the path together with the query.
        Place::Header(name) if name.starts_with(':') => return Err(TooLarge),
        Place::Header(name) if !name.bytes().all(is_header_byte) || name.is_empty() => Vec::new(),
        Place::Query(name) if !name.bytes().all(is_query_byte) => Vec::new(),
        Place::Header(_) | Place::Query(_) | Place::Claim(_) if atoms.is_empty() => unasked("x"),
        Place::Header(_) | Place::Claim(_) => classes::of(texts(Alphabet::Value, &[]), &atoms)?,
        Place::Query(_) => classes::of(texts(Alphabet::QueryValue, &[]), &atoms)?,
        Place::Given(name) => given(name, &atoms, domain),
    };
    let optional = match place {
        Place::Path | Place::Method | Place::Scheme | Place::Authority | Place::Chance => false,
        Place::Header(_) | Place::Query(_) | Place::Claim(_) => true,
        Place::Given(name) => !domain.given.contains_key(name),
    };
    let mut points = Vec::new();
    points.extend(optional.then_some(Point {
        value: Value::Absent,
        traits: Vec::new(),
    }));
    points.extend(found.into_iter().map(|class| Point {
        value: Value::Texts(vec![class.example]),
        traits: class.atoms,
    }));
    if several {
        add_line_sets(&mut points)?;
    }
    Ok(points)
}

const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

fn is_header_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !byte.is_ascii_uppercase() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte)
}

fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"&=#".contains(&byte)
}

fn of_authorities(authorities: &Authorities, mut atoms: Vec<Atom>) -> Result<Vec<Class>, TooLarge> {
    let (required, preferred) = match authorities {
        Authorities::OneOf(names) => {
            return Ok(classes::of_list(names.iter().map(|name| &**name), &atoms));
        }
        Authorities::Any => (None, &[][..]),
        Authorities::Matching(regex, preferred) => {
            atoms.push(Atom::of_text(&StringMatch::Regex(regex.clone())));
            (Some(atoms.len() as u32 - 1), &preferred[..])
        }
    };
    let preferred: Vec<&str> = preferred.iter().map(|name| &**name).collect();
    let texts = Texts {
        alphabet: Alphabet::Authority,
        required,
        preferred: &preferred,
    };
    let mut found = classes::of(texts, &atoms)?;
    for class in &mut found {
        class.atoms.retain(|atom| Some(*atom) != required);
    }
    Ok(found)
}

fn given(name: &Name, atoms: &[Atom], domain: &Domain) -> Vec<Class> {
    let named = atoms.iter().filter_map(|atom| match atom.key() {
        (0, _, text) => Some(text),
        _ => None,
    });
    match domain.given.get(name) {
        None => classes::of_list(named, atoms),
        Some(all) => classes::of_list(all.iter().map(|value| &**value), atoms),
    }
}

/// The random values, as far as they fall in different shares.
fn chances(shares: &[Fraction]) -> Vec<Point> {
    // They divide each other.
    let bound = shares
        .iter()
        .map(|share| u64::from(share.denominator))
        .max();
    let mut points: Vec<Point> = Vec::new();
    for value in 0..bound.unwrap_or(1) {
        let all = (0..).zip(shares).filter(|(_, share)| share.holds(value));
        let traits: Vec<u32> = all.map(|(number, _)| number).collect();
        if points.iter().all(|point| point.traits != traits) {
            points.push(Point {
                value: Value::Number(value),
                traits,
            });
        }
    }
    points
}

/// Adds what several lines have together.
fn add_line_sets(points: &mut Vec<Point>) -> Result<(), TooLarge> {
    let lines: Vec<Point> = points
        .iter()
        .filter(|point| point.value != Value::Absent)
        .cloned()
        .collect();
    let mut at = points.len() - lines.len();
    while at < points.len() {
        for line in &lines {
            let (Value::Texts(lines), Value::Texts(one)) = (&points[at].value, &line.value) else {
                continue;
            };
            let mut traits = [&points[at].traits[..], &line.traits].concat();
            traits.sort_unstable();
            traits.dedup();
            if points
                .iter()
                .all(|known| known.value == Value::Absent || known.traits != traits)
            {
                let value = Value::Texts([&lines[..], one].concat());
                points.push(Point { value, traits });
            }
            if points.len() > LINE_SETS_MAX {
                return Err(TooLarge);
            }
        }
        at += 1;
    }
    Ok(())
}
