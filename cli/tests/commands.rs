//! What the commands print, as people see it: `TRYCMD=overwrite cargo test -p routecache` writes what is found; read the
//! difference before keeping it.

use std::process::Command;

#[test]
fn commands_print_what_their_files_say() {
    trycmd::TestCases::new().case("tests/cmd/*.trycmd").case("tests/cmd/*.toml");
}

/// Both ways of building are tested by building both ways; `cargo xtask build` makes the one with the filter.
#[test]
fn the_filter_inside_is_the_one_that_it_was_built_with() {
    let output = Command::new(env!("CARGO_BIN_EXE_routecache")).args(["filter", "--output", "-"]).output().unwrap();
    match option_env!("ROUTECACHE_WASM") {
        Some(filter) => assert_eq!(output.stdout, std::fs::read(filter).unwrap()),
        None => {
            let message = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.contains("cargo xtask build"), "{message}");
        }
    }
}

fn routecache(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_routecache")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = routecache(&["--help"]);
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let names =
        list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).filter(|name| !name.is_empty());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = routecache(&["completions", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell} lacks {command}");
        }
    }
}

/// The one shell that is everywhere says whether its script is right, and completes with it.
#[test]
fn bash_completes() {
    let script = routecache(&["completions", "bash"]);
    let asks =
        "COMP_WORDS=(routecache ch) COMP_CWORD=1; _routecache routecache ch routecache; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", &format!("{script}\n{asks}")]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "check", "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_command_has_a_manual_page_with_its_options() {
    let folder = tempfile::tempdir().unwrap();
    routecache(&["man", "--output", folder.path().to_str().unwrap()]);
    for command in commands() {
        let page = std::fs::read_to_string(folder.path().join(format!("routecache-{command}.1"))).unwrap();
        let page = page.replace('\\', "");
        let help = routecache(&[&command, "--help"]);
        for option in help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2) {
            let option = option.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
            assert!(page.contains(option), "routecache-{command}.1 lacks {option}");
        }
    }
    assert!(routecache(&["man"]).contains(".TH routecache 1"));
}

#[test]
fn the_schema_is_the_one_in_docs() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    assert_eq!(routecache(&["schema"]), std::fs::read_to_string(docs.join("rules.schema.json")).unwrap());
    let page = routecache(&["schema", "--format", "markdown"]);
    assert_eq!(page, std::fs::read_to_string(docs.join("reference.md")).unwrap());
}

/// The `console` blocks of docs/cli.md: each command prints what stands below it. `TRYCMD=overwrite` writes what is found.
#[test]
fn the_guide_of_the_command_line_is_true() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = root.join("docs/cli.md");
    let guide = std::fs::read_to_string(&page).unwrap();
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_routecache"));
    let path = format!("{}:{}", program.parent().unwrap().display(), std::env::var("PATH").unwrap());
    let mut found = String::new();
    let mut rest = guide.as_str();
    while let Some((before, block)) = rest.split_once("```console\n") {
        let (block, after) = block.split_once("```\n").unwrap();
        found.push_str(&format!("{before}```console\n"));
        for command in block.lines().filter_map(|line| line.strip_prefix("$ ")) {
            let shell = format!("({command}) 2>&1");
            let mut sh = Command::new("sh");
            sh.args(["-c", &shell]).env("PATH", &path).current_dir(root.join("gateway-config/examples"));
            let printed = sh.output().unwrap().stdout;
            found.push_str(&format!("$ {command}\n{}", String::from_utf8(printed).unwrap()));
        }
        found.push_str("```\n");
        rest = after;
    }
    found.push_str(rest);
    if std::env::var("TRYCMD").is_ok_and(|value| value == "overwrite") {
        std::fs::write(&page, &found).unwrap();
    }
    assert!(found == guide, "docs/cli.md; this is found:\n{found}");
}
