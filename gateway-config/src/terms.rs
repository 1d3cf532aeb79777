//! How much origin and client are heard: the fields of `cache` that are about HTTP caching.

use routecache_core::policy::{
    CDN_CACHE_CONTROL, ClientCacheControl, ClientDirectives, Cookies, DeltaSeconds, Early, NoVarySearch, OriginControl,
    RangeMiss, StatusRange, Terms, Unheard,
};

use crate::mistake::What;
use crate::suggest::nearest;
use crate::tree::{Kind, shorten};
use crate::ttl::Buckets;
use crate::vocabulary::EARLY;
use crate::walk::{At, Fields, Found};

/// Each is compared with each field of a response, or looked up in each request.
const FIELDS_MAX: usize = 16;
const STATUSES_MAX: usize = 64;

/// What a word stands for.
type Words<T> = [(&'static str, T)];

const DIRECTIVES: &Words<ClientDirectives> =
    &[("distrust", ClientDirectives::Distrust), ("honour", ClientDirectives::Honour)];

const ORIGIN: &Words<OriginControl> =
    &[("respect", OriginControl::Respect), ("override", OriginControl::Override), ("ignore", OriginControl::Ignore)];

const COOKIES: &Words<Cookies> =
    &[("respect", Cookies::Respect), ("ignore", Cookies::Ignore), ("share", Cookies::Share)];

const TOLD: &Words<ClientCacheControl> =
    &[("keep", ClientCacheControl::Keep), ("no-cache", ClientCacheControl::NoCache)];

const RANGE_MISS: &Words<RangeMiss> = &[("forward", RangeMiss::Forward), ("whole", RangeMiss::Whole)];

const NO_VARY_SEARCH: &Words<NoVarySearch> = &[("ignore", NoVarySearch::Ignore), ("respect", NoVarySearch::Respect)];

const PREFERENCES: &Words<()> = &[("accept-encoding", ()), ("accept-language", ())];

const PROHIBITIONS: &Words<()> = &[("private", ()), ("no-store", ())];

/// `client_directives` of the whole file, which rules may change.
pub(crate) fn client_directives(at: Option<&At<'_>>, found: &mut Found) -> Option<ClientDirectives> {
    word(at?, DIRECTIVES, found)
}

/// `consistency.on_feed_loss`: whether what is held is served all the same.
pub(crate) fn on_feed_loss(at: &At<'_>, found: &mut Found) -> Option<bool> {
    word(at, &[("bypass", false), ("serve", true)], found)
}

/// `purge.acknowledge`: whether every gateway is to have heard of a purge.
pub(crate) fn acknowledge(at: &At<'_>, found: &mut Found) -> Option<bool> {
    word(at, &[("bridge", false), ("group", true)], found)
}

/// The terms of one rule; `tag_fields` come from its `tags`.
pub(crate) fn read(
    fields: &Fields<'_>,
    tag_fields: Vec<String>,
    buckets: &Buckets,
    by_default: ClientDirectives,
    found: &mut Found,
) -> Terms {
    let default = Terms::default();
    let origin = fields.get("origin_cache_control").and_then(|at| word(at, ORIGIN, found)).unwrap_or(default.origin);
    let heuristics = fields.get("heuristics").and_then(|at| on_off(at, found)).unwrap_or(false);
    if let (Some(at), true) = (fields.get("heuristics"), heuristics && origin != OriginControl::Respect) {
        found.add(at, What::HeuristicsUnheard);
    }
    Terms {
        origin,
        heuristics,
        unheard: fields.get("override").map(|at| unheard(at, found)).unwrap_or_default(),
        ttl_by_status: fields.get("ttl_by_status").map(|at| ttl_by_status(at, buckets, found)).unwrap_or_default(),
        targeted: match fields.get("targeted") {
            Some(at) => field_names(at, found),
            None => vec![CDN_CACHE_CONTROL.to_owned()],
        },
        tag_fields,
        cookies: fields.get("cookies").and_then(|at| word(at, COOKIES, found)).unwrap_or(default.cookies),
        stale_if_error: fields.get("stale_if_error").map_or(DeltaSeconds::ZERO, |at| buckets.ttl(Some(at), found)),
        stale_while_revalidate: fields
            .get("stale_while_revalidate")
            .map_or(DeltaSeconds::ZERO, |at| buckets.ttl(Some(at), found)),
        early: fields.get("early").map(|at| early(at, buckets, found)).unwrap_or_default(),
        revalidate_after: fields.get("revalidate_after").map(|at| buckets.ttl(Some(at), found)),
        sliding: fields.get("sliding").and_then(|at| on_off(at, found)).unwrap_or(false),
        failover: false,
        client_directives: client_directives(fields.get("client_directives"), found).unwrap_or(by_default),
        client_cache_control: fields
            .get("client_cache_control")
            .map_or(ClientCacheControl::Keep, |at| told(at, buckets, found)),
        range_miss: fields.get("range_miss").and_then(|at| word(at, RANGE_MISS, found)).unwrap_or(default.range_miss),
        no_vary_search: fields
            .get("no_vary_search")
            .and_then(|at| word(at, NO_VARY_SEARCH, found))
            .unwrap_or(default.no_vary_search),
        vary: fields.get("vary").map(|at| field_names(at, found)).unwrap_or_default(),
        normalize: fields.get("normalize").map(|at| words(at, PREFERENCES, found)).unwrap_or_default(),
    }
}

/// The meaning of the word here.
pub(crate) fn word<T: Copy>(at: &At<'_>, words: &Words<T>, found: &mut Found) -> Option<T> {
    let text = at.text(found)?;
    let meaning = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    if meaning.is_none() {
        found.add(at, none_of(at, text, words));
    }
    meaning
}

fn none_of<T>(at: &At<'_>, text: &str, words: &Words<T>) -> What {
    let words: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
    What::NotOneOf { said: at.said(), similar: nearest(text, words.iter().copied()), words }
}

/// The words of the list here, each once.
fn words(at: &At<'_>, known: &Words<()>, found: &mut Found) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (item, text) in at.texts(found).unwrap_or_default() {
        if !known.iter().any(|(word, ())| *word == text) {
            found.add(&item, none_of(&item, text, known));
        } else if words.iter().any(|earlier| earlier == text) {
            found.add(&item, What::Twice(item.said()));
        } else {
            words.push(text.to_owned());
        }
    }
    words
}

pub(crate) fn on_off(at: &At<'_>, found: &mut Found) -> Option<bool> {
    match at.node.kind {
        Kind::Bool(on) => Some(on),
        _ => word(at, &[("on", true), ("off", false)], found),
    }
}

fn unheard(at: &At<'_>, found: &mut Found) -> Unheard {
    let words = words(at, PROHIBITIONS, found);
    let has = |word: &str| words.iter().any(|known| known == word);
    Unheard { private: has("private"), no_store: has("no-store") }
}

/// `{ 404: short, 5xx: 0s }`.
fn ttl_by_status(at: &At<'_>, buckets: &Buckets, found: &mut Found) -> Vec<(StatusRange, DeltaSeconds)> {
    let entries = at.entries(found).unwrap_or_default();
    if entries.len() > STATUSES_MAX {
        found.add(at, What::TooMany { field: "ttl_by_status", max: STATUSES_MAX });
    }
    let mut by_status = Vec::with_capacity(entries.len());
    for entry in &entries {
        match status_range(entry.name) {
            Some(range) => by_status.push((range, buckets.ttl(Some(entry), found))),
            None => found.add_name(entry, What::BadStatus(shorten(entry.name))),
        }
    }
    // A status is more than its class, whatever the order.
    let (classes, mut ordered): (Vec<_>, Vec<_>) =
        by_status.into_iter().partition(|(range, _)| matches!(range, StatusRange::Class(_)));
    ordered.extend(classes);
    ordered
}

/// Final statuses that can be stored: not the informational ones, not parts and answers to preconditions.
pub(crate) fn status_range(text: &str) -> Option<StatusRange> {
    if let Some(class) = text.strip_suffix("xx") {
        return class.parse().ok().filter(|class| (2..=5).contains(class)).map(StatusRange::Class);
    }
    let status = text.parse().ok().filter(|status| (200..600).contains(status) && text.len() == 3)?;
    (!matches!(status, 206 | 304 | 412 | 416)).then_some(StatusRange::One(status))
}

/// A duration, or `{ within: 60s, probabilistic: on }`.
fn early(at: &At<'_>, buckets: &Buckets, found: &mut Found) -> Early {
    if !matches!(at.node.kind, Kind::Map(_)) {
        return Early { within: buckets.ttl(Some(at), found), probabilistic: false };
    }
    let Some(fields) = at.fields(&EARLY, found) else { return Early::default() };
    let within = fields.need("within", "within: 60s", found).map(|at| buckets.ttl(Some(at), found));
    let probabilistic = fields.get("probabilistic").and_then(|at| on_off(at, found)).unwrap_or(false);
    Early { within: within.unwrap_or_default(), probabilistic }
}

fn told(at: &At<'_>, buckets: &Buckets, found: &mut Found) -> ClientCacheControl {
    match &at.node.kind {
        Kind::Text(text) if TOLD.iter().any(|(word, _)| word == text) => {
            word(at, TOLD, found).unwrap_or(ClientCacheControl::Keep)
        }
        _ => ClientCacheControl::MaxAge(buckets.ttl(Some(at), found)),
    }
}

/// Names of fields, in lower case.
fn field_names(at: &At<'_>, found: &mut Found) -> Vec<String> {
    let items = at.texts(found).unwrap_or_default();
    if items.len() > FIELDS_MAX {
        found.add(at, What::TooMany { field: "fields", max: FIELDS_MAX });
    }
    let mut names: Vec<String> = Vec::with_capacity(items.len());
    for (item, text) in items {
        let Some(name) = field_name(&item, text, found) else { continue };
        if names.contains(&name) {
            found.add(&item, What::Twice(item.said()));
        } else {
            names.push(name);
        }
    }
    names
}

/// The name of a field (RFC 9110 §5.6.2), in lower case.
pub(crate) fn field_name(at: &At<'_>, text: &str, found: &mut Found) -> Option<String> {
    let name = lower_token(text);
    if name.is_none() {
        found.add(at, What::BadFieldName(at.said()));
    }
    name
}

/// The same of the name of an entry.
pub(crate) fn field_named(at: &At<'_>, found: &mut Found) -> Option<String> {
    let name = lower_token(at.name);
    if name.is_none() {
        found.add_name(at, What::BadFieldName(shorten(at.name)));
    }
    name
}

fn lower_token(text: &str) -> Option<String> {
    const BYTES_MAX: usize = 256;
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let fits = !text.is_empty() && text.len() <= BYTES_MAX && text.bytes().all(token);
    fits.then(|| text.to_ascii_lowercase())
}
