//! Asking the group about a key, while the request is paused.

use std::rc::Rc;
use std::time::Duration;

use bridge_api::{LOOKUP, LookupReply, LookupRequest};
use proxy_wasm::types::Action;
use routecache_core::cache_status::{CacheStatus, Forward, Tier};
use routecache_core::entry::Entry;
use routecache_core::fields::Fields;
use routecache_core::key::{CacheKey, tag_hash};
use routecache_core::planted::planted;
use routecache_core::policy::CacheRule;
use routecache_core::reply::Replay;
use routecache_core::request::Reading;

use super::look::{FAILOVER, Nothing, details, newer, ttl_s};
use super::{Question, State, Stream};
use crate::bridge;
use crate::host::{self, Direction};
use crate::lookup::{Candidate, Found, judge, variants_of};

impl Stream {
    /// What a read becomes that wasn't answered here. The request's header bytes are added by the caller, who lends them
    /// to `reading`.
    pub(super) fn question(
        &mut self,
        reading: &Reading<'_>,
        nothing: Nothing,
        now_ms: u64,
    ) -> Option<(Question, bool)> {
        let Nothing { ticket, trusted, candidate, why, detail } = nothing;
        // It carries `Authorization`, and what is stored isn't for everybody.
        let detail = detail.or((why == Forward::Bypass).then_some("credentials"));
        let failover = reading.terms().failover && !self.is_fetch && trusted;
        let (why, detail) = if failover { (Forward::Bypass, Some(FAILOVER)) } else { (why, detail) };
        match reading.tags().and_then(|tags| Ok((tags, reading.around()?))) {
            Ok((tags, around)) => {
                let uses = match reading.rule().min_uses {
                    _ if self.is_fetch => u8::MAX,
                    ..=1 => u8::MAX,
                    _ => {
                        let mut worker = self.instance.worker.borrow_mut();
                        worker.uses.get_or_insert_default().count(reading.wanted.key.hash())
                    }
                };
                let question = Question {
                    wanted: reading.wanted.clone(),
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
                    asked_ms: now_ms,
                    asked_wall_ms: host::wall_ms(),
                };
                Some((question, trusted))
            }
            Err(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
                None
            }
        }
    }

    /// Asks the group, if it may be asked; else the origin.
    pub(super) fn ask(&mut self, question: Question, trusted: bool) -> Action {
        let key = question.wanted.key.clone();
        match trusted.then(|| self.lookup(&question, &key)).flatten() {
            Some(token) => {
                self.state = State::Asking { question, key, token };
                Action::Pause
            }
            None => self.forward(question, None),
        }
    }

    fn lookup(&self, question: &Question, key: &CacheKey) -> Option<u32> {
        let bridge = self.instance.policy().bridge.as_ref()?;
        let worker = self.instance.worker.borrow();
        let hashes: Vec<u64> = question.tags.iter().map(|tag| tag_hash(tag)).collect();
        (!worker.purges.is_pending(&hashes)).then_some(())?;
        let request = LookupRequest {
            namespace: self.instance.namespace.clone(),
            key: key.as_str().to_owned(),
            tags: question.tags.clone(),
            known: worker.purges.known().map(bridge::to_api),
            lease: None,
        };
        bridge::call(&bridge.cluster, LOOKUP, &request, &[], Duration::from_millis(bridge.timeout_ms.into()))
    }

    /// Judges what the group holds, once more now that it is here: a purge may have come meanwhile, and the tags that only
    /// the response names are known only now.
    fn judge(
        &self,
        question: &Question,
        rule: &CacheRule,
        key: &CacheKey,
        (tags, resident_ms, payload): (&[String], u64, &[u8]),
    ) -> Option<Found> {
        let instance = &*self.instance;
        let now_ms = host::monotonic_ms();
        let mut worker = instance.worker.borrow_mut();
        worker.follow(&instance.shared)?;
        let mut hashes: Vec<u64> = question.tags.iter().chain(tags).map(|tag| tag_hash(tag)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let resident_ms = if planted("residence_forgotten") { 0 } else { resident_ms };
        let older_ms = resident_ms.saturating_add(now_ms.saturating_sub(question.asked_ms));
        let stored = Entry::decode(payload.to_vec()).ok()?;
        let ticket = if planted("l2_ticket_late") { worker.purges.ticket() } else { question.ticket };
        let entry = stored.adopted(ticket?, older_ms, now_ms, &hashes)?;
        if worker.purges.is_pending(&hashes) && !planted("arrival_unchecked") {
            return None;
        }
        let request = Fields::decode(&question.request).unwrap_or_default();
        let replay = Rc::new(Replay::new(entry, &rule.terms));
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
    pub(super) fn heard(&mut self, mut question: Question, key: &CacheKey, header_count: usize, body_len: usize) {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return };
        let body = bridge::answer(header_count, body_len).unwrap_or_default();
        let group = match bridge::read::<LookupReply>(&body) {
            Some((LookupReply::Hit { ticket, tags, resident_ms }, payload)) => {
                match self.judge(&question, rule, key, (&tags, resident_ms, payload)) {
                    Some(Found::Answer(replay)) if rule.terms.failover && !self.is_fetch => {
                        let held = question.candidate.take().map(|candidate| candidate.replay);
                        question.candidate = newer(held, Some(replay)).map(|replay| Candidate { replay, asked: false });
                    }
                    Some(Found::Answer(replay)) => {
                        let request = Fields::decode(&question.request).unwrap_or_default();
                        let now_ms = host::monotonic_ms();
                        let told =
                            CacheStatus::Hit { ttl_s: ttl_s(replay.entry(), now_ms), detail: Tier::Group.word() };
                        if self.reply(&replay, &rule.terms, &request, &told, details(Tier::Group), now_ms) {
                            if self.is_due(&question.wanted, &rule.terms, &replay, now_ms) {
                                self.refresh(&question.wanted, &request, &replay, now_ms);
                            }
                            return;
                        }
                    }
                    Some(Found::Elsewhere(variant)) if *key == question.wanted.key => {
                        if let Some(token) = self.lookup(&question, &variant) {
                            self.state = State::Asking { question, key: variant, token };
                            return;
                        }
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
                Some(ticket)
            }
            Some((LookupReply::Miss { ticket, .. }, _)) => Some(ticket),
            Some((LookupReply::Behind, _)) | None => None,
        };
        if self.forward(question, group) == Action::Continue {
            host::resume(Direction::Request);
        }
    }
}
