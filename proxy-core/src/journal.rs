//! The journal of a proxy: every input of its machines and what each made of it, one JSON document
//! a line. Replaying it into a bare core must give the same answers; each line carries a hash over
//! all before it, and the last one the number of lines, so that nothing can be changed, dropped or
//! added unnoticed.

use crate::Main;
use crate::contract::{Action, Input, MainInput, Out};
use crate::proxy::{Step, Witness};
use crate::time::Nanos;
use crate::worker::{Identity, Worker};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use xxhash_rust::xxh64::xxh64;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    journal: u32,
    identity: Identity,
}

#[derive(Serialize, Deserialize)]
enum Entry {
    Main {
        at: Nanos,
        input: MainInput,
        out: Out,
    },
    Worker {
        worker: u32,
        at: Nanos,
        input: Input,
        out: Out,
    },
    End {
        entries: u64,
    },
}

#[derive(Deserialize)]
struct Line {
    entry: Entry,
}

impl Entry {
    /// The entry as a line; `chain` runs over the text of every entry so far, this one included.
    /// Entries always serialise: no map has keys that are not text.
    #[allow(clippy::expect_used)]
    fn line(&self, chain: &mut u64) -> String {
        let text = serde_json::to_string(self).expect("journal entries serialise");
        *chain = xxh64(text.as_bytes(), *chain);
        format!("{{\"entry\":{text},\"chain\":{chain}}}")
    }
}

/// Writes a journal into memory; a driver takes the bytes and puts them where it likes.
#[derive(Debug)]
pub struct Journal {
    bytes: Vec<u8>,
    chain: u64,
    entries: u64,
}

impl Journal {
    /// The journal of a proxy from its first input on.
    pub fn new(identity: &Identity) -> Journal {
        let header = Header {
            journal: FORMAT,
            identity: identity.clone(),
        };
        let mut journal = Journal {
            bytes: Vec::new(),
            chain: 0,
            entries: 0,
        };
        #[allow(clippy::expect_used)] // The header holds text and numbers only.
        let text = serde_json::to_string(&header).expect("the header serialises");
        journal.chain = xxh64(text.as_bytes(), 0);
        journal.push(&text);
        journal
    }

    /// What was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Writes the last line and gives the rest.
    pub fn finish(mut self) -> Vec<u8> {
        let entries = self.entries;
        self.write(Entry::End { entries });
        self.bytes
    }

    fn write(&mut self, entry: Entry) {
        self.entries += 1;
        let line = entry.line(&mut self.chain);
        self.push(&line);
    }

    fn push(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.bytes.push(b'\n');
    }
}

impl Witness for Journal {
    fn saw(&mut self, at: Nanos, step: Step<'_>, out: &Out) {
        let out = out.clone();
        self.write(match step {
            Step::Main(input) => Entry::Main {
                at,
                input: input.clone(),
                out,
            },
            Step::Worker(worker, input) => Entry::Worker {
                worker,
                at,
                input: input.clone(),
                out,
            },
        });
    }
}

/// Which inputs and actions of the contract some journals hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    pub inputs: BTreeSet<String>,
    pub actions: BTreeSet<String>,
    /// Inputs replayed.
    pub entries: u64,
}

impl Coverage {
    /// Adds what another journal holds.
    pub fn merge(&mut self, other: Coverage) {
        self.inputs.extend(other.inputs);
        self.actions.extend(other.actions);
        self.entries += other.entries;
    }

    /// The inputs and actions never seen.
    pub fn missing(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        let absent = |all: &[&'static str], seen: &BTreeSet<String>| {
            all.iter()
                .copied()
                .filter(|name| !seen.contains(*name))
                .collect()
        };
        (absent(INPUTS, &self.inputs), absent(ACTIONS, &self.actions))
    }
}

/// Every variant of [`Input`] and [`MainInput`].
const INPUTS: &[&str] = &[
    "Opened",
    "DownstreamClosed",
    "Request",
    "RequestEnd",
    "BufferFull",
    "Cancelled",
    "Connected",
    "ConnectFailed",
    "ConnClosed",
    "GoAway",
    "Settings",
    "ResponseHead",
    "ResponseEnd",
    "Reset",
    "Answered",
    "Message",
    "Tick",
    "Xds",
    "Resolved",
    "Probed",
    "main Message",
    "main Tick",
];

/// Every variant of [`Action`].
const ACTIONS: &[&str] = &[
    "Connect",
    "CloseConn",
    "Send",
    "Cancel",
    "Respond",
    "Abort",
    "Buffer",
    "Ask",
    "Report",
    "CloseDownstream",
    "Probe",
    "Resolve",
    "Ack",
    "Nack",
];

fn input_name(input: &Input) -> &'static str {
    match input {
        Input::Opened(_) => "Opened",
        Input::DownstreamClosed { .. } => "DownstreamClosed",
        Input::Request { .. } => "Request",
        Input::RequestEnd { .. } => "RequestEnd",
        Input::BufferFull { .. } => "BufferFull",
        Input::Cancelled { .. } => "Cancelled",
        Input::Connected { .. } => "Connected",
        Input::ConnectFailed { .. } => "ConnectFailed",
        Input::ConnClosed { .. } => "ConnClosed",
        Input::GoAway { .. } => "GoAway",
        Input::Settings { .. } => "Settings",
        Input::ResponseHead { .. } => "ResponseHead",
        Input::ResponseEnd { .. } => "ResponseEnd",
        Input::Reset { .. } => "Reset",
        Input::Answered { .. } => "Answered",
        Input::Message(_) => "Message",
        Input::Tick => "Tick",
    }
}

fn main_input_name(input: &MainInput) -> &'static str {
    match input {
        MainInput::Xds { .. } => "Xds",
        MainInput::Resolved { .. } => "Resolved",
        MainInput::Probed { .. } => "Probed",
        MainInput::Message { .. } => "main Message",
        MainInput::Tick => "main Tick",
    }
}

fn action_name(action: &Action) -> &'static str {
    match action {
        Action::Connect { .. } => "Connect",
        Action::CloseConn { .. } => "CloseConn",
        Action::Send { .. } => "Send",
        Action::Cancel { .. } => "Cancel",
        Action::Respond { .. } => "Respond",
        Action::Abort { .. } => "Abort",
        Action::Buffer { .. } => "Buffer",
        Action::Ask { .. } => "Ask",
        Action::Report { .. } => "Report",
        Action::CloseDownstream { .. } => "CloseDownstream",
        Action::Probe { .. } => "Probe",
        Action::Resolve { .. } => "Resolve",
        Action::Ack { .. } => "Ack",
        Action::Nack { .. } => "Nack",
    }
}

/// Why a journal does not replay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayError {
    /// A line is not what a journal holds.
    Unreadable { line: u64, why: String },
    /// A line, or one before it, was changed, dropped or added.
    Tampered { line: u64 },
    /// The core answers otherwise than recorded.
    Differs {
        line: u64,
        recorded: String,
        replayed: String,
    },
    /// The last line is missing.
    Truncated,
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::Unreadable { line, why } => {
                write!(f, "line {line}: not a journal entry: {why}")
            }
            ReplayError::Tampered { line } => {
                write!(
                    f,
                    "line {line}: this line or one before it is not as it was written"
                )
            }
            ReplayError::Differs {
                line,
                recorded,
                replayed,
            } => {
                write!(
                    f,
                    "line {line}: the core answers differently\n  recorded: {recorded}\n  replayed: {replayed}"
                )
            }
            ReplayError::Truncated => f.write_str("the journal has no last line"),
        }
    }
}

impl std::error::Error for ReplayError {}

/// Gives the inputs of a journal to a bare core and compares every answer.
pub fn replay(text: &str) -> Result<Coverage, ReplayError> {
    let mut lines = (1u64..).zip(text.split_terminator('\n'));
    let unreadable = |line, why: serde_json::Error| ReplayError::Unreadable {
        line,
        why: why.to_string(),
    };
    let (_, first) = lines.next().ok_or(ReplayError::Truncated)?;
    let header: Header = serde_json::from_str(first).map_err(|e| unreadable(1, e))?;
    if header.journal != FORMAT {
        return Err(ReplayError::Unreadable {
            line: 1,
            why: format!("journal format {} is unknown", header.journal),
        });
    }
    let mut core = Core::new(&header.identity);
    let mut chain = xxh64(first.as_bytes(), 0);
    let mut coverage = Coverage::default();
    while let Some((number, text)) = lines.next() {
        let line: Line = serde_json::from_str(text).map_err(|e| unreadable(number, e))?;
        if line.entry.line(&mut chain) != text {
            return Err(ReplayError::Tampered { line: number });
        }
        if let Entry::End { entries } = line.entry {
            // `entries` counts the lines before this one.
            let whole = entries == coverage.entries && lines.next().is_none();
            return if whole {
                Ok(coverage)
            } else {
                Err(ReplayError::Tampered { line: number })
            };
        }
        core.step(number, line.entry, &mut coverage)?;
    }
    Err(ReplayError::Truncated)
}

struct Core {
    main: Main,
    workers: Vec<Worker>,
}

impl Core {
    fn new(identity: &Identity) -> Core {
        let workers = (0..identity.workers.max(1))
            .map(|number| Worker::new(identity, number))
            .collect();
        Core {
            main: Main::new(identity),
            workers,
        }
    }

    fn step(
        &mut self,
        line: u64,
        entry: Entry,
        coverage: &mut Coverage,
    ) -> Result<(), ReplayError> {
        let mut replayed = Out::default();
        let (name, recorded) = match entry {
            Entry::Main { at, input, out } => {
                let name = main_input_name(&input);
                self.main.handle(at, input, &mut replayed);
                (name, out)
            }
            Entry::Worker {
                worker,
                at,
                input,
                out,
            } => {
                let name = input_name(&input);
                let Some(machine) = self.workers.get_mut(worker as usize) else {
                    let why = format!("there is no worker {worker}");
                    return Err(ReplayError::Unreadable { line, why });
                };
                machine.handle(at, input, &mut replayed);
                (name, out)
            }
            Entry::End { .. } => return Ok(()),
        };
        coverage.entries += 1;
        coverage.inputs.insert(name.to_owned());
        coverage.actions.extend(
            recorded
                .actions
                .iter()
                .map(|action| action_name(action).to_owned()),
        );
        if replayed == recorded {
            return Ok(());
        }
        let (recorded, replayed) = (format!("{recorded:?}"), format!("{replayed:?}"));
        Err(ReplayError::Differs {
            line,
            recorded,
            replayed,
        })
    }
}
