//! Putting a complete response into the tiers.

use std::rc::Rc;

use bridge_api::{ReleaseRequest, StoreRequest};
use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_core::fields::{Fields, Line};
use routecache_core::key::CacheKey;
use routecache_core::no_vary_search::{Variance, Variances};
use routecache_core::planted::planted;
use routecache_core::policy::CacheRule;
use routecache_core::reply::Replay;
use routecache_core::reuse::Wanted;
use routecache_core::vary::Variants;

use crate::bridge::GroupTicket;
use crate::host;
use crate::lookup::{variances_of, variants_of};
use crate::root::Instance;
use crate::shared::Merge;
use crate::worker::{Job, Worker};

/// A response that may be stored.
pub struct Response<'a> {
    /// Of the lookup with which its fill began: a purge that came since then has voided it already.
    pub ticket: Ticket,
    /// Likewise, of the group.
    pub group: Option<GroupTicket>,
    /// When its header arrived, in milliseconds of the monotonic clock.
    pub received_ms: u64,
    /// How it may be reused.
    pub freshness: Freshness,
    /// Its status.
    pub status: u16,
    /// All its tags.
    pub tags: &'a [String],
    /// The header lines that are kept.
    pub header: &'a [Line<'a>],
    /// Its body.
    pub body: &'a [u8],
}

/// Stores the response to a request; whether it is there now. Then the lease that its fill has in the group, of the key
/// that `leased` gives back, ends with that.
pub fn keep(
    instance: &Instance,
    rule: &CacheRule,
    wanted: &Wanted,
    request: &Fields<'_>,
    response: &Response<'_>,
    mut leased: Option<&ReleaseRequest>,
) -> bool {
    let fields = Fields::from_pairs(response.header.to_vec());
    let variance = wanted.search.as_ref().and_then(|search| Some((search, Variance::of(&fields)?)));
    // Where it says which parameters don't matter, it stands elsewhere.
    let there = match &variance {
        Some((search, variance)) => match search.key(variance) {
            Some(key) => Some(Wanted { key, ..wanted.clone() }),
            None => return false,
        },
        None => None,
    };
    let told = variance.and_then(|(search, variance)| {
        let at = search.base()?;
        Some((told(instance, wanted, &at, variance), at))
    });
    let wanted = there.as_ref().unwrap_or(wanted);
    let base = &wanted.key;
    let known = known_variants(instance, wanted, &fields);
    let (key, variants) = match Variants::with(known, base, request, &fields, &rule.terms.normalize) {
        None => (base.clone(), None),
        Some(Some((variants, key))) => (key, Some(variants)),
        Some(None) => return false,
    };
    let tags: Vec<&str> = response.tags.iter().map(String::as_str).collect();
    let late = planted("fill_ticket_late").then(|| instance.worker.borrow_mut().follow(&instance.shared)).flatten();
    let entry = |key: &CacheKey, status, header: &[Line<'_>], body: &[u8]| {
        Entry::new(&Parts {
            ticket: late.map_or(response.ticket, |(_, ticket)| ticket),
            received_ms: response.received_ms,
            freshness: response.freshness,
            fingerprint: wanted.fingerprint,
            status,
            key: key.as_str(),
            tags: &tags,
            header,
            body,
        })
    };
    let Some(stored) = entry(&key, response.status, response.header, response.body) else { return false };
    let now_ms = host::monotonic_ms();
    let keep_ms = stored.keep_ms(now_ms);
    let mut worker = instance.worker.borrow_mut();
    if worker.follow(&instance.shared).is_none() || !worker.purges.admits(&stored) {
        return false;
    }
    let marker = variants.and_then(|variants| entry(base, 0, &[], &variants.encode()));
    let (told, at) = told.unzip();
    let told = told.zip(at.as_ref()).and_then(|(told, at)| entry(at, 0, &[], &told.encode()));
    let mut stores = Vec::new();
    // What tells of the new one comes last: until then, it can't be reached.
    for (key, entry) in [(&key, Some(stored)), (base, marker), (at.as_ref().unwrap_or(base), told)] {
        let Some(entry) = entry else { continue };
        // What tells of others tells of those, too, of which another worker has it tell meanwhile.
        let merge = |held: &Entry| merged(wanted, &entry, held);
        let merge: Option<&Merge<'_>> = if entry.status() == 0 { Some(&merge) } else { None };
        let entry = instance.shared.keep_with(key.hash(), &entry, now_ms, merge).unwrap_or(entry);
        if let Some((ticket, payload)) = response.group.zip(entry.for_group(now_ms)) {
            let request = StoreRequest {
                namespace: instance.namespace.clone(),
                key: key.as_str().to_owned(),
                tags: response.tags.to_vec(),
                ticket: ticket.at(now_ms),
                keep_ms,
                holder: leased.take_if(|leased| leased.key == key.as_str()).map(|leased| leased.holder),
            };
            stores.push((request, payload.bytes().to_vec()));
        }
        worker.hold(key.hash(), Rc::new(Replay::new(entry, &rule.terms)));
    }
    leave(&mut worker, stores, leased.cloned());
    true
}

/// The variants of a key that are known, where it has some or is about to.
fn known_variants(instance: &Instance, wanted: &Wanted, fields: &Fields<'_>) -> Option<Variants> {
    let hash = wanted.key.hash();
    let held = instance.worker.borrow().entries.peek(hash).map(Rc::clone);
    let held = held.and_then(|replay| variants_of(wanted, replay.entry()));
    if held.is_none() && !fields.has("vary") {
        return None;
    }
    // Another worker may have stored a variant meanwhile.
    instance.shared.entry(hash).and_then(|entry| variants_of(wanted, &entry)).or(held)
}

/// Leaves it to the root context to store in the group. A lease that no store ends is given back behind the last of them: who waits
/// for its end looks for what is stored.
fn leave(worker: &mut Worker, stores: Vec<(StoreRequest, Vec<u8>)>, mut release: Option<ReleaseRequest>) {
    let last = stores.len();
    for (number, (request, payload)) in (1..).zip(stores) {
        let then = if number == last { release.take() } else { None };
        worker.leave(Job::Store { request, payload, then });
    }
    if let Some(release) = release {
        worker.leave(Job::Release(release));
    }
}

/// How long what is nothing is kept, in milliseconds; 0 would be refused.
const NOTHING_MS: u64 = 1;

impl Instance {
    /// Has the group forget what it has for a key, which can't be read here (C9).
    pub fn discard(&self, key: &CacheKey, ticket: bridge_api::Ticket) {
        let request = StoreRequest {
            namespace: self.namespace.clone(),
            key: key.as_str().to_owned(),
            tags: Vec::new(),
            ticket,
            keep_ms: NOTHING_MS,
            holder: None,
        };
        self.worker.borrow_mut().leave(Job::Store { request, payload: Vec::new(), then: None });
    }
}

/// What tells of others, ours and what is kept already, as one. Each of the others is judged by itself, so the newer ticket
/// will do.
fn merged(wanted: &Wanted, ours: &Entry, held: &Entry) -> Option<Entry> {
    let body = match (variants_of(wanted, ours), variants_of(wanted, held)) {
        (Some(ours), Some(held)) => ours.merged(held).encode(),
        _ => variances_of(wanted, ours)?.merged(variances_of(wanted, held)?).encode(),
    };
    let newer = held.ticket().era == ours.ticket().era && held.ticket().position > ours.ticket().position;
    if newer { held.with_body(&body) } else { ours.with_body(&body) }
}

/// What tells of the queries that responses of a path answer, a new one among them.
fn told(instance: &Instance, wanted: &Wanted, at: &CacheKey, variance: Variance) -> Variances {
    // Another worker may have stored one meanwhile.
    let shared = instance.shared.entry(at.hash()).and_then(|entry| variances_of(wanted, &entry));
    let held = || {
        let worker = instance.worker.borrow();
        worker.entries.peek(at.hash()).and_then(|held| variances_of(wanted, held.entry()))
    };
    shared.or_else(held).unwrap_or_default().with(variance)
}
