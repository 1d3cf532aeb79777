//! `routecache diff`.

mod fields;
mod meaning;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::failure::Failure;
use crate::format::Format;
use crate::rules::{Environment, load, write};
use meaning::{Change, Effect, changes};

/// Tells what a change of rules does to what is stored: which keys and tags change their meaning, and what becomes unreachable
///
/// Entries are kept under their rule's fingerprint, which holds whatever decides its keys, tags and identity; so after a change of those its
/// entries are misses, and after any other change they stay.
///
/// Exits with 0, 1 if one of the files has mistakes, 2 if one can't be read; with `--exit-code`, 3 if anything stored becomes unreachable or a
/// write purges less.
#[derive(Args)]
pub struct Arguments {
    /// The rules as they are; `-` is standard input
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The rules as they will be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Exit with 3 if anything stored becomes unreachable, or a write purges less
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    environment: Environment,
}

/// Compares.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let old = load(&arguments.old, &arguments.environment)?;
    let new = load(&arguments.new, &arguments.environment)?;
    let changes = changes(&old, &new);
    let text = match arguments.format {
        Format::Text => told(&changes),
        Format::Json => format!("{:#}\n", json!({ "changes": changes })),
    };
    write(Path::new("-"), text.as_bytes())?;
    let loses = changes.iter().any(|change| matches!(change.effect, Effect::Unreachable | Effect::PurgesLess));
    if arguments.exit_code && loses { Err(Failure::Changed) } else { Ok(()) }
}

/// Under a heading for each effect, the gravest first.
fn told(changes: &[Change]) -> String {
    if changes.is_empty() {
        return "nothing changes\n".to_owned();
    }
    let mut text = String::new();
    for effect in Effect::ALL {
        let of_it: Vec<_> = changes.iter().filter(|change| change.effect == effect).collect();
        if of_it.is_empty() {
            continue;
        }
        let between = if text.is_empty() { "" } else { "\n" };
        let _ = writeln!(text, "{between}{}", effect.heading());
        for change in of_it {
            let subject = change.rule.as_ref().map_or(String::new(), |rule| format!("{rule}: "));
            let _ = writeln!(text, "  {subject}{}", change.what);
            for field in &change.fields {
                let _ = writeln!(text, "    {field}");
            }
        }
    }
    text
}
