//! Other servers than the system's Redis: the tests here that need one, once more with each. `cargo xtask test` puts them into
//! `target/stores`, and names those that it got in `ROUTECACHE_STORES`: a test of one of them is never left out.

use std::process::Command;

use crate::support::got;

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

/// Runs the modules in a process of their own.
fn all_the_same_on(name: &str) {
    let Some(server) = got(name) else { return };
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(MODULES).env("ROUTECACHE_REDIS", &server).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}");
    let passed =
        told.lines().find_map(|line| line.strip_prefix("test result: ok. ")?.split(' ').next()?.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed > 100), "{told}");
    println!("{} tests passed with {}", passed.unwrap_or_default(), server.display());
}

#[test]
fn redis_6_2_does_the_same() {
    all_the_same_on("redis-6.2");
}

#[test]
fn valkey_does_the_same() {
    all_the_same_on("valkey");
}
