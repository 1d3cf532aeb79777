//! `routecache test`.

mod bridge;
mod junit;
mod rules;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use proxy_wasm_host_test::scenario::{Case, Suite, Verdict};

use crate::failure::Failure;
use crate::progress::Progress;
use crate::rules::write;
use rules::Rules;

/// Runs scenario files: requests, time and faults against the filter, and what should come of them
///
/// Cases with `rules` run the filter that this command carries inside, cases with `filter` any other Proxy-Wasm module. Time is
/// simulated, so an hour takes no longer than a millisecond, and a seed repeats a run exactly. docs/testing.md is the guide.
///
/// Exits with 0 if all cases pass, 1 if one fails, 2 if a file can't be used.
#[derive(Args)]
pub struct Arguments {
    /// Scenario files, YAML
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Run only cases whose name contains this; may be given several times
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<String>,
    /// The seed, in place of the cases' own
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Run each case with this many seeds, counted up from its first; stops at the first that fails
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// The module for cases with rules, in place of the one inside
    #[arg(long, value_name = "FILE")]
    wasm: Option<PathBuf>,
    /// Write a report for CI systems, too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// List the cases instead of running them
    #[arg(long)]
    list: bool,
    /// Tell only what failed
    #[arg(short, long)]
    quiet: bool,
}

/// What became of a case.
struct Outcome<'file> {
    file: &'file Path,
    /// The last run: the one that failed, if one did.
    verdict: Verdict,
    /// On the wall.
    took: Duration,
}

/// Reads all files before it runs any, so that nothing is half done when one can't be used.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let rules = Rules::new(arguments.wasm.clone());
    let mut suites = Vec::new();
    let mut failures = Vec::new();
    for file in &arguments.files {
        match read(file, &rules) {
            Ok(suite) => suites.push((file.as_path(), suite)),
            Err(failure) => failures.push(failure),
        }
    }
    if !failures.is_empty() {
        return Err(Failure::Several(failures));
    }
    let wanted = |case: &&Case| {
        arguments.cases.is_empty() || arguments.cases.iter().any(|name| case.name().contains(name.as_str()))
    };
    let cases: Vec<(&Path, &Case)> =
        suites.iter().flat_map(|(file, suite)| suite.cases.iter().filter(wanted).map(|case| (*file, case))).collect();
    if cases.is_empty() {
        return Err(Failure::NoCase(arguments.cases.clone()));
    }
    if arguments.list {
        let lines: String =
            cases.iter().map(|(file, case)| format!("{}:{}: {}\n", file.display(), case.line(), case.name())).collect();
        return write(Path::new("-"), lines.as_bytes());
    }
    let mut outcomes = Vec::new();
    let mut progress = Progress::new();
    for (file, case) in cases {
        let outcome = run_case(file, case, arguments, &mut progress);
        progress.clear();
        tell(&outcome, arguments)?;
        outcomes.push(outcome);
    }
    if let Some(path) = &arguments.junit {
        write(path, junit::report(&outcomes).as_bytes())?;
    }
    let failed = outcomes.iter().filter(|outcome| !outcome.verdict.passed()).count();
    let summary = format!("{} passed, {failed} failed\n", outcomes.len() - failed);
    write(Path::new("-"), summary.as_bytes())?;
    if failed == 0 { Ok(()) } else { Err(Failure::Told) }
}

fn read(file: &Path, rules: &Rules) -> Result<Suite, Failure> {
    let text = fs::read_to_string(file).map_err(|error| Failure::Unread(file.to_owned(), error))?;
    Suite::read(file, &text, rules).map_err(Failure::Scenarios)
}

fn run_case<'file>(file: &'file Path, case: &Case, arguments: &Arguments, progress: &mut Progress) -> Outcome<'file> {
    let began = Instant::now();
    let first = arguments.seed.unwrap_or(case.seed());
    let mut verdict = case.run(first);
    for more in 1..arguments.seeds {
        if !verdict.passed() {
            break;
        }
        progress.show(more, arguments.seeds, &format!("seeds of {}", case.name()));
        verdict = case.run(first.wrapping_add(more));
    }
    Outcome { file, verdict, took: began.elapsed() }
}

/// A line for the case, and the report if it failed.
fn tell(outcome: &Outcome<'_>, arguments: &Arguments) -> Result<(), Failure> {
    let Outcome { file, verdict, .. } = outcome;
    let mut text = String::new();
    if !verdict.passed() {
        let repeat = repeat(outcome, arguments);
        // Writing to a string can't fail.
        let _ = writeln!(text, "FAILED {}\n{verdict}\n  repeat with: {repeat}\n", verdict.case);
    } else if !arguments.quiet {
        let seeds = if arguments.seeds > 1 { format!(", {} seeds", arguments.seeds) } else { String::new() };
        let _ = writeln!(text, "ok     {} ({}{seeds})", verdict.case, file.display());
    }
    write(Path::new("-"), text.as_bytes())
}

/// The command that shows the failure again.
fn repeat(outcome: &Outcome<'_>, arguments: &Arguments) -> String {
    let mut words = vec!["routecache".to_owned(), "test".to_owned(), quoted(&outcome.file.display().to_string())];
    words.extend(["--case".to_owned(), quoted(&outcome.verdict.case)]);
    words.extend(["--seed".to_owned(), outcome.verdict.seed.to_string()]);
    if let Some(wasm) = &arguments.wasm {
        words.extend(["--wasm".to_owned(), quoted(&wasm.display().to_string())]);
    }
    words.join(" ")
}

/// For a shell.
fn quoted(text: &str) -> String {
    if !text.is_empty() && text.chars().all(|char| char.is_ascii_alphanumeric() || "-_./=:".contains(char)) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
