use super::{LINTS, Warnings};
use crate::load_yaml;

fn unset(_: &str) -> Option<String> {
    None
}

fn warnings(text: &str) -> Warnings {
    load_yaml(text, "rules.yaml", &unset).unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}")).lint(&unset)
}

fn names(text: &str) -> Vec<&'static str> {
    warnings(text).iter().map(|warning| warning.lint.name).collect()
}

#[test]
fn each_example_shows_its_warning_and_its_mended_form_none() {
    for lint in LINTS {
        let found = names(lint.example);
        assert!(found.contains(&lint.name), "{}: {found:?}", lint.name);
        let others: Vec<_> = found.iter().filter(|name| **name != lint.name).collect();
        let related = |name: &str| {
            ["tag-never-purged", "purge-tag-unread"].contains(&name) || lint.name == "personal-path-shared"
        };
        assert!(others.iter().all(|name| related(name)), "{}: {others:?}", lint.name);
        assert_eq!(warnings(lint.mended).to_string(), "", "{}", lint.name);
    }
}

#[test]
fn names_are_unique_and_sorted_out() {
    for lint in LINTS {
        assert_eq!(super::named(lint.name), Some(lint));
        assert!(lint.name.chars().all(|char| char.is_ascii_lowercase() || char == '-'), "{}", lint.name);
        assert!(lint.about.ends_with('.') && lint.why.ends_with(['.', ')']), "{}", lint.name);
    }
}

#[test]
fn a_warning_is_shown_like_this() {
    let text = "\
routes:
  - name: orders
    match: { path: /orders }
    cache: { tags: [orders] }
  - { name: write, match: { path: /orders }, purge: { tags: [order] } }
";
    assert_eq!(
        warnings(text).to_string(),
        "\
rules.yaml:4:21: warning: rule `orders`: no write purges the tag `orders` [tag-never-purged]
  |
4 |     cache: { tags: [orders] }
  |                     ^^^^^^
    did you mean `order`?
rules.yaml:5:62: warning: rule `write`: no read carries the tag `order` [purge-tag-unread]
  |
5 |   - { name: write, match: { path: /orders }, purge: { tags: [order] } }
  |                                                              ^^^^^
    did you mean `orders`?
"
    );
}

#[test]
fn a_comment_allows_its_line_the_next_one_and_what_is_below() {
    let rules = |before: &str, list: &str, item: &str, tag: &str| {
        format!(
            "{before}\nroutes: {list}\n  {item}\n  - name: a\n    match: {{ path: /a }}\n    cache:\n      tags:\n        {tag}\n        - x # {tag}\n"
        )
    };
    let allow = "# routecache: allow(tag-never-purged)";
    for (before, list, item, tag) in [
        (allow, "", "", ""),
        ("", allow, "", ""),
        ("", "", allow, ""),
        ("", "", "", allow),
        ("", "", "# routecache: allow(bare-tag, tag-never-purged)   why not", ""),
    ] {
        let found = warnings(&rules(before, list, item, tag));
        let left: Vec<_> = found.iter().filter(|warning| warning.lint.name == "tag-never-purged").collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(found.list.iter().any(|warning| warning.allowed));
    }
    let elsewhere = format!("{}  - {{ name: b, match: {{ path: /b }}, cache: {{}} }} {allow}\n", rules("", "", "", ""));
    assert_eq!(names(&elsewhere), ["tag-never-purged", "unused-allow"]);
    let misspelt = names(&rules("", "", "# routecache: allow(tag-never-purge)", ""));
    assert_eq!(misspelt, ["unused-allow", "tag-never-purged"]);
}

#[test]
fn a_secret_is_never_repeated() {
    let text = "# store: redis://:hunter2hunter2@store\nroutes: [{ name: a, match: { path: /a }, cache: {} }]\n";
    let told = warnings(text).to_string();
    assert!(told.contains("secret-in-rules") && !told.contains("hunter2"), "{told}");
    assert!(told.starts_with("rules.yaml:1:"), "{told}");
}

#[test]
fn rules_that_go_well_together_are_left_in_peace() {
    for text in [
        // A special case beside the general one, and a rule for the rest.
        r#"routes:
  - { name: user, match: { path: "/users/{id}" }, cache: {} }
  - { name: me, match: { path: "/users/me" }, cache: {} }
  - { name: rest, match: { path: "/{*rest}" }, cache: {} }
  - { name: files, match: { path: "/files/{name}.json" }, cache: {} }
  - { name: file, match: { path: "/files/{name}" }, cache: {} }
  - { name: here, match: { host: a.example.com, path: "/users/{id}" }, cache: {} }"#,
        // Tags that the response names may be any.
        r#"routes:
  - { name: page, match: { path: "/{*path}" }, cache: { tags: [{ header: surrogate-key }] } }
  - { name: write, match: { path: "/a/{id}" }, purge: { tags: ["a:{id}"] } }"#,
        // The key is the tag.
        r#"routes:
  - { name: user, match: { path: "/users/{id}" }, cache: { key: "user:{id}" } }
  - { name: write, match: { path: "/users/{user}" }, purge: { tags: ["user:{user}"] } }"#,
        // Every parameter is part of the key.
        r#"routes:
  - { name: list, match: { path: /list }, cache: { tags: ["page:{query.page|default(1)}"] } }
  - { name: write, match: { path: /list }, purge: { tags: ["page:{query.page}"] } }"#,
    ] {
        assert_eq!(warnings(text).to_string(), "", "{text}");
    }
}
