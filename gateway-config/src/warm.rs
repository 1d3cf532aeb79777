//! What is read once behind a start.

use routecache_core::fetch::may_carry;
use routecache_core::fields::Fields;
use routecache_core::key::host_of;
use routecache_core::matching::Router;
use routecache_core::policy::{Action, CacheRule, Rule};
use routecache_core::request::is_credential;
use routecache_core::warm::{URLS_MAX, Url, Warm};

use crate::mistake::{Wanted, What};
use crate::terms;
use crate::tree::{Kind, shorten};
use crate::vocabulary::{WARM, WARM_URL};
use crate::walk::{At, Fields as Map, Found};

/// Fields of one read.
const HEADERS_MAX: usize = 16;
const VALUE_BYTES_MAX: usize = 1024;

/// `warm: […]`, or a map with the list in it.
pub(crate) fn read(root: &Map<'_>, rules: &[Rule], found: &mut Found) -> Warm {
    let Some(at) = root.get("warm") else { return Warm::default() };
    if root.get("background").is_some_and(At::is_off) {
        found.add_name(at, What::WarmWithoutBackground);
    }
    let (list, on_reload) = match at.node.kind {
        Kind::Map(_) => {
            let Some(fields) = at.fields(&WARM, found) else { return Warm::default() };
            let on_reload = fields.get("on_reload").and_then(|at| terms::on_off(at, found)).unwrap_or(false);
            (fields.need("urls", "urls: [\"https://shop.example/menu\"]", found).cloned(), on_reload)
        }
        _ => (Some(at.clone()), false),
    };
    let items = list.as_ref().and_then(|list| list.items(found)).unwrap_or_default();
    if let Some(list) = list.filter(|_| items.len() > URLS_MAX) {
        found.add(&list, What::TooMany { field: "warm", max: URLS_MAX });
        return Warm::default();
    }
    Warm { urls: items.iter().filter_map(|at| url(at, rules, found)).collect(), on_reload }
}

/// A URL, or `{ url: …, headers: { accept-language: de } }`.
fn url(at: &At<'_>, rules: &[Rule], found: &mut Found) -> Option<Url> {
    let Kind::Map(_) = at.node.kind else { return parsed(at, found) };
    let fields = at.fields(&WARM_URL, found)?;
    let mut url = fields.need("url", "url: https://shop.example/menu", found).and_then(|at| parsed(at, found));
    let entries = fields.get("headers").and_then(|at| at.entries_in_order(found)).unwrap_or_default();
    if entries.len() > HEADERS_MAX {
        found.add(at, What::TooMany { field: "headers", max: HEADERS_MAX });
    }
    let mut headers = Vec::new();
    for at in &entries {
        let name = terms::field_named(at, found);
        let value = value(at, found);
        let Some(name) = name else { continue };
        if !may_carry(&name) {
            found.add_name(at, What::NotInWarm(name));
        } else if headers.iter().any(|(known, _)| *known == name) {
            found.add_name(at, What::Twice(name));
        } else if let Some(value) = value {
            headers.push((name, value));
        }
    }
    let url = url.as_mut()?;
    url.headers = headers;
    let credentials = entries.iter().filter(|at| is_credential(&at.name.to_ascii_lowercase()));
    for at in credentials {
        let name = at.name.to_ascii_lowercase();
        // Whose response it is would be nobody's to tell.
        let rule = rule_of(url, rules);
        if !rule.and_then(|rule| rule.identity.as_ref()).is_some_and(|identity| identity.covers(&name)) {
            found.add_name(at, What::WarmCredential(name));
        }
    }
    Some(url.clone())
}

fn parsed(at: &At<'_>, found: &mut Found) -> Option<Url> {
    let text = at.text(found)?;
    let url = Url::parse(text);
    if url.is_none() {
        found.add(at, What::NotAUrl(shorten(text)));
    }
    url
}

/// The value of a field: text, or a number.
fn value(at: &At<'_>, found: &mut Found) -> Option<String> {
    let text = match &at.node.kind {
        Kind::Text(text) => text.clone(),
        Kind::Integer(number) => number.to_string(),
        _ => {
            at.wanted(Wanted::Text, found);
            return None;
        }
    };
    let fits = text.trim() == text && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.is_empty() || text.len() > VALUE_BYTES_MAX || !fits {
        found.add(at, What::BadFieldValue(at.said()));
        return None;
    }
    Some(text)
}

/// The cache rule that answers a read.
fn rule_of<'r>(url: &Url, rules: &'r [Rule]) -> Option<&'r CacheRule> {
    let header = url.header();
    let fields = Fields::decode(&header)?;
    let (path, query) =
        url.read.target.split_once('?').map_or((&*url.read.target, None), |(path, query)| (path, Some(query)));
    let meets = |index: usize| {
        let conditions = rules.get(index).map(|rule| &*rule.conditions).unwrap_or_default();
        conditions.iter().all(|condition| condition.holds(&fields, query, Some(b"")) != Some(false))
    };
    let found = Router::new(rules).find("GET", host_of(&url.read.authority), path, &meets).cache?.rule;
    if let Action::Cache(cache) = &rules.get(found)?.action { Some(cache) } else { None }
}
