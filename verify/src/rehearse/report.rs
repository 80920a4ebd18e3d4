//! The agreement as text.

use super::Rehearsal;
use super::compare::Figure;
use std::fmt;

impl fmt::Display for Rehearsal {
    /// A line for each window, then every difference with both sides' numbers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rehearsal {
            scenario,
            seed,
            proxy,
            ..
        } = self;
        writeln!(
            f,
            "{scenario} (seed {seed}) as {proxy} lives through it, beside a real Envoy"
        )?;
        writeln!(f)?;
        writeln!(
            f,
            "{:>8} {:>8} {:>9} {:>8} {:>7}  after",
            "from", "to", "requests", "figures", "differ"
        )?;
        for window in &self.agreement.windows {
            let differ = window
                .figures
                .iter()
                .filter(|figure| !figure.agrees())
                .count();
            writeln!(
                f,
                "{:>7.2}s {:>7.2}s {:>9} {:>8} {:>7}  {}",
                window.from.as_secs_f64(),
                window.to.as_secs_f64(),
                window.requests,
                window.figures.len(),
                differ,
                window.after
            )?;
        }
        let differ = self
            .agreement
            .ejections
            .iter()
            .filter(|figure| !figure.agrees())
            .count();
        if !self.agreement.ejections.is_empty() {
            writeln!(
                f,
                "{:>37} {differ:>7}  ejections and returns",
                self.agreement.ejections.len()
            )?;
        }
        writeln!(f)?;
        for window in &self.agreement.windows {
            for figure in window.figures.iter().filter(|figure| !figure.agrees()) {
                let (from, to) = (window.from.as_secs_f64(), window.to.as_secs_f64());
                writeln!(
                    f,
                    "different from {from:.2}s to {to:.2}s: {}",
                    Shown(figure)
                )?;
            }
        }
        for figure in self
            .agreement
            .ejections
            .iter()
            .filter(|figure| !figure.agrees())
        {
            writeln!(f, "different: {}", Shown(figure))?;
        }
        let judged = if self.agreement.is_full() {
            "agrees"
        } else {
            "differs"
        };
        let (sent, answered) = (
            self.sent_late.as_millis_f64(),
            self.answered_late.as_millis_f64(),
        );
        writeln!(
            f,
            "{judged}; requests were sent up to {sent:.1} ms late, answers {answered:.2} ms on average"
        )?;
        if self.was_disturbed() {
            writeln!(
                f,
                "the machine was too busy for a difference to mean anything: try again"
            )?;
        }
        Ok(())
    }
}

struct Shown<'a>(&'a Figure);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figure {
            what,
            envoy,
            core_mean,
            core_deviation,
            at_least,
            at_most,
        } = self.0;
        write!(
            f,
            "{what}: Envoy {envoy:.1}, core {core_mean:.1} (deviation {core_deviation:.1}), allowed {at_least:.1} to {at_most:.1}"
        )
    }
}
