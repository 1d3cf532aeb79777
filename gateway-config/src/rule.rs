//! One item of `routes`.

use std::collections::BTreeMap;

use routecache_core::matching::Router;
use routecache_core::policy::{Action, CacheRule, ClientDirectives, PurgeRule, QuerySelection, Rule};

use crate::check::word_or_mistake;
use crate::mistake::What;
use crate::naming::{self, Path};
use crate::tree::{Kind, shorten};
use crate::ttl::Buckets;
use crate::vocabulary::{CACHE, MATCH, QUERY, ROUTE, ROUTE_PURGE};
use crate::walk::{At, Fields, Found};
use crate::{host, method, terms};

/// Each is compared with each parameter of a request.
const INCLUDE_MAX: usize = 64;

/// What the file says for all its rules.
pub(crate) struct Defaults<'a> {
    pub(crate) buckets: &'a Buckets,
    pub(crate) client_directives: ClientDirectives,
}

/// Every rule of the file that could be read.
pub(crate) fn all(fields: &Fields<'_>, defaults: &Defaults<'_>, found: &mut Found) -> Vec<Rule> {
    let Some(routes) = fields.need("routes", "routes: [{ name: …, match: …, cache: … }]", found) else {
        return Vec::new();
    };
    let Some(items) = routes.items(found) else { return Vec::new() };
    if items.is_empty() {
        found.add(routes, What::NoRoutes);
    }
    let mut names = BTreeMap::new();
    let rules = items.iter().filter_map(|item| {
        let rule = rule(item, defaults, &mut names, found);
        found.rule = None;
        rule
    });
    rules.collect()
}

/// Names and where they were given first.
type Names<'a> = BTreeMap<&'a str, String>;

fn rule<'a>(at: &At<'a>, defaults: &Defaults<'_>, names: &mut Names<'a>, found: &mut Found) -> Option<Rule> {
    // Known before anything is said about the rule.
    found.rule = name_in(at).map(shorten);
    let fields = at.fields(&ROUTE, found)?;
    let name = fields.need("name", "name: user", found).and_then(|at| name(at, names, found));
    let matching = fields.need("match", "match: { path: \"/users/{user_id}\" }", found);
    let matching = matching.and_then(|at| at.fields(&MATCH, found));
    let path = matching.as_ref().and_then(|fields| Path::read(fields, found));
    let host = matching.as_ref().and_then(|fields| host::read(fields.get("host")?, found));
    let methods = matching.as_ref().and_then(|fields| fields.get("methods"));
    let (methods, action) = match (fields.get("cache"), fields.get("purge")) {
        (Some(at), None) => {
            let methods = method::of_cache(methods, found);
            (methods, cache(at, path.as_ref(), defaults, found).map(|rule| Action::Cache(Box::new(rule))))
        }
        (None, Some(at)) => {
            let methods = method::of_purge(methods, found);
            (methods, purge(at, path.as_ref(), found).map(Action::Purge))
        }
        (None, None) => {
            found.add(at, What::NoAction);
            return None;
        }
        (Some(_), Some(second)) => {
            found.add_name(second, What::TwoActions);
            return None;
        }
    };
    let path = path?;
    let rule = Rule { name: name?, methods, host, path: path.text.to_owned(), action: action? };
    // What the router finds wrong with a single path is told here, with its place, rather than when the filter starts.
    if let Err((_, mistake)) = Router::new(std::slice::from_ref(&rule)) {
        found.add(&path.at, What::Unroutable(mistake.to_string()));
    }
    Some(rule)
}

/// The rule's name, if there is something like it.
fn name_in<'a>(at: &At<'a>) -> Option<&'a str> {
    let Kind::Map(entries) = &at.node.kind else { return None };
    match &entries.iter().find(|entry| entry.name == "name")?.value.kind {
        Kind::Text(name) => Some(name),
        _ => None,
    }
}

fn name<'a>(at: &At<'a>, names: &mut Names<'a>, found: &mut Found) -> Option<String> {
    let text = at.text(found)?;
    let name = word_or_mistake(text, at.said()).map_err(|what| found.add(at, what)).ok()?;
    if let Some(first) = names.get(text) {
        found.add(at, What::NameTaken { name, first: first.clone() });
        return None;
    }
    names.insert(text, at.path.trim_end_matches(".name").to_owned());
    Some(name)
}

fn cache(at: &At<'_>, path: Option<&Path<'_>>, defaults: &Defaults<'_>, found: &mut Found) -> Option<CacheRule> {
    let fields = at.fields(&CACHE, found)?;
    let ttl = defaults.buckets.ttl(fields.get("ttl"), found);
    let query = fields.get("query").map_or(Some(QuerySelection::All), |at| query(at, found));
    let key = match fields.get("key") {
        Some(at) => naming::key(at, path, found).map(|key| (at, key)),
        None => path.and_then(|path| naming::path_as_key(path, found).map(|key| (&path.at, key))),
    };
    let tags = match (fields.get("tags"), &key) {
        (Some(at), _) => naming::tags_of_cache(at, path, found),
        (None, Some((at, key))) => naming::key_as_tag(at, key, found).map(|tag| (vec![tag], Vec::new())),
        (None, None) => None,
    };
    let (tags, tag_fields) = tags.map_or((None, Vec::new()), |(tags, fields)| (Some(tags), fields));
    let terms = terms::read(&fields, tag_fields, defaults.buckets, defaults.client_directives, found);
    Some(CacheRule { key: key?.1, query: query?, ttl, tags: tags?, terms })
}

fn purge(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<PurgeRule> {
    let fields = at.fields(&ROUTE_PURGE, found)?;
    let tags = naming::tags_of_purge(fields.need("tags", "tags: [\"user:{user_id}\"]", found)?, path, found)?;
    Some(PurgeRule { tags })
}

fn query(at: &At<'_>, found: &mut Found) -> Option<QuerySelection> {
    let fields = at.fields(&QUERY, found)?;
    let Some(include) = fields.get("include") else { return Some(QuerySelection::All) };
    let items = include.texts(found)?;
    if items.len() > INCLUDE_MAX {
        found.add(include, What::TooMany { field: "include", max: INCLUDE_MAX });
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for (at, name) in items {
        if names.iter().any(|earlier| earlier == name) {
            found.add(&at, What::Twice(at.said()));
        }
        names.push(name.to_owned());
    }
    Some(QuerySelection::Include(names))
}
