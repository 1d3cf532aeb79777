//! Where the programs under test are, and what to run when they aren't.

use std::env;
use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// Cargo's target folder: the one that the running program came from. Cargo marks it with a tag.
///
/// # Errors
///
/// When the program was copied elsewhere.
pub fn target() -> Result<PathBuf> {
    let exe = env::current_exe().map_err(Error::io("find out where this program is"))?;
    let marked = |folder: &&Path| folder.join("CACHEDIR.TAG").exists();
    exe.ancestors().find(marked).map(Path::to_owned).ok_or_else(|| {
        Error::Unexpected(format!("{} isn't below a cargo target folder, where its tools would be", exe.display()))
    })
}

/// `target/routecache.wasm`.
///
/// # Errors
///
/// When it hasn't been built.
pub fn filter() -> Result<PathBuf> {
    present("the filter", target()?.join("routecache.wasm"), "run: cargo xtask build")
}

/// The CLI, `routecache`, of the same profile as the running program.
///
/// # Errors
///
/// When it hasn't been built.
pub fn gateway_cli() -> Result<PathBuf> {
    sibling("the CLI", "routecache", "ROUTECACHE_BIN")
}

/// The bridge, of the same profile as the running program.
pub(crate) fn bridge() -> Result<PathBuf> {
    sibling("the bridge", "routecache-bridge", "ROUTECACHE_BRIDGE_BIN")
}

/// The harness's API, likewise.
pub(crate) fn origin() -> Result<PathBuf> {
    sibling("the origin", "routecache-origin", "ROUTECACHE_ORIGIN_BIN")
}

/// The Envoy that `cargo xtask` found or installed.
pub(crate) fn envoy() -> Result<PathBuf> {
    let mend = "run: cargo xtask test (it installs one), or name your own: ROUTECACHE_ENVOY=/path/to/envoy";
    present("Envoy", named("ROUTECACHE_ENVOY").map_or_else(|| Ok(target()?.join("envoy/bin/envoy")), Ok)?, mend)
}

/// The Redis server that `cargo xtask` found or installed.
pub(crate) fn redis() -> Result<PathBuf> {
    let mend = "run: cargo xtask test (it installs one), or name your own: ROUTECACHE_REDIS=/path/to/redis-server";
    let on_path = |name: &str| {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.exists())
    };
    match named("ROUTECACHE_REDIS").or_else(|| on_path("redis-server")) {
        Some(path) => Ok(path),
        None => present("a Redis server", target()?.join("redis/redis-server"), mend),
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// A program that cargo put into the folder of the running one, or above it where that is a test.
fn sibling(what: &'static str, name: &str, variable: &str) -> Result<PathBuf> {
    let exe = env::current_exe().map_err(Error::io("find out where this program is"))?;
    let mut folder = exe.parent().unwrap_or(&exe);
    if folder.ends_with("deps") {
        folder = folder.parent().unwrap_or(folder);
    }
    let mend = "run: cargo build --package routecache --package routecache-bridge --package routecache-harness (with --release for the demo)";
    present(what, named(variable).unwrap_or_else(|| folder.join(name)), mend)
}

fn present(what: &'static str, path: PathBuf, mend: &'static str) -> Result<PathBuf> {
    // A bare name is looked up on the PATH when it is started.
    if path.exists() || path.components().count() == 1 {
        return Ok(path);
    }
    Err(Error::Missing { what, path: path.display().to_string(), mend })
}
