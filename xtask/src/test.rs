//! `test`: everything that CI asks for, in the order in which it fails soonest.

use crate::step::{self, Failure};
use crate::{build, tools};

/// The filter doesn't link natively (its host calls exist only in a gateway); its own steps name the wasm target.
const NATIVE: &[&str] = &["--workspace", "--exclude", "routecache-filter"];

/// Checks, builds and tests; with `filters`, only the tests whose names contain one of them.
///
/// The last step is the test runner itself, so that its summary is the last line.
///
/// # Errors
///
/// When a step before the last fails.
pub fn run(filters: &[&str]) -> Result<(), Failure> {
    let envoy = tools::envoy()?;
    let redis = tools::redis()?;
    let stores = [tools::other_stores(), tools::faketime()].concat().join(",");
    tools::wasm_target()?;
    if filters.is_empty() {
        checks()?;
    }
    let wasm = build::filter()?;
    let cargo = |arguments: &[&str]| {
        let mut cargo = step::cargo(arguments.iter().copied());
        cargo.env("ROUTECACHE_WASM", &wasm).env("ROUTECACHE_ENVOY", &envoy).env("ROUTECACHE_REDIS", &redis);
        cargo.env("ROUTECACHE_STORES", &stores);
        cargo
    };
    // In one go: cargo builds dependencies anew (wasmtime takes minutes) where tests turn on other features of them.
    step::run("programs and tests", &mut cargo(&[&["build", "--bins", "--tests"], NATIVE].concat()))?;
    if filters.is_empty() {
        step::run("examples in the documentation", &mut cargo(&[&["test", "--doc"], NATIVE].concat()))?;
    }
    if step::succeeds(&mut step::cargo(["nextest", "--version"])) {
        return step::become_it(
            "tests",
            &mut cargo(&[&["nextest", "run", "--no-fail-fast"], NATIVE, filters].concat()),
        );
    }
    // Plain cargo has a summary per program, and the last one should count real tests: a folder of tests has some, the
    // unit tests of a small program may be none.
    let [units, suites]: [&[&str]; 2] = [&["--lib", "--bins"], &["--test", "*"]];
    let test = |which: &[&str]| cargo(&[&["test", "--no-fail-fast"], NATIVE, which, &["--"], filters].concat());
    step::run("unit tests", &mut test(units))?;
    step::become_it("scenarios and end-to-end tests", &mut test(suites))
}

/// What needs no test run.
fn checks() -> Result<(), Failure> {
    step::run("formatting", &mut step::cargo(["fmt", "--all", "--check"]))
        .map_err(|_| Failure::new("some files aren't formatted (the lines above show them)", "run: cargo fmt --all"))?;
    let filter = ["--package", "routecache-filter", "--target", tools::WASM_TARGET];
    clippy("clippy, filter", &filter)?;
    clippy("clippy", &[NATIVE, &["--all-targets"]].concat())?;
    let mut doc = step::cargo([&["doc", "--no-deps"], NATIVE].concat());
    step::run("references in comments", doc.env("RUSTDOCFLAGS", "--deny warnings"))
}

fn clippy(name: &str, scope: &[&str]) -> Result<(), Failure> {
    let arguments = [&["clippy"], scope, &["--", "--deny", "warnings"]].concat();
    step::run(name, &mut step::cargo(arguments))
}
