//! `recache`: which reads of other rules a write asks for.

use routecache_core::policy::{Action, Rule};
use routecache_core::recache::{Each, Given, READS_MAX, Recache};
use routecache_core::template::{RESERVED, is_name};

use crate::conditions::pointer;
use crate::mistake::{Wanted, What, listed};
use crate::suggest::nearest;
use crate::tree::{Kind, shorten};
use crate::vocabulary::{EACH, RECACHE};
use crate::walk::{At, Found};

/// What stands before the name of a query parameter.
const QUERY: &str = "query.";

/// The reads that the rule `own` asks for, once all rules are known.
pub(crate) fn all(at: &At<'_>, own: &Rule, rules: &[Rule], found: &mut Found) -> Vec<Recache> {
    let items = at.items(found).unwrap_or_default();
    if items.len() > READS_MAX {
        found.add(at, What::TooMany { field: "recache", max: READS_MAX });
        return Vec::new();
    }
    let recaches: Vec<_> = items.iter().flat_map(|item| one(item, own, rules, found)).collect();
    if recaches.len() > READS_MAX {
        found.add(at, What::TooMany { field: "recache", max: READS_MAX });
    }
    recaches
}

/// One item of the list: as many reads as `set` has values.
fn one(at: &At<'_>, own: &Rule, rules: &[Rule], found: &mut Found) -> Vec<Recache> {
    let before = found.mistakes.len();
    let Some(fields) = at.fields(&RECACHE, found) else { return Vec::new() };
    let Some((route, name)) =
        fields.need("route", "route: order-list", found).and_then(|at| Some((at, at.text(found)?)))
    else {
        return Vec::new();
    };
    let cached = |rule: &&Rule| matches!(rule.action, Action::Cache(_));
    let Some(rule) = rules.iter().position(|rule| rule.name == name && cached(&rule)) else {
        let names: Vec<&str> = rules.iter().filter(cached).map(|rule| rule.name.as_str()).collect();
        let similar = nearest(name, names.iter().copied()).map(str::to_owned);
        found.add(route, What::NoSuchRoute { name: shorten(name), similar });
        return Vec::new();
    };
    let Some(target) = rules.get(rule) else { return Vec::new() };
    let mut recaches = vec![Recache { rule, captures: Vec::new(), query: Vec::new(), each: None }];
    for (item, name) in fields.get("include").and_then(|at| at.texts(found)).unwrap_or_default() {
        if let Some(given) = of_write(&item, name, own, found) {
            give(&item, name, &[given], target, &mut recaches, found);
        }
    }
    for entry in fields.get("rename").and_then(|at| at.entries(found)).unwrap_or_default() {
        let given = of_write(&entry, entry.name, own, found);
        if let Some((given, theirs)) = given.and_then(|given| Some((given, entry.text(found)?))) {
            give(&entry, theirs, &[given], target, &mut recaches, found);
        }
    }
    for entry in fields.get("set").and_then(|at| at.entries(found)).unwrap_or_default() {
        let values = values(&entry, found);
        give(&entry, entry.name, &values, target, &mut recaches, found);
    }
    if let Some(at) = fields.get("each") {
        let entries = at.entries(found).unwrap_or_default();
        match &entries[..] {
            [entry] => {
                give(entry, entry.name, &[Given::Each], target, &mut recaches, found);
                let each = each(entry, found);
                recaches.iter_mut().for_each(|recache| recache.each.clone_from(&each));
            }
            [] => found.add(at, What::EmptyMap("each".to_owned())),
            _ => found.add(at, What::TooMany { field: "each", max: 1 }),
        }
    }
    let given = |name: &str| recaches.iter().all(|recache| recache.captures.iter().any(|(known, _)| known == name));
    let missing = target.path.captures().iter().find(|capture| !given(&capture.name));
    if let Some(missing) = missing.filter(|_| found.mistakes.len() == before) {
        found.add(route, What::CaptureNotGiven { name: missing.name.clone(), route: target.name.clone() });
    }
    recaches
}

/// Where a list of values is found.
fn each(at: &At<'_>, found: &mut Found) -> Option<Each> {
    let fields = at.fields(&EACH, found)?;
    let mut given = EACH.own.iter().filter_map(|name| fields.get(name));
    let (Some(at), None) = (given.next(), given.next()) else {
        if !fields.incomplete {
            found.add(at, What::NotExactlyOne(EACH.own));
        }
        return None;
    };
    let text = at.text(found)?;
    match at.name {
        "json" => pointer(at, text, found).map(Each::Response),
        "request_json" => pointer(at, text, found).map(Each::Request),
        _ => {
            let parts = text.split_once("{}").filter(|(_, behind)| !behind.contains("{}"));
            let tag = parts.map(|(before, behind)| Each::Tag(before.to_owned(), behind.to_owned()));
            tag.or_else(|| {
                found.add(at, What::NoPlaceInTag(shorten(text)));
                None
            })
        }
    }
}

/// A value that the write has.
fn of_write(at: &At<'_>, name: &str, own: &Rule, found: &mut Found) -> Option<Given> {
    if let Some(parameter) = name.strip_prefix(QUERY) {
        return Some(Given::Query(parameter.to_owned()));
    }
    has_capture(at, name, own, found).then(|| Given::Capture(name.to_owned()))
}

/// Gives each read a value, or several of them, of which each makes a read of its own.
fn give(at: &At<'_>, name: &str, given: &[Given], target: &Rule, recaches: &mut Vec<Recache>, found: &mut Found) {
    let parameter = name.strip_prefix(QUERY);
    if parameter.is_none() && !has_capture(at, name, target, found) {
        return;
    }
    let is_parameter = parameter.is_some();
    let name = parameter.unwrap_or(name);
    if recaches.iter_mut().any(|recache| place(recache, is_parameter).iter().any(|(known, _)| known == name)) {
        found.add(at, What::Twice(shorten(name)));
        return;
    }
    let before = std::mem::take(recaches);
    for recache in before.iter().take(READS_MAX) {
        recaches.extend(given.iter().map(|given| {
            let mut recache = recache.clone();
            place(&mut recache, is_parameter).push((name.to_owned(), given.clone()));
            recache
        }));
    }
}

fn place(recache: &mut Recache, is_parameter: bool) -> &mut Vec<(String, Given)> {
    if is_parameter { &mut recache.query } else { &mut recache.captures }
}

/// Whether a rule's path has the capture; that it hasn't is noted.
fn has_capture(at: &At<'_>, name: &str, rule: &Rule, found: &mut Found) -> bool {
    let captures: Vec<&str> = rule.path.captures().iter().map(|capture| capture.name.as_str()).collect();
    let known = captures.contains(&name);
    if !known {
        let likely = is_name(name) && !RESERVED.contains(&name);
        let similar = nearest(name, captures.iter().copied()).filter(|_| likely).map(str::to_owned);
        found.add(
            at,
            What::NoCaptureOf { name: shorten(name), route: rule.name.clone(), similar, captures: listed(&captures) },
        );
    }
    known
}

/// One value, or a list of them.
fn values(at: &At<'_>, found: &mut Found) -> Vec<Given> {
    let value = |at: &At<'_>, found: &mut Found| match &at.node.kind {
        Kind::Text(text) => Some(Given::Text(text.clone())),
        Kind::Integer(number) => Some(Given::Text(number.to_string())),
        _ => {
            at.wanted(Wanted::Text, found);
            None
        }
    };
    match &at.node.kind {
        Kind::List(_) => {
            let items = at.items(found).unwrap_or_default();
            if items.is_empty() {
                found.add(at, What::EmptyList("set"));
            }
            items.iter().filter_map(|item| value(item, found)).collect()
        }
        _ => value(at, found).into_iter().collect(),
    }
}
