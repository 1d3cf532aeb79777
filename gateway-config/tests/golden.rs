//! Rule files and what becomes of them: `valid/*.yaml` become the `*.json` beside them, `invalid/*.yaml` the messages in
//! `*.txt`. `UPDATE_GOLDEN=1 cargo test -p routecache-config` writes what is found; read the difference before keeping it.
#![cfg(feature = "files")]

use std::fs;
use std::path::{Path, PathBuf};

use routecache_config::{load_json, load_yaml};

fn unset(_: &str) -> Option<String> {
    None
}

/// The YAML files of a folder beside the manifest, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    // `*.test.yaml` are tests of rules, for `routecache test`.
    let is_rules = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "yaml") && !path.to_string_lossy().ends_with(".test.yaml")
    };
    let mut files: Vec<_> = entries.filter(is_rules).collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn name(file: &Path) -> &str {
    file.file_name().unwrap().to_str().unwrap()
}

/// Holds `actual` against the file beside `input` that ends in `extension`.
fn compare(input: &Path, extension: &str, actual: &str) {
    let golden = input.with_extension(extension);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, actual).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_default();
    assert_eq!(actual, expected, "{} differs from what is found now; see tests/golden.rs", golden.display());
}

#[test]
fn valid_files_become_their_json_and_the_filter_reads_the_same_from_it() {
    for file in files("tests/valid") {
        let text = fs::read_to_string(&file).unwrap();
        let loaded = load_yaml(&text, name(&file), &unset).unwrap_or_else(|mistakes| panic!("{mistakes}"));
        compare(&file, "json", &format!("{:#}\n", loaded.json));
        assert_eq!(load_json(loaded.json.to_string().as_bytes(), &unset), Ok(loaded.policy), "{}", file.display());
    }
}

#[test]
fn invalid_files_become_their_messages() {
    for file in files("tests/invalid") {
        let text = fs::read_to_string(&file).unwrap();
        let mistakes = load_yaml(&text, name(&file), &unset).expect_err(name(&file));
        compare(&file, "txt", &format!("{mistakes}\n"));
    }
}

#[test]
fn every_example_is_valid() {
    for file in files("examples") {
        let text = fs::read_to_string(&file).unwrap();
        load_yaml(&text, name(&file), &unset).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    }
}

/// A caret that points beside its mark would be worse than none.
#[test]
fn carets_stand_below_what_is_meant() {
    for (line, meant) in [
        (r#"  - { name: r, match: { path: "/a/{b" }, cache: {} }"#, "{b"),
        (r#"  - { name: r, match: { path: '/é/b' }, cache: {} }"#, "é"),
        (r#"  - { name: é, match: { path: '/a/{b' }, cache: {} }"#, "é"),
        (r#"  - { match: { path: '/a' }, cache: { key: '{é' }, name: r }   # é"#, "{"),
        (r#"  - { name: r, match: { path: /a }, cache: { key: "user:{usr}" } }"#, "{usr}"),
        (r#"  - { name: r, match: { path: /a }, cache: { ttl: 5 min } }"#, "5 min"),
        (r#"  - { name: r, match: { path: /a }, cache: { tags: a } }   # é"#, "a"),
        (r#"  - { name: r, match: { path: /a }, cache: { tll: 5m } }"#, "tll"),
        (r#"  - { name: r, match: { path: /a }, cache: { "tt\u006c": 1.5s } }"#, "1.5s"),
    ] {
        let text = format!("# é\nroutes:\n{line}\n");
        let message = load_yaml(&text, "rules.yaml", &unset).expect_err(line).to_string();
        let lines: Vec<_> = message.lines().collect();
        let [first, _, shown, carets, ..] = lines.as_slice() else { panic!("{message}") };
        let column = carets.chars().position(|char| char == '^').unwrap();
        let marked: String =
            shown.chars().skip(column).take(carets.chars().filter(|char| *char == '^').count()).collect();
        assert_eq!(marked, meant, "{message}");
        let place = format!("rules.yaml:3:{}:", column + 1 - "3 | ".len());
        assert!(first.starts_with(&place), "{place} {first}");
    }
}

#[test]
fn a_line_of_any_length_is_shown_around_its_caret() {
    let long = format!("routes: [{}{{ name: r, match: {{ path: /a }}, cache: {{ tll: 5m }} }}]", " ".repeat(5000));
    let message = load_yaml(&long, "rules.yaml", &unset).unwrap_err().to_string();
    let lines: Vec<_> = message.lines().collect();
    let column = lines[3].find('^').unwrap();
    assert_eq!(lines[2].get(column..column + 3), Some("tll"), "{message}");
    assert!(lines[2].len() < 130, "{message}");
}

/// "Billion laughs", nesting, and aliases to themselves.
#[test]
fn hostile_yaml_is_refused_in_bounded_time() {
    let laughs: String = (1..30).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    for text in [format!("a0: &a0 [x]\n{laughs}"), "[".repeat(100_000), "a: &a [*a]".to_owned(), "{a: ".repeat(100_000)]
    {
        assert!(load_yaml(&text, "rules.yaml", &unset).is_err());
    }
}
