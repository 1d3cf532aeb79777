//! `routecache filter`.

use std::path::PathBuf;

use clap::Args;

use crate::failure::Failure;
use crate::rules::write;

/// Writes the filter, routecache.wasm, that this command carries inside
#[derive(Args)]
pub struct Arguments {
    /// Where to; `-` is standard output
    #[arg(short, long, value_name = "FILE", default_value = "routecache.wasm")]
    output: PathBuf,
}

/// The filter inside, if there is one.
#[cfg(filter_inside)]
pub const FILTER: Option<&[u8]> = Some(include_bytes!(env!("ROUTECACHE_FILTER")));
/// The filter inside, if there is one.
#[cfg(not(filter_inside))]
pub const FILTER: Option<&[u8]> = None;

/// Writes it as it was built.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    write(&arguments.output, FILTER.ok_or(Failure::NoFilter)?)
}
