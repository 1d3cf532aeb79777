//! `routecache check` for programs: the forms that it prints, and its colours.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd/lint.in")
}

fn check(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
    command.current_dir(folder()).arg("check").args(arguments).env_remove("NO_COLOR").output().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&check(arguments).stdout).unwrap()
}

#[test]
fn sarif_is_what_its_schema_asks_for() {
    let schema: Value = serde_json::from_str(include_str!("sarif.schema.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for files in [&["warned.yaml", "wrong.yaml"][..], &["wrong.yaml"], &["warned.yaml", "--deny", "warnings"]] {
        let log = json(&[files, &["--format", "sarif"]].concat());
        if let Err(error) = validator.validate(&log) {
            panic!("{error} at {}\n{log:#}", error.instance_path());
        }
        let run = &log["runs"][0];
        for result in run["results"].as_array().unwrap() {
            let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(run["tool"]["driver"]["rules"][index]["id"], result["ruleId"]);
        }
    }
}

#[test]
fn sarif_and_json_tell_the_same() {
    let files = ["warned.yaml", "wrong.yaml"];
    let sarif = json(&[&files[..], &["--format", "sarif"]].concat());
    let plain = json(&[&files[..], &["--format", "json"]].concat());
    let diagnostics =
        plain["files"].as_array().unwrap().iter().flat_map(|file| file["diagnostics"].as_array().unwrap());
    let results = sarif["runs"][0]["results"].as_array().unwrap();
    let mut count = 0;
    for (diagnostic, result) in diagnostics.zip(results) {
        assert_eq!(diagnostic["code"], result["ruleId"]);
        assert_eq!(diagnostic["severity"], result["level"]);
        assert_eq!(diagnostic["allowed"] == true, result.get("suppressions").is_some());
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!(diagnostic["place"]["line"], region["startLine"]);
        assert_eq!(diagnostic["place"]["column"], region["startColumn"]);
        count += 1;
    }
    assert_eq!((count, results.len()), (4, 4));
    assert_eq!((&plain["errors"], &plain["warnings"]), (&1.into(), &2.into()));
}

#[test]
fn colours_are_for_terminals_and_nobody_gets_them_who_has_forbidden_them() {
    let escapes = |variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
        command.current_dir(folder()).args(["check", "wrong.yaml"]).env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        let output = command.envs(variables.iter().copied()).output().unwrap();
        String::from_utf8(output.stderr).unwrap().contains('\x1b')
    };
    assert!(!escapes(&[]), "standard error is no terminal here");
    assert!(escapes(&[("CLICOLOR_FORCE", "1")]));
    assert!(!escapes(&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
}

/// A terminal of its own for the command, by util-linux' `script`.
#[test]
fn a_terminal_gets_colours() {
    let program = env!("CARGO_BIN_EXE_routecache");
    let run = |before: &str| {
        let line = format!("{before} {program} check wrong.yaml");
        let mut command = Command::new("script");
        command.current_dir(folder()).args(["-qec", &line, "/dev/null"]).env("TERM", "xterm");
        for asks_for_colours_or_none in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(asks_for_colours_or_none);
        }
        command.output().map(|output| String::from_utf8_lossy(&output.stdout).contains("\x1b["))
    };
    let Ok(coloured) = run("") else { return }; // not on every machine
    assert!(coloured);
    assert_eq!(run("NO_COLOR=1").ok(), Some(false));
    assert_eq!(run("TERM=dumb").ok(), Some(false));
}

/// The week that a warning speaks of is the bridge's.
#[test]
fn the_lifetime_of_epochs_is_the_bridges() {
    let seconds = u64::from(routecache_config::lint::KEPT_SECONDS_MAX);
    assert_eq!(seconds * 1000, routecache_bridge::limits::KEEP_MS_MAX);
}

/// On a terminal a line tells how far `test` has come, and at the end it is gone; elsewhere there is none.
#[test]
fn long_work_shows_how_far_it_has_come() {
    let program = Path::new(env!("CARGO_BIN_EXE_routecache"));
    let filter = support::filter();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-config/examples");
    let line =
        |seeds: u32| format!("test five-lines.test.yaml --case fetched --seeds {seeds} --wasm {}", filter.display());
    // More, until it takes long on this machine.
    for seeds in [9, 30, 90, 300, 900, 9000] {
        let mut on_terminal = Command::new("script");
        on_terminal.current_dir(&examples).args([
            "-qec",
            &format!("{} {}", program.display(), line(seeds)),
            "/dev/null",
        ]);
        let began = Instant::now();
        let Ok(output) = on_terminal.env("TERM", "xterm").output() else { break };
        if seeds < 9000 && began.elapsed() < Duration::from_millis(1500) {
            continue;
        }
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(shown.contains(&format!("/{seeds} seeds of ")), "{shown}");
        let after = shown.rsplit("\x1b[K").next().unwrap();
        assert!(after.contains("passed, 0 failed") && !after.contains(&format!("/{seeds} ")), "{shown}");
        break;
    }
    let line = line(9);
    let output = Command::new(program).current_dir(&examples).args(line.split(' ')).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
