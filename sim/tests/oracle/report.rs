//! What was compared, for the table at the end and for the verdict.

use crate::differences::{ALIKE, EXPLAINED};
use crate::golden::{Answers, differing, statistics};
use serde_json::Value;
use std::fmt::Write;

/// Below it two samples are not of one distribution.
const LEAST_P: f64 = 1e-4;
/// Percentage points that shares may differ by where picks depend on timing.
const LARGEST_GAP: f64 = 2.0;

#[derive(Default)]
pub struct Report {
    title: &'static str,
    rows: Vec<Row>,
    /// What nothing excuses.
    unexcused: Vec<String>,
    explained: usize,
}

#[derive(Default)]
struct Row {
    case: String,
    agreed: usize,
    differing: usize,
    keys: Option<(usize, usize)>,
    least_p: Option<f64>,
    note: String,
}

impl Report {
    pub fn new(title: &'static str) -> Report {
        Report {
            title,
            ..Report::default()
        }
    }

    pub fn case(&mut self, case: &str) {
        self.rows.push(Row {
            case: case.to_owned(),
            ..Row::default()
        });
    }

    fn row(&mut self) -> &mut Row {
        self.rows.last_mut().unwrap()
    }

    pub fn note(&mut self, note: &str) {
        self.row().note = note.to_owned();
    }

    /// A single answer.
    pub fn single(&mut self, item: usize, want: &Value, got: &Value) {
        let differing = differing(want, got);
        let show = |key: &String| format!("{key}\n    want {}\n    got  {}", want[key], got[key]);
        self.answer(item, differing.iter().map(show).collect());
    }

    /// Many answers alike. `timed`: what is picked depends on timing.
    pub fn many(&mut self, item: usize, timed: bool, want: &Answers, got: &Answers) {
        let alike = ALIKE.contains(&&*self.row().case);
        let mut shown = Vec::new();
        for one in want.compare(got, alike) {
            let row = self.row();
            row.least_p = Some(row.least_p.map_or(one.p, |least| least.min(one.p)));
            if one.p < LEAST_P && !(timed && one.gap <= LARGEST_GAP) {
                shown.push(format!("{} p {:.1e}\n    {}", one.what, one.p, one.shown));
            }
        }
        self.answer(item, shown);
    }

    /// Statistics over a case; those not recorded do not count.
    pub fn statistics(&mut self, item: usize, want: &Value, got: &Value) {
        let same = |want: &Value| {
            want.as_object()
                .unwrap()
                .iter()
                .all(|(name, n)| got[name] == *n)
        };
        let wanted = statistics(want);
        let differing = match wanted.iter().any(same) {
            true => Vec::new(),
            false => vec![format!("statistics\n    want {wanted:?}\n    got  {got}")],
        };
        self.answer(item, differing);
    }

    /// No answer at all, since the proxy refuses the configuration.
    pub fn refused(&mut self, items: usize, reason: &str) {
        self.note("refused");
        for item in 0..items {
            self.answer(item, vec![format!("refused: {reason}")]);
        }
    }

    /// What differs, and how.
    fn answer(&mut self, item: usize, differing: Vec<String>) {
        let case = self.row().case.clone();
        let mut explained = EXPLAINED.iter();
        let explained = explained.any(|(of, at, _)| *of == case && *at == item);
        if differing.is_empty() {
            self.row().agreed += 1;
            if explained {
                let stale = format!("{case} {item} agrees: nothing is to be explained");
                self.unexcused.push(stale);
            }
            return;
        }
        self.row().differing += 1;
        if explained {
            self.explained += 1;
            return;
        }
        let shown = differing
            .iter()
            .map(|shown| format!("{case} {item} {shown}"));
        self.unexcused.extend(shown);
    }

    pub fn keys(&mut self, keys: usize, wrong: usize) {
        self.row().keys = Some((keys, wrong));
        if wrong > 0 {
            let case = self.row().case.clone();
            self.unexcused
                .push(format!("{case}: {wrong} of {keys} keys go elsewhere"));
        }
    }

    /// Prints the table; fails on what nothing excuses.
    pub fn finish(self) {
        let mut text = format!(
            "{}\n{:34} {:>6} {:>9} {:>12} {:>8}\n",
            self.title, "case", "agreed", "differing", "keys", "least p"
        );
        for row in &self.rows {
            let keys = row.keys.map_or(String::new(), |(keys, wrong)| {
                format!("{}/{keys}", keys - wrong)
            });
            let p = row.least_p.map_or(String::new(), |p| format!("{p:.1e}"));
            let _ = writeln!(
                text,
                "{:34} {:6} {:9} {keys:>12} {p:>8} {}",
                row.case, row.agreed, row.differing, row.note
            );
        }
        let sum = |of: fn(&Row) -> usize| self.rows.iter().map(of).sum::<usize>();
        let _ = writeln!(
            text,
            "{} cases: {} answers agree, {} differ ({} explained); {} of {} keys agree",
            self.rows.len(),
            sum(|row| row.agreed),
            sum(|row| row.differing),
            self.explained,
            sum(|row| row.keys.map_or(0, |(keys, wrong)| keys - wrong)),
            sum(|row| row.keys.map_or(0, |(keys, _)| keys)),
        );
        eprintln!("{text}");
        assert!(EXPLAINED.len() <= 3);
        let count = self.unexcused.len();
        assert!(
            self.unexcused.is_empty(),
            "{count} differences:\n{}",
            self.unexcused.join("\n")
        );
    }
}
