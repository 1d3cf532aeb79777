//! `routecache man`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;

use crate::failure::Failure;
use crate::rules::write;

/// Prints the manual page, or writes one for each command
///
/// `routecache man | man -l -` shows the page; `routecache man --output DIR` writes `routecache.1`, `routecache-check.1` and so on.
#[derive(Args)]
pub struct Arguments {
    /// A folder for the pages of all commands
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

/// Prints or writes them.
pub fn run(arguments: &Arguments, mut command: Command) -> Result<(), Failure> {
    // Now each command knows its full name.
    command.build();
    let Some(folder) = &arguments.output else { return write(Path::new("-"), &page(&command)?) };
    fs::create_dir_all(folder).map_err(|error| Failure::Unwritten(folder.clone(), error))?;
    pages(&command, "routecache", folder)
}

/// The page of a command and, beside it, those of the commands below.
fn pages(command: &Command, name: &str, folder: &Path) -> Result<(), Failure> {
    write(&folder.join(format!("{name}.1")), &page(command)?)?;
    let below = command.get_subcommands().filter(|command| !command.is_hide_set() && command.get_name() != "help");
    below.into_iter().try_for_each(|command| pages(command, &format!("{name}-{}", command.get_name()), folder))
}

fn page(command: &Command) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    let rendered: io::Result<()> = Man::new(command.clone()).render(&mut page);
    rendered.map_err(|error| Failure::Unwritten(PathBuf::from("the manual page"), error))?;
    Ok(page)
}
