//! `simulate`: gateways, bridge, store and origin on a virtual clock, with faults, for as many seeds as you like.

use std::fs;

use crate::step::{self, Failure};
use crate::{build, tools};

/// Builds the filter, with mistakes to plant if one is asked for, and becomes the simulation.
///
/// # Errors
///
/// When something can't be built.
pub fn run(options: &[&str]) -> Result<(), Failure> {
    if options.contains(&"--planted") {
        planted_filter()?;
    }
    if !options.contains(&"--list-planted") {
        build::filter()?;
    }
    let arguments = ["run", "--quiet", "--package", "e2e", "--bin", "simulate", "--"];
    step::become_it("simulation", &mut step::cargo(arguments.into_iter().chain(options.iter().copied())))
}

/// Builds `target/routecache-planted.wasm`, in a folder of its own so that no other filter is built anew for it.
fn planted_filter() -> Result<(), Failure> {
    tools::wasm_target()?;
    let folder = step::target().join("planted");
    let arguments = ["build", "--package", "routecache-filter", "--features", "planted", "--profile", "wasm"];
    let mut cargo = step::cargo(arguments.into_iter().chain(["--target", tools::WASM_TARGET]));
    step::run("filter with mistakes to plant", cargo.env("CARGO_TARGET_DIR", &folder))?;
    let built = folder.join(tools::WASM_TARGET).join("wasm/routecache_filter.wasm");
    let planted = step::target().join("routecache-planted.wasm");
    fs::copy(&built, &planted).map(drop).map_err(|cause| {
        Failure::new(format!("can't copy {} to {}: {cause}", built.display(), planted.display()), "is the disk full?")
    })
}
