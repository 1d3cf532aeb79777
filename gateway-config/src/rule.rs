//! One item of `routes`.

use std::collections::BTreeMap;

use routecache_core::matching::Router;
use routecache_core::policy::{Action, CacheRule, PurgeRule, QuerySelection, Rule};
use routecache_core::template::{Source, Template};

use crate::check::word_or_mistake;
use crate::mistake::{Wanted, What, listed};
use crate::suggest::nearest;
use crate::tree::{Kind, shorten};
use crate::ttl::Buckets;
use crate::vocabulary::{CACHE, MATCH, QUERY, ROUTE, ROUTE_PURGE, TAG};
use crate::walk::{At, Fields, Found};
use crate::{host, method, path};

/// Keys and tags are built for every request, and a tag is a field of shared tables.
const TEMPLATE_BYTES_MAX: usize = 1024;
/// Each tag is looked up for every hit.
const TAGS_MAX: usize = 32;
/// Each is compared with each parameter of a request.
const INCLUDE_MAX: usize = 64;

/// Every rule of the file that could be read.
pub(crate) fn all(fields: &Fields<'_>, buckets: &Buckets, found: &mut Found) -> Vec<Rule> {
    let Some(routes) = fields.need("routes", "routes: [{ name: …, match: …, cache: … }]", found) else {
        return Vec::new();
    };
    let Some(items) = routes.items(found) else { return Vec::new() };
    if items.is_empty() {
        found.add(routes, What::NoRoutes);
    }
    let mut names = BTreeMap::new();
    let rules = items.iter().filter_map(|item| {
        let rule = rule(item, buckets, &mut names, found);
        found.rule = None;
        rule
    });
    rules.collect()
}

/// Names and where they were given first.
type Names<'a> = BTreeMap<&'a str, String>;

fn rule<'a>(at: &At<'a>, buckets: &Buckets, names: &mut Names<'a>, found: &mut Found) -> Option<Rule> {
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
            (methods, cache(at, path.as_ref(), buckets, found).map(Action::Cache))
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

/// A path template that was read.
struct Path<'a> {
    at: At<'a>,
    text: &'a str,
    captures: Vec<&'a str>,
}

impl<'a> Path<'a> {
    fn read(fields: &Fields<'a>, found: &mut Found) -> Option<Self> {
        let at = fields.need("path", "path: \"/users/{user_id}\"", found)?;
        let text = at.text(found)?;
        if text.len() > TEMPLATE_BYTES_MAX {
            found.add(at, What::TooLong { field: "path", bytes_max: TEMPLATE_BYTES_MAX });
            return None;
        }
        match path::captures(text) {
            Ok(captures) => Some(Self { at: at.clone(), text, captures }),
            Err((from, len, mistake)) => {
                found.add_part(at, text, from, len, What::Path(mistake));
                None
            }
        }
    }
}

fn cache(at: &At<'_>, path: Option<&Path<'_>>, buckets: &Buckets, found: &mut Found) -> Option<CacheRule> {
    let fields = at.fields(&CACHE, found)?;
    let ttl = buckets.ttl(fields.get("ttl"), found);
    let query = fields.get("query").map_or(Some(QuerySelection::All), |at| query(at, found));
    let key = match fields.get("key") {
        Some(at) => key(at, path, found).map(|key| (at, key)),
        None => path.and_then(|path| path_as_key(path, found).map(|key| (&path.at, key))),
    };
    if let (Some((at, key)), Some(path)) = (&key, path) {
        check_captures_are_in(key, at, path, found);
    }
    let tags = match (fields.get("tags"), &key) {
        (Some(at), _) => tags(at, path, found),
        (None, Some((at, key))) => key_as_tag(at, key, found).map(|tag| vec![tag]),
        (None, None) => None,
    };
    Some(CacheRule { key: key?.1, query: query?, ttl, tags: tags? })
}

fn purge(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<PurgeRule> {
    let fields = at.fields(&ROUTE_PURGE, found)?;
    let tags = tags(fields.need("tags", "tags: [\"user:{user_id}\"]", found)?, path, found)?;
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

/// The key: one template, or a list whose items are joined with `:`.
fn key(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    match &at.node.kind {
        Kind::Text(_) => template(at, path, found).map(|(template, _)| template),
        Kind::List(_) => {
            let items = at.items(found)?;
            if items.is_empty() {
                found.add(at, What::EmptyList("key"));
                return None;
            }
            let parts: Vec<_> = items.iter().map(|item| template(item, path, found)).collect();
            let parts: Option<Vec<_>> = parts.into_iter().collect();
            let joined = parts?.iter().map(|(part, _)| part.source()).collect::<Vec<_>>().join(":");
            if joined.len() > TEMPLATE_BYTES_MAX {
                found.add(at, What::TooLong { field: "key", bytes_max: TEMPLATE_BYTES_MAX });
            }
            let whole = Template::parse(&joined);
            whole.map_err(|error| found.add(at, What::Template { template: joined, mistake: error.what })).ok()
        }
        _ => {
            at.wanted(Wanted::TextOrList, found);
            None
        }
    }
}

/// Without a key, the path names the response.
fn path_as_key(path: &Path<'_>, found: &mut Found) -> Option<Template> {
    // A capture of the rest, `{*path}`, is `{path}` in templates.
    let key = Template::parse(&path.text.replace("{*", "{"));
    key.map_err(|error| found.add(&path.at, What::PathAsKey(error.what))).ok()
}

/// Without tags, the key names what a write purges, as in the framework whose decorators the rules replace.
fn key_as_tag(at: &At<'_>, key: &Template, found: &mut Found) -> Option<Template> {
    let untaggable = key.placeholders().find(|placeholder| !may_be_in_tags(&placeholder.source));
    if let Some(placeholder) = untaggable {
        found.add(at, What::KeyAsTag(placeholder.source.to_string()));
        return None;
    }
    if key.source().starts_with('!') {
        found.add(at, What::ReservedTag(key.source().to_owned()));
        return None;
    }
    Some(key.clone())
}

fn tags(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Vec<Template>> {
    let items = at.items(found)?;
    if items.is_empty() {
        found.add(at, What::EmptyList("tags"));
    }
    if items.len() > TAGS_MAX {
        found.add(at, What::TooMany { field: "tags", max: TAGS_MAX });
    }
    let mut tags: Vec<Template> = Vec::with_capacity(items.len());
    for item in &items {
        let Some(tag) = tag(item, path, found) else { continue };
        if tags.contains(&tag) {
            found.add(item, What::Twice(item.said()));
        }
        tags.push(tag);
    }
    Some(tags)
}

fn tag(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<Template> {
    if matches!(at.node.kind, Kind::Map(_)) {
        at.fields(&TAG, found);
        return None;
    }
    let (tag, text) = template(at, path, found)?;
    if text.starts_with('!') {
        found.add_part(at, text, 0, 1, What::ReservedTag(text.to_owned()));
    }
    for placeholder in tag.placeholders().filter(|placeholder| !may_be_in_tags(&placeholder.source)) {
        let name = placeholder.source.to_string();
        let (from, len) = place_of(&name, text);
        found.add_part(at, text, from, len, What::NotInTags(name));
    }
    Some(tag)
}

/// A write names what it purges by what it shares with the reads; the method it never shares.
fn may_be_in_tags(source: &Source) -> bool {
    match source {
        Source::Capture(_) | Source::Query(_) | Source::Host => true,
        Source::Method => false,
    }
}

/// A template whose captures the path has.
fn template<'a>(at: &At<'a>, path: Option<&Path<'_>>, found: &mut Found) -> Option<(Template, &'a str)> {
    let text = at.text(found)?;
    if text.len() > TEMPLATE_BYTES_MAX {
        found.add(at, What::TooLong { field: "template", bytes_max: TEMPLATE_BYTES_MAX });
        return None;
    }
    let template = match Template::parse(text) {
        Ok(template) => template,
        Err(error) => {
            let what = What::Template { template: shorten(text), mistake: error.what };
            found.add_part(at, text, error.at, error.len, what);
            return None;
        }
    };
    if let Some(path) = path {
        for placeholder in template.placeholders() {
            let Source::Capture(name) = &placeholder.source else { continue };
            if !path.captures.contains(&name.as_str()) {
                let similar = nearest(name, path.captures.iter().copied()).map(str::to_owned);
                let captures = listed(&path.captures);
                let (from, len) = place_of(name, text);
                found.add_part(at, text, from, len, What::NoSuchCapture { name: name.clone(), similar, captures });
            }
        }
    }
    Some((template, text))
}

/// Two paths that differ only in a capture which the key leaves out would share a response (C7).
fn check_captures_are_in(key: &Template, at: &At<'_>, path: &Path<'_>, found: &mut Found) {
    for name in &path.captures {
        let named = |source: &Source| matches!(source, Source::Capture(capture) if capture == name);
        if !key.placeholders().any(|placeholder| named(&placeholder.source)) {
            found.add(at, What::CaptureLeftOut { name: (*name).to_owned(), key: key.source().to_owned() });
        }
    }
}

/// Where a placeholder stands in its template, in bytes.
fn place_of(name: &str, text: &str) -> (usize, usize) {
    let from = text.find(&format!("{{{name}")).unwrap_or_default();
    let rest = text.get(from..).unwrap_or_default();
    (from, rest.find('}').map_or(rest.len(), |end| end.saturating_add(1)))
}
