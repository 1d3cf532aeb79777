//! What names a response: its [`CacheKey`], and its tags.
//!
//! A key is one line of printable ASCII whose parts are separated by spaces, so that no part can imitate another:
//!
//! ```text
//! shop:v3 order-list https GET api.example.com user:7:orders:1 size=20
//! namespace rule scheme method-class host filled-template selected-query [values of the rule's `vary`] [identity]
//! ```
//!
//! Keys use the request's bytes as they are forwarded, since two spellings may be two resources to the origin; tags use
//! the decoded captures, since one purge must reach all spellings.

use std::borrow::Cow;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::condition::{any_case, cookies, exact};
use crate::digest::digest;
use crate::fields::Fields;
use crate::json;
use crate::matching::Match;
use crate::no_vary_search::Search;
use crate::order::sorted;
use crate::planted::planted;
use crate::policy::{CacheRule, Identity, ItemTag, Namespace, NoVarySearch, QuerySelection, Rule, Terms};
use crate::property::{self, Properties};
use crate::template::{Around, NoValue, Source, Template, Values, escape};
use crate::vary::selecting_value;

/// Longest key, in bytes; a longer one is a bypass.
pub const KEY_BYTES_MAX: usize = 8 << 10;

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 512;

/// The implicit tag of every entry.
pub const TAG_ALL: &str = "!all";

/// What [`CacheKey::of_refresh`] begins with.
const REFRESH: &str = "refresh ";

/// The whole cache key; compared in full on every hit (C7).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CacheKey(String);

impl CacheKey {
    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// This key with the values of selecting fields behind it (RFC 9111 §4.1); `None` when it would be too long. An absent
    /// field has no `=`.
    #[must_use]
    pub fn with_values<'n>(&self, values: impl Iterator<Item = (&'n str, Option<Vec<u8>>)>) -> Option<Self> {
        let mut key = format!("{} ", self.0);
        push_values(&mut key, values);
        (key.len() <= KEY_BYTES_MAX).then_some(Self(key))
    }

    /// Under which the group tells who fetches anew what stands under `key`; nothing is ever stored there. `None` when it
    /// would be too long. No other key begins so: a namespace has a colon in it.
    #[must_use]
    pub fn of_refresh(key: &str) -> Option<Self> {
        Self::of(format!("{REFRESH}{key}"))
    }

    /// Whether it is one of those.
    #[must_use]
    pub fn is_of_refresh(&self) -> bool {
        self.0.starts_with(REFRESH)
    }

    /// A text as a key; `None` when it would be too long.
    pub(crate) fn of(text: String) -> Option<Self> {
        (text.len() <= KEY_BYTES_MAX).then_some(Self(text))
    }

    /// Any text as a key.
    #[cfg(test)]
    pub(crate) fn for_tests(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Where to look for it; two keys may share a hash, so the key itself is compared too.
    #[must_use]
    pub fn hash(&self) -> u64 {
        hash_of(&self.0)
    }
}

/// [`CacheKey::hash`] of a key that is at hand as text.
#[must_use]
pub fn hash_of(key: &str) -> u64 {
    let hash = xxh3_64(key.as_bytes());
    if planted("key_uncompared") { hash % 2 } else { hash }
}

/// A tag's 64-bit hash, by which a gateway's log knows it. Two tags that share one are purged together: too much, never
/// too little.
#[must_use]
pub fn tag_hash(tag: &str) -> u64 {
    xxh3_64(tag.as_bytes())
}

/// The parts of a request that name its target.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// The request's method, as it came.
    pub method: &'a str,
    /// Lower case, without a default port or a trailing dot; see [`normal_authority`].
    pub authority: &'a str,
    /// From the first `/` to the `?`.
    pub path: &'a str,
    /// What follows the `?`, if there is one.
    pub query: Option<&'a str>,
}

/// What is known of a request, for whatever a rule asks of it.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// What names its target.
    pub target: Target<'a>,
    /// Its header.
    pub fields: &'a Fields<'a>,
    /// Its whole body, where it has been read.
    pub body: Option<&'a [u8]>,
    /// What the gateway knows of it.
    pub property: Properties<'a>,
}

impl std::fmt::Debug for Facts<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Why a request has no key or tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// A placeholder had no value, or none that its formatters take.
    Value(NoValue),
    /// It doesn't say who the client is, and the rule needs to know.
    NoIdentity,
    /// The key or a tag would be too long.
    TooLong,
    /// Its body doesn't hold what tags are made of.
    Unreadable,
}

impl From<NoValue> for NoKey {
    fn from(reason: NoValue) -> Self {
        Self::Value(reason)
    }
}

fn push_values<'n>(key: &mut String, values: impl Iterator<Item = (&'n str, Option<Vec<u8>>)>) {
    const STOPS: &[u8] = b"&=";
    for (number, (name, value)) in values.enumerate() {
        if number > 0 {
            key.push('&');
        }
        escape(name.as_bytes(), STOPS, key);
        if let Some(value) = value {
            key.push('=');
            escape(&value, STOPS, key);
        }
    }
}

/// Names the response to a request; where responses may say which parameters matter, with what other keys are made of.
///
/// # Errors
///
/// [`NoKey`]: the request is then forwarded and nothing is stored.
pub fn cache_key(
    namespace: &Namespace,
    rule: &Rule,
    cache: &CacheRule,
    facts: &Facts<'_>,
    found: &Match<'_, '_>,
) -> Result<(CacheKey, Option<Search>), NoKey> {
    let Facts { target, fields, .. } = facts;
    let mut key = format!("{namespace} ");
    escape(rule.name.as_bytes(), b"", &mut key);
    key.push(' ');
    key.push_str(target.scheme);
    // HEAD is answered from what GET stored.
    key.push_str(if target.method == "POST" { " POST " } else { " GET " });
    escape(target.authority.as_bytes(), b"", &mut key);
    key.push(' ');
    cache.key.fill(&RequestValues { facts, found, decoded: false }, &mut key)?;
    key.push(' ');
    let start = key.len();
    select_query(cache, target.query, &mut key);
    let end = key.len();
    let Terms { vary, normalize, no_vary_search, .. } = &cache.terms;
    if !vary.is_empty() {
        key.push(' ');
        push_values(&mut key, vary.iter().map(|name| (name.as_str(), selecting_value(fields, name, normalize))));
    }
    if let Some(identity) = &cache.identity {
        key.push(' ');
        key.push_str(&digest(&[&who(identity, facts).ok_or(NoKey::NoIdentity)?]));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(NoKey::TooLong);
    }
    let search = (*no_vary_search == NoVarySearch::Respect && target.method != "POST").then(|| Search {
        before: key.get(..start).unwrap_or_default().to_owned(),
        pairs: named_pairs(cache, target.query.unwrap_or_default()),
        after: key.get(end..).unwrap_or_default().to_owned(),
    });
    Ok((CacheKey(key), search))
}

/// The pairs that are part of the key, each as it stands there, behind its name. It has none where it is not for a response
/// to say that it doesn't matter: in the template or a tag, and where some origin may take it for several (`;`).
fn named_pairs(cache: &CacheRule, query: &str) -> Vec<(Option<String>, String)> {
    let item = cache.item_tags.iter().map(|tag| &tag.template);
    let posted = cache.request_tags.iter().map(|tag| &tag.template);
    let templates: Vec<&Template> = std::iter::once(&cache.key).chain(&cache.tags).chain(item).chain(posted).collect();
    let pairs = selected_pairs(cache, query).into_iter().map(|(name, value)| {
        let fixed = name.contains(';')
            || value.contains(';')
            || templates.iter().any(|template| holds(template, bare_name(&percent_decode(name))));
        let mut text = String::new();
        push_pair(name, value, &mut text);
        ((!fixed).then(|| form_name(name)), text)
    });
    pairs.collect()
}

/// Who the client is, by the rule's word.
fn who(identity: &Identity, facts: &Facts<'_>) -> Option<Vec<u8>> {
    let value = match identity {
        Identity::Header(name) => facts.fields.joined(name),
        Identity::Cookie(name) => all_cookies(facts.fields, name),
        Identity::Claim { name, payload } => property::claim(payload, name, facts.property),
    };
    value.filter(|value| !value.is_empty())
}

/// A cookie's value; several ones as no single one can be, since origins differ on which of them counts.
fn all_cookies(fields: &Fields<'_>, name: &str) -> Option<Vec<u8>> {
    let all: Vec<&[u8]> = cookies(fields, name).collect();
    (!all.is_empty()).then(|| all.join(&b"; "[..]))
}

/// The tags of a response that the request decides: the rule's own, then the implicit ones for its URL, host, rule and
/// everything.
///
/// # Errors
///
/// [`NoKey`] as for the key.
pub fn entry_tags(
    rule: &Rule,
    cache: &CacheRule,
    facts: &Facts<'_>,
    found: &Match<'_, '_>,
) -> Result<Vec<String>, NoKey> {
    let mut tags = Vec::with_capacity(cache.tags.len().saturating_add(4));
    for template in &cache.tags {
        tags.push(tag(template, facts, found)?);
    }
    for posted in &cache.request_tags {
        let values = facts.body.and_then(|body| json::values(body, &posted.part)).ok_or(NoKey::Unreadable)?;
        let around = around(posted, facts, found)?;
        for value in values {
            tags.push(around.text(&value).ok_or(NoKey::Unreadable)?);
        }
    }
    let host = host_of(facts.target.authority);
    tags.extend([url_tag(&facts.target, cache), format!("!host:{host}"), rule_tag(rule), String::from(TAG_ALL)]);
    tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX).then_some(tags).ok_or(NoKey::TooLong)
}

/// The implicit tag of a rule's entries.
#[must_use]
pub fn rule_tag(rule: &Rule) -> String {
    let mut tag = String::from("!rule:");
    escape(rule.name.as_bytes(), b"", &mut tag);
    tag
}

/// A tag that is made of what is found later, filled but for what is found.
///
/// # Errors
///
/// [`NoKey`] as for the key.
pub fn around<Part>(tag: &ItemTag<Part>, facts: &Facts<'_>, found: &Match<'_, '_>) -> Result<Around, NoKey> {
    Ok(tag.template.around(&RequestValues { facts, found, decoded: true })?)
}

/// A tag that the request alone decides.
///
/// # Errors
///
/// [`NoKey`] as for the key.
pub fn tag(template: &Template, facts: &Facts<'_>, found: &Match<'_, '_>) -> Result<String, NoKey> {
    let mut tag = String::new();
    template.fill(&RequestValues { facts, found, decoded: true }, &mut tag)?;
    (tag.len() <= TAG_BYTES_MAX).then_some(tag).ok_or(NoKey::TooLong)
}

/// The implicit tag of a URL: of its host, path and those parameters that the rule's key holds, in their order there, so
/// that all spellings that share an entry share its tag. Scheme and port don't matter, nor do the parameters of the
/// key's template: purging one page of a list purges all of them. None of them matters where responses say which do.
#[must_use]
pub fn url_tag(target: &Target<'_>, cache: &CacheRule) -> String {
    let mut url = format!("{} {}?", host_of(target.authority), target.path);
    if cache.terms.no_vary_search == NoVarySearch::Ignore {
        select_query(cache, target.query, &mut url);
    }
    format!("!url:{:032x}", xxh3_128(url.as_bytes()))
}

/// The authority in one spelling: lower case, without a trailing dot or the scheme's own port.
#[must_use]
pub fn normal_authority(authority: &str, scheme: &str) -> String {
    let lower = authority.to_ascii_lowercase();
    let default_port = if scheme == "https" { ":443" } else { ":80" };
    let host = lower.strip_suffix(default_port).unwrap_or(&lower);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{}:{port}", name.strip_suffix('.').unwrap_or(name))
        }
        _ => host.strip_suffix('.').unwrap_or(host).to_owned(),
    }
}

/// The host of an authority, without its port.
#[must_use]
pub fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// The values that templates ask a request for.
struct RequestValues<'a> {
    facts: &'a Facts<'a>,
    found: &'a Match<'a, 'a>,
    /// Tags see decoded values, keys the bytes as forwarded.
    decoded: bool,
}

impl Values for RequestValues<'_> {
    fn value(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        let Facts { target, fields, body, property } = self.facts;
        let raw = match source {
            Source::Capture(name) => self.found.capture(name)?,
            Source::Query(name) => query_value(target.query?, name)?,
            Source::Host => host_of(target.authority),
            Source::Method => target.method,
            Source::Header(name) => return selecting_value(fields, name, &[]).map(Cow::Owned),
            Source::Cookie(name) => return all_cookies(fields, name).map(Cow::Owned),
            Source::Body => {
                // The same bytes of another type or encoding are another request.
                let meta = |name| fields.joined(name).unwrap_or_default();
                let parts = [&meta("content-type")[..], &meta("content-encoding"), (*body)?];
                return Some(Cow::Owned(digest(&parts).into_bytes()));
            }
            Source::Item => return None,
            Source::Client | Source::Route | Source::Cluster | Source::Metadata(_) | Source::Claim(_) => {
                return property::value(source, *property).map(Cow::Owned);
            }
        };
        Some(if self.decoded { percent_decode(raw) } else { Cow::Borrowed(raw.as_bytes()) })
    }
}

/// The value of a query's first parameter of that name, as it stands.
pub(crate) fn query_value<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    pairs(query).find(|(known, _)| is_named(known, name)).map(|(_, value)| value)
}

/// The `name=value` pairs of a query as they stand. Only `&` separates: what other separators mean is the origin's
/// affair, and a guess would merge different resources.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

pub(crate) fn is_named(raw: &str, name: &str) -> bool {
    raw == name || percent_decode(raw).as_ref() == name.as_bytes()
}

/// Whether a pair is part of the key.
///
/// Where it might be another spelling of a selected one to some origin (escapes, letter case, `name[]`, a `;` that it takes
/// for a separator), it is: too many entries, never a wrong one.
fn counts(cache: &CacheRule, name: &str, value: &str) -> bool {
    let decoded = percent_decode(name);
    let bare = bare_name(&decoded);
    match &cache.query {
        QuerySelection::All => true,
        _ if name.contains(';') || value.contains(';') || holds(&cache.key, bare) => true,
        QuerySelection::Include(globs) => globs.iter().any(|glob| glob.matches(bare, any_case)),
        QuerySelection::Exclude(globs) => !globs.iter().any(|glob| glob.matches(name.as_bytes(), exact)),
    }
}

/// `name` of `name[]`.
fn bare_name(decoded: &[u8]) -> &[u8] {
    decoded.split(|byte| *byte == b'[').next().unwrap_or_default()
}

/// Whether a template asks for a parameter.
fn holds(template: &Template, bare: &[u8]) -> bool {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(bare);
    template.placeholders().any(|placeholder| matches!(&placeholder.source, Source::Query(known) if is(known)))
}

/// The query without the pairs that aren't part of the key; `None` where nothing is left out.
#[must_use]
pub fn stripped_query(cache: &CacheRule, query: &str) -> Option<String> {
    let kept: Vec<&str> = query
        .split('&')
        .filter(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            !pair.is_empty() && counts(cache, name, value)
        })
        .collect();
    let kept = kept.join("&");
    (kept != query).then_some(kept)
}

/// Appends the selected pairs.
fn select_query(cache: &CacheRule, query: Option<&str>, key: &mut String) {
    let Some(query) = query else { return };
    for (number, (name, value)) in selected_pairs(cache, query).into_iter().enumerate() {
        if number > 0 {
            key.push('&');
        }
        push_pair(name, value, key);
    }
}

fn push_pair(name: &str, value: &str, key: &mut String) {
    escape(name.as_bytes(), b"", key);
    key.push('=');
    escape(value.as_bytes(), b"", key);
}

/// The selected pairs, sorted by name, so that order never matters; equal names keep theirs. A parameter that the template
/// holds, given once and not empty, isn't repeated.
fn selected_pairs<'q>(cache: &CacheRule, query: &'q str) -> Vec<(&'q str, &'q str)> {
    let held = |name: &str| {
        cache.key.placeholders().any(|placeholder| matches!(&placeholder.source, Source::Query(known) if known == name))
    };
    let mut selected: Vec<(&str, &str)> = pairs(query).filter(|(name, value)| counts(cache, name, value)).collect();
    let given_once = |name: &str| pairs(query).filter(|(known, _)| known.eq_ignore_ascii_case(name)).count() == 1;
    selected.retain(|(name, value)| value.is_empty() || !held(name) || !given_once(name));
    // Equal names keep their order.
    let selected = sorted(selected.into_iter().enumerate().map(|(place, (name, value))| (name, place, value)));
    selected.into_iter().map(|(name, _, value)| (name, value)).collect()
}

/// A name as forms write it: `+` is a space, and bytes are escaped.
pub(crate) fn form_name(text: &str) -> String {
    String::from_utf8_lossy(&percent_decode(&text.replace('+', " "))).into_owned()
}

/// Decodes every `%XX`; what is no escape stays.
pub(crate) fn percent_decode(text: &str) -> Cow<'_, [u8]> {
    decode_escapes(text, |_| true)
}

/// Decodes each `%XX` whose byte `wanted` accepts; what is no escape stays.
pub(crate) fn decode_escapes(text: &str, wanted: impl Fn(u8) -> bool) -> Cow<'_, [u8]> {
    if !text.contains('%') {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes().iter();
    while let Some(&byte) = bytes.next() {
        match hex_pair(bytes.as_slice()).filter(|value| byte == b'%' && wanted(*value)) {
            Some(value) => {
                decoded.push(value);
                bytes.nth(1);
            }
            None => decoded.push(byte),
        }
    }
    Cow::Owned(decoded)
}

/// The value of two hexadecimal digits at the start of `text`.
fn hex_pair(text: &[u8]) -> Option<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    u8::try_from(digit(0)?.checked_mul(16)?.checked_add(digit(1)?)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::condition::Glob;
    use crate::matching::Router;
    use crate::path::PathTemplate;
    use crate::policy::{Action, DeltaSeconds, Mode};

    fn rule(key: &str, query: QuerySelection) -> Rule {
        let cache = CacheRule {
            query,
            tags: vec![Template::parse("user:{id}").unwrap()],
            ..CacheRule::new(Template::parse(key).unwrap(), DeltaSeconds::ZERO)
        };
        let methods = vec!["GET".into(), "HEAD".into(), "POST".into()];
        Rule {
            name: "r".into(),
            methods,
            host: None,
            path: PathTemplate::parse("/users/{id}").unwrap(),
            conditions: Vec::new(),
            mode: Mode::On,
            action: Action::Cache(Box::new(cache)),
        }
    }

    /// What is said of a request beside its URL.
    #[derive(Default)]
    struct Said<'a> {
        lines: Vec<(&'a [u8], &'a [u8])>,
        body: Option<&'a [u8]>,
        properties: Vec<(&'a str, &'a str)>,
    }

    fn with_said<T>(
        rule: &Rule,
        url: &str,
        said: &Said<'_>,
        read: impl Fn(&CacheRule, &Facts<'_>, &Match<'_, '_>) -> T,
    ) -> T {
        let router = Router::new(std::slice::from_ref(rule));
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let method = if said.body.is_some() { "POST" } else { "GET" };
        let target = Target { scheme: "http", method, authority: "h", path, query };
        let found = router.find(method, "h", path, &|_| true).cache.unwrap();
        let Action::Cache(cache) = &rule.action else { unreachable!() };
        let fields = Fields::from_pairs(said.lines.clone());
        let property = |path: &[&str]| {
            let path = path.join(".");
            let known = said.properties.iter().find(|(name, _)| path.ends_with(name));
            known.map(|(_, value)| value.as_bytes().to_vec())
        };
        read(cache, &Facts { target, fields: &fields, body: said.body, property: &property }, &found)
    }

    fn with<T>(rule: &Rule, url: &str, read: impl Fn(&CacheRule, &Facts<'_>, &Match<'_, '_>) -> T) -> T {
        with_said(rule, url, &Said::default(), read)
    }

    fn key_of(rule: &Rule, url: &str, said: &Said<'_>) -> Result<String, NoKey> {
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        with_said(rule, url, said, |cache, facts, found| {
            cache_key(&namespace, rule, cache, facts, found).map(|(key, _)| key.0)
        })
    }

    fn key(rule: &Rule, url: &str) -> String {
        key_of(rule, url, &Said::default()).unwrap()
    }

    fn globs(names: &[&str]) -> Vec<Glob> {
        names.iter().map(|name| Glob::new(name)).collect()
    }

    fn include(names: &[&str]) -> QuerySelection {
        QuerySelection::Include(globs(names))
    }

    fn cache_of(rule: &mut Rule) -> &mut CacheRule {
        let Action::Cache(cache) = &mut rule.action else { unreachable!() };
        cache
    }

    #[test]
    fn a_key_reads_like_this() {
        assert_eq!(
            key(&rule("user:{id}", QuerySelection::All), "/users/7?b=2&a=1"),
            "svc:v1 r http GET h user:7 a=1&b=2"
        );
    }

    #[test]
    fn without_a_selection_every_parameter_counts_and_order_never_does() {
        let rule = rule("user:{id}", QuerySelection::All);
        assert_eq!(key(&rule, "/users/7?b=2&a=1"), key(&rule, "/users/7?a=1&b=2"));
        assert_ne!(key(&rule, "/users/7?a=1&a=2"), key(&rule, "/users/7?a=2&a=1"));
        assert_ne!(key(&rule, "/users/7?a=1"), key(&rule, "/users/7"));
    }

    #[test]
    fn a_parameter_in_the_template_counts_once_and_its_default_is_its_absence() {
        let rule = rule("user:{id}:{query.page|default(1)}", include(&["page", "size"]));
        assert_eq!(key(&rule, "/users/7?page=1&utm=x"), key(&rule, "/users/7"));
        assert_ne!(key(&rule, "/users/7?page=2"), key(&rule, "/users/7"));
        assert_ne!(key(&rule, "/users/7?size=2"), key(&rule, "/users/7"));
    }

    /// facts/attacks.md A7: a parameter that hides from the key but not from the origin poisons the entry.
    #[test]
    fn another_spelling_of_a_selected_parameter_still_counts() {
        let rule = rule("user:{id}:{query.page|default(1)}", include(&["page"]));
        let plain = key(&rule, "/users/7");
        for query in
            ["p%61ge=2", "PAGE=2", "page[]=2", "page=1&page=2", "x=1;page=2", "page=", "page%5B%5D=2", "page=1&PAGE=2"]
        {
            assert_ne!(key(&rule, &format!("/users/7?{query}")), plain, "{query}");
        }
        assert_eq!(key(&rule, "/users/7?utm_source=mail"), plain);
    }

    #[test]
    fn what_a_rule_excludes_does_not_count_as_it_is_spelled_there() {
        let rule =
            rule("user:{id}:{query.page|default(1)}", QuerySelection::Exclude(globs(&["utm_*", "page", "gclid"])));
        let plain = key(&rule, "/users/7");
        for query in ["utm_source=mail", "gclid=1&utm_=", "page=1"] {
            assert_eq!(key(&rule, &format!("/users/7?{query}")), plain, "{query}");
        }
        for query in ["x=1", "%75tm_source=mail", "UTM_source=mail", "utm_a=1;x=2", "page=1&page=2", "xutm_=1"] {
            assert_ne!(key(&rule, &format!("/users/7?{query}")), plain, "{query}");
        }
    }

    #[test]
    fn what_does_not_count_may_be_left_out_of_what_is_forwarded() {
        let exclude = rule("user:{id}", QuerySelection::Exclude(globs(&["utm_*"])));
        let include = rule("user:{id}:{query.page|default(1)}", include(&["size"]));
        let stripped = |rule: &Rule, query| with(rule, "/users/7", |cache, _, _| stripped_query(cache, query));
        assert_eq!(stripped(&exclude, "b=2&utm_a=1&a=%20&c").as_deref(), Some("b=2&a=%20&c"));
        assert_eq!(stripped(&exclude, "utm_a=1").as_deref(), Some(""));
        assert_eq!(stripped(&exclude, "b=2&a=1"), None);
        assert_eq!(stripped(&include, "page=2&x=1&SIZE=3").as_deref(), Some("page=2&SIZE=3"));
    }

    #[test]
    fn a_key_may_hold_whatever_is_known_of_a_request() {
        let key = |template: &str, said: Said<'_>| {
            let key = key_of(&rule(template, QuerySelection::All), "/users/7", &said)?;
            Ok(key.split(' ').nth(5).unwrap_or_default().to_owned())
        };
        let lines = vec![
            (&b"x-tenant"[..], &b"acme"[..]),
            (b"cookie", b"tier=gold; a=1"),
            (b"x-many", b"a"),
            (b"x-many", b"b"),
        ];
        let properties = vec![
            ("source.address", "10.0.0.1:4711"),
            ("xds.route_name", "users"),
            ("xds.cluster_name", "origin"),
            ("filter_metadata.com.example.tenant", "acme"),
            ("jwt_authn.jwt_payload.sub", "ada"),
        ];
        for (template, filled) in [
            ("{header.X-Tenant}:{id}", "acme:7"),
            ("{header.x-many}:{id}", "a,b:7"),
            ("{cookie.tier}:{id}", "gold:7"),
            ("{host}:{method}:{id}", "h:GET:7"),
            ("{client.address}", "10.0.0.1"),
            ("{route.name}:{cluster.name}", "users:origin"),
            ("{metadata.com.example/tenant}", "acme"),
            ("{claim.sub}", "ada"),
        ] {
            let said = Said { lines: lines.clone(), properties: properties.clone(), body: None };
            assert_eq!(key(template, said).as_deref(), Ok(filled), "{template}");
        }
        for template in ["{header.x-none}", "{cookie.none}", "{route.name}", "{claim.sub}", "{body}"] {
            let said = Said { lines: lines.clone(), ..Said::default() };
            assert!(matches!(key(template, said), Err(NoKey::Value(NoValue::Missing(_)))), "{template}");
        }
        let twice = Said { lines: vec![(b"cookie", b"tier=gold"), (b"cookie", b"tier=basic")], ..Said::default() };
        assert_eq!(
            key("{cookie.tier|default(basic)}", twice).as_deref(),
            Ok("gold;%20basic"),
            "origins differ on which counts"
        );
    }

    #[test]
    fn a_body_is_in_the_key_with_its_type() {
        let rule = rule("q:{body}", QuerySelection::All);
        let key = |body: &[u8], kind: &[u8]| {
            key_of(
                &rule,
                "/users/7",
                &Said { body: Some(body), lines: vec![(b"content-type", kind)], ..Said::default() },
            )
        };
        let first = key(b"{}", b"application/json").unwrap();
        assert!(first.starts_with("svc:v1 r http POST h q:"), "{first}");
        assert_eq!(key(b"{}", b"application/json").unwrap(), first);
        assert_ne!(key(b"{ }", b"application/json").unwrap(), first);
        assert_ne!(key(b"{}", b"application/xml").unwrap(), first);
        assert!(key(b"", b"").is_ok());
    }

    #[test]
    fn whose_response_it_is_stands_in_the_key_without_being_told() {
        let mut rule = rule("user:{id}", QuerySelection::All);
        let mut key = |identity: Identity, lines, properties| {
            cache_of(&mut rule).identity = Some(identity);
            key_of(&rule, "/users/7", &Said { lines, properties, body: None })
        };
        let header = || Identity::Header("authorization".into());
        let ada = key(header(), vec![(b"authorization", b"Bearer ada")], vec![]).unwrap();
        assert!(!ada.contains("ada"), "{ada}");
        assert_ne!(key(header(), vec![(b"authorization", b"Bearer bob")], vec![]).unwrap(), ada);
        assert_eq!(key(header(), vec![], vec![]), Err(NoKey::NoIdentity));
        assert_eq!(key(header(), vec![(b"authorization", b"")], vec![]), Err(NoKey::NoIdentity));
        let cookie = || Identity::Cookie("session".into());
        let one = key(cookie(), vec![(b"cookie", b"a=1; session=x")], vec![]).unwrap();
        assert_eq!(key(cookie(), vec![(b"cookie", b"session=x; a=2")], vec![]).unwrap(), one);
        assert_ne!(key(cookie(), vec![(b"cookie", b"session=x; session=y")], vec![]).unwrap(), one);
        assert_eq!(key(cookie(), vec![(b"cookie", b"a=1")], vec![]), Err(NoKey::NoIdentity));
        let claim = || Identity::Claim { name: "sub".into(), payload: "jwt_payload".into() };
        let verified = vec![("jwt_authn.jwt_payload.sub", "ada")];
        assert!(key(claim(), vec![], verified).is_ok());
        // What the client says of itself is no claim.
        let token = vec![(&b"authorization"[..], &b"Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZGEifQ."[..])];
        assert_eq!(key(claim(), token, vec![]), Err(NoKey::NoIdentity));
    }

    /// Pieces that separators, escapes and other spellings are made of.
    fn tricky() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop::sample::select(vec!["a", "b", "%", "%3A", ":", "=", ";", "-", "!", "%20", "5"]),
            1..4,
        )
        .prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5_000))]

        /// C7: requests that differ in anything that the rule names have different keys.
        #[test]
        fn different_requests_never_have_one_key(
            template in prop::sample::select(vec![
                "{id}:{query.p|default(5)}:{header.x|default(5)}", "{header.x|default(-)}-{id}", "u:{cookie.c|default(a)}={id}",
            ]),
            one in (tricky(), prop::option::of(tricky()), prop::option::of(tricky()), prop::option::of(tricky()), prop::option::of(tricky())),
            two in (tricky(), prop::option::of(tricky()), prop::option::of(tricky()), prop::option::of(tricky()), prop::option::of(tricky())),
        ) {
            let mut rule = rule(template, QuerySelection::All);
            cache_of(&mut rule).identity = Some(Identity::Header("authorization".into()));
            cache_of(&mut rule).terms.vary = vec!["x-tenant".into()];
            type Parts = (String, Option<String>, Option<String>, Option<String>, Option<String>);
            let make = |(id, query, x, cookie, who): &Parts| {
                let query = query.as_ref().map(|query| format!("?p={query}")).unwrap_or_default();
                let cookie = cookie.as_ref().filter(|cookie| !cookie.contains(';')).map(|cookie| format!("c={cookie}"));
                let mut lines: Vec<(&[u8], &[u8])> = Vec::new();
                for (name, value) in [("x", x), ("x-tenant", x), ("cookie", &cookie), ("authorization", who)] {
                    if let Some(value) = value {
                        lines.push((name.as_bytes(), value.as_bytes()));
                    }
                }
                let url = format!("/users/{id}{query}");
                // What the rule says of it, with the defaults that it gives.
                let default = |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
                let meant = (
                    url.clone(),
                    template.contains("header").then(|| default(x, if template.contains("-)") { "-" } else { "5" })),
                    template.contains("cookie").then(|| default(&cookie.as_ref().map(|cookie| cookie[2..].to_owned()), "a")),
                    (x.clone(), who.clone()),
                );
                (key_of(&rule, &url, &Said { lines, ..Said::default() }).ok(), meant)
            };
            let ((key_one, meant_one), (key_two, meant_two)) = (make(&one), make(&two));
            // `?p=5` is what no `p` means.
            let plain = |url: &str| if template.contains("query.p") { url.replace("?p=5", "") } else { url.to_owned() };
            let same = (plain(&meant_one.0), &meant_one.1, &meant_one.2, &meant_one.3)
                == (plain(&meant_two.0), &meant_two.1, &meant_two.2, &meant_two.3);
            if let (Some(key_one), Some(key_two), false) = (key_one, key_two, same) {
                prop_assert_ne!(key_one, key_two);
            }
        }
    }

    #[test]
    fn keys_keep_two_spellings_apart_and_tags_bring_them_together() {
        let rule = rule("user:{id}", QuerySelection::All);
        assert_ne!(key(&rule, "/users/%37"), key(&rule, "/users/7"));
        let tags = |url| with(&rule, url, |cache, facts, found| entry_tags(&rule, cache, facts, found).unwrap());
        assert_eq!(tags("/users/%37")[0], "user:7");
        assert_eq!(tags("/users/7")[0], "user:7");
        assert_eq!(tags("/users/7")[2..], ["!host:h", "!rule:r", "!all"]);
    }

    /// A write to a URL reaches what answers it, however the fill's URL was spelled.
    #[test]
    fn urls_that_share_an_entry_share_its_tag() {
        let rule = rule("user:{id}:{query.page|default(1)}", include(&["page", "size"]));
        let tag = |url| with(&rule, url, |cache, facts, _| url_tag(&facts.target, cache));
        for same in ["/users/7", "/users/7?utm=x", "/users/7?page=1", "/users/7?utm=x&page=1"] {
            assert_eq!(tag(same), tag("/users/7?page=2"), "{same}");
        }
        assert_eq!(tag("/users/7?size=1&x"), tag("/users/7?y&size=1"));
        assert_ne!(tag("/users/7?size=1"), tag("/users/7?size=2"));
        assert_ne!(tag("/users/7"), tag("/users/8"));
    }

    #[test]
    fn a_field_that_the_rule_names_is_part_of_the_key() {
        let mut rule = rule("user:{id}", QuerySelection::All);
        cache_of(&mut rule).terms.vary = vec!["accept-language".into(), "x-tenant".into()];
        cache_of(&mut rule).terms.normalize = vec!["accept-language".into()];
        let key = |lines| key_of(&rule, "/users/7", &Said { lines, ..Said::default() }).unwrap();
        assert_eq!(
            key(vec![(b"accept-language", b"en, DE"), (b"x-tenant", b"a b")]),
            "svc:v1 r http GET h user:7  accept-language=de,en&x-tenant=a%20b"
        );
        assert_eq!(key(vec![]), "svc:v1 r http GET h user:7  accept-language&x-tenant");
    }

    #[test]
    fn a_value_that_looks_like_an_implicit_tag_is_none() {
        let mut rule = rule("k:{id}", QuerySelection::All);
        cache_of(&mut rule).tags = vec![Template::parse("{id}").unwrap()];
        let tags = with(&rule, "/users/!all", |cache, facts, found| entry_tags(&rule, cache, facts, found).unwrap());
        assert_eq!(tags[0], "%21all");
    }

    #[test]
    fn a_key_that_is_too_long_is_none() {
        let rule = rule("user:{id}", QuerySelection::All);
        let url = format!("/users/{}", "x".repeat(KEY_BYTES_MAX));
        assert_eq!(key_of(&rule, &url, &Said::default()), Err(NoKey::TooLong));
        with(&rule, &url, |cache, facts, found| {
            assert_eq!(entry_tags(&rule, cache, facts, found), Err(NoKey::TooLong));
        });
    }

    /// facts/attacks.md A5.
    #[test]
    fn equal_hosts_are_one_host() {
        for (authority, scheme, normal) in [
            ("API.Example.com", "https", "api.example.com"),
            ("api.example.com:443", "https", "api.example.com"),
            ("api.example.com.:80", "http", "api.example.com"),
            ("api.example.com:8080", "http", "api.example.com:8080"),
            ("[::1]:80", "http", "[::1]"),
            ("[::1]", "http", "[::1]"),
        ] {
            assert_eq!(normal_authority(authority, scheme), normal);
        }
    }
}
