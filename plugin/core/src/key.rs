//! What names a response: its [`CacheKey`], and its tags.
//!
//! A key is one line of printable ASCII whose parts are separated by spaces, so that no part can imitate another:
//!
//! ```text
//! shop:v3 order-list https GET api.example.com user:7:orders:1 size=20
//! namespace rule scheme method-class host filled-template selected-query [values of the rule's `vary`]
//! ```
//!
//! Keys use the request's bytes as they are forwarded, since two spellings may be two resources to the origin; tags use
//! the decoded captures, since one purge must reach all spellings.

use std::borrow::Cow;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::fields::Fields;
use crate::matching::Match;
use crate::order::sorted;
use crate::planted::planted;
use crate::policy::{CacheRule, Namespace, PurgeRule, QuerySelection, Rule, Terms};
use crate::template::{Missing, Source, Template, Values, escape};
use crate::vary::selecting_value;

/// Longest key, in bytes; a longer one is a bypass.
pub const KEY_BYTES_MAX: usize = 8 << 10;

/// Longest tag, in bytes.
pub const TAG_BYTES_MAX: usize = 512;

/// The implicit tag of every entry.
pub const TAG_ALL: &str = "!all";

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

/// Why a request has no key or tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// A placeholder had no value.
    Missing(Source),
    /// The key or a tag would be too long.
    TooLong,
}

impl From<Missing> for NoKey {
    fn from(Missing(source): Missing) -> Self {
        Self::Missing(source)
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

/// Names the response to a request. `fields` are the request's, for the fields that the rule makes part of the key.
///
/// # Errors
///
/// [`NoKey`]: the request is then forwarded and nothing is stored.
pub fn cache_key(
    namespace: &Namespace,
    rule: &Rule,
    cache: &CacheRule,
    target: &Target<'_>,
    found: &Match<'_, '_>,
    fields: &Fields<'_>,
) -> Result<CacheKey, NoKey> {
    let mut key = format!("{namespace} ");
    escape(rule.name.as_bytes(), b"", &mut key);
    key.push(' ');
    key.push_str(target.scheme);
    key.push_str(" GET "); // the method class: HEAD is answered from what GET stored
    escape(target.authority.as_bytes(), b"", &mut key);
    key.push(' ');
    cache.key.fill(&RequestValues { target, found, decoded: false }, &mut key)?;
    key.push(' ');
    select_query(cache, target.query, &mut key);
    let Terms { vary, normalize, .. } = &cache.terms;
    if !vary.is_empty() {
        key.push(' ');
        push_values(&mut key, vary.iter().map(|name| (name.as_str(), selecting_value(fields, name, normalize))));
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(NoKey::TooLong);
    }
    Ok(CacheKey(key))
}

/// The tags of a response: the rule's own, then the implicit ones for its URL, host, rule and everything.
///
/// # Errors
///
/// [`NoKey`] as for the key.
pub fn entry_tags(
    rule: &Rule,
    cache: &CacheRule,
    target: &Target<'_>,
    found: &Match<'_, '_>,
) -> Result<Vec<String>, NoKey> {
    let mut tags = fill_tags(&cache.tags, target, found)?;
    let host = host_of(target.authority);
    let mut rule_tag = String::from("!rule:");
    escape(rule.name.as_bytes(), b"", &mut rule_tag);
    tags.extend([url_tag(target, cache), format!("!host:{host}"), rule_tag, String::from(TAG_ALL)]);
    tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX).then_some(tags).ok_or(NoKey::TooLong)
}

/// The tags that a write purges.
///
/// # Errors
///
/// [`NoKey`]: what the write means can't be told, so its purge must be wider; see [`crate::request`].
pub fn purge_tags(purge: &PurgeRule, target: &Target<'_>, found: &Match<'_, '_>) -> Result<Vec<String>, NoKey> {
    let tags = fill_tags(&purge.tags, target, found)?;
    tags.iter().all(|tag| tag.len() <= TAG_BYTES_MAX).then_some(tags).ok_or(NoKey::TooLong)
}

/// The implicit tag of a URL: of its host, path and those parameters that the rule's key holds, in their order there, so
/// that all spellings that share an entry share its tag. Scheme and port don't matter, nor do the parameters of the
/// key's template: purging one page of a list purges all of them.
#[must_use]
pub fn url_tag(target: &Target<'_>, cache: &CacheRule) -> String {
    let mut url = format!("{} {}?", host_of(target.authority), target.path);
    select_query(cache, target.query, &mut url);
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

fn fill_tags(templates: &[Template], target: &Target<'_>, found: &Match<'_, '_>) -> Result<Vec<String>, NoKey> {
    let mut tags = Vec::with_capacity(templates.len().saturating_add(4));
    for template in templates {
        let mut tag = String::new();
        template.fill(&RequestValues { target, found, decoded: true }, &mut tag)?;
        tags.push(tag);
    }
    Ok(tags)
}

/// The values that templates ask a request for.
struct RequestValues<'a> {
    target: &'a Target<'a>,
    found: &'a Match<'a, 'a>,
    /// Tags see decoded values, keys the bytes as forwarded.
    decoded: bool,
}

impl Values for RequestValues<'_> {
    fn value(&self, source: &Source) -> Option<Cow<'_, [u8]>> {
        let raw = match source {
            Source::Capture(name) => self.found.capture(name)?,
            Source::Query(name) => {
                pairs(self.target.query?).find(|(known, _)| is_named(known, name)).map(|(_, value)| value)?
            }
            Source::Host => host_of(self.target.authority),
            Source::Method => self.target.method,
        };
        Some(if self.decoded { percent_decode(raw) } else { Cow::Borrowed(raw.as_bytes()) })
    }
}

/// The `name=value` pairs of a query as they stand. Only `&` separates: what other separators mean is the origin's
/// affair, and a guess would merge different resources.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn is_named(raw: &str, name: &str) -> bool {
    raw == name || percent_decode(raw).as_ref() == name.as_bytes()
}

/// Appends the selected pairs, sorted by name, so that order never matters; equal names keep theirs.
///
/// Where a pair might be another spelling of a selected one to some origin (escapes, letter case, `name[]`, a `;` that it
/// takes for a separator), it counts: too many entries, never a wrong one. A parameter that the template holds, given
/// once and not empty, isn't repeated.
fn select_query(cache: &CacheRule, query: Option<&str>, key: &mut String) {
    let Some(query) = query else { return };
    let held = |name: &str| {
        cache.key.placeholders().any(|placeholder| matches!(&placeholder.source, Source::Query(known) if known == name))
    };
    let counts = |name: &str, value: &str| match &cache.query {
        QuerySelection::All => true,
        QuerySelection::Include(names) => {
            let wanted = |name: &str| {
                let decoded = percent_decode(name);
                let bare = decoded.split(|byte| *byte == b'[').next().unwrap_or_default();
                let in_template = cache.key.placeholders().any(
                    |placeholder| matches!(&placeholder.source, Source::Query(known) if known.as_bytes().eq_ignore_ascii_case(bare)),
                );
                in_template || names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(bare))
            };
            wanted(name) || name.contains(';') || value.contains(';')
        }
    };
    let mut selected: Vec<(&str, &str)> = pairs(query).filter(|(name, value)| counts(name, value)).collect();
    let given_once = |name: &str| pairs(query).filter(|(known, _)| known.eq_ignore_ascii_case(name)).count() == 1;
    selected.retain(|(name, value)| value.is_empty() || !held(name) || !given_once(name));
    // Equal names keep their order.
    let selected = sorted(selected.into_iter().enumerate().map(|(place, (name, value))| (name, place, value)));
    for (number, (name, _, value)) in selected.into_iter().enumerate() {
        if number > 0 {
            key.push('&');
        }
        escape(name.as_bytes(), b"", key);
        key.push('=');
        escape(value.as_bytes(), b"", key);
    }
}

/// Decodes every `%XX`; what is no escape stays.
fn percent_decode(text: &str) -> Cow<'_, [u8]> {
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
    use super::*;
    use crate::matching::Router;
    use crate::policy::{Action, DeltaSeconds};

    fn rule(key: &str, query: QuerySelection) -> Rule {
        let cache = CacheRule {
            query,
            tags: vec![Template::parse("user:{id}").unwrap()],
            ..CacheRule::new(Template::parse(key).unwrap(), DeltaSeconds::ZERO)
        };
        let methods = vec!["GET".into(), "HEAD".into()];
        Rule {
            name: "r".into(),
            methods,
            host: None,
            path: "/users/{id}".into(),
            action: Action::Cache(Box::new(cache)),
        }
    }

    fn with<T>(rule: &Rule, url: &str, read: impl Fn(&CacheRule, &Target<'_>, &Match<'_, '_>) -> T) -> T {
        let router = Router::new(std::slice::from_ref(rule)).unwrap();
        let (path, query) = url.split_once('?').map_or((url, None), |(path, query)| (path, Some(query)));
        let target = Target { scheme: "http", method: "GET", authority: "h", path, query };
        let found = router.find("GET", "h", path).cache.unwrap();
        let Action::Cache(cache) = &rule.action else { unreachable!() };
        read(cache, &target, &found)
    }

    fn key(rule: &Rule, url: &str) -> String {
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        with(rule, url, |cache, target, found| {
            cache_key(&namespace, rule, cache, target, found, &Fields::default()).unwrap().0
        })
    }

    fn include(names: &[&str]) -> QuerySelection {
        QuerySelection::Include(names.iter().map(|name| (*name).to_owned()).collect())
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
    fn keys_keep_two_spellings_apart_and_tags_bring_them_together() {
        let rule = rule("user:{id}", QuerySelection::All);
        assert_ne!(key(&rule, "/users/%37"), key(&rule, "/users/7"));
        let tags = |url| with(&rule, url, |cache, target, found| entry_tags(&rule, cache, target, found).unwrap());
        assert_eq!(tags("/users/%37")[0], "user:7");
        assert_eq!(tags("/users/7")[0], "user:7");
        assert_eq!(tags("/users/7")[2..], ["!host:h", "!rule:r", "!all"]);
    }

    /// A write to a URL reaches what answers it, however the fill's URL was spelled.
    #[test]
    fn urls_that_share_an_entry_share_its_tag() {
        let rule = rule("user:{id}:{query.page|default(1)}", include(&["page", "size"]));
        let tag = |url| with(&rule, url, |cache, target, _| url_tag(target, cache));
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
        if let Action::Cache(cache) = &mut rule.action {
            cache.terms.vary = vec!["accept-language".into(), "x-tenant".into()];
            cache.terms.normalize = vec!["accept-language".into()];
        }
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        let key = |lines: Vec<(&[u8], &[u8])>| {
            with(&rule, "/users/7", |cache, target, found| {
                cache_key(&namespace, &rule, cache, target, found, &Fields::from_pairs(lines.clone())).unwrap().0
            })
        };
        assert_eq!(
            key(vec![(b"accept-language", b"en, DE"), (b"x-tenant", b"a b")]),
            "svc:v1 r http GET h user:7  accept-language=de,en&x-tenant=a%20b"
        );
        assert_eq!(key(vec![]), "svc:v1 r http GET h user:7  accept-language&x-tenant");
    }

    #[test]
    fn a_value_that_looks_like_an_implicit_tag_is_none() {
        let mut rule = rule("k:{id}", QuerySelection::All);
        if let Action::Cache(cache) = &mut rule.action {
            cache.tags = vec![Template::parse("{id}").unwrap()];
        }
        let tags = with(&rule, "/users/!all", |cache, target, found| entry_tags(&rule, cache, target, found).unwrap());
        assert_eq!(tags[0], "%21all");
    }

    #[test]
    fn a_key_that_is_too_long_is_none() {
        let rule = rule("user:{id}", QuerySelection::All);
        let url = format!("/users/{}", "x".repeat(KEY_BYTES_MAX));
        let namespace = Namespace { prefix: "svc".into(), version: "v1".into() };
        with(&rule, &url, |cache, target, found| {
            assert_eq!(cache_key(&namespace, &rule, cache, target, found, &Fields::default()), Err(NoKey::TooLong));
            assert_eq!(entry_tags(&rule, cache, target, found), Err(NoKey::TooLong));
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
