//! What the README says is what the host does.

use proxy_wasm_host_test::{called_functions, offered_functions};

const README: &str = include_str!("../../README.md");

/// The names in the first column of the tables under a heading.
fn listed(heading: &str) -> Vec<&'static str> {
    let section = README.split("\n## ").find(|section| section.starts_with(heading)).unwrap();
    section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(name, _)| name).collect()
}

#[test]
fn the_matrix_lists_exactly_what_modules_may_import() {
    let offered = offered_functions();
    let names: Vec<&str> = offered.iter().filter_map(|name| name.rsplit_once('.')).map(|(_, name)| name).collect();
    assert_eq!(listed("What modules may import"), names);
}

#[test]
fn the_matrix_lists_exactly_what_is_called() {
    assert_eq!(listed("What is called"), called_functions());
}
