//! Whom an answer is for.

use clap::ValueEnum;

/// `--format` of the commands that explain.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Text,
    Json,
}
