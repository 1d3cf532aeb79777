//! Asking the group about a key, while the request is paused.

use std::mem;
use std::rc::Rc;

use bridge_api::{Holder, LOOKUP, LeaseRequest, LookupReply, LookupRequest, ReleaseRequest};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward, Tier};
use routecache_core::entry::Entry;
use routecache_core::fetch::Kind;
use routecache_core::fields::Fields;
use routecache_core::flights::Outcome;
use routecache_core::key::{CacheKey, tag_hash};
use routecache_core::no_vary_search::Search;
use routecache_core::planted::planted;
use routecache_core::policy::CacheRule;
use routecache_core::reply::Replay;
use routecache_core::request::Reading;
use routecache_core::seal::unsealed;

use super::collapse::Part;
use super::look::{FAILOVER, Nothing, details};
use super::{Flight, Question, State, Stream};
use crate::bridge::{self, GroupTicket};
use crate::host::{self, Direction};
use crate::lookup::{Candidate, Found, judge, newer, softened, variances_of, variants_of};
use crate::random;

/// What an entry takes beside its body at most, in bytes: header, key and tags. What is longer isn't looked at, and not hashed.
const BESIDE_BODY_MAX: u64 = 128 << 10;

/// What the group has for a key.
struct Given<'a> {
    /// The log as it was when the group looked.
    ticket: bridge_api::Ticket,
    tags: &'a [String],
    resident_ms: u64,
    stale_ms: Option<u64>,
    payload: &'a [u8],
}

impl Stream {
    /// What a read becomes that wasn't answered here. The request's header bytes are added by the caller, who lends them
    /// to `reading`.
    pub(super) fn question(
        &mut self,
        reading: &Reading<'_>,
        nothing: Nothing,
        request: &Fields<'_>,
        now_ms: u64,
    ) -> Option<Question> {
        let Nothing { ticket, trusted, candidate, why, detail, flight } = nothing;
        // It carries `Authorization`, and what is stored isn't for everybody.
        let detail = detail.or((why == Forward::Bypass).then_some("credentials"));
        let failover = reading.terms().failover && !self.is_fetch() && trusted;
        let (why, detail) = if failover { (Forward::Bypass, Some(FAILOVER)) } else { (why, detail) };
        match reading.tags().and_then(|tags| Ok((tags, reading.around()?))) {
            Ok((tags, around)) => {
                let uses = match reading.rule().min_uses {
                    _ if self.fetched_for.is_some() => u8::MAX,
                    ..=1 => u8::MAX,
                    _ => {
                        let mut worker = self.instance.worker.borrow_mut();
                        worker.uses.get_or_insert_default().count(reading.wanted.key.hash())
                    }
                };
                let part = match Part::of(reading, request, ticket, candidate.as_deref()) {
                    _ if self.is_fetch() => Part::None, // who has asked for it may wait itself
                    // A write elsewhere may have been released since the fetch that it would wait for began.
                    Part::Guest | Part::Full if !trusted && self.instance.policy().purge_heard => Part::Alone,
                    part => part,
                };
                self.flight = Some(Flight::new(flight, reading.lock(), now_ms));
                Some(Question {
                    part,
                    wanted: reading.wanted.clone(),
                    elsewhere: Vec::new(),
                    ticket,
                    tags,
                    around,
                    target: reading.stripped(),
                    uses,
                    origin: reading.origin(),
                    request: Vec::new(),
                    candidate: candidate.map(|replay| Candidate { replay, asked: false }),
                    why,
                    detail,
                    trusted,
                    asked_ms: now_ms,
                    asked_wall_ms: host::wall_ms(),
                })
            }
            Err(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
                None
            }
        }
    }

    /// Asks the group, if it may be asked; else the origin.
    pub(super) fn ask(&mut self, mut question: Question) -> Action {
        let mut key = question.wanted.key.clone();
        if let Some(base) = question.wanted.search.as_ref().and_then(Search::base) {
            // What tells of other keys comes first.
            question.elsewhere = vec![key];
            key = base;
        }
        if let Some(lease) = self.lease_of_refresh(&question) {
            question.elsewhere.push(mem::replace(&mut key, lease));
        }
        match question.trusted.then(|| self.lookup(&question, &key)).flatten() {
            Some(token) => {
                self.state = State::Asking { question, key, token };
                Action::Pause
            }
            None => self.forward(question, None),
        }
    }

    fn lookup(&mut self, question: &Question, key: &CacheKey) -> Option<u32> {
        let timeout_ms = self.instance.policy().bridge.as_ref()?.timeout_ms.into();
        let worker = self.instance.worker.borrow();
        let hashes: Vec<u64> = question.tags.iter().map(|tag| tag_hash(tag)).collect();
        (!worker.purges.is_pending(&hashes)).then_some(())?;
        let request = LookupRequest {
            namespace: self.instance.namespace.clone(),
            key: key.as_str().to_owned(),
            tags: question.tags.clone(),
            known: worker.purges.known().map(bridge::to_api),
            // Of several keys, that of the last one.
            lease: match key.is_of_refresh() {
                true => self.instance.policy().background.as_ref().map(|background| background.timeout_ms.into()),
                false => self.leases_in_group().filter(|_| question.elsewhere.is_empty()),
            }
            .map(|ttl_ms| LeaseRequest { holder: self.holder(key), ttl_ms }),
            soft: true,
        };
        drop(worker);
        let token = self.instance.ask_bridge(LOOKUP, &request, timeout_ms);
        if let (Some(flight), Some(LeaseRequest { holder, .. })) = (&mut self.flight, request.lease) {
            let LookupRequest { namespace, key, .. } = request;
            flight.leased = token.map(|_| ReleaseRequest { namespace, key, holder, pass_ms: None });
        }
        token
    }

    /// By which name it asks for a key's lease: that of whoever it may have one from.
    fn holder(&self, key: &CacheKey) -> Holder {
        let leased = self.flight.as_ref().and_then(|flight| flight.leased.as_ref());
        leased.filter(|leased| leased.key == key.as_str()).map_or_else(|| Holder(random()), |leased| leased.holder)
    }

    /// Asks about the next of several keys; the question, if there is none.
    pub(super) fn ask_elsewhere(&mut self, mut question: Question) -> Option<Question> {
        let Some(key) = question.elsewhere.pop() else { return Some(question) };
        question.wanted.key = key.clone();
        let Some(token) = self.lookup(&question, &key) else { return Some(question) };
        self.state = State::Asking { question, key, token };
        None
    }

    /// Judges what the group holds, once more now that it is here: a purge may have come meanwhile, and the tags that only
    /// the response names are known only now.
    fn judge(
        &self,
        question: &mut Question,
        rule: &CacheRule,
        key: &CacheKey,
        Given { ticket: now, tags, resident_ms, stale_ms, payload }: Given<'_>,
    ) -> Option<Found> {
        let instance = &*self.instance;
        let now_ms = host::monotonic_ms();
        let bytes_max = instance.engine.body_bytes_max(rule).saturating_add(BESIDE_BODY_MAX);
        let fits = u64::try_from(payload.len()).is_ok_and(|bytes| bytes <= bytes_max);
        if !fits && Entry::is_all_there(unsealed(payload).0) {
            return None; // of a gateway that takes longer ones
        }
        let opened = if fits { instance.opened(key.as_str(), tags, now, payload) } else { None };
        let made = opened.as_ref().and_then(|opened| opened.made);
        let Some(stored) = opened.and_then(|opened| Entry::decode(opened.entry.to_vec()).ok()) else {
            instance.discard(key, now);
            return None;
        };
        let mut worker = instance.worker.borrow_mut();
        worker.follow(&instance.shared)?;
        let others = tags.iter().filter(|tag| !question.tags.contains(tag));
        let tags: Vec<&str> = question.tags.iter().chain(others).map(String::as_str).collect();
        let resident_ms = if planted("residence_forgotten") { 0 } else { resident_ms };
        let sealed_ms = made.map_or(0, |made| made.resident_ms(host::wall_ms()));
        let older_ms = resident_ms.saturating_add(now_ms.saturating_sub(question.asked_ms)).max(sealed_ms);
        let ticket = if planted("l2_ticket_late") { worker.purges.ticket() } else { question.ticket };
        // Of the group's word that nothing has purged it since, the seal vouches for none.
        let as_of = made.and_then(|made| worker.purges.as_of(made.at));
        let ticket = ticket.map(|ticket| as_of.filter(|as_of| as_of.position < ticket.position).unwrap_or(ticket));
        // As if it had come here when the group got it, or when this clock began: it is no younger for having lain there.
        let since_ms = now_ms.saturating_sub(older_ms);
        let entry = stored.adopted(ticket?, older_ms.saturating_sub(now_ms), since_ms, &tags)?;
        // Counted from when it was asked for: rather too early than too late.
        let stale = stale_ms.and_then(|stale_ms| entry.softened(question.asked_ms.saturating_sub(stale_ms)));
        let entry = stale.unwrap_or(entry);
        if worker.purges.is_pending(entry.tags()) && !planted("arrival_unchecked") {
            return None;
        }
        let replay = Rc::new(Replay::new(entry, &rule.terms));
        let replay = softened(&replay, &rule.terms, &worker.purges).unwrap_or(replay);
        let wanted = &question.wanted;
        if let Some((theirs, search)) = variances_of(wanted, replay.entry()).zip(wanted.search.as_ref()) {
            let held = worker.entries.peek(key.hash()).and_then(|held| variances_of(wanted, held.entry()));
            let all = held.unwrap_or_default().merged(theirs);
            // The last one is where an answer would stand, by what was said last.
            let keys: Vec<CacheKey> = all.keys(search).collect();
            let keys = keys.into_iter().rev().chain(mem::take(&mut question.elsewhere)).collect();
            if let Some(told) = replay.entry().with_body(&all.encode()) {
                instance.shared.keep(key.hash(), &told, now_ms);
                worker.hold(key.hash(), Rc::new(Replay::new(told, &rule.terms)));
            }
            question.elsewhere = keys;
            return None;
        }
        let request = Fields::decode(&question.request).unwrap_or_default();
        let found = judge((&question.wanted, key), (&request, &rule.terms), &replay, &worker.purges, now_ms);
        let theirs = variants_of(&question.wanted, replay.entry()).filter(|_| worker.purges.admits(replay.entry()));
        let replay = match theirs {
            // What the group knows of variants, and what this gateway knows.
            Some(theirs) => {
                let held = worker.entries.peek(key.hash()).and_then(|held| variants_of(&question.wanted, held.entry()));
                let all = held.unwrap_or_default().merged(theirs);
                replay.entry().with_body(&all.encode()).map(|entry| Rc::new(Replay::new(entry, &rule.terms)))
            }
            None => matches!(found, Found::Answer(_)).then_some(replay),
        };
        if let Some(replay) = replay {
            instance.shared.keep(key.hash(), replay.entry(), now_ms);
            worker.hold(key.hash(), replay);
        }
        Some(found)
    }

    /// Handles the bridge's answer about `key`.
    pub(super) fn heard(&mut self, mut question: Question, key: &CacheKey, body: Option<Vec<u8>>) {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return };
        let body = body.unwrap_or_default();
        let said = bridge::read::<LookupReply>(&body);
        instance.bridge_answered(said.is_some());
        let (group, lease) = match said {
            Some((LookupReply::Hit { ticket, tags, resident_ms, stale_ms }, payload)) => {
                if let Some(flight) = &mut self.flight {
                    flight.leased.take_if(|leased| leased.key == key.as_str()); // there was no need for one
                }
                let given = Given { ticket, tags: &tags, resident_ms, stale_ms, payload };
                match self.judge(&mut question, rule, key, given) {
                    Some(Found::Answer(replay)) if rule.terms.failover && !self.is_fetch() => {
                        let held = question.candidate.take().map(|candidate| candidate.replay);
                        question.candidate = newer(held, Some(replay)).map(|replay| Candidate { replay, asked: false });
                    }
                    Some(Found::Answer(replay)) => {
                        let request = Fields::decode(&question.request).unwrap_or_default();
                        let now_ms = host::monotonic_ms();
                        let told = self.hit(replay.entry(), Tier::Group, now_ms);
                        if self.reply(&replay, &rule.terms, &request, &told, details(Tier::Group), now_ms) {
                            if self.is_due(&question.wanted, &rule.terms, &replay, now_ms) {
                                self.refresh(&question.wanted, &request, &replay, now_ms);
                            }
                            return self.land(Outcome::Stored);
                        }
                    }
                    Some(Found::Elsewhere(variant)) if *key == question.wanted.key => {
                        if let Some(token) = self.lookup(&question, &variant) {
                            self.state = State::Asking { question, key: variant, token };
                            return;
                        }
                    }
                    Some(Found::None(_, Some(theirs)))
                        if self.is_fetch() && self.adopt(&question, &rule.terms, &theirs) =>
                    {
                        return;
                    }
                    Some(Found::None(why, candidate)) => {
                        if !rule.terms.failover {
                            question.why = why;
                        }
                        let held = question.candidate.take().map(|candidate| candidate.replay);
                        question.candidate = newer(held, candidate).map(|replay| Candidate { replay, asked: false });
                    }
                    Some(Found::Elsewhere(_)) | None => {}
                }
                (Some(GroupTicket::heard(ticket)), None)
            }
            Some((LookupReply::Miss { ticket, lease }, _)) => (Some(GroupTicket::heard(ticket)), lease),
            Some((LookupReply::Behind, _)) | None => (None, None),
        };
        if key.is_of_refresh()
            && let Some(token) = self.leased(&question, key, lease)
        {
            self.state = State::AskingLater { question, token };
            return;
        }
        if group.is_some() {
            question = match self.ask_elsewhere(question) {
                Some(question) => question,
                None => return,
            };
        }
        if self.has_waited_for_refresh() {
            if group.is_none() || !self.try_again() {
                return self.say(Kind::Failed);
            }
            if self.ask(question) == Action::Continue {
                host::resume(Direction::Request);
            }
            return;
        }
        if let Some(exact) = question.wanted.search.as_ref().and_then(Search::exact) {
            question.wanted.key = exact;
        }
        let action = match self.leased(&question, key, lease) {
            Some(token) => {
                self.state = State::AskingLater { question, token };
                Action::Pause
            }
            None if self.is_late(lease) => self.late(question, "lock-wait"),
            None => self.forward(question, group),
        };
        if action == Action::Continue {
            host::resume(Direction::Request);
        }
    }
}
