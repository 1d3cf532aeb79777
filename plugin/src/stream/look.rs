//! Answering from this gateway's tiers.

use std::borrow::Cow;
use std::rc::Rc;

use routecache_core::cache_status::{CacheStatus, Forward, Tier};
use routecache_core::entry::{Entry, Ticket};
use routecache_core::fields::Fields;
use routecache_core::policy::Terms;
use routecache_core::reply::{Answer, Replay};
use routecache_core::request::Wanted;

use super::{State, Stream};
use crate::host::{self, Map};
use crate::lookup::{Found, search};

/// The tiers of this gateway had no answer to a request.
pub(super) struct Nothing {
    pub(super) ticket: Option<Ticket>,
    /// Whether the group may be asked.
    pub(super) trusted: bool,
    pub(super) candidate: Option<Rc<Replay>>,
    pub(super) why: Forward,
    pub(super) detail: Option<&'static str>,
}

impl Nothing {
    /// Nothing that could be had.
    fn without(ticket: Option<Ticket>, detail: &'static str) -> Self {
        Self { ticket, trusted: false, candidate: None, why: Forward::Bypass, detail: Some(detail) }
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
        let instance = Rc::clone(&self.instance);
        let mut worker = instance.worker.borrow_mut();
        let worker = &mut *worker;
        let Some((head, ticket)) = worker.follow(&instance.shared) else {
            return Err(Nothing::without(None, "shared-data"));
        };
        if !instance.trusts(&head, now_ms) {
            return Err(Nothing::without(Some(ticket), "feed-lost"));
        }
        let (entries, purges) = (&mut worker.entries, &worker.purges);
        let here = search(wanted, request, terms, purges, now_ms, |key| entries.get(key.hash()).map(Rc::clone));
        let mut nothing =
            Nothing { ticket: Some(ticket), trusted: true, candidate: None, why: Forward::UriMiss, detail: None };
        match here {
            Found::Answer(replay) if self.reply(&replay, terms, request, Tier::Worker, now_ms) => return Ok(()),
            Found::None(why, candidate) => nothing = Nothing { why, candidate, ..nothing },
            Found::Answer(_) | Found::Elsewhere(_) => {}
        }
        let mut passed = Vec::new();
        let shared = search(wanted, request, terms, &worker.purges, now_ms, |key| {
            let replay = Rc::new(Replay::new(instance.shared.entry(key.hash())?, terms));
            passed.push((key.hash(), Rc::clone(&replay)));
            Some(replay)
        });
        match shared {
            Found::Answer(replay) => {
                passed.into_iter().for_each(|(hash, replay)| worker.hold(hash, replay));
                if self.reply(&replay, terms, request, Tier::Gateway, now_ms) {
                    return Ok(());
                }
            }
            Found::None(why, candidate) => {
                if nothing.why == Forward::UriMiss {
                    nothing.why = why;
                }
                nothing.candidate = newer(nothing.candidate, candidate);
            }
            Found::Elsewhere(_) => {}
        }
        Err(nothing)
    }

    /// Answers the current stream from an entry. False if the host refused.
    pub(super) fn reply(
        &mut self,
        replay: &Rc<Replay>,
        terms: &Terms,
        request: &Fields<'_>,
        tier: Tier,
        now_ms: u64,
    ) -> bool {
        let entry = replay.entry();
        let status = CacheStatus::Hit { ttl_s: ttl_s(entry, now_ms), tier };
        let mut header = Vec::new();
        let Answer { status, body } = replay.answer(request, terms, &status, now_ms, &mut header);
        let details = match tier {
            Tier::Worker => "routecache_hit_worker",
            Tier::Gateway => "routecache_hit_gateway",
            Tier::Group => "routecache_hit_group",
        };
        let sent = host::send_response(status, details, &header, &body);
        let whole = status == entry.status() && matches!(body, Cow::Borrowed(_));
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
            let hash = routecache_core::key::hash_of(replay.entry().key());
            // Something newer may be there by now.
            if let Some(held) = worker.entries.peek_mut(hash).filter(|held| Rc::ptr_eq(held, replay)) {
                *held = Rc::new(next);
            }
        }
    }
}

/// The one of two stored responses that came later.
pub(super) fn newer(one: Option<Rc<Replay>>, two: Option<Rc<Replay>>) -> Option<Rc<Replay>> {
    let received = |replay: &Rc<Replay>| replay.entry().received_ms();
    match (one, two) {
        (Some(one), Some(two)) => Some(if received(&two) > received(&one) { two } else { one }),
        (one, two) => one.or(two),
    }
}

/// Remaining freshness in seconds; negative when it is stale (RFC 9211 §2.4).
pub(super) fn ttl_s(entry: &Entry, now_ms: u64) -> i64 {
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    seconds(entry.fresh_ms(now_ms)).saturating_sub(seconds(entry.stale_ms(now_ms)))
}
