//! The pages that are written from the description of the language, and the schema held against the golden files.
//! `UPDATE_GOLDEN=1 cargo test -p routecache-config --test reference` writes what is found.
#![cfg(feature = "files")]

use std::fs;
use std::path::{Path, PathBuf};

use routecache_config::reference::{markdown, schema};
use routecache_config::{Mistakes, What, json_of, load_yaml};

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn compare(page: &str, actual: &str) {
    let page = folder().join("../docs").join(page);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&page, actual).unwrap();
    }
    let kept = fs::read_to_string(&page).unwrap_or_default();
    assert!(kept == actual, "{} is not what the language is now; see tests/reference.rs", page.display());
}

fn rules_in(name: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(name)).unwrap().map(|entry| entry.unwrap().path());
    let is_rules =
        |path: &PathBuf| path.to_str().is_some_and(|name| name.ends_with(".yaml") && !name.contains(".test."));
    let mut files: Vec<_> = entries.filter(is_rules).collect();
    files.sort();
    files
}

#[test]
fn the_pages_in_docs_are_what_the_language_is_now() {
    compare("reference.md", &markdown());
    compare("rules.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn what_is_valid_an_editor_finds_valid() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for file in rules_in("tests/valid").into_iter().chain(rules_in("examples")) {
        let rules = json_of(&fs::read_to_string(&file).unwrap()).unwrap();
        if let Err(error) = validator.validate(&rules) {
            panic!("{}: {} at {}", file.display(), error, error.instance_path());
        }
    }
}

/// What is wrong with the shape of a file, an editor sees while it is written.
#[test]
fn what_is_no_rules_an_editor_marks() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let of_shape = |mistakes: &Mistakes| {
        mistakes.list.iter().any(|mistake| {
            matches!(
                mistake.what,
                What::WrongKind { .. }
                    | What::UnknownField { .. }
                    | What::NotSupportedYet(_)
                    | What::Missing { .. }
                    | What::UnknownVersion(_)
                    | What::BadWord { .. }
                    | What::BadBucketName(_)
                    | What::NotADuration { .. }
                    | What::NotASize { .. }
                    | What::NotOneOf { .. }
                    | What::BadStatus(_)
                    | What::BadFieldName(_)
                    | What::EmptyList(_)
                    | What::NoRoutes
                    | What::NoAction
                    | What::TwoActions
            )
        })
    };
    let mut count = 0;
    for file in rules_in("tests/invalid") {
        let text = fs::read_to_string(&file).unwrap();
        let Ok(rules) = json_of(&text) else { continue };
        let mistakes = load_yaml(&text, "rules.yaml", &|_| None).unwrap_err();
        if of_shape(&mistakes) {
            count += 1;
            assert!(!validator.is_valid(&rules), "{}", file.display());
        }
    }
    assert!(count >= 6, "the test sees the files: {count}");
}

/// One mistake at a time, as it would be made while writing.
#[test]
fn an_editor_marks_each_slip() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for slip in [
        "version: 2",
        "namespace: { prefix: 'a b' }",
        "ttl: { short: 5 min }",
        "ttl: { 5m: 5m }",
        "bridge: {}",
        "limits: { l0_bytes: 8mib }",
        "client_directives: honor",
        "route: []",
        "routes: []",
        "routes: [{ match: { path: /a }, cache: {} }]",
        "routes: [{ name: a, match: { path: a }, cache: {} }]",
        "routes: [{ name: a, match: { path: '/a?b' }, cache: {} }]",
        "routes: [{ name: a, match: { path: /a } }]",
        "routes: [{ name: a, match: { path: /a }, cache: {}, purge: { tags: [a] } }]",
        "routes: [{ name: a, match: { path: /a, methods: [get] }, cache: {} }]",
        "routes: [{ name: a, match: { path: /a, methods: GET }, cache: {} }]",
        "routes: [{ name: a, match: { path: /a }, cache: { tll: 5m } }]",
        "routes: [{ name: a, match: { path: /a }, cache: { ttl: [5m] } }]",
        "routes: [{ name: a, match: { path: /a }, cache: { ttl_by_status: { 600: 5m } } }]",
        "routes: [{ name: a, match: { path: /a }, cache: { cookies: maybe } }]",
        "routes: [{ name: a, match: { path: /a }, cache: { tags: ['!all'] } }]",
        "routes: [{ name: a, match: { path: /a }, cache: { vary: ['a b'] } }]",
        "routes: [{ name: a, match: { path: /a }, purge: { tags: [] } }]",
    ] {
        let name = slip.split(':').next().unwrap();
        let rest = if name == "routes" { "" } else { "\nroutes: [{ name: a, match: { path: /a }, cache: {} }]" };
        let text = format!("{slip}{rest}\n");
        assert!(load_yaml(&text, "rules.yaml", &|_| None).is_err(), "{slip}");
        assert!(!validator.is_valid(&json_of(&text).unwrap()), "{slip}");
    }
}

/// Whatever a page shows as rules, readers copy.
#[test]
fn the_rules_in_every_page_are_valid() {
    let root = folder().join("..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain([root.join("README.md"), root.join("bridge/README.md"), root.join("host-test/README.md")]);
    let mut count = 0;
    for page in pages.filter(|page| page.extension().is_some_and(|end| end == "md")) {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("\n```yaml").skip(1).filter_map(|rest| rest.split("\n```").next()) {
            let rules = block.split_once('\n').map_or("", |(_, rules)| rules);
            let is_whole = rules.lines().any(|line| line.starts_with("routes:") || line.starts_with("resources:"));
            if !is_whole {
                continue;
            }
            count += 1;
            if let Err(mistakes) = load_yaml(rules, &page.to_string_lossy(), &|_| None) {
                panic!("{mistakes}\n{rules}");
            }
        }
    }
    assert!(count > 30, "the test sees the blocks: {count}");
}

/// The table of placeholders: each can be in a key, and in a tag where the table says so.
#[test]
fn the_placeholders_that_are_told_work_where_they_are_told_to() {
    let page = markdown();
    let table = page.split("| placeholder |").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| `{")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        for placeholder in cells[0].split('`').filter(|text| text.starts_with('{') && *text != "{}") {
            let path = if placeholder == "{user_id}" { "/a/{user_id}" } else { "/a" };
            let methods = if placeholder.starts_with("{body") { "[POST]" } else { "[GET]" };
            let cookies = if placeholder.starts_with("{cookie") { "ignore" } else { "respect" };
            let rules = |key: &str, tag: &str| {
                let cache = format!("cache: {{ key: \"k:{key}\", tags: [\"t:{tag}\"], cookies: {cookies} }}");
                format!("routes: [{{ name: a, match: {{ methods: {methods}, path: {path:?} }}, {cache} }}]")
            };
            let valid = |rules: &str| load_yaml(rules, "rules.yaml", &|_| None).is_ok();
            assert!(valid(&rules(placeholder, "x")), "{placeholder} in a key");
            assert_eq!(valid(&rules(placeholder, placeholder)), cells[2].starts_with("yes"), "{placeholder} in a tag");
            count += 1;
        }
    }
    let formatters = page.split("| formatter |").nth(1).unwrap().split("\n\n").next().unwrap();
    for row in formatters.lines().filter(|line| line.starts_with("| `")) {
        let formatter = row.split('`').nth(1).unwrap().replace("(n)", "(4)");
        let rules =
            format!("routes: [{{ name: a, match: {{ path: /a }}, cache: {{ key: \"k:{{query.q|{formatter}}}\" }} }}]");
        assert!(load_yaml(&rules, "rules.yaml", &|_| None).is_ok(), "{formatter}");
        count += 1;
    }
    assert!(count >= 16, "the test sees the tables: {count}");
}
