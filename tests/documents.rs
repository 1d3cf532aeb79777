//! What the documents say is true: every path exists, every type is somewhere, every example is the one that is tested.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The texts between backticks, fenced blocks aside.
fn quoted(document: &str) -> Vec<&str> {
    let prose = document.split("```").step_by(2);
    prose.flat_map(|text| text.split('`').skip(1).step_by(2)).collect()
}

/// Everything that the workspace's sources hold.
fn sources(folder: &Path, into: &mut String) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            sources(&path, into);
        } else if name.ends_with(".rs") {
            into.push_str(&fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn every_path_that_the_architecture_names_exists() {
    let document = read("ARCHITECTURE.md");
    let manifests = read("Cargo.toml");
    let paths: Vec<&str> = quoted(&document)
        .into_iter()
        .filter(|text| text.contains('/') || text.ends_with(".md") || manifests.contains(&format!("\"{text}\",")))
        .filter(|text| !text.contains(' ') && !text.contains("://"))
        .collect();
    assert!(paths.len() > 20, "the test sees the paths: {paths:?}");
    for path in paths {
        assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}");
    }
}

#[test]
fn every_type_and_function_that_the_architecture_names_is_in_the_sources() {
    let document = read("ARCHITECTURE.md");
    let mut all = String::new();
    sources(&root(), &mut all);
    let names: Vec<&str> = quoted(&document)
        .into_iter()
        .filter(|text| {
            text.starts_with(char::is_uppercase) && text.chars().all(|char| char.is_alphanumeric() || char == ':')
        })
        .filter(|text| !["Age", "Date"].contains(text))
        .collect();
    assert!(names.len() > 15, "the test sees the names: {names:?}");
    for name in names {
        let (of, function) = name.split_once("::").map_or((name, None), |(of, function)| (of, Some(function)));
        let declared = ["struct", "enum", "trait", "type"].iter().any(|kind| all.contains(&format!("{kind} {of}")));
        assert!(declared, "ARCHITECTURE.md names the type {of}");
        if let Some(function) = function {
            assert!(all.contains(&format!("fn {function}")), "ARCHITECTURE.md names {name}");
        }
    }
}

#[test]
fn every_folder_of_the_workspace_is_in_the_architecture() {
    let document = read("ARCHITECTURE.md");
    let manifest = read("Cargo.toml");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next()).expect("members");
    for member in members.split(',').map(|member| member.trim().trim_matches('"')).filter(|member| !member.is_empty()) {
        assert!(document.contains(&format!("| `{member}` |")), "ARCHITECTURE.md lacks {member}");
    }
}

#[test]
fn the_rules_in_the_readme_are_the_example_that_is_tested() {
    let readme = read("README.md");
    let (file, rest) =
        readme.split_once("<!-- ").and_then(|(_, rest)| rest.split_once(" -->\n```yaml\n")).expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    assert_eq!(example, read(file));
}

#[test]
fn the_links_of_the_readme_lead_somewhere() {
    let readme = read("README.md");
    for link in
        readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.contains("://"))
    {
        let file = link.split('#').next().unwrap_or(link);
        assert!(root().join(file).exists(), "README.md links to {link}");
    }
}

/// Whether a file declares a test of this name.
fn has_test(file: &str, name: &str) -> bool {
    let text = read(file);
    let declaration = format!("fn {name}(");
    let mut lines = text.lines().zip(text.lines().skip(1));
    lines.any(|(before, line)| {
        before.trim_start().starts_with("#[") && before.contains("test") && line.contains(&declaration)
    })
}

/// Each row of `docs/from-decorators.md` is shown, in host-test and in Envoy where its table has a column for each.
#[test]
fn every_row_of_what_decorators_become_is_shown_by_tests_that_exist() {
    let document = read("docs/from-decorators.md");
    let tables = document.split("\n\n").filter(|part| part.starts_with('|'));
    let mut rows = 0;
    for table in tables {
        let cells = |line| str::trim_matches(line, ['|', ' ']).split(" | ").skip(2);
        let mut lines = table.lines();
        let columns = lines.next().map(cells).expect("a heading");
        for line in lines.skip(1) {
            rows += 1;
            assert_eq!(cells(line).count(), columns.clone().count(), "{line}");
            for (cell, column) in cells(line).zip(columns.clone()) {
                let folder = match column {
                    "in host-test" => "tests/scenarios/",
                    "in Envoy" => "tests/envoy/",
                    _ => "",
                };
                let tests = quoted(cell);
                assert!(!tests.is_empty(), "{line}");
                for test in tests {
                    let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test} is no test"));
                    assert!(file.starts_with(folder) && has_test(file, name), "no test in {folder}: {test}");
                }
            }
        }
    }
    assert!(rows >= 27, "the test sees the rows: {rows}");
}
