//! `routecache stat`.

use clap::Args;

use crate::asking::Bridge;
use crate::failure::Failure;

/// Shows the bridge's figures, as JSON
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    bridge: Bridge,
}

/// Asks the bridge.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (stats, _) = arguments.bridge.ask("GET", "/v1/stats", "")?;
    println!("{stats:#}");
    Ok(())
}
