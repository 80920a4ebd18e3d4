//! What agreed and what did not.

use crate::compare::{Compared, Field};
use crate::sample::Sample;
use serde::Serialize;
use std::fmt;

/// The outcome of a verification.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Which shape this has, in JSON.
    pub schema: &'static str,
    pub configs: u32,
    pub requests: u32,
    pub agreement: Vec<Agreement>,
    pub samples: Vec<Sample>,
    pub differences: Vec<Difference>,
    /// What was left out, or is otherwise than in the configuration.
    pub notes: Vec<String>,
}

/// How often both sides agreed on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Agreement {
    pub field: Field,
    pub compared: u32,
    pub agreed: u32,
    pub differed: u32,
}

/// Something the two sides saw differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub config: String,
    pub request: String,
    /// The core's decisions in order, in words.
    pub trail: Vec<String>,
    /// Of Envoy's access log.
    pub details: String,
    pub fields: Vec<FieldDifference>,
}

/// Both sides of a field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldDifference {
    pub field: Field,
    pub core: String,
    pub envoy: String,
}

impl Report {
    pub(crate) fn new(configs: usize, notes: Vec<String>) -> Report {
        Report {
            schema: "meshsim.verify/1",
            configs: configs as u32,
            requests: 0,
            agreement: Vec::new(),
            samples: Vec::new(),
            differences: Vec::new(),
            notes,
        }
    }

    /// Whether both sides agreed on everything.
    pub fn agrees(&self) -> bool {
        self.differences.is_empty() && self.samples.iter().all(|sample| sample.agrees)
    }

    /// Counts `compared`; the difference if there is one.
    pub(crate) fn count(&mut self, compared: &[Compared]) -> Option<Vec<FieldDifference>> {
        self.requests += 1;
        let mut differing = Vec::new();
        for one in compared {
            let at = self
                .agreement
                .iter()
                .position(|known| known.field == one.field);
            let at = at.unwrap_or_else(|| {
                let new = Agreement {
                    field: one.field,
                    compared: 0,
                    agreed: 0,
                    differed: 0,
                };
                self.agreement.push(new);
                self.agreement.len() - 1
            });
            let counts = &mut self.agreement[at];
            counts.compared += 1;
            match &one.differs {
                None => counts.agreed += 1,
                Some((core, envoy)) => {
                    counts.differed += 1;
                    let (core, envoy) = (core.clone(), envoy.clone());
                    differing.push(FieldDifference {
                        field: one.field,
                        core,
                        envoy,
                    });
                }
            }
        }
        (!differing.is_empty()).then_some(differing)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, counts: [&dyn fmt::Display; 3]| {
            let [compared, agreed, differed] = counts;
            writeln!(f, "{name:<32} {compared:>9} {agreed:>9} {differed:>9}")
        };
        for difference in &self.differences {
            writeln!(f, "{}: {}", difference.config, difference.request)?;
            for field in &difference.fields {
                writeln!(f, "  {}", field.field.name())?;
                writeln!(f, "    meshsim: {}", field.core)?;
                writeln!(f, "    Envoy:   {}", field.envoy)?;
            }
            for step in &difference.trail {
                writeln!(f, "  meshsim: {step}")?;
            }
            writeln!(f, "  Envoy: {}\n", difference.details)?;
        }
        for sample in self.samples.iter().filter(|sample| !sample.agrees) {
            writeln!(
                f,
                "{}: {}: {} (p = {:.1e})",
                sample.config, sample.request, sample.of, sample.p
            )?;
            for way in &sample.ways {
                writeln!(
                    f,
                    "  {}: meshsim {}, Envoy {}",
                    way.way, way.core, way.envoy
                )?;
            }
            writeln!(f)?;
        }
        row(f, "", [&"compared", &"agreed", &"differed"])?;
        for counts in &self.agreement {
            let numbers: [&dyn fmt::Display; 3] =
                [&counts.compared, &counts.agreed, &counts.differed];
            row(f, counts.field.name(), numbers)?;
        }
        if !self.samples.is_empty() {
            let agreed = self.samples.iter().filter(|sample| sample.agrees).count();
            let all = self.samples.len();
            row(
                f,
                "shares of random decisions",
                [&all, &agreed, &(all - agreed)],
            )?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let (configs, requests) = (self.configs, self.requests);
        match self.agrees() {
            true => writeln!(
                f,
                "{requests} requests to {configs} proxies: meshsim and Envoy agree"
            ),
            false => writeln!(
                f,
                "{requests} requests to {configs} proxies: meshsim and Envoy differ"
            ),
        }
    }
}
