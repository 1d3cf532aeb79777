//! Puts the filter inside the command, if `ROUTECACHE_WASM` names it: `cargo xtask build` does so.

use std::path::PathBuf;

fn main() {
    println!("cargo::rustc-check-cfg=cfg(filter_inside)");
    println!("cargo::rerun-if-env-changed=ROUTECACHE_WASM");
    let Some(filter) = std::env::var_os("ROUTECACHE_WASM").map(PathBuf::from) else { return };
    println!("cargo::rerun-if-changed={}", filter.display());
    // A relative path would be looked up from this folder, which nobody expects.
    if !filter.is_absolute() || !filter.is_file() {
        println!("cargo::error=ROUTECACHE_WASM is {}: it must be the absolute path of a file", filter.display());
        return;
    }
    println!("cargo::rustc-cfg=filter_inside");
    println!("cargo::rustc-env=ROUTECACHE_FILTER={}", filter.display());
}
