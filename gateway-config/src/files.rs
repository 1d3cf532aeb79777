//! Rules as people keep them: YAML files, whose mistakes are shown with the line that they mean.

use std::fmt;

use routecache_core::policy::Policy;
use serde_json::Value;

use crate::lint::{Warnings, lint};
use crate::mistake::Mistakes;
use crate::tree::{Kind, Node, Span};
use crate::walk::Found;
use crate::{Environment, check, resources, yaml};

/// A file without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What the filter would make of it.
    pub policy: Policy,
    /// The same structure as JSON: what the filter is given.
    pub json: Value,
    /// The same with plain rules in place of its `resources`.
    pub expanded: Value,
    root: Node,
    file: File,
}

impl Loaded {
    /// The rules as YAML, with everything written out that is short for something else.
    #[cfg(feature = "render")]
    #[must_use]
    pub fn expanded(&self) -> String {
        format!("{}\n", crate::expand::yaml(&self.root))
    }

    /// What is right as rules, and probably isn't meant; `env` as it was for loading.
    #[must_use]
    pub fn lint(&self, env: Environment<'_>) -> Warnings {
        lint(&self.root, &self.file, &self.policy, env)
    }
}

/// Reads a YAML (or JSON) file. Its name is only used to tell mistakes.
///
/// # Errors
///
/// Every mistake in the rules and in the environment, in the order of the file.
pub fn load_yaml(text: &str, file_name: &str, env: Environment<'_>) -> Result<Loaded, Mistakes> {
    // Editors on Windows begin files with a byte order mark, which the parser would take for content.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file = File { name: file_name.to_owned(), text: text.to_owned() };
    let checked = yaml::parse(text).and_then(|root| {
        let policy = check::policy(&root, env).map_err(Mistakes::new)?;
        Ok((policy, resources::expanded(&root, &mut Found::default()).into_owned(), root))
    });
    match checked {
        Ok((policy, expanded, root)) => {
            Ok(Loaded { policy, json: json(&root), expanded: json(&expanded), root: expanded, file })
        }
        Err(mut mistakes) => {
            mistakes.list.sort_by_key(|mistake| mistake.span.map_or((usize::MAX, 0), |span| (span.line, span.column)));
            mistakes.file = Some(file);
            Err(mistakes)
        }
    }
}

/// A YAML file as JSON, right or wrong as rules.
///
/// # Errors
///
/// The place where it isn't YAML.
pub fn json_of(text: &str) -> Result<Value, Mistakes> {
    yaml::parse(text).map(|root| json(&root))
}

/// The same structure, without places.
pub(crate) fn json(node: &Node) -> Value {
    match &node.kind {
        Kind::Null => Value::Null,
        Kind::Bool(value) => Value::Bool(*value),
        Kind::Integer(value) => Value::from(*value),
        Kind::Float(value) => Value::from(*value),
        Kind::Text(text) => Value::from(text.as_str()),
        Kind::List(items) => items.iter().map(json).collect(),
        Kind::Map(entries) => entries.iter().map(|entry| (entry.name.clone(), json(&entry.value))).collect(),
    }
}

/// A file that mistakes and warnings are shown in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) name: String,
    text: String,
}

/// Where something is shown.
pub(crate) struct Place<'a> {
    pub(crate) span: Option<Span>,
    /// The way to it.
    pub(crate) path: &'a str,
    /// Whether its line is shown.
    pub(crate) quotes: bool,
    pub(crate) is_warning: bool,
}

/// What surrounds the parts of a message on a terminal.
struct Paint {
    place: &'static str,
    mark: &'static str,
    mend: &'static str,
    end: &'static str,
}

impl Paint {
    const NONE: Self = Self { place: "", mark: "", mend: "", end: "" };

    fn of(is_warning: bool, f: &fmt::Formatter<'_>) -> Self {
        const BOLD: &str = "\x1b[1m";
        const RED: &str = "\x1b[1;31m";
        const YELLOW: &str = "\x1b[1;33m";
        const CYAN: &str = "\x1b[36m";
        if !f.alternate() {
            return Self::NONE;
        }
        Self { place: BOLD, mark: if is_warning { YELLOW } else { RED }, mend: CYAN, end: "\x1b[0m" }
    }
}

impl File {
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The place and what is wrong, the line with a caret below what is meant, and the mend; with `{:#}` in colours for a
    /// terminal.
    pub(crate) fn show(&self, at: &Place<'_>, what: &str, mend: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paint = Paint::of(at.is_warning, f);
        let Paint { place, mark, mend: mending, end } = paint;
        match at.span {
            Some(span) => {
                writeln!(f, "{place}{}:{}:{}:{end} {mark}{what}{end}", self.name, span.line, span.column)?;
                if at.quotes {
                    self.show_line(span, &paint, f)?;
                }
            }
            None if at.path.is_empty() => writeln!(f, "{place}{}:{end} {mark}{what}{end}", self.name)?,
            None => writeln!(f, "{place}{}:{end} {mark}{what}{end}", at.path)?,
        }
        writeln!(f, "    {mending}{mend}{end}")
    }

    fn show_line(&self, span: Span, paint: &Paint, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Rules may stand on one enormous line; of that, only the surroundings are shown.
        const CHARS_MAX: usize = 110;
        const CHARS_BEFORE: usize = 50;
        let Some(line) = self.text.lines().nth(span.line.saturating_sub(1)) else { return Ok(()) };
        let before = span.column.saturating_sub(1);
        let skipped = if line.chars().count() > CHARS_MAX { before.saturating_sub(CHARS_BEFORE) } else { 0 };
        // One column for each character: a tab or worse would move the caret away.
        let shown: String =
            line.chars().skip(skipped).take(CHARS_MAX).map(|char| if char.is_control() { ' ' } else { char }).collect();
        let (number, indent) = (span.line.to_string(), before.saturating_sub(skipped));
        let room = shown.trim_end().chars().count().saturating_sub(indent);
        let carets = "^".repeat(span.length.min(room).max(1));
        let gutter = " ".repeat(number.len());
        let Paint { mark, end, .. } = paint;
        writeln!(f, "{gutter} |\n{number} | {}\n{gutter} | {}{mark}{carets}{end}", shown.trim_end(), " ".repeat(indent))
    }
}
