//! A paused request whose stored response is asked about by a fetch of the filter's own ([`crate::fetch`]). So it is
//! answered in the request phase, and its answer passes the filters in front of this one as a hit does.

use std::mem;
use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::cache_control::CacheControl;
use routecache_core::cache_status::CacheStatus;
use routecache_core::entry::{Entry, Freshness, Parts};
use routecache_core::fetch::{FETCH, Kind, Manner, Outcome, header_of, is_error};
use routecache_core::fields::Fields;
use routecache_core::flights;
use routecache_core::key::hash_of;
use routecache_core::policy::{CacheRule, ClientCacheControl, Terms};
use routecache_core::reply::Replay;
use routecache_core::storing::kept_fields;
use routecache_core::validation::Validators;

use super::look::ttl_s;
use super::tell::{Asker, shown, status_of};
use super::{Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::fetch::{self, Errand, Fetch};
use crate::host::{self, Buffer, Direction, Map};
use crate::worker::Job;

/// What is said of a reply that was fetched.
const DETAILS: &str = "routecache_validated";

/// What a stale answer to a request has led to.
pub(super) enum Asked {
    /// The origin is being asked about it, with this call.
    Origin(u32),
    /// The same, by the root context, which goes straight there.
    Root,
    /// It has answered, since the origin fails.
    Answered,
    /// Nothing: the request is to be forwarded.
    Nothing,
}

impl Stream {
    /// Fetches for a request that something stale would answer.
    pub(super) fn revalidate(&mut self, question: &Question, rule: &CacheRule) -> Asked {
        let now_ms = host::monotonic_ms();
        let wanted = &question.wanted;
        // A HEAD asks for itself, and renews what is stored by that (RFC 9111 §4.3.5).
        let may_fetch = wanted.is_get
            && wanted.may_refresh
            && wanted.fetched_ms.is_none()
            && self.instance.may_fetch(rule.origin.as_deref(), now_ms);
        let Some(candidate) = question.candidate.as_ref().filter(|_| may_fetch) else { return Asked::Nothing };
        let entry = candidate.replay.entry();
        // For an error that nothing may stand in for, nobody is to wait twice.
        let patient = !self.may_stand_in(rule, &candidate.replay);
        if patient && Validators::of(&entry.header()).is_empty() {
            return Asked::Nothing;
        }
        let key = hash_of(entry.key());
        if self.instance.worker.borrow().attempts.is_unshared(key, now_ms) {
            return Asked::Nothing;
        }
        if self.instance.worker.borrow().attempts.has_failed(key, now_ms) {
            // The origin failed a moment ago: nobody is to wait for that again where something may stand in.
            let failed = Outcome { kind: Kind::Failed, status: 0, whole: false };
            return if self.stand_in(question, rule, failed) { Asked::Answered } else { Asked::Nothing };
        }
        let request = Fields::decode(&question.request).unwrap_or_default();
        let (header, https) = (header_of(&request, false), question.wanted.https);
        if rule.origin.is_some() {
            // It goes on there when this client has gone.
            let fetch = Fetch { errand: Errand::Client(self.id), header, https };
            self.instance.worker.borrow_mut().leave(Job::Fetch(fetch));
            return Asked::Root;
        }
        let token = fetch::send(&self.instance, &header, https, Manner::Waits, patient);
        token.map_or(Asked::Nothing, Asked::Origin)
    }

    /// Handles the answer to the fetch.
    pub(super) fn fetched(
        &mut self,
        mut question: Question,
        group: Option<GroupTicket>,
        outcome: Result<Outcome, u16>,
        body_len: usize,
    ) {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return };
        question.wanted.fetched_ms = Some(question.asked_ms);
        // If something else has answered, that may be what forwarding leads to as well.
        let outcome = outcome.ok();
        instance.count_fetch(outcome.map(|outcome| outcome.kind));
        let now_ms = host::monotonic_ms();
        if let (Some(outcome), Some(candidate)) = (outcome, &question.candidate) {
            let key = hash_of(candidate.replay.entry().key());
            let attempts = &mut instance.worker.borrow_mut().attempts;
            match outcome.kind {
                Kind::Stored => attempts.succeed(key),
                Kind::Uncacheable => attempts.unshared(key, now_ms),
                Kind::Failed => attempts.fail(key, now_ms),
            }
        }
        let answered = match outcome {
            Some(outcome) if outcome.kind == Kind::Stored => self.answer_fetched(&question, rule, outcome),
            Some(outcome) => {
                outcome.kind == Kind::Failed && self.stand_in(&question, rule, outcome)
                    || outcome.whole && self.hand_over(&question, rule, outcome, body_len)
            }
            None => false,
        };
        if answered {
            return self.land(match outcome {
                Some(Outcome { kind: Kind::Stored, .. }) => flights::Outcome::Stored,
                Some(Outcome { kind: Kind::Uncacheable, .. }) => flights::Outcome::Uncacheable,
                outcome => flights::Outcome::of_error(outcome.map_or(0, |outcome| outcome.status)),
            });
        }
        if self.send_on(question, group) == Action::Continue {
            host::resume(Direction::Request);
        }
    }

    /// Hears from the root context what has become of its fetch.
    pub fn heard_back(&mut self, outcome: Result<Outcome, u16>, body_len: usize) {
        match mem::replace(&mut self.state, State::Passing) {
            State::Fetching { question, group, .. } => self.fetched(question, group, outcome, body_len),
            other => self.state = other,
        }
    }

    /// Answers with what the fetch has brought into the tiers; false if it isn't there, or a purge has come meanwhile.
    fn answer_fetched(&mut self, question: &Question, rule: &CacheRule, outcome: Outcome) -> bool {
        let request = Fields::decode(&question.request).unwrap_or_default();
        let now_ms = host::monotonic_ms();
        let Ok((replay, ..)) = self.find(&question.wanted, &rule.terms, &request, now_ms) else { return false };
        let told = shown(question, Asker::of(outcome), replay.entry(), true, None);
        self.reply(&replay, &rule.terms, &request, &told, DETAILS, now_ms)
    }

    /// Answers with the origin's response, which isn't for others.
    fn hand_over(&mut self, question: &Question, rule: &CacheRule, outcome: Outcome, body_len: usize) -> bool {
        let header = host::header_map(Map::CallResponse).unwrap_or_default();
        let fields = Fields::decode(&header).unwrap_or_default();
        let body = if body_len > 0 { host::buffer(Buffer::CallResponseBody, body_len) } else { Some(Vec::new()) };
        let lines = kept_fields(&fields, &CacheControl::default());
        let lines: Vec<_> =
            lines.into_iter().filter(|(name, _)| !name.eq_ignore_ascii_case(FETCH.as_bytes())).collect();
        let now_ms = host::monotonic_ms();
        let entry = body.zip(question.ticket).and_then(|(body, ticket)| {
            Entry::new(&Parts {
                ticket,
                received_ms: now_ms,
                freshness: Freshness::default(),
                fingerprint: 0,
                status: status_of(&fields),
                key: "",
                tags: &[],
                header: &lines,
                body: &body,
            })
        });
        // What the origin forbids browsers stays forbidden.
        let terms = Terms { client_cache_control: ClientCacheControl::Keep, ..rule.terms.clone() };
        let Some(replay) = entry.map(|entry| Rc::new(Replay::new(entry, &terms))) else { return false };
        let request = Fields::decode(&question.request).unwrap_or_default();
        let told = CacheStatus::forwarded(question.why, false, Some(outcome.kind.word()));
        self.reply(&replay, &terms, &request, &told, "routecache_forwarded", now_ms)
    }

    /// Answers with what is stale in place of an error, if it may be (RFC 5861 §4).
    pub(super) fn stand_in(&mut self, question: &Question, rule: &CacheRule, failed: Outcome) -> bool {
        let Some(candidate) = question.candidate.clone() else { return false };
        let replay = &candidate.replay;
        if !(failed.status == 0 || is_error(failed.status)) || !self.may_stand_in(rule, replay) {
            return false;
        }
        let request = Fields::decode(&question.request).unwrap_or_default();
        let now_ms = host::monotonic_ms();
        let detail = Some("stale-if-error");
        let told = match Asker::of(failed) {
            Asker::Elsewhere => CacheStatus::Hit { ttl_s: ttl_s(replay.entry(), now_ms), detail: "stale-if-error" },
            asker @ Asker::Here(_) => shown(question, asker, replay.entry(), false, detail),
        };
        self.reply(replay, &rule.terms, &request, &told, "routecache_stale", now_ms)
    }
}
