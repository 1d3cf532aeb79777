//! Other servers than the system's Redis: the tests here that need one, once more with each. `cargo xtask test` puts them into
//! `target/stores`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a server's version can matter for. TLS isn't in these builds, and a cluster takes long.
const MODULES: [&str; 10] = [
    "agreement::",
    "bans::",
    "clocks::",
    "failover::",
    "hearing::",
    "leases::",
    "memory::",
    "protocol::",
    "redis_only::",
    "soft::",
];

fn in_target(path: &str) -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let target = exe.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists()).expect("cargo's target folder");
    target.join(path)
}

/// Runs the modules in a process of their own.
fn all_the_same_on(server: &Path) {
    if !server.exists() {
        eprintln!("left out: {} isn't there; `cargo xtask test` gets it from PyPI", server.display());
        return;
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(MODULES).env("ROUTECACHE_REDIS", server).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let passed =
        told.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed > 100), "{told}");
}

#[test]
fn redis_6_2_does_the_same() {
    all_the_same_on(&in_target("stores/redis-6.2"));
}

#[test]
fn valkey_does_the_same() {
    all_the_same_on(&in_target("stores/valkey"));
}
