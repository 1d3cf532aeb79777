//! `routecache check`.

mod report;

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use routecache_config::lint::{self, LINTS, Warning};

use crate::failure::Failure;
use crate::rules::{Environment, load, write};
use report::Checked;

pub use report::counted;

/// Tells every mistake in files of rules, and what is right and probably not meant
///
/// Each is shown with its place and how to mend it. docs/linting.md has all warnings with examples; a comment such as
/// `# routecache: allow(tag-never-purged)` allows one.
///
/// Exits with 0 if there are no mistakes, 1 if there are (or warnings that are denied), 2 if a file can't be read.
#[derive(Args)]
pub struct Arguments {
    /// YAML or JSON; `-` is standard input
    #[arg(required_unless_present = "list", value_name = "FILE")]
    files: Vec<PathBuf>,
    /// For people, or for programs: JSON, or SARIF 2.1.0 as code hosts read it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Take a warning for a mistake, or all: `--deny warnings`; can be repeated
    #[arg(long, value_name = "NAME", value_parser = denied)]
    deny: Vec<String>,
    /// Leave out a warning; can be repeated
    #[arg(long, value_name = "NAME", value_parser = allowed)]
    allow: Vec<String>,
    /// List the warnings that there are
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    environment: Environment,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Sarif,
}

const ALL: &str = "warnings";

fn denied(text: &str) -> Result<String, String> {
    if text == ALL { Ok(text.to_owned()) } else { allowed(text) }
}

fn allowed(text: &str) -> Result<String, String> {
    match lint::named(text) {
        Some(lint) => Ok(lint.name.to_owned()),
        None => Err(format!("there is no such warning; `routecache check --list` shows them, and `{ALL}` denies all")),
    }
}

/// Checks every file, whatever is wrong with the ones before.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.list {
        let lines: String = LINTS.iter().map(|lint| format!("{:30} {}\n", lint.name, lint.about)).collect();
        return write(Path::new("-"), lines.as_bytes());
    }
    let mut checked = Vec::new();
    let mut unread = Vec::new();
    for file in &arguments.files {
        let variable = |name: &str| arguments.environment.get(name);
        match load(file, &arguments.environment) {
            Ok(loaded) => {
                let mut warnings = loaded.lint(&variable);
                warnings.retain(|warning| !arguments.allow.iter().any(|name| name == warning.lint.name));
                checked.push(Checked::right(file, loaded.policy.rules.len(), warnings));
            }
            Err(Failure::Mistakes(mistakes)) => checked.push(Checked::wrong(file, mistakes)),
            Err(failure) => unread.push(failure),
        }
    }
    let is_denied = |warning: &Warning| arguments.deny.iter().any(|name| name == ALL || name == warning.lint.name);
    match arguments.format {
        Format::Text => {
            for (index, file) in checked.iter().enumerate() {
                let before = checked.iter().take(index).any(Checked::has_findings);
                if before && file.has_findings() {
                    eprintln!();
                }
                file.tell()?;
            }
        }
        Format::Json => write(Path::new("-"), format!("{:#}\n", report::json(&checked)).as_bytes())?,
        Format::Sarif => write(Path::new("-"), format!("{:#}\n", report::sarif(&checked, is_denied)).as_bytes())?,
    }
    let is_told = !unread.is_empty() && checked.iter().any(Checked::has_findings);
    if is_told && arguments.format == Format::Text {
        eprintln!();
    }
    let denied = checked.iter().flat_map(Checked::warnings).filter(|warning| is_denied(warning)).count();
    if denied > 0 && arguments.format == Format::Text {
        unread.push(Failure::Denied(denied));
    }
    if !unread.is_empty() {
        return Err(Failure::Several(unread));
    }
    if denied > 0 || checked.iter().any(Checked::is_wrong) { Err(Failure::Told) } else { Ok(()) }
}
