//! `routecache completions`.

use std::path::Path;

use clap::{Args, Command};
use clap_complete::{Shell, generate};

use crate::failure::Failure;
use crate::rules::write;

/// Prints completions for a shell
///
/// For bash: `routecache completions bash > ~/.local/share/bash-completion/completions/routecache`. For zsh, write them to
/// `_routecache` in a folder of `$fpath`; for fish, to `~/.config/fish/completions/routecache.fish`.
#[derive(Args)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

/// Prints them.
pub fn run(arguments: &Arguments, mut command: Command) -> Result<(), Failure> {
    let mut script = Vec::new();
    generate(arguments.shell, &mut command, "routecache", &mut script);
    write(Path::new("-"), &script)
}
