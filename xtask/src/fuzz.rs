//! `fuzz`: libFuzzer on every decoder, guided by coverage, with the stable compiler.

use std::fs;
use std::process::Command;

use crate::step::{self, Failure};

/// What cargo-fuzz asks of the compiler, without the sanitizers that only nightly has: Rust's own checks are what finds
/// mistakes here.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks";

/// Fuzzes one target, or each of them, for so many minutes.
///
/// # Errors
///
/// When the fuzzer can't be built, or has found an input that a decoder doesn't survive.
pub fn run(options: &[&str]) -> Result<(), Failure> {
    let usage = || Failure::new("that is no way to fuzz", "cargo xtask fuzz [TARGET] [--minutes N]");
    let (target, minutes) = match options {
        [] => (None, "1"),
        ["--minutes", minutes] => (None, *minutes),
        [target] => (Some(*target), "1"),
        [target, "--minutes", minutes] => (Some(*target), *minutes),
        _ => return Err(usage()),
    };
    let seconds =
        minutes.parse::<f64>().ok().filter(|minutes| (0.0..=1440.0).contains(minutes)).ok_or_else(usage)? * 60.0;
    let folder = step::target().join("fuzz");
    let corpus = folder.join("corpus");
    fs::create_dir_all(&corpus).map_err(|error| Failure::new(error.to_string(), "is the disk full?"))?;
    let mut seeds = step::cargo(["run", "--quiet", "--package", "routecache-fuzz", "--bin", "fuzz-seeds", "--"]);
    let names = step::output(seeds.arg(&corpus)).ok_or_else(|| Failure::new("no seeds", "the lines above say why"))?;
    if let Some(target) = target.filter(|target| !names.lines().any(|name| name == *target)) {
        let names = names.lines().collect::<Vec<_>>().join(", ");
        return Err(Failure::new(format!("no target `{target}`"), format!("there are {names}")));
    }
    let arguments = ["build", "--release", "--package", "routecache-fuzz", "--bin", "fuzz", "--features", "libfuzzer"];
    let mut build = step::cargo(arguments);
    // With a target of its own the flags don't reach build scripts.
    build.args(["--target", &host()?]).env("RUSTFLAGS", COVERAGE).env("CARGO_TARGET_DIR", &folder);
    step::run("the fuzzer", &mut build)?;
    let fuzzer = folder.join(host()?).join("release/fuzz");
    for name in names.lines().filter(|name| target.is_none_or(|target| target == *name)) {
        let mut fuzz = Command::new(&fuzzer);
        fuzz.env("ROUTECACHE_FUZZ_TARGET", name).arg(corpus.join(name)).current_dir(&folder);
        fuzz.arg(format!("-max_total_time={}", seconds.ceil())).args([
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-print_final_stats=1",
        ]);
        fuzz.arg(format!("-artifact_prefix={name}-"));
        step::run(&format!("fuzzing {name}"), &mut fuzz).map_err(|_| {
            Failure::new(
                format!("{name}: an input that it doesn't survive is in {}", folder.display()),
                "make it a test, then mend it",
            )
        })?;
    }
    Ok(())
}

/// The triple that the compiler compiles for.
fn host() -> Result<String, Failure> {
    let told = step::output(Command::new("rustc").arg("-vV")).unwrap_or_default();
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("no rustc", "install Rust"))
}
