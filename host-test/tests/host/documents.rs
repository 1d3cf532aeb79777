//! What the README says is what the host does.

use std::collections::BTreeSet;

use proxy_wasm_host_test::{Site, called_functions, offered_functions};

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
fn the_table_lists_exactly_what_can_go_wrong_at_each_place() {
    let section = README.split("\n## ").find(|section| section.starts_with("What can go wrong")).unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let listed: Vec<(&str, BTreeSet<&str>)> =
        rows.map(|(place, faults)| (place, faults.split('`').skip(1).step_by(2).collect())).collect();
    let sites: Vec<(&str, BTreeSet<String>)> = Site::ALL
        .into_iter()
        .map(|site| {
            let names = site.faults().map(|fault| fault.to_string().split(' ').next().unwrap().to_owned());
            (site.name(), names.collect())
        })
        .collect();
    let sites: Vec<(&str, BTreeSet<&str>)> =
        sites.iter().map(|(site, names)| (*site, names.iter().map(String::as_str).collect())).collect();
    assert_eq!(listed, sites);
}

#[test]
fn the_matrix_lists_exactly_what_is_called() {
    assert_eq!(listed("What is called"), called_functions());
}
