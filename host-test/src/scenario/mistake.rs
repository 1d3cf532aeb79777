//! Mistakes in a scenario file, shown with the line that they mean.

use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// A scenario file.
#[derive(Debug)]
pub(super) struct File {
    /// As the user named it.
    pub(super) path: PathBuf,
    pub(super) text: String,
}

impl File {
    /// A path that the file mentions: relative ones begin beside it.
    pub(super) fn beside(&self, path: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("")).join(path)
    }

    /// `path:line:column`.
    pub(super) fn place(&self, span: Span) -> String {
        format!("{}:{}:{}", self.path.display(), span.line, span.column)
    }
}

/// A stretch of the file. Lines and columns count from 1, all else in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Characters before it in the whole file.
    pub(super) start: usize,
    pub(super) length: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mistake {
    /// Wrong here.
    Here { span: Span, what: String, mend: String },
    /// Wrong in something that the file mentions, told in full by whoever read that.
    Elsewhere { span: Span, message: String },
}

impl Mistake {
    fn span(&self) -> Span {
        match self {
            Self::Here { span, .. } | Self::Elsewhere { span, .. } => *span,
        }
    }
}

/// Everything that is wrong with a scenario file; never empty.
#[derive(Debug)]
pub struct Mistakes {
    file: Rc<File>,
    list: Vec<Mistake>,
}

impl Mistakes {
    /// In the order of the file, each once: what stands beside `cases` is read for each of them.
    pub(super) fn new(file: Rc<File>, mut list: Vec<Mistake>) -> Self {
        list.sort_by_key(Mistake::span);
        list.dedup();
        Self { file, list }
    }
}

impl std::error::Error for Mistakes {}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut here = 0;
        for (index, mistake) in self.list.iter().enumerate() {
            match mistake {
                Mistake::Here { span, what, mend } => {
                    here += 1;
                    writeln!(f, "{}: {what}", self.file.place(*span))?;
                    write_line(f, &self.file.text, *span)?;
                    writeln!(f, "    {mend}")?;
                }
                Mistake::Elsewhere { message, .. } => {
                    let last = index + 1 == self.list.len() && here == 0;
                    write!(f, "{}{}", message.trim_end(), if last { "" } else { "\n\n" })?;
                }
            }
        }
        // Messages from elsewhere count for themselves.
        match here {
            0 => Ok(()),
            1 => write!(f, "1 mistake in {}", self.file.path.display()),
            _ => write!(f, "{here} mistakes in {}", self.file.path.display()),
        }
    }
}

/// The line, with carets below what is meant.
fn write_line(f: &mut fmt::Formatter<'_>, text: &str, span: Span) -> fmt::Result {
    /// Of an enormous line only the surroundings are shown.
    const CHARS_MAX: usize = 110;
    let Some(line) = text.lines().nth(span.line.saturating_sub(1)) else { return Ok(()) };
    // One column for each character, whatever a terminal makes of it.
    let chars: Vec<char> = line.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let before = (span.column - 1).min(chars.len());
    let from = if chars.len() > CHARS_MAX { before.saturating_sub(CHARS_MAX / 2) } else { 0 };
    let shown: String = chars.iter().skip(from).take(CHARS_MAX).collect();
    let shown = shown.trim_end();
    let indent = before - from;
    let carets = span.length.min(shown.chars().count().saturating_sub(indent)).max(1);
    let (number, margin) = (span.line.to_string(), " ".repeat(span.line.to_string().len()));
    writeln!(f, "{margin} |\n{number} | {shown}\n{margin} | {}{}", " ".repeat(indent), "^".repeat(carets))
}
