//! docs/linting.md, and what is found in the files that people copy from.
#![cfg(feature = "files")]

use std::fs;
use std::path::{Path, PathBuf};

use routecache_config::{lint, load_yaml};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `UPDATE_GOLDEN=1 cargo test -p routecache-config --test linting` writes it.
#[test]
fn the_page_in_docs_is_what_the_checks_say() {
    let page = folder().join("../docs/linting.md");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, lint::markdown()).unwrap();
    }
    assert!(fs::read_to_string(&page).unwrap_or_default() == lint::markdown(), "docs/linting.md; see tests/linting.rs");
}

#[test]
fn no_example_is_warned_of() {
    let entries = fs::read_dir(folder().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let is_rules =
        |path: &PathBuf| path.to_str().is_some_and(|name| name.ends_with(".yaml") && !name.contains(".test."));
    for file in entries.filter(is_rules) {
        let loaded = load_yaml(&fs::read_to_string(&file).unwrap(), file.to_str().unwrap(), &|_| None).unwrap();
        assert_eq!(loaded.lint(&|_| None).to_string(), "");
    }
}

/// Pages of rules, all different, in well under the time that it takes to look away.
#[test]
fn ten_thousand_rules_are_looked_at_in_bounded_time() {
    let mut text = "routes:\n".to_owned();
    for number in 0..5000 {
        text.push_str(&format!(
            "  - {{ name: r{number}, match: {{ path: \"/a{number}/{{id}}\" }}, cache: {{ tags: [\"a{number}:{{id}}\"] }} }}\n  \
             - {{ name: w{number}, match: {{ path: \"/a{number}/{{id}}\" }}, purge: {{ tags: [\"a{number}:{{id}}\"] }} }}\n"
        ));
    }
    let loaded = load_yaml(&text, "rules.yaml", &|_| None).unwrap();
    let start = std::time::Instant::now();
    assert_eq!(loaded.lint(&|_| None).to_string(), "");
    println!("{:?}", start.elapsed());
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}
