//! libFuzzer around the target that ROUTECACHE_FUZZ_TARGET names.
#![no_main]

use std::sync::LazyLock;

use routecache_fuzz::{Target, targets};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("ROUTECACHE_FUZZ_TARGET").unwrap_or_default();
    let found = targets().into_iter().find(|target| target.name == name);
    found.unwrap_or_else(|| panic!("no target `{name}`; `cargo xtask fuzz` lists them"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| (TARGET.run)(bytes));
