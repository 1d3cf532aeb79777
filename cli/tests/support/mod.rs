//! What several tests need.

use std::path::{Path, PathBuf};

/// `target/routecache.wasm`. Cargo marks its target folder with a tag.
pub fn filter() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_routecache"));
    let target = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).expect("a target folder");
    let filter = target.join("routecache.wasm");
    assert!(filter.exists(), "there is no {}: run `cargo xtask build`", filter.display());
    filter
}
