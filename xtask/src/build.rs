//! `build`: the filter, and the programs around it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::step::{self, Failure};
use crate::tools;

/// Builds what a release holds.
///
/// # Errors
///
/// When a step fails.
pub fn all() -> Result<(), Failure> {
    let filter = filter()?;
    programs(&filter, &[])
}

/// Builds `target/routecache.wasm` and says how large it is.
///
/// # Errors
///
/// When the target can't be had or the build fails.
pub fn filter() -> Result<PathBuf, Failure> {
    tools::wasm_target()?;
    let arguments = ["build", "--package", "routecache-filter", "--profile", "wasm", "--target", tools::WASM_TARGET];
    step::run("filter", &mut step::cargo(arguments))?;
    let built = step::target().join(tools::WASM_TARGET).join("wasm/routecache_filter.wasm");
    let shipped = step::target().join("routecache.wasm");
    let wasm = fs::read(&built).map_err(|cause| {
        Failure::new(format!("cargo built no {}: {cause}", built.display()), "has the crate in plugin/ been renamed?")
    })?;
    // Left alone where nothing changed: its time stamp tells cargo whether the CLI must take it in again.
    if fs::read(&shipped).ok().as_ref() != Some(&wasm) {
        fs::write(&shipped, &wasm).map_err(|cause| {
            Failure::new(format!("can't write {}: {cause}", shipped.display()), "is the disk full?")
        })?;
    }
    eprintln!("  {}: {} KiB", shown(&shipped), wasm.len().div_ceil(1024));
    Ok(shipped)
}

/// Builds the CLI with the filter inside, the bridge, and `more` packages, optimised.
///
/// # Errors
///
/// When the build fails.
pub fn programs(filter: &Path, more: &[&str]) -> Result<(), Failure> {
    let mut arguments = vec!["build", "--release", "--package", "routecache", "--package", "routecache-bridge"];
    arguments.extend(more.iter().flat_map(|package| ["--package", package]));
    step::run("programs", step::cargo(arguments).env("ROUTECACHE_WASM", filter))?;
    for program in ["routecache", "routecache-bridge"] {
        eprintln!("  {}", shown(&step::target().join("release").join(program)));
    }
    Ok(())
}

/// A path as short as it can be written from here.
fn shown(path: &Path) -> String {
    let here = env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
