//! The response of the origin, on its way into the tiers.

use std::borrow::Cow;
use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::cache_control::CacheControl;
use routecache_core::cache_status::CacheStatus;
use routecache_core::entry::Freshness;
use routecache_core::fetch::{is_error, is_failure};
use routecache_core::fields::Fields;
use routecache_core::flights::Outcome;
use routecache_core::freshness::Response;
use routecache_core::policy::{CacheRule, ClientCacheControl};
use routecache_core::reply::speaks_of_caching;
use routecache_core::request::response_tags;
use routecache_core::storing::{self, Asked, kept_fields, storable};

use super::look::FAILOVER;
use super::tell::{Asker, from_origin, shown, status_of, tell};
use super::{Accepted, Fill, Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::host::{self, Map};
use crate::keep;
use crate::lookup::Candidate;
use crate::random;

impl Stream {
    /// Handles the header of the origin's response: what it says of what is stored, and whether it is stored itself.
    pub(super) fn receive(&mut self, question: Question, group: Option<GroupTicket>, end_of_stream: bool) -> Action {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return Action::Continue };
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header).unwrap_or_default();
        let status = status_of(&fields);
        let from_origin = from_origin();
        let failed = match from_origin {
            true if question.ticket.is_none() && !is_failure(status) => Outcome::Gone, // it couldn't be kept anyway
            true => Outcome::Failed,
            false => Outcome::of_error(status),
        };
        if let Some(Candidate { replay, asked }) = question.candidate.clone() {
            if status == 304 && asked && from_origin {
                return self.validated(&question, group, rule, &replay, &fields, end_of_stream);
            }
            if is_error(status) && self.may_stand_in(rule, &replay) {
                self.land(failed);
                let told = shown(
                    &question,
                    Asker::Here(status),
                    replay.entry(),
                    false,
                    Some(if rule.terms.failover { FAILOVER } else { "stale-if-error" }),
                );
                return self.answer_instead(&question, rule, &replay, &told, end_of_stream);
            }
            if status == 200 && !question.wanted.is_get && from_origin {
                self.renew(&question, group, rule, &replay, &fields);
            }
        }
        let accepted = if from_origin { self.accepted(&question, rule, &fields, status) } else { None };
        tell_client(rule, &fields, status);
        match accepted {
            Some(Ok(accepted)) => {
                // What the body decides can't be told in the header.
                let detail = rule.reads_response_body().then_some("body-decides");
                tell(self.forwarded(&question, !rule.reads_response_body(), detail));
                self.fill(Fill::new(question, group, accepted, status, header), end_of_stream);
            }
            Some(Err(reason)) => {
                tell(self.forwarded(&question, false, Some(reason.word())));
                self.land(if is_failure(status) { failed } else { Outcome::Uncacheable });
            }
            None => {
                tell(self.forwarded(&question, false, None));
                self.land(failed);
            }
        }
        Action::Continue
    }

    /// Whether the origin's response may be stored; `None` if that wasn't in question.
    pub(super) fn accepted(
        &self,
        question: &Question,
        rule: &CacheRule,
        fields: &Fields<'_>,
        status: u16,
    ) -> Option<Result<Accepted, storing::NotStored>> {
        let ticket = question.ticket.filter(|_| question.wanted.is_get)?;
        let response =
            Response { status, fields, requested_ms: question.asked_wall_ms, received_ms: host::wall_ms(), body: None };
        let body_bytes_max = self.instance.engine.body_bytes_max(rule);
        let freshness = storable(&response, rule, asked(question, rule), body_bytes_max);
        Some(freshness.and_then(|freshness| {
            let tags = all_tags(question, rule, fields, None)?;
            Ok(Accepted { ticket, freshness, tags, body_bytes_max, received_wall_ms: response.received_ms })
        }))
    }

    /// Takes in the body of what may be stored.
    pub(super) fn fill(&mut self, fill: Fill, end_of_stream: bool) {
        if end_of_stream {
            let outcome = self.store(&fill);
            self.land(outcome);
        } else {
            self.state = State::Storing(fill);
        }
    }

    /// What `Cache-Status` says of a request that was forwarded.
    fn forwarded(&self, question: &Question, stored: bool, detail: Option<&'static str>) -> CacheStatus {
        let collapsed = self.flight.as_ref().and_then(|flight| flight.waited).map(|_| false);
        let detail = question.detail.or(detail);
        CacheStatus::Forwarded { why: question.why, status: None, stored, collapsed, ttl_s: None, detail }
    }

    /// Puts a complete response into the tiers, if it may be there.
    pub(super) fn store(&mut self, fill: &Fill) -> Outcome {
        let question = &fill.question;
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return Outcome::Failed };
        let fields = Fields::decode(&fill.header).unwrap_or_default();
        let request = Fields::decode(&question.request).unwrap_or_default();
        let length = u64::try_from(fill.body.len()).unwrap_or(u64::MAX);
        if storing::content_length(&fields).is_ok_and(|declared| declared.is_some_and(|declared| declared != length)) {
            return Outcome::Failed;
        }
        let Some((freshness, tags)) = decided(fill, rule, &fields) else { return Outcome::Uncacheable };
        let (control, _) = storing::control(&fields, rule);
        let response = keep::Response {
            ticket: fill.accepted.ticket,
            group: fill.group,
            received_ms: fill.received_ms,
            freshness,
            status: fill.status,
            tags: &tags,
            header: &kept_fields(&fields, &control),
            body: &fill.body,
        };
        match self.keep(rule, question, &request, &response) {
            true => Outcome::Stored,
            false => Outcome::Unkept,
        }
    }
}

/// How a complete response may be reused, and its tags; `None` where its body keeps it out.
fn decided<'f>(fill: &'f Fill, rule: &CacheRule, fields: &Fields<'_>) -> Option<(Freshness, Cow<'f, [String]>)> {
    let Fill { question, accepted, body, .. } = fill;
    if !rule.reads_response_body() {
        return Some((accepted.freshness, Cow::Borrowed(&accepted.tags)));
    }
    let response = Response {
        status: fill.status,
        fields,
        requested_ms: question.asked_wall_ms,
        received_ms: accepted.received_wall_ms,
        body: Some(body),
    };
    let freshness = storable(&response, rule, asked(question, rule), accepted.body_bytes_max).ok()?;
    Some((freshness, all_tags(question, rule, fields, Some(body)).ok()?.into()))
}

pub(super) fn asked(question: &Question, rule: &CacheRule) -> Asked {
    let [chance, ..] = if rule.jitter_percent > 0 { random().to_le_bytes() } else { [0; 8] };
    Asked {
        authorised: question.wanted.authorised,
        no_store: question.wanted.control.no_store,
        uses: question.uses,
        chance,
    }
}

/// The tags that the request decides, and those that the response names.
pub(super) fn all_tags(
    question: &Question,
    rule: &CacheRule,
    fields: &Fields<'_>,
    body: Option<&[u8]>,
) -> Result<Vec<String>, storing::NotStored> {
    let mut tags = question.tags.clone();
    tags.extend(response_tags(fields, body, rule, &question.around, &question.origin)?);
    Ok(tags)
}

/// Takes out of a forwarded response what is for this cache alone, and tells the client how to cache.
fn tell_client(rule: &CacheRule, fields: &Fields<'_>, status: u16) {
    let terms = &rule.terms;
    for (name, _) in fields.iter().filter(|(name, _)| terms.hides(name)) {
        host::remove_header(Map::Response, name);
    }
    let control = CacheControl::of(fields);
    // What the origin forbids stays forbidden, and an error isn't to be kept longer than it says.
    if control.private || control.no_store || control.no_cache || !(200..400).contains(&status) {
        return;
    }
    let told = match terms.client_cache_control {
        ClientCacheControl::Keep => return,
        ClientCacheControl::NoCache => "no-cache".to_owned(),
        ClientCacheControl::MaxAge(seconds) => format!("max-age={}", seconds.as_secs()),
    };
    for (name, _) in fields.iter().filter(|(name, _)| speaks_of_caching(name)) {
        host::remove_header(Map::Response, name);
    }
    host::replace_header(Map::Response, "cache-control", told.as_bytes());
}
