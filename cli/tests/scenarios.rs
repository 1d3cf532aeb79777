//! Scenario files that people read: those beside the examples, and those in the guide. They run the shipped filter.

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use support::filter;

/// Runs `routecache test` on all scenario files of a folder, and returns what it prints.
fn test(folder: &Path, more: &[&str]) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = entries.filter(|name| name.ends_with(".test.yaml")).collect();
    files.sort();
    let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
    command.current_dir(folder).arg("test").args(&files).arg("--wasm").arg(filter()).args(more);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[test]
fn every_example_comes_with_cases_that_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gateway-config/examples");
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some(stem) = name.strip_suffix(".yaml").filter(|stem| !stem.ends_with(".test")) {
            assert!(folder.join(format!("{stem}.test.yaml")).exists(), "{name} has no {stem}.test.yaml beside it");
        }
    }
    test(&folder, &["--seeds", "3"]);
}

/// The fenced blocks of docs/testing.md that name a file, after `yaml`, and what it says that `routecache test` prints.
#[test]
fn the_guide_is_true() {
    let guide = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut rest = guide.as_str();
    let mut files = 0;
    while let Some((_, block)) = rest.split_once("\n```yaml ") {
        let (name, text) = block.split_once('\n').unwrap();
        let (text, after) = text.split_once("\n```\n").unwrap();
        fs::write(folder.path().join(name), format!("{text}\n")).unwrap();
        (files, rest) = (files + 1, after);
    }
    assert_eq!(files, 3);
    let printed = test(folder.path(), &[]);
    let shop: Vec<_> = printed.lines().filter(|line| line.contains("(shop.test.yaml)")).collect();
    assert_eq!(shop.len(), 4, "{printed}");
    assert!(guide.contains(&shop.join("\n")), "{printed}");

    // The report of a failure, when the expectation is wrong by one.
    let file = folder.path().join("shop.test.yaml");
    let text = fs::read_to_string(&file).unwrap();
    let wrong = text.replacen("version 2\", tier: origin", "version 3\", tier: origin", 1);
    assert_ne!(text, wrong);
    fs::write(&file, wrong).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_routecache"));
    command.current_dir(folder.path()).args(["test", "shop.test.yaml", "--quiet", "--wasm"]).arg(filter());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8(output.stdout).unwrap();
    let told = report.replace(&format!(" --wasm {}", filter().display()), "");
    assert!(guide.contains(told.trim()), "{told}");
}
