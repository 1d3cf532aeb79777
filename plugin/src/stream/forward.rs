//! Sending a request to the origin.

use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::cache_status::CACHE_NAME;
use routecache_core::fetch::{Edit, Manner};
use routecache_core::fields;
use routecache_core::flights::Outcome;
use routecache_core::planted::planted;
use routecache_core::policy::{CacheRule, RangeMiss};
use routecache_core::targeted::SURROGATE_CONTROL;
use routecache_core::validation::Validators;

use super::collapse::Part;
use super::revalidate::Asked;
use super::{Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::collapse::Turn;
use crate::host::{self, Map};

impl Stream {
    /// Sends the request on when it is its turn, or not at all (RFC 9111 §5.2.1.7).
    pub(super) fn forward(&mut self, question: Question, group: Option<GroupTicket>) -> Action {
        if question.wanted.control.only_if_cached {
            // Neither a hit nor forwarded (RFC 9211 §2).
            let status = format!("{CACHE_NAME}; detail=only-if-cached");
            let header = fields::encode(&[(b"cache-status", status.as_bytes()), (b"content-type", b"text/plain")]);
            let body = b"nothing is stored that answers this request, and it asks for nothing else\n";
            if host::send_response(504, "routecache_only_if_cached", &header, body) {
                return Action::Pause;
            }
        }
        if let (Part::Full | Part::Alone, Some(flight), false) = (question.part, &self.flight, self.counted) {
            match self.instance.turn(self.id, flight.until_ms) {
                _ if planted("warm_uncounted") && self.fetched_for == Some(Manner::Reads) => {}
                Turn::Now { counted } => self.counted = counted,
                Turn::Later => {
                    self.state = State::Queueing { question, group };
                    return Action::Pause;
                }
                Turn::Never => return self.late(question, "fills"),
            }
        }
        self.send_on(question, group)
    }

    /// Sends the request on at once, with the validators of what is stored (RFC 9111 §4.3.1).
    pub(super) fn send_on(&mut self, mut question: Question, group: Option<GroupTicket>) -> Action {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return Action::Continue };
        if let Some(flight) = &mut self.flight {
            flight.began_ms = question.asked_ms;
        }
        if rule.terms.failover && self.fetched_for.is_none() {
            // What the client wants is the origin's answer to its own request.
            self.state = State::Filling { question, group };
            return Action::Continue;
        }
        match self.revalidate(&question, rule) {
            Asked::Origin(token) => {
                self.state = State::Fetching { question, group, token: Some(token) };
                return Action::Pause;
            }
            Asked::Root => {
                self.state = State::Fetching { question, group, token: None };
                return Action::Pause;
            }
            Asked::Answered => {
                self.land(Outcome::Failed);
                return Action::Pause;
            }
            Asked::Nothing => {}
        }
        let edits = edits(&mut question, rule);
        if self.is_straight() {
            return self.go_straight(question, group, &edits);
        }
        for edit in &edits {
            match edit {
                Edit::Replace(name, value) => host::replace_header(Map::Request, name, value),
                Edit::Remove(name) => host::remove_header(Map::Request, name.as_bytes()),
                Edit::Add(name, value) => host::add_header(Map::Request, name, value),
            }
        }
        self.state = State::Filling { question, group };
        Action::Continue
    }
}

/// What the origin gets otherwise than the client sent it.
fn edits(question: &mut Question, rule: &CacheRule) -> Vec<Edit> {
    let mut edits = Vec::new();
    if let Some(target) = question.target.take() {
        edits.push(Edit::Replace(":path", target.into_bytes()));
    }
    if rule.reads_response_body() {
        // What is compressed can't be read; a gateway compresses behind this filter.
        edits.push(Edit::Remove("accept-encoding"));
    }
    // A POST has no conditions (RFC 9110 §13.2.1).
    if let Some(candidate) = question.candidate.as_mut().filter(|_| !question.wanted.is_post) {
        let header = candidate.replay.entry().header();
        let validators = Validators::of(&header);
        if !validators.is_empty() {
            candidate.asked = true;
            // In place of the client's own, which are judged against what comes back.
            for (name, value) in [("if-none-match", validators.etag), ("if-modified-since", validators.last_modified)] {
                edits.push(value.map_or(Edit::Remove(name), |value| Edit::Replace(name, value.to_vec())));
            }
        }
    }
    if rule.terms.range_miss == RangeMiss::Whole && question.wanted.is_get {
        edits.extend([Edit::Remove("range"), Edit::Remove("if-range")]);
    }
    if rule.terms.targeted.iter().any(|name| name == SURROGATE_CONTROL) {
        edits.push(Edit::Add("surrogate-capability", format!("{CACHE_NAME}=\"Surrogate/1.0\"")));
    }
    edits
}
