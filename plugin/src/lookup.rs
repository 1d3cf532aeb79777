//! Searching the tiers for what a request wants.

use std::rc::Rc;

use routecache_core::cache_status::Forward;
use routecache_core::entry::Entry;
use routecache_core::fields::Fields;
use routecache_core::key::CacheKey;
use routecache_core::no_vary_search::Variances;
use routecache_core::planted::planted;
use routecache_core::policy::Terms;
use routecache_core::purge_table::PurgeTable;
use routecache_core::reply::Replay;
use routecache_core::reuse::{Reuse, Wanted};
use routecache_core::vary::Variants;

use crate::host;

/// A stored response that would answer, if the origin said that it still holds.
#[derive(Clone)]
pub struct Candidate {
    /// The response.
    pub replay: Rc<Replay>,
    /// Whether the origin has been asked about it.
    pub asked: bool,
}

/// What a tier has for a request.
pub enum Found {
    /// An answer.
    Answer(Rc<Replay>),
    /// None yet, and why the request is forwarded; maybe with a response to validate.
    None(Forward, Option<Rc<Replay>>),
    /// The variants of the key, among which the request selects one that stands elsewhere.
    Elsewhere(CacheKey),
}

/// One entry, found under `key`, held against a request: its key, rule, selecting fields and freshness, and the purges
/// that this worker knows of.
pub fn judge(
    (wanted, key): (&Wanted, &CacheKey),
    (request, terms): (&Fields<'_>, &Terms),
    replay: &Rc<Replay>,
    purges: &PurgeTable,
    now_ms: u64,
) -> Found {
    let entry = replay.entry();
    if let Some(variants) = variants_of(wanted, entry) {
        return match variants.select(&wanted.key, request, &terms.normalize) {
            Some(key) if purges.admits(entry) => Found::Elsewhere(key),
            Some(_) => Found::None(Forward::UriMiss, None),
            None => Found::None(Forward::VaryMiss, None),
        };
    }
    match wanted.reuse(key, entry, now_ms) {
        Reuse::No(why) => Found::None(why, None),
        Reuse::Validate(why) if planted("purged_validated") => Found::None(why, Some(Rc::clone(replay))),
        _ if !purges.admits(entry) => Found::None(Forward::UriMiss, None),
        Reuse::Yes => Found::Answer(Rc::clone(replay)),
        Reuse::Validate(why) => Found::None(why, Some(Rc::clone(replay))),
    }
}

/// A response that is held, with what this worker knows of soft purges: stale since the first; `None` if none made it so.
pub fn softened(replay: &Replay, terms: &Terms, purges: &PurgeTable) -> Option<Rc<Replay>> {
    let since_ms = purges.softened_ms(replay.entry())?;
    let since_ms = if planted("soft_past_limit") { host::monotonic_ms() } else { since_ms };
    let entry = replay.entry().softened(since_ms)?;
    Some(Rc::new(replay.renewed(entry, terms)))
}

/// What an entry says of the variants of the wanted key.
pub fn variants_of(wanted: &Wanted, entry: &Entry) -> Option<Variants> {
    let ours = entry.status() == 0 && entry.key() == wanted.key.as_str() && entry.fingerprint() == wanted.fingerprint;
    ours.then(|| Variants::of(entry)).flatten()
}

/// What an entry says of the queries that responses of the wanted path answer.
pub fn variances_of(wanted: &Wanted, entry: &Entry) -> Option<Variances> {
    let base = wanted.search.as_ref()?.base()?;
    let ours = entry.status() == 0 && entry.key() == base.as_str() && entry.fingerprint() == wanted.fingerprint;
    ours.then(|| Variances::of(entry)).flatten()
}

/// Searches one tier: under the key, and where other responses stand that may answer the request's query.
pub fn search(
    wanted: &Wanted,
    request: &Fields<'_>,
    terms: &Terms,
    purges: &PurgeTable,
    now_ms: u64,
    mut get: impl FnMut(&CacheKey) -> Option<Rc<Replay>>,
) -> Found {
    let found = search_variants(wanted, request, terms, purges, now_ms, &mut get);
    let Some(search) = &wanted.search else { return found };
    // A purge of what tells of them doesn't matter: each is judged by itself.
    let told = search.base().and_then(|base| get(&base));
    let known = told.and_then(|told| variances_of(wanted, told.entry())).unwrap_or_default();
    known.keys(search).fold(found, |found, key| {
        let there = Wanted { key, ..wanted.clone() };
        better(found, search_variants(&there, request, terms, purges, now_ms, &mut get))
    })
}

/// The same wanted where an answer would stand, by what was said last of the path; `None` where that is its own key.
pub fn likely<'r>(wanted: &Wanted, held: impl Fn(&CacheKey) -> Option<&'r Rc<Replay>>) -> Option<Wanted> {
    let search = wanted.search.as_ref()?;
    let known = variances_of(wanted, held(&search.base()?)?.entry())?;
    let key = known.keys(search).last()?;
    Some(Wanted { key, ..wanted.clone() })
}

/// The one of two that answers, or else may; if both do, the one that came later.
fn better(one: Found, two: Found) -> Found {
    match (one, two) {
        (Found::Answer(one), Found::Answer(two)) => Found::Answer(if is_newer(&two, &one) { two } else { one }),
        (answer @ Found::Answer(_), _) | (_, answer @ Found::Answer(_)) => answer,
        (Found::None(Forward::UriMiss, one), Found::None(why, two)) | (Found::None(why, one), Found::None(_, two)) => {
            Found::None(why, newer(one, two))
        }
        (found, _) => found,
    }
}

/// Whether a stored response came later than another.
pub fn is_newer(one: &Replay, other: &Replay) -> bool {
    one.entry().received_ms() > other.entry().received_ms()
}

/// The one of two stored responses that came later.
pub fn newer(one: Option<Rc<Replay>>, two: Option<Rc<Replay>>) -> Option<Rc<Replay>> {
    match (one, two) {
        (Some(one), Some(two)) => Some(if is_newer(&two, &one) { two } else { one }),
        (one, two) => one.or(two),
    }
}

/// Searches under one key, and from there under that of the variant.
fn search_variants(
    wanted: &Wanted,
    request: &Fields<'_>,
    terms: &Terms,
    purges: &PurgeTable,
    now_ms: u64,
    get: &mut impl FnMut(&CacheKey) -> Option<Rc<Replay>>,
) -> Found {
    let mut look = |key: &CacheKey| match get(key) {
        Some(replay) => judge((wanted, key), (request, terms), &replay, purges, now_ms),
        None => Found::None(Forward::UriMiss, None),
    };
    match look(&wanted.key) {
        Found::Elsewhere(key) => match look(&key) {
            // The variant has been evicted, or its key's hash is another's.
            Found::Elsewhere(_) | Found::None(Forward::UriMiss, _) => Found::None(Forward::VaryMiss, None),
            found => found,
        },
        found => found,
    }
}
