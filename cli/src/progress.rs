//! How far long work has come: one line on a terminal, written again and again, and gone at the end.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// What takes less isn't worth a line.
const QUIET: Duration = Duration::from_millis(500);

/// How often the line is written.
const RHYTHM: Duration = Duration::from_millis(100);

/// A line on standard error, if that is a terminal.
pub struct Progress {
    began: Instant,
    written: Option<Instant>,
    on_terminal: bool,
}

impl Progress {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { began: Instant::now(), written: None, on_terminal: io::stderr().is_terminal() }
    }

    /// Shows how far the work has come, if it takes long.
    pub fn show(&mut self, done: u64, of: u64, what: &str) {
        let lately = self.written.is_some_and(|written| written.elapsed() < RHYTHM);
        if !self.on_terminal || lately || self.began.elapsed() < QUIET {
            return;
        }
        self.written = Some(Instant::now());
        // A terminal that can't be written to isn't looked at.
        let _ = write!(io::stderr(), "\r\x1b[K{done}/{of} {what}");
    }

    /// Takes the line away, so that something else can be printed.
    pub fn clear(&mut self) {
        if self.written.take().is_some() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
