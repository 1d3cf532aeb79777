//! Answering from this gateway's tiers.

use std::borrow::Cow;
use std::rc::Rc;

use routecache_core::cache_status::{CacheStatus, Forward, Tier};
use routecache_core::entry::{Entry, Ticket};
use routecache_core::fetch::header_of;
use routecache_core::fields::Fields;
use routecache_core::key::{CacheKey, hash_of};
use routecache_core::policy::Terms;
use routecache_core::refresh::{Attempts, due};
use routecache_core::reply::{Answer, Replay};
use routecache_core::reuse::Wanted;

use super::{State, Stream};
use crate::fetch::{Errand, Fetch};
use crate::host::{self, Level, Map};
use crate::lookup::{Found, is_newer, likely, newer, search, softened, variants_of};
use crate::metrics;
use crate::random;
use crate::worker::Job;

/// What is said where the cache answers only for an origin that fails.
pub(super) const FAILOVER: &str = "failover";

/// What counts reads that shared data kept from being answered.
const REFUSED: &str = "routecache_shared_data_refused";

/// How long a worker leaves a key alone that it wanted to refresh, and that another one may be at: after that it looks into
/// the gateway tier again.
pub const REFRESH_ELSEWHERE_MS: u64 = 100;

/// The tiers of this gateway had no answer to a request.
pub(super) struct Nothing {
    pub(super) ticket: Option<Ticket>,
    /// Whether the group may be asked.
    pub(super) trusted: bool,
    pub(super) candidate: Option<Rc<Replay>>,
    pub(super) why: Forward,
    pub(super) detail: Option<&'static str>,
    /// The hash of the key under which an answer would stand, as far as the key's variants are known.
    pub(super) flight: u64,
}

impl Nothing {
    /// Nothing that could be had.
    fn without(ticket: Option<Ticket>, wanted: &Wanted, detail: &'static str) -> Self {
        let flight = wanted.key.hash();
        Self { ticket, trusted: false, candidate: None, why: Forward::Bypass, detail: Some(detail), flight }
    }

    /// Nothing so far.
    fn yet(ticket: Ticket, wanted: &Wanted) -> Self {
        let (why, flight) = (Forward::UriMiss, wanted.key.hash());
        Self { ticket: Some(ticket), trusted: true, candidate: None, why, detail: None, flight }
    }
}

impl Stream {
    /// Answers a read from this gateway's tiers, or finds out what to do instead. One shared-data read, one clock read and
    /// the reply are all that a worker-tier hit asks of the host.
    pub(super) fn look(
        &mut self,
        wanted: &Wanted,
        terms: &Terms,
        request: &Fields<'_>,
        now_ms: u64,
    ) -> Result<(), Nothing> {
        let (replay, tier, ticket) = self.find(wanted, terms, request, now_ms)?;
        if terms.failover && !self.is_fetch() {
            // It is for when the origin fails.
            return Err(Nothing {
                trusted: true,
                candidate: Some(replay),
                why: Forward::Bypass,
                detail: Some(FAILOVER),
                ..Nothing::yet(ticket, wanted)
            });
        }
        let status = self.hit(replay.entry(), tier, now_ms);
        if !self.reply(&replay, terms, request, &status, details(tier), now_ms) {
            return Err(Nothing::yet(ticket, wanted));
        }
        if self.is_due(wanted, terms, &replay, now_ms) {
            self.refresh(wanted, request, &replay, now_ms);
        }
        if let Some(slid) = replay.entry().slid(now_ms) {
            self.slide(terms, &replay, slid);
        }
        Ok(())
    }

    /// Keeps what a use has made fresh again, or whatever came into its place meanwhile.
    fn slide(&self, terms: &Terms, replay: &Replay, slid: Entry) {
        let instance = &*self.instance;
        let kept = match instance.shared.exchange(replay.entry(), &slid) {
            Some(held) if held.received_ms() > slid.received_ms() => Replay::new(held, terms),
            _ => replay.renewed(slid, terms),
        };
        instance.worker.borrow_mut().hold(hash_of(replay.entry().key()), Rc::new(kept));
    }

    /// What `Cache-Status` says of an answer from the store.
    pub(super) fn hit(&self, entry: &Entry, tier: Tier, now_ms: u64) -> CacheStatus {
        let ttl_s = ttl_s(entry, now_ms);
        match self.flight.as_ref().and_then(|flight| flight.waited) {
            Some(why) => CacheStatus::Forwarded {
                why,
                status: None,
                stored: false,
                collapsed: Some(true),
                ttl_s: Some(ttl_s),
                detail: None,
            },
            None => CacheStatus::Hit { ttl_s, detail: tier.word() },
        }
    }

    /// Finds in this gateway's tiers what answers a read. What is to be refreshed, or was fetched just now, may have been by
    /// another worker: then the gateway tier has it.
    pub(super) fn find(
        &self,
        wanted: &Wanted,
        terms: &Terms,
        request: &Fields<'_>,
        now_ms: u64,
    ) -> Result<(Rc<Replay>, Tier, Ticket), Nothing> {
        let instance = &*self.instance;
        let mut worker = instance.worker.borrow_mut();
        let worker = &mut *worker;
        let Some((head, ticket)) = worker.follow(&instance.shared) else {
            metrics::count(REFUSED);
            if worker.may_tell(REFUSED, now_ms) {
                host::log(
                    Level::Warn,
                    "routecache: the gateway's shared data refuses; nothing is served from the store",
                );
            }
            return Err(Nothing::without(None, wanted, "shared-data"));
        };
        let trusted = instance.trusts(&head, now_ms);
        // What was asked of the origin less than a window ago is as fresh as the group promises (C3), heard or not, unless
        // writes wait until everybody has heard.
        let since_ms =
            self.flight.as_ref().and_then(|flight| flight.landed_ms).filter(|_| !instance.policy().purge_heard);
        let since_ms = since_ms.filter(|ms| now_ms.saturating_sub(*ms) < instance.policy().window_ms.into());
        let serves = |replay: &Replay| trusted || since_ms.is_some_and(|ms| replay.entry().received_ms() >= ms);
        if !trusted && since_ms.is_none() {
            return Err(Nothing::without(Some(ticket), wanted, "feed-lost"));
        }
        let (entries, purges) = (&mut worker.entries, &worker.purges);
        let here = search(wanted, request, terms, purges, now_ms, |key| {
            let held = entries.get(key.hash()).map(Rc::clone)?;
            let Some(stale) = softened(&held, terms, purges) else { return Some(held) };
            entries.insert(key.hash(), Rc::clone(&stale), stale.footprint());
            Some(stale)
        });
        let mut nothing = Nothing::yet(ticket, wanted);
        let mut held = None;
        match here {
            Found::Answer(replay) => {
                let elsewhere =
                    wanted.fetched_ms.is_some() || may_be_due(wanted, terms, &replay, &worker.attempts, now_ms);
                if !elsewhere && serves(&replay) {
                    return Ok((replay, Tier::Worker, ticket));
                }
                held = Some(replay);
            }
            Found::None(why, candidate) => nothing = Nothing { why, candidate, ..nothing },
            Found::Elsewhere(_) => {}
        }
        let mut passed = Vec::new();
        let shared = search(wanted, request, terms, &worker.purges, now_ms, |key| {
            let replay = Rc::new(Replay::new(instance.shared.entry(key.hash())?, terms));
            let replay = softened(&replay, terms, &worker.purges).unwrap_or(replay);
            passed.push((key.hash(), Rc::clone(&replay)));
            Some(replay)
        });
        // Of one moment, what was fetched is the one that all workers see.
        let beats = |shared: &Replay, held: &Replay| {
            is_newer(shared, held) || wanted.fetched_ms.is_some() && !is_newer(held, shared)
        };
        let found = match (shared, held) {
            (Found::Answer(replay), held) if held.as_ref().is_none_or(|held| beats(&replay, held)) => {
                passed.drain(..).for_each(|(hash, replay)| worker.hold(hash, replay));
                Some((replay, Tier::Gateway, ticket))
            }
            // Another worker was told that it doesn't hold any more.
            (Found::None(why, Some(theirs)), Some(held)) if is_newer(&theirs, &held) => {
                passed.drain(..).for_each(|(hash, replay)| worker.hold(hash, replay));
                (nothing.why, nothing.candidate) = (why, Some(theirs));
                None
            }
            (_, Some(held)) => Some((held, Tier::Worker, ticket)),
            (Found::None(why, candidate), None) => {
                if nothing.why == Forward::UriMiss {
                    nothing.why = why;
                }
                nothing.candidate = newer(nothing.candidate, candidate);
                None
            }
            (Found::Answer(_) | Found::Elsewhere(_), None) => None,
        };
        match found {
            Some(found) if serves(&found.0) => Ok(found),
            _ if !trusted => Err(Nothing::without(Some(ticket), wanted, "feed-lost")),
            _ => {
                let held = |key: &CacheKey| {
                    let hash = key.hash();
                    let passed = || passed.iter().find(|(other, _)| *other == hash).map(|(_, replay)| replay);
                    worker.entries.peek(hash).or_else(passed)
                };
                let there = likely(wanted, held);
                let wanted = there.as_ref().unwrap_or(wanted);
                let variants = held(&wanted.key).and_then(|held| variants_of(wanted, held.entry()));
                let variant = variants.and_then(|variants| variants.key(&wanted.key, request, &terms.normalize));
                nothing.flight = variant.as_ref().unwrap_or(&wanted.key).hash();
                Err(nothing)
            }
        }
    }

    /// Whether what answers a read is to be refreshed behind its client.
    pub(super) fn is_due(&self, wanted: &Wanted, terms: &Terms, replay: &Replay, now_ms: u64) -> bool {
        may_be_due(wanted, terms, replay, &self.instance.worker.borrow().attempts, now_ms)
    }

    /// Leaves it to the root context to refresh what has just answered.
    pub(super) fn refresh(&self, wanted: &Wanted, request: &Fields<'_>, replay: &Replay, now_ms: u64) {
        let key = hash_of(replay.entry().key());
        let mut worker = self.instance.worker.borrow_mut();
        worker.attempts.wait(key, now_ms, now_ms.saturating_add(REFRESH_ELSEWHERE_MS));
        let errand = Errand::Refresh(key);
        worker.leave(Job::Fetch(Fetch { errand, header: header_of(request, true), https: wanted.https }));
    }

    /// Answers the current stream from an entry. False if the host refused.
    pub(super) fn reply(
        &mut self,
        replay: &Rc<Replay>,
        terms: &Terms,
        request: &Fields<'_>,
        told: &CacheStatus,
        details: &str,
        now_ms: u64,
    ) -> bool {
        let mut header = Vec::new();
        let Answer { status, body } = replay.answer(request, terms, told, now_ms, &mut header);
        let sent = self.respond(status, details, &header, &body);
        let whole = status == replay.entry().status() && matches!(body, Cow::Borrowed(_));
        if sent && whole && replay.needs_a_look() {
            self.state = State::Replying { replay: Rc::clone(replay), sent: header };
        }
        sent
    }

    /// Looks at our own reply on its way out.
    pub(super) fn look_at_reply(&self, replay: &Rc<Replay>, sent: &[u8]) {
        let Some(got) = host::header_map(Map::Response) else { return };
        let (Some(sent), Some(got)) = (Fields::decode(sent), Fields::decode(&got)) else { return };
        let (next, changed) = replay.look(&sent, &got);
        if let Some(changed) = changed {
            host::set_header_map(Map::Response, &changed);
        }
        if let Some(next) = next {
            let mut worker = self.instance.worker.borrow_mut();
            let hash = hash_of(replay.entry().key());
            // Something newer may be there by now.
            if let Some(held) = worker.entries.peek_mut(hash).filter(|held| Rc::ptr_eq(held, replay)) {
                *held = Rc::new(next);
            }
        }
    }
}

/// What the gateway's log calls a hit.
pub(super) fn details(tier: Tier) -> &'static str {
    match tier {
        Tier::Worker => "routecache_hit_worker",
        Tier::Gateway => "routecache_hit_gateway",
        Tier::Group => "routecache_hit_group",
    }
}

fn may_be_due(wanted: &Wanted, terms: &Terms, replay: &Replay, attempts: &Attempts, now_ms: u64) -> bool {
    wanted.may_refresh
        && due(replay.entry(), terms, now_ms, random).is_some()
        && attempts.may_start(hash_of(replay.entry().key()), now_ms)
}

/// Remaining freshness in seconds; negative when it is stale (RFC 9211 §2.4).
pub(super) fn ttl_s(entry: &Entry, now_ms: u64) -> i64 {
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    seconds(entry.fresh_ms(now_ms)).saturating_sub(seconds(entry.stale_ms(now_ms)))
}
