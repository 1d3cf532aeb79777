//! `routecache schema`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use routecache_config::reference::{markdown, schema};

use crate::failure::Failure;
use crate::rules::write;

/// Prints the rules language as JSON Schema, so that editors complete and check rules
///
/// With `# yaml-language-server: $schema=rules.schema.json` as a file's first line, editors that use the YAML language server find
/// the schema by themselves. What needs more than the shape of a file is told by `routecache check`.
#[derive(Args)]
pub struct Arguments {
    /// JSON Schema 2020-12, or the reference of every field with examples (docs/reference.md)
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// Where to write; standard output if not given
    #[arg(short, long, value_name = "FILE", default_value = "-", hide_default_value = true)]
    output: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Json,
    Markdown,
}

/// Writes it.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let page = match arguments.format {
        Format::Json => format!("{:#}\n", schema()),
        Format::Markdown => markdown(),
    };
    write(&arguments.output, page.as_bytes())
}
