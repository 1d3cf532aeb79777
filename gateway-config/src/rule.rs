//! One item of `routes`.

use std::collections::BTreeMap;

use routecache_core::condition::Glob;
use routecache_core::policy::{
    Action, CacheRule, ClientDirectives, Cookies, Identity, Limits, Mode, PurgeRule, QuerySelection, Rule,
};
use routecache_core::property::PAYLOAD;
use routecache_core::template::{Source, Template};

use crate::check::{self, word_or_mistake};
use crate::mistake::{Wanted, What};
use crate::naming::{self, CacheTags, Path};
use crate::tree::{Kind, shorten};
use crate::ttl::Buckets;
use crate::vocabulary::{CACHE, IDENTITY, MATCH, QUERY, REQUEST_TESTS, ROUTE, ROUTE_PURGE};
use crate::walk::{At, Fields, Found};
use crate::{conditions, host, lock, method, origin, recache, terms};

/// Each is compared with each parameter of a request.
const NAMES_MAX: usize = 64;

/// What the file says for all its rules.
pub(crate) struct Defaults<'a> {
    pub(crate) buckets: &'a Buckets,
    pub(crate) client_directives: ClientDirectives,
    pub(crate) limits: &'a Limits,
    pub(crate) mode: Mode,
    /// Whether there is a bridge.
    pub(crate) grouped: bool,
    /// Whether the filter fetches by itself.
    pub(crate) fetches: bool,
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
    let (mut rules, mut recaching) = (Vec::new(), Vec::new());
    for item in &items {
        let read = rule(item, defaults, &mut names, found);
        found.rule = None;
        if let Some((rule, recache)) = read {
            recaching.extend(recache.map(|at| (rules.len(), at)));
            rules.push(rule);
        }
    }
    for (own, at) in recaching {
        let Some(rule) = rules.get(own) else { continue };
        found.rule = Some(rule.name.clone());
        if fields.get("background").is_some_and(At::is_off) {
            found.add_name(&at, What::RecacheWithoutBackground);
        }
        let recaches = recache::all(&at, rule, &rules, found);
        match rules.get_mut(own).map(|rule| &mut rule.action) {
            Some(Action::Purge(purge)) => purge.recache = recaches,
            _ => found.add_name(&at, What::RecacheWithoutPurge),
        }
    }
    found.rule = None;
    rules
}

/// Names and where they were given first.
type Names<'a> = BTreeMap<&'a str, String>;

/// A rule, and what it asks to be read again.
fn rule<'a>(
    at: &At<'a>,
    defaults: &Defaults<'_>,
    names: &mut Names<'a>,
    found: &mut Found,
) -> Option<(Rule, Option<At<'a>>)> {
    // Known before anything is said about the rule.
    found.rule = name_in(at).map(shorten);
    let fields = at.fields(&ROUTE, found)?;
    let name = fields.need("name", "name: user", found).and_then(|at| name(at, names, found));
    let matching = fields.need("match", "match: { path: \"/users/{user_id}\" }", found);
    let matching = matching.and_then(|at| at.fields(&MATCH, found));
    let path = matching.as_ref().and_then(|fields| Path::read(fields, found));
    let host = matching.as_ref().and_then(|fields| host::read(fields.get("host")?, found));
    let conditions = matching.as_ref().map(|fields| conditions::of_request(fields, found)).unwrap_or_default();
    let json = matching.as_ref().and_then(|fields| fields.get("json"));
    let methods = matching.as_ref().and_then(|fields| fields.get("methods"));
    let failover = fields.get("mode").filter(|at| matches!(&at.node.kind, Kind::Text(text) if text == "failover"));
    let mode = fields.get("mode").filter(|_| failover.is_none());
    let mode = mode.and_then(|at| self::mode(at, found)).unwrap_or(Mode::On);
    let (methods, action, mode) = match (fields.get("cache"), fields.get("purge")) {
        (Some(at), None) => {
            let methods = method::of_cache(methods, found);
            let posts = methods.iter().any(|method| method == "POST");
            if let Some(json) = json.filter(|_| !posts) {
                found.add_name(json, What::BodyOfGet(json.said()));
            }
            let cache = cache(at, path.as_ref(), posts, defaults, found);
            let action = cache.map(|mut rule| {
                rule.terms.failover = failover.is_some();
                Action::Cache(Box::new(rule))
            });
            (methods, action, if defaults.mode == Mode::Off { Mode::Off } else { mode })
        }
        (None, Some(at)) => {
            if let Some(json) = json {
                found.add_name(json, What::NotSupportedYet("json".to_owned()));
            }
            if let Some(at) = failover {
                found.add(at, What::NotSupportedYet(at.said()));
            }
            let methods = method::of_purge(methods, found);
            (methods, purge(at, path.as_ref(), found).map(Action::Purge), mode)
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
    let rule = Rule { name: name?, methods, host, path: path?.template, conditions, mode, action: action? };
    Some((rule, fields.get("recache").cloned()))
}

/// `on` or `off`; `shadow` is a word of the language too.
pub(crate) fn mode(at: &At<'_>, found: &mut Found) -> Option<Mode> {
    if matches!(&at.node.kind, Kind::Text(text) if text == "shadow") {
        found.add(at, What::NotSupportedYet(at.said()));
        return None;
    }
    terms::on_off(at, found).map(|on| if on { Mode::On } else { Mode::Off })
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

fn cache(
    at: &At<'_>,
    path: Option<&Path<'_>>,
    posts: bool,
    defaults: &Defaults<'_>,
    found: &mut Found,
) -> Option<CacheRule> {
    let fields = at.fields(&CACHE, found)?;
    let ttl = defaults.buckets.rule_ttl(fields.get("ttl"), found);
    let (query, strip_query) =
        fields.get("query").map_or(Some((QuerySelection::All, false)), |at| query(at, found)).unzip();
    let key = match fields.get("key") {
        Some(at) => naming::key(at, path, found).map(|key| (at, key)),
        None => path.and_then(|path| naming::path_as_key(path, found).map(|key| (&path.at, key))),
    };
    let tags = match (fields.get("tags"), &key) {
        (Some(at), _) => naming::tags_of_cache(at, path, found),
        (None, Some((at, key))) => {
            naming::key_as_tag(at, key, found).map(|tag| CacheTags { templates: vec![tag], ..CacheTags::default() })
        }
        (None, None) => None,
    };
    let identity = fields.get("identity").and_then(|at| identity(at, found));
    let reads_body = tags.as_ref().is_some_and(|tags| !tags.posted.is_empty());
    if let Some(at) = fields.get("tags").filter(|_| reads_body && !posts) {
        found.add(at, What::BodyOfGet("request_json".to_owned()));
    }
    let bypass = fields.get("bypass").and_then(|at| {
        let fields = at.fields(&REQUEST_TESTS, found)?;
        if let Some(json) = fields.get("json").filter(|_| !posts) {
            found.add_name(json, What::BodyOfGet(json.said()));
        }
        Some(conditions::of_request(&fields, found))
    });
    let tests = |name: &str, found: &mut Found| {
        fields.get(name).map(|at| conditions::of_response(at, found)).unwrap_or_default()
    };
    let (when, unless) = (tests("when", found), tests("unless", found));
    let jitter_percent = fields.get("jitter").and_then(|at| percent(at, found)).unwrap_or(0);
    let min_uses = fields.get("min_uses").and_then(|at| min_uses(at, found)).unwrap_or(1);
    let body_bytes_max = fields.get("body_bytes_max").and_then(|at| check::body_bytes(at, defaults.limits, found));
    let tag_fields = tags.as_ref().map(|tags| tags.fields.clone()).unwrap_or_default();
    let terms = terms::read(&fields, tag_fields, defaults.buckets, defaults.client_directives, found);
    if let Some((at, key)) = &key {
        let covered = identity.as_ref().is_some_and(|identity| identity.covers("cookie"));
        check_key(at, key, posts, terms.cookies == Cookies::Respect && !covered, found);
    }
    let (key, tags) = (key?.1, tags?);
    let mut rule = CacheRule {
        key,
        query: query?,
        strip_query: strip_query?,
        identity,
        ttl,
        jitter_percent,
        tags: tags.templates,
        item_tags: tags.items,
        request_tags: tags.posted,
        when,
        unless,
        min_uses,
        bypass: bypass.unwrap_or_default(),
        body_bytes_max,
        lock: lock::of_rule(&fields, defaults.grouped, found),
        origin: None,
        terms,
    };
    rule.origin = fields.get("origin").and_then(|at| origin::of_rule(at, &rule, defaults.fetches, found));
    Some(rule)
}

/// What a key is made of must go with the rest of the rule.
fn check_key(at: &At<'_>, key: &Template, posts: bool, cookies_bypass: bool, found: &mut Found) {
    let has_body = key.placeholders().any(|placeholder| placeholder.source == Source::Body);
    if posts && !has_body {
        found.add(at, What::KeyWithoutBody(shorten(key.source())));
    }
    if has_body && !posts {
        found.add(at, What::BodyOfGet("{body}".to_owned()));
    }
    let cookie = key.placeholders().find(|placeholder| matches!(placeholder.source, Source::Cookie(_)));
    if let Some(cookie) = cookie.filter(|_| cookies_bypass) {
        found.add(at, What::CookieRespected(cookie.source.to_string()));
    }
}

/// `{ header: authorization }`, `{ cookie: session }`, `{ claim: sub }`.
fn identity(at: &At<'_>, found: &mut Found) -> Option<Identity> {
    const KINDS: &[&str] = &["header", "cookie", "claim"];
    let fields = at.fields(&IDENTITY, found)?;
    let given: Vec<&At<'_>> = KINDS.iter().filter_map(|name| fields.get(name)).collect();
    let [who] = given.as_slice() else {
        if !(fields.incomplete && given.is_empty()) {
            found.add(at, What::NotExactlyOne(KINDS));
        }
        return None;
    };
    let payload = fields.get("payload");
    if let Some(payload) = payload.filter(|_| who.name != "claim") {
        found.add_name(payload, What::OnlyWith { field: "payload", other: "claim" });
    }
    let text = who.text(found)?;
    match who.name {
        "header" => terms::field_name(who, text, found).map(Identity::Header),
        _ if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            found.add(who, What::BadWord { said: who.said(), chars_max: 256 });
            None
        }
        "cookie" => Some(Identity::Cookie(text.to_owned())),
        _ => {
            let payload = payload.map_or(Some(PAYLOAD), |at| at.text(found))?.to_owned();
            Some(Identity::Claim { name: text.to_owned(), payload })
        }
    }
}

/// `10%`.
fn percent(at: &At<'_>, found: &mut Found) -> Option<u8> {
    const MOST: u8 = 90;
    let text = at.text(found)?;
    let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
    let percent = digits.and_then(|digits| digits.parse().ok()).filter(|percent| *percent <= MOST);
    if percent.is_none() {
        found.add(at, What::NotAPercentage(at.said()));
    }
    percent
}

fn min_uses(at: &At<'_>, found: &mut Found) -> Option<u8> {
    let Kind::Integer(uses) = at.node.kind else {
        at.wanted(Wanted::Number, found);
        return None;
    };
    let uses = u8::try_from(uses).ok().filter(|uses| (1..=100).contains(uses));
    if uses.is_none() {
        found.add(at, What::OutOfRange { said: at.said(), low: "`1`", high: "`100`" });
    }
    uses
}

fn purge(at: &At<'_>, path: Option<&Path<'_>>, found: &mut Found) -> Option<PurgeRule> {
    let fields = at.fields(&ROUTE_PURGE, found)?;
    let tags = fields.need("tags", "tags: [\"user:{user_id}\"]", found)?;
    let (tags, item_tags) = naming::tags_of_purge(tags, path, found)?;
    let soft = fields.get("soft").and_then(|at| terms::on_off(at, found)).unwrap_or(false);
    Some(PurgeRule { tags, item_tags, soft, recache: Vec::new() })
}

fn query(at: &At<'_>, found: &mut Found) -> Option<(QuerySelection, bool)> {
    let fields = at.fields(&QUERY, found)?;
    let strip = fields.get("strip").and_then(|at| terms::on_off(at, found)).unwrap_or(false);
    let selection = match (fields.get("include"), fields.get("exclude")) {
        (None, None) => QuerySelection::All,
        (Some(at), None) => QuerySelection::Include(globs(at, "include", found)?),
        (None, Some(at)) => QuerySelection::Exclude(globs(at, "exclude", found)?),
        (Some(_), Some(second)) => {
            found.add_name(second, What::NotExactlyOne(&["include", "exclude"]));
            return None;
        }
    };
    if let (QuerySelection::All, Some(at), true) = (&selection, fields.get("strip"), strip) {
        found.add_name(at, What::OnlyWith { field: "strip", other: "include` or `exclude" });
    }
    Some((selection, strip))
}

fn globs(at: &At<'_>, field: &'static str, found: &mut Found) -> Option<Vec<Glob>> {
    let items = at.texts(found)?;
    if items.len() > NAMES_MAX {
        found.add(at, What::TooMany { field, max: NAMES_MAX });
    }
    let mut globs: Vec<Glob> = Vec::with_capacity(items.len());
    for (at, name) in items {
        let glob = Glob::new(name);
        if globs.contains(&glob) {
            found.add(&at, What::Twice(at.said()));
        }
        globs.push(glob);
    }
    Some(globs)
}
