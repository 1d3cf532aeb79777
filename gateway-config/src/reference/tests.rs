//! Nothing in the description drifts from what the checker does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::ROOT;
use super::{Field, Map, Shape, schema};
use crate::mistake::What;
use crate::{Loaded, Mistakes, VARIABLES, load_yaml};

/// Rules in which each map has a place; fields are set into it.
const FILE: &str = r#"
namespace: {}
ttl: { catalog: 6h }
bridge: { cluster: store, seal: { env: [SEAL] } }
limits: {}
consistency: {}
purge: {}
background: {}
warm: { urls: [{ url: "https://shop.example/menus/1" }] }
routes:
  - name: order-list
    match: { path: "/users/{user_id}/orders" }
    cache:
      query: { include: [page] }
      ttl: { header: x-ttl }
      identity: { claim: sub }
      when: {}
      bypass: {}
      early: { within: 30s }
      origin: { cluster: orders, rewrites: none }
      tags: [{ header: surrogate-key }]
  - name: user-write
    match: { path: "/users/{user_id}" }
    purge: { tags: [users] }
    recache: [{ route: menu, each: { query.q: { tag: "q:{}" } } }]
  - { name: menu, match: { path: /menu }, cache: {} }
resources:
  user:
    id: user_id
    reads: { profile: { path: "/users/{user_id}/profile" } }
    writes: [{ path: "/users/{user_id}/profile" }]
"#;

fn load(rules: &Value) -> Result<Loaded, Mistakes> {
    load_yaml(&format!("{rules:#}"), "rules.yaml", &|_| None)
}

fn parsed(text: &str) -> Value {
    crate::files::json(&crate::yaml::parse(text).unwrap())
}

/// The file without a field, or with a value for it.
fn file(map: &Map, field: &Field, value: Option<Value>) -> Value {
    let mut rules = parsed(FILE);
    // One doesn't go with the claims of the other.
    let about_origin = map.path == "routes[].cache.origin" || field.name == "origin";
    let cache = rules["routes"][0]["cache"].as_object_mut().unwrap();
    cache.remove(if about_origin { "identity" } else { "origin" });
    let names: Vec<&str> = map.path.split('.').filter(|name| !name.is_empty()).collect();
    let mut place = &mut rules;
    for (number, name) in names.iter().enumerate() {
        place = match name.strip_suffix("[]") {
            Some(list) => {
                let next = names.get(number + 1).map(|next| next.trim_end_matches("[]"));
                // Only beside `purge`.
                let next = next.or((field.name == "recache").then_some("purge"));
                let items = place[list].as_array_mut().unwrap().iter_mut();
                items.into_iter().find(|item| next.is_none_or(|next| item.get(next).is_some())).expect(map.path)
            }
            None if *name == "*" => place.as_object_mut().unwrap().values_mut().next().unwrap(),
            None => &mut place[*name],
        };
        assert!(place.is_object(), "{} has a place in the file", map.path);
    }
    let place = place.as_object_mut().unwrap();
    place.retain(|name, _| name != field.name && !(map.one_of.contains(&field.name) && map.one_of.contains(&&**name)));
    place.extend(value.map(|value| (field.name.to_owned(), value)));
    if map.path == "routes[].cache.query" && field.name == "exclude" {
        place.remove("include");
    }
    if reads_body(map, field) {
        rules["routes"][0]["match"]["methods"] = json!(["POST"]);
        rules["routes"][0]["cache"]["key"] = json!("{user_id}:{body}");
    }
    rules
}

/// What is posted, only rules for POST can speak of.
fn reads_body(map: &Map, field: &Field) -> bool {
    field.name == "request_json"
        || field.name == "json" && matches!(map.path, "routes[].match" | "routes[].cache.bypass")
}

fn every_field() -> Vec<(&'static Map, &'static Field)> {
    ROOT.all().into_iter().flat_map(|map| map.fields.iter().map(move |field| (map, field))).collect()
}

/// What the field is called in messages.
fn at(map: &Map, field: &Field) -> String {
    format!("`{}` of `{}`", field.name, map.path)
}

fn example(field: &Field) -> Value {
    let example = parsed(field.example);
    example.get(field.name).unwrap_or_else(|| panic!("the example of `{}`: {example}", field.name)).clone()
}

#[test]
fn every_field_that_the_checker_knows_is_described_and_no_other() {
    for map in ROOT.all() {
        let described: Vec<_> = map.fields.iter().map(|field| field.name).collect();
        let known: BTreeSet<_> = map.words.own.iter().copied().collect();
        assert_eq!(
            described.iter().copied().collect::<BTreeSet<_>>(),
            known,
            "`{}`: describe each field of vocabulary.rs in reference/fields.rs",
            map.path
        );
        assert_eq!(described.len(), known.len(), "`{}` describes a field twice", map.path);
    }
}

#[test]
fn every_map_of_fields_is_described() {
    let described: Vec<_> = ROOT.all().into_iter().map(|map| map.words.own).collect();
    let mut maps = vec![&crate::vocabulary::ROOT];
    while let Some(words) = maps.pop() {
        assert!(described.contains(&words.own), "nothing describes the map of {:?}", words.own);
        maps.extend(words.below.iter().map(|(_, words)| *words));
    }
}

#[test]
fn every_example_is_valid_and_an_editor_finds_it_so() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (map, field) in every_field() {
        let rules = file(map, field, Some(example(field)));
        load(&rules).unwrap_or_else(|mistakes| panic!("{}: {mistakes}", at(map, field)));
        if let Err(error) = validator.validate(&rules) {
            panic!("{}: {error}\n{rules:#}", at(map, field));
        }
    }
}

#[test]
fn what_is_needed_is_missed() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (map, field) in every_field().into_iter().filter(|(map, _)| map.one_of.is_empty()) {
        let rules = file(map, field, None);
        assert_eq!(load(&rules).is_err(), field.needed, "{}: {:?}", at(map, field), load(&rules).err());
        assert_eq!(!validator.is_valid(&rules), field.needed, "{}", at(map, field));
    }
}

/// Writing a default changes nothing, and an example shows something else.
#[test]
fn every_default_is_what_counts_without_the_field() {
    for (map, field) in every_field() {
        let Some(default) = field.default.map(parsed) else { continue };
        let given = load(&file(map, field, Some(default.clone())));
        let given = given.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", at(map, field)));
        let without = load(&file(map, field, None)).expect("a default means that it isn't needed");
        assert_eq!(given.policy, without.policy, "{}", at(map, field));
        assert!(default != example(field) || field.name == "version", "{}", at(map, field));
    }
}

/// Words and ranges are those that the checker names when it is given another.
#[test]
fn the_checker_takes_the_words_and_ranges_that_are_told() {
    for (map, field) in every_field() {
        let refused = |value: Value| {
            let mistakes = load(&file(map, field, Some(value))).expect_err(field.name);
            mistakes.list.into_iter().map(|mistake| mistake.what).collect::<Vec<_>>()
        };
        let taken = |value: Value| {
            let loaded = load(&file(map, field, Some(value)));
            loaded.map_or_else(|mistakes| panic!("{}: {mistakes}", at(map, field)), drop);
        };
        match field.shape {
            Shape::Word(words) => {
                words.iter().for_each(|word| taken(json!(word)));
                assert_eq!(words_in(&refused(json!("no-such-word"))), words, "{}", at(map, field));
            }
            Shape::List(Shape::Word(words), ..) => {
                assert_eq!(words_in(&refused(json!(["no-such-word"]))), *words, "{}", at(map, field));
            }
            Shape::Any([Shape::Word(words), ..]) => words.iter().for_each(|word| taken(json!(word))),
            Shape::Duration(low, high) | Shape::Size(low, high) | Shape::Number(low, high) => {
                let mistakes = refused(json!(9_999_999_999_999_999_u64));
                let Some(What::OutOfRange { low: least, high: most, .. }) = mistakes.first() else {
                    panic!("{}: {mistakes:?}", at(map, field))
                };
                assert_eq!((*least, *most), (&*format!("`{low}`"), &*format!("`{high}`")), "{}", at(map, field));
            }
            Shape::List(_, least, most) => {
                if least > 0 {
                    assert!(matches!(refused(json!([]))[..], [What::EmptyList(_) | What::NoRoutes, ..]));
                }
                if most < usize::MAX {
                    let mistakes = refused(json!((0..=most).map(|number| format!("x{number}")).collect::<Vec<_>>()));
                    assert!(matches!(mistakes[..], [What::TooMany { max, .. }] if max == most), "{mistakes:?}");
                }
            }
            _ => {}
        }
        if !matches!(field.shape, Shape::Exactly(_)) {
            assert!(matches!(refused(json!(1.5))[..], [_, ..]), "{} takes 1.5", at(map, field));
        }
    }
}

fn words_in(mistakes: &[What]) -> Vec<&'static str> {
    match mistakes {
        [What::NotOneOf { words, .. }] => words.clone(),
        // It says why there is no other.
        [What::OriginRewrites] => vec!["none"],
        _ => panic!("{mistakes:?}"),
    }
}

#[test]
fn every_variable_is_told() {
    let page = super::markdown();
    for variable in VARIABLES {
        assert!(page.contains(&format!("`{variable}`")), "{variable}");
    }
}
