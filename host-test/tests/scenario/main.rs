//! Scenario files and what becomes of them: `passing/*.yaml` pass, `failing/*.yaml` give the reports in the `*.txt` beside them,
//! `invalid/*.yaml` the mistakes. `UPDATE_GOLDEN=1 cargo test -p proxy-wasm-host-test --features scenario` writes what is found; read
//! the difference before keeping it.

use std::fs;
use std::path::{Path, PathBuf};

use proxy_wasm_host_test::scenario::{Mistakes, NoExtension, Suite, vocabulary};

/// The YAML files of a folder beside this file, in order. Named as seen from there, so that messages are the same everywhere.
fn files(folder: &str) -> Vec<PathBuf> {
    // Relative paths of scenario files begin at the folder of the package, where tests run.
    let entries = fs::read_dir(Path::new("tests/scenario").join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

fn read(file: &Path) -> Result<Suite, Mistakes> {
    Suite::read(file, &fs::read_to_string(file).unwrap(), &NoExtension)
}

/// Holds `actual` against the golden file beside `input`.
fn compare(input: &Path, actual: &str) {
    let golden = input.with_extension("txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, actual).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs from what is found now; see tests/scenario/main.rs", golden.display());
}

#[test]
fn cases_that_hold_pass_whatever_the_seed() {
    for file in files("passing") {
        for case in read(&file).unwrap_or_else(|mistakes| panic!("{mistakes}")).cases {
            for seed in 0..5 {
                let verdict = case.run(seed);
                assert!(verdict.passed(), "{verdict}");
            }
        }
    }
}

#[test]
fn cases_that_fail_say_what_was_expected_and_what_came() {
    for file in files("failing") {
        let cases = read(&file).unwrap_or_else(|mistakes| panic!("{mistakes}")).cases;
        let verdicts: Vec<_> = cases.iter().map(|case| case.run(case.seed())).collect();
        for verdict in &verdicts {
            assert!(!verdict.passed(), "{}", verdict.case);
        }
        let reports: String = verdicts.iter().map(|verdict| format!("{verdict}\n\n")).collect();
        compare(&file, &reports);
    }
}

#[test]
fn files_that_cannot_be_used_are_told_with_place_and_mend() {
    for file in files("invalid") {
        let mistakes = read(&file).err().unwrap_or_else(|| panic!("{} is valid", file.display()));
        compare(&file, &format!("{mistakes}\n"));
    }
}

/// What wasmtime says of a trap changes from run to run, so this isn't held against a file.
#[test]
fn a_trap_fails_a_case_that_expects_nothing() {
    let file = r#"
filter: |
  (module
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) (i32.const 1024))
    (func $give_up (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (unreachable)))
cases: [{ name: a trap, steps: [{ get: / }] }]
"#;
    let suite = Suite::read(Path::new("trap.yaml"), file, &NoExtension).unwrap();
    let report = suite.cases[0].run(0).to_string();
    for part in ["a law was broken: NoTrap", "proxy_on_response_headers trapped", "give_up", "gateway 0, worker 0"] {
        assert!(report.contains(part), "{part} in: {report}");
    }
    assert!(report.lines().all(|line| line == line.trim_end()), "{report}");
}

/// The guide's reference names every field of the language.
#[test]
fn every_field_is_documented() {
    let guide = fs::read_to_string("../docs/testing.md").unwrap();
    for (kind, words) in vocabulary() {
        for word in words {
            assert!(
                guide.contains(&format!("`{word}`")),
                "docs/testing.md doesn't speak of `{word}`, a field of {kind}"
            );
        }
    }
}

/// The same seed gives the same report, to the last line of log.
#[test]
fn a_failure_repeats() {
    let file = Path::new("tests/scenario/failing/answers.yaml");
    let report = || read(file).unwrap().cases.iter().map(|case| case.run(3).to_string()).collect::<Vec<_>>();
    assert_eq!(report(), report());
}

/// "Billion laughs", nesting, and a file without end.
#[test]
fn hostile_yaml_is_refused_in_bounded_time() {
    let laughs: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    for text in [format!("a0: &a0 [x]\n{laughs}"), "[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(Suite::read(Path::new("hostile.yaml"), &text, &NoExtension).is_err());
    }
}
