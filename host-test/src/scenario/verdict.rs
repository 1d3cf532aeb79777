//! What became of a case, and the report of what went wrong.

use std::fmt;
use std::rc::Rc;

use super::mistake::{File, Span};
use crate::Replay;

/// What became of one run of a case; its `Display` is the report of a failure.
#[derive(Debug)]
pub struct Verdict {
    /// The case's name.
    pub case: String,
    /// The seed of this run.
    pub seed: u64,
    pub(super) file: Rc<File>,
    pub(super) span: Span,
    pub(super) failures: Vec<Failure>,
    /// What had gone wrong by itself, if anything had: a file of it is a `replay` for the case.
    pub replay: Option<Replay>,
}

/// Something that isn't as expected.
#[derive(Debug, Default)]
pub(super) struct Failure {
    /// The step; the end of the case if there is none.
    pub(super) step: Option<Span>,
    /// What was looked at.
    pub(super) about: String,
    pub(super) differences: Vec<Difference>,
    /// What can't be told as a difference.
    pub(super) notes: Vec<String>,
    /// Lines of log that may explain it.
    pub(super) log: Vec<String>,
}

/// What was expected, and what came.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) span: Span,
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) came: String,
}

impl Verdict {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`, seed {}", self.file.place(self.span), self.case, self.seed)?;
        for failure in &self.failures {
            match failure.step {
                Some(span) => write!(f, "\n  {}: {}", self.file.place(span), failure.about)?,
                None => write!(f, "\n  {}", failure.about)?,
            }
            for Difference { span, what, expected, came } in &failure.differences {
                write!(f, "\n    {what} (line {})", span.line)?;
                if expected.contains('\n') || came.contains('\n') {
                    write_lines(f, expected, came)?;
                } else {
                    write!(f, "\n      expected {expected}\n      came     {came}")?;
                }
            }
            for line in failure.notes.iter().flat_map(|note| note.lines()).filter(|line| !line.is_empty()) {
                write!(f, "\n    {line}")?;
            }
            if !failure.log.is_empty() {
                write!(f, "\n    log:")?;
            }
            for message in &failure.log {
                for (index, line) in message.lines().filter(|line| !line.is_empty()).enumerate() {
                    let indent = if index == 0 { "" } else { "  " };
                    write!(f, "\n      {indent}{line}")?;
                }
            }
        }
        if let (Some(replay), false) = (&self.replay, self.passed()) {
            write!(f, "\n  these faults do it; in a file, they are a `replay` of the case:")?;
            replay.to_yaml().lines().try_for_each(|line| write!(f, "\n    {line}"))?;
        }
        Ok(())
    }
}

/// Both texts, the lines that they share at the beginning and the end once.
fn write_lines(f: &mut fmt::Formatter<'_>, expected: &str, came: &str) -> fmt::Result {
    const CONTEXT: usize = 3;
    let (expected, came): (Vec<_>, Vec<_>) = (expected.lines().collect(), came.lines().collect());
    let shorter = expected.len().min(came.len());
    let head = (0..shorter).take_while(|&n| expected[n] == came[n]).count();
    let tail = (1..=shorter - head).take_while(|&n| expected[expected.len() - n] == came[came.len() - n]).count();
    write!(f, "\n      - expected\n      + came")?;
    for line in &expected[head.saturating_sub(CONTEXT)..head] {
        write!(f, "\n        {line}")?;
    }
    for line in &expected[head..expected.len() - tail] {
        write!(f, "\n      - {line}")?;
    }
    for line in &came[head..came.len() - tail] {
        write!(f, "\n      + {line}")?;
    }
    for line in expected[expected.len() - tail..].iter().take(CONTEXT) {
        write!(f, "\n        {line}")?;
    }
    Ok(())
}
