//! A stored response that answers after the origin was asked: it still holds, or the origin fails.

use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::cache_status::CacheStatus;
use routecache_core::entry::{Entry, Freshness, Parts};
use routecache_core::fields::{self, Fields, Line};
use routecache_core::flights::Outcome;
use routecache_core::freshness::{Response, initial_age_ms};
use routecache_core::planted::planted;
use routecache_core::policy::CacheRule;
use routecache_core::reply::{Answer, Replay};
use routecache_core::storing::{self, storable};
use routecache_core::validation::{freshened, head_agrees};

use super::fill::{all_tags, asked};
use super::tell::{Asker, shown};
use super::{Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::host::{self, Map};
use crate::keep;

impl Stream {
    /// The origin says that the stored response still holds: it is stored anew with the fields that came (RFC 9111
    /// §4.3.4), and answers the request.
    pub(super) fn validated(
        &mut self,
        question: &Question,
        group: Option<GroupTicket>,
        rule: &CacheRule,
        stored: &Rc<Replay>,
        fields: &Fields<'_>,
        end_of_stream: bool,
    ) -> Action {
        let (entry, outcome) = self.renew(question, group, rule, stored, fields);
        let replay = match entry {
            Some(entry) => Rc::new(stored.renewed(entry, &rule.terms)),
            None => Rc::clone(stored),
        };
        self.land(outcome);
        let told = shown(question, Asker::Here(304), replay.entry(), outcome == Outcome::Stored, None);
        self.answer_instead(question, rule, &replay, &told, end_of_stream)
    }

    /// What is stored, with the fields of a 304 or of the response to a HEAD; and what has become of it. Like any
    /// fill, it has the ticket of the lookup with which it began.
    pub(super) fn renew(
        &mut self,
        question: &Question,
        group: Option<GroupTicket>,
        rule: &CacheRule,
        stored: &Rc<Replay>,
        newer: &Fields<'_>,
    ) -> (Option<Entry>, Outcome) {
        let (old, now_ms) = (stored.entry(), host::monotonic_ms());
        let header = old.header();
        let (control, _) = storing::control(newer, rule);
        let about_it = question.wanted.is_get || head_agrees(&header, old.body().len(), newer);
        let Some(lines) = freshened(&header, newer, &control).filter(|_| about_it) else {
            if !about_it {
                self.outdate(question, group, rule, old); // §4.3.5
            }
            return (None, Outcome::Unkept);
        };
        // `Age` isn't stored, and counts.
        let judged: Vec<_> = lines.iter().copied().chain(newer.all("age").map(|age| (&b"age"[..], age))).collect();
        let judged = Fields::from_pairs(judged);
        let response = Response {
            status: old.status(),
            fields: &judged,
            requested_ms: question.asked_wall_ms,
            received_ms: host::wall_ms(),
            body: Some(old.body()),
        };
        let freshness = storable(&response, rule, asked(question, rule), self.instance.engine.body_bytes_max(rule));
        let outcome = match freshness {
            Ok(freshness) if self.keep_renewed(question, group, rule, old, (&lines, freshness, now_ms)) => {
                Outcome::Stored
            }
            Ok(_) => Outcome::Unkept,
            Err(_) => Outcome::Uncacheable,
        };
        let freshness = freshness.unwrap_or(Freshness { age_ms: initial_age_ms(&response), ..old.freshness() });
        let entry = Entry::new(&Parts {
            ticket: old.ticket(),
            received_ms: now_ms,
            freshness,
            fingerprint: old.fingerprint(),
            status: old.status(),
            key: old.key(),
            tags: &old.tag_texts().collect::<Vec<_>>(),
            header: &lines,
            body: old.body(),
        });
        (entry, outcome)
    }

    /// Keeps what is stored for nothing but to be asked about.
    pub(super) fn outdate(
        &mut self,
        question: &Question,
        group: Option<GroupTicket>,
        rule: &CacheRule,
        old: &Entry,
    ) -> bool {
        let (header, now_ms) = (old.header(), host::monotonic_ms());
        let lines: Vec<_> = header.iter().collect();
        let outdated = Freshness { age_ms: old.age_ms(now_ms), ..old.freshness().outdated() };
        self.keep_renewed(question, group, rule, old, (&lines, outdated, now_ms))
    }

    fn keep_renewed(
        &mut self,
        question: &Question,
        group: Option<GroupTicket>,
        rule: &CacheRule,
        old: &Entry,
        (lines, freshness, received_ms): (&[Line<'_>], Freshness, u64),
    ) -> bool {
        let late = planted("renewed_late").then(|| self.instance.worker.borrow_mut().follow(&self.instance.shared));
        let Some(ticket) = late.flatten().map(|(_, ticket)| ticket).or(question.ticket) else { return false };
        let request = Fields::decode(&question.request).unwrap_or_default();
        let Ok(tags) = all_tags(question, rule, &Fields::from_pairs(lines.to_vec()), Some(old.body())) else {
            return false;
        };
        let response = keep::Response {
            ticket,
            group,
            received_ms,
            freshness,
            status: old.status(),
            tags: &tags,
            header: lines,
            body: old.body(),
        };
        self.keep(rule, question, &request, &response)
    }

    /// Whether what is stored may stand in for an error (RFC 5861 §4): within its window, and while no purge has reached
    /// it.
    pub(super) fn may_stand_in(&self, rule: &CacheRule, replay: &Replay) -> bool {
        let mut worker = self.instance.worker.borrow_mut();
        let known = worker.follow(&self.instance.shared).is_some();
        let (entry, now_ms) = (replay.entry(), host::monotonic_ms());
        let in_time = if rule.terms.failover { entry.may_fail_over(now_ms) } else { entry.may_replace_error(now_ms) };
        known && in_time && (worker.purges.admits(entry) || planted("purged_validated"))
    }

    /// Answers with what is stored, in place of the response whose header is here. In place if a body is still to come, or
    /// none is wanted: then all filters in front of this one see it as they would see a hit. Otherwise as a reply of its
    /// own, which a host sends past them.
    pub(super) fn answer_instead(
        &mut self,
        question: &Question,
        rule: &CacheRule,
        replay: &Rc<Replay>,
        told: &CacheStatus,
        end_of_stream: bool,
    ) -> Action {
        let request = Fields::decode(&question.request).unwrap_or_default();
        let mut block = Vec::new();
        if end_of_stream && question.wanted.is_get {
            let Answer { status, body } = replay.answer(&request, &rule.terms, told, host::monotonic_ms(), &mut block);
            if !body.is_empty() {
                host::send_response(status, "routecache_validated", &block, &body);
                return Action::Pause;
            }
        }
        // The route has added its lines to the response that this one replaces; so they come from what was stored.
        let stored = Replay::new(replay.entry().clone(), &rule.terms);
        let Answer { status, body } = stored.answer(&request, &rule.terms, told, host::monotonic_ms(), &mut block);
        let wants_body = question.wanted.is_get && !body.is_empty();
        let (code, length) = (status.to_string(), body.len().to_string());
        let mut lines = vec![(&b":status"[..], code.as_bytes())];
        let answer = Fields::decode(&block).unwrap_or_default();
        lines.extend(answer.iter());
        if !matches!(status, 204 | 304) {
            lines.push((b"content-length", length.as_bytes()));
        }
        host::set_header_map(Map::Response, &fields::encode(&lines));
        if !end_of_stream {
            self.state = State::Replacing(if wants_body { body.into_owned() } else { Vec::new() });
        }
        Action::Continue
    }
}
