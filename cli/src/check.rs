//! `routecache check`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::failure::Failure;
use crate::rules::{Environment, load, write};

/// Tells every mistake in files of rules, with its place and how to mend it
///
/// Prints a line for each file without mistakes. Exits with 0 if all are right, 1 if there are mistakes, 2 if a file
/// can't be read.
#[derive(Args)]
pub struct Arguments {
    /// YAML or JSON; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    environment: Environment,
}

/// Checks every file, whatever is wrong with the ones before.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut failures = Vec::new();
    for file in &arguments.files {
        match load(file, &arguments.environment) {
            Ok(loaded) => {
                let count = loaded.policy.rules.len();
                let s = if count == 1 { "" } else { "s" };
                write(Path::new("-"), format!("{}: {count} rule{s}, ok\n", file.display()).as_bytes())?;
            }
            Err(failure) => failures.push(failure),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::Several(failures)) }
}
