//! A progress bar for long runs, on a terminal only.

#![allow(clippy::disallowed_types, clippy::disallowed_methods)] // People wait in wall time.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Runs shorter than this show nothing.
const PATIENCE: Duration = Duration::from_millis(700);
const STEPS: f64 = 1_000.0;

/// Progress over several runs.
pub(crate) struct Progress {
    bar: ProgressBar,
    state: Mutex<State>,
}

struct State {
    began: Instant,
    done: f64,
    shown: bool,
}

impl Progress {
    /// Progress over `runs` runs.
    pub(crate) fn new(runs: usize) -> Progress {
        let bar = ProgressBar::with_draw_target(
            Some((runs as f64 * STEPS) as u64),
            ProgressDrawTarget::hidden(),
        );
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {percent}%  {eta} left") {
            bar.set_style(style);
        }
        let state = State {
            began: Instant::now(),
            done: 0.0,
            shown: false,
        };
        Progress {
            bar,
            state: Mutex::new(state),
        }
    }

    /// So much more, in runs, is done.
    pub(crate) fn more(&self, done: f64) {
        let Ok(mut state) = self.state.lock() else {
            return;
        };
        state.done += done;
        if !state.shown && state.began.elapsed() > PATIENCE {
            state.shown = true;
            // Draws only if standard error is a terminal.
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        self.bar.set_position((state.done * STEPS) as u64);
    }

    /// Takes the bar away.
    pub(crate) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
