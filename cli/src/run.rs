//! `meshsim run`.

use crate::args::{Engine, Format, RunArgs, SeedRange};
use crate::progress::Progress;
use crate::{Exit, report};
use anstream::{eprintln, print};
use record::RunRecord;
use scenarios::model::{ConfigSource, Named};
use sim::{Observers, Overrides, Plan};
use source::{Diagnostic, SourceFile};
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

pub(crate) fn run(args: &RunArgs) -> Exit {
    let mut diagnostics = Vec::new();
    let plans: Vec<Option<Plan>> = args
        .paths
        .iter()
        .map(|path| plan(path, args, &mut diagnostics))
        .collect();
    if report(&diagnostics) {
        return Exit::BadInput;
    }
    if args.engine == Engine::Turmoil
        && let Some(reason) = plans
            .iter()
            .flatten()
            .find_map(|plan| sim::turmoil::check(plan).err())
    {
        eprintln!("error: {reason}");
        return Exit::BadInput;
    }
    let mut held = true;
    for (path, plan) in args.paths.iter().zip(plans.iter().flatten()) {
        let seeds = seeds(plan, args);
        let records = match records(plan, &seeds, args) {
            Ok(records) => records,
            Err(problem) => {
                eprintln!("error: {problem}");
                return Exit::BadInput;
            }
        };
        held &= records.iter().all(|record| record.passed);
        match args.format {
            Format::Json => print!("{}", reports::json_lines(&records)),
            Format::Text => {
                let color = std::io::stdout().is_terminal();
                print!(
                    "{}",
                    reports::summary(&records, color, &repeat(path, args, &seeds))
                );
            }
        }
    }
    if held { Exit::Held } else { Exit::DidNotHold }
}

fn plan(path: &Path, args: &RunArgs, diagnostics: &mut Vec<Diagnostic>) -> Option<Plan> {
    let scenario = sim::plan::read_scenario(path, &args.sets, diagnostics)?;
    // Given on the command line, paths are relative to where the user stands.
    let config = args.config.iter().map(|path| {
        let path = match path == Path::new("-") {
            true => path.clone(),
            false => std::path::absolute(path).unwrap_or_else(|_| path.clone()),
        };
        let text = path.display().to_string();
        let span = SourceFile::new("--config", &text).span(0..text.len());
        ConfigSource::Path(Named { text, span })
    });
    let config: Vec<ConfigSource> = config.collect();
    let overrides = Overrides {
        config: (!config.is_empty()).then_some(config),
        allow_invalid: args.allow_invalid,
        ..Overrides::default()
    };
    Plan::new(&scenario, overrides, diagnostics)
}

fn seeds(plan: &Plan, args: &RunArgs) -> Vec<u64> {
    match args.seeds {
        Some(SeedRange { first, last }) => (first..=last).collect(),
        None => vec![args.seed.unwrap_or(plan.seed)],
    }
}

fn records(plan: &Plan, seeds: &[u64], args: &RunArgs) -> Result<Vec<RunRecord>, String> {
    let progress = Progress::new(seeds.len());
    // Several seeds at a time are the event engine's.
    let watched = args.out.is_some() || args.verbose || args.engine == Engine::Turmoil;
    let records = if watched {
        seeds
            .iter()
            .map(|&seed| watched_run(plan, seed, args, &progress))
            .collect()
    } else {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = args.threads.unwrap_or(cores);
        let outcomes = sim::run_seeds(plan, seeds, threads, &|more| progress.more(more));
        Ok(outcomes.into_iter().map(|outcome| outcome.record).collect())
    };
    progress.clear();
    records
}

fn watched_run(
    plan: &Plan,
    seed: u64,
    args: &RunArgs,
    progress: &Progress,
) -> Result<RunRecord, String> {
    let mut folder = match &args.out {
        None => None,
        Some(out) => {
            let folder = out.join(format!("{}-seed-{seed}", plan.name));
            let made = OutFolder::create(&folder);
            Some(made.map_err(|error| format!("{}: {error}", folder.display()))?)
        }
    };
    let folder = std::cell::RefCell::new(folder.take());
    let mut line = |line: &sim::LogLine<'_>| {
        if args.verbose {
            eprintln!("{line}");
        }
        if let Some(folder) = &mut *folder.borrow_mut() {
            folder.log(line);
        }
    };
    let mut journal = |proxy: &str, bytes: Vec<u8>| {
        if let Some(folder) = &mut *folder.borrow_mut() {
            folder.journal(proxy, &bytes);
        }
    };
    let mut told = 0.0;
    let mut tell = |done: f64| {
        progress.more(done - told);
        told = done;
    };
    let observers = Observers {
        access_log: Some(&mut line),
        journal: args.out.is_some().then_some(&mut journal as _),
        progress: Some(&mut tell),
        ..Observers::default()
    };
    let outcome = match args.engine {
        Engine::Event => sim::event::run(plan, seed, observers),
        Engine::Turmoil => {
            sim::turmoil::run(plan, seed, observers).map_err(|error| error.to_string())?
        }
    };
    if let Some(folder) = folder.into_inner() {
        folder
            .finish(&outcome.record)
            .map_err(|error| format!("cannot write the record: {error}"))?;
    }
    Ok(outcome.record)
}

/// The folder of one run: `run.json`, `access.log`, `journal/PROXY.jsonl`.
struct OutFolder {
    path: std::path::PathBuf,
    access_log: BufWriter<File>,
    /// The first problem in writing.
    problem: Option<io::Error>,
}

impl OutFolder {
    fn create(path: &Path) -> io::Result<OutFolder> {
        let journal = path.join("journal");
        if journal.exists() {
            std::fs::remove_dir_all(&journal)?;
        }
        std::fs::create_dir_all(&journal)?;
        let access_log = BufWriter::new(File::create(path.join("access.log"))?);
        Ok(OutFolder {
            path: path.to_owned(),
            access_log,
            problem: None,
        })
    }

    fn log(&mut self, line: &sim::LogLine<'_>) {
        let written = writeln!(self.access_log, "{line}");
        self.note(written);
    }

    fn journal(&mut self, proxy: &str, bytes: &[u8]) {
        let path = self.path.join("journal").join(format!("{proxy}.jsonl"));
        let file = File::options().append(true).create(true).open(path);
        let written = file.and_then(|mut file| file.write_all(bytes));
        self.note(written);
    }

    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.problem.get_or_insert(error);
        }
    }

    fn finish(mut self, record: &RunRecord) -> io::Result<()> {
        let flushed = self.access_log.flush();
        self.note(flushed);
        let json = reports::json_lines(std::slice::from_ref(record));
        let written = std::fs::write(self.path.join("run.json"), json);
        self.note(written);
        self.problem.map_or(Ok(()), Err)
    }
}

/// The command that repeats the run.
fn repeat(path: &Path, args: &RunArgs, seeds: &[u64]) -> String {
    let mut command = format!("meshsim run {}", path.display());
    match seeds {
        [seed] => command += &format!(" --seed {seed}"),
        [first, .., last] => command += &format!(" --seeds {first}..{last}"),
        [] => {}
    }
    for (key, value) in &args.sets {
        command += &format!(" --set '{key}={value}'");
    }
    for config in &args.config {
        command += &format!(" --config {}", config.display());
    }
    if args.allow_invalid {
        command += " --allow-invalid";
    }
    if args.engine == Engine::Turmoil {
        command += " --engine turmoil";
    }
    command
}
