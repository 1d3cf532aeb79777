//! The other end of a fetch of the filter's own: it comes in as a request, fills the tiers, and is answered with a word.

use std::rc::Rc;

use proxy_wasm::types::Action;
use routecache_core::fetch::{FETCH, Kind, Manner, Mark, Outcome, is_failure};
use routecache_core::fields::{Fields, encode};
use routecache_core::flights;
use routecache_core::key::{CacheKey, hash_of};
use routecache_core::policy::{CacheRule, Reach, Terms};
use routecache_core::refresh::{due, supersedes};
use routecache_core::reply::Replay;
use routecache_core::storing::content_length;

use super::tell::{from_origin, status_of};
use super::{Accepted, Fill, Flight, Question, State, Stream};
use crate::bridge::GroupTicket;
use crate::host::{self, Map};
use crate::lookup::Candidate;
use crate::random;

const DETAILS: &str = "routecache_fetched";

/// What the origin's response to a fetch is.
pub(super) enum Meant {
    /// To be kept, if it is whole.
    Kept(Accepted),
    /// No more than a word about what is stored.
    Done(Kind),
}

impl Stream {
    /// Takes the mark away from a request, and notes whether it is one of the filter's own. Returns the header as its
    /// client sent it, and as the origin gets it.
    pub(super) fn unmask(&mut self, fields: &Fields<'_>) -> Vec<u8> {
        host::remove_header(Map::Request, FETCH.as_bytes());
        let secret = fields.only(FETCH).zip(self.instance.shared.secret());
        let mark = secret.and_then(|(value, secret)| Mark::read(value, secret));
        self.fetched_for = mark.map(|mark| mark.manner);
        let scheme = mark.map(|mark| if mark.https { "https" } else { "http" });
        let hidden = |name: &[u8]| {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            is(FETCH) || scheme.is_some() && is("x-forwarded-proto")
        };
        let mut lines: Vec<_> = fields.iter().filter(|(name, _)| !hidden(name)).collect();
        if let Some(scheme) = scheme {
            host::replace_header(Map::Request, "x-forwarded-proto", scheme.as_bytes());
            lines.push((b"x-forwarded-proto", scheme.as_bytes()));
        }
        encode(&lines)
    }

    /// Answers a fetch that isn't worth the origin's time: nothing of it could be stored.
    pub(super) fn decline(&mut self) -> Action {
        self.say(Kind::Uncacheable);
        Action::Pause
    }

    /// Answers a fetch for which the origin isn't asked.
    pub(super) fn say(&mut self, kind: Kind) {
        self.withdraw();
        self.respond(200, DETAILS, &Outcome { kind, status: 0, whole: false }.header(false), b"");
    }

    /// The key of the lease under which the group fetches anew what is stored, where the lock reaches so far.
    pub(super) fn lease_of_refresh(&self, question: &Question) -> Option<CacheKey> {
        let stored = question.candidate.as_ref().filter(|_| self.is_fetch())?;
        let reach = self.flight.as_ref()?.lock.reach;
        CacheKey::of_refresh(stored.replay.entry().key()).filter(|_| reach == Reach::Group)
    }

    /// Whether it has waited for another gateway's fetch, and fetches nothing itself.
    pub(super) fn has_waited_for_refresh(&self) -> bool {
        let waited = |flight: &Flight| flight.waited.is_some() && flight.leased.is_none();
        self.is_fetch() && self.flight.as_ref().is_some_and(waited)
    }

    /// Another gateway's fetch, for which it has waited, came to nothing: whether it may be the one that tries once more.
    pub(super) fn try_again(&mut self) -> bool {
        let Some(flight) = &mut self.flight else { return false };
        flight.rounds = flight.rounds.saturating_add(1);
        flight.rounds == 1
    }

    /// Keeps what another gateway has fetched since this one has, if there is such a thing, and is done.
    pub(super) fn adopt(&mut self, question: &Question, terms: &Terms, theirs: &Rc<Replay>) -> bool {
        let Some(ours) = &question.candidate else { return false };
        let now_ms = host::monotonic_ms();
        let entry = theirs.entry();
        // What is to be validated for each request, or is due itself, may be shared by those who waited for that, and by nobody
        // else.
        let is_due = entry.freshness().no_cache || due(entry, terms, now_ms, random).is_some();
        if is_due && !self.has_waited_for_refresh() || !supersedes(entry, ours.replay.entry(), now_ms) {
            return false;
        }
        self.instance.shared.keep(hash_of(entry.key()), entry, now_ms);
        self.instance.worker.borrow_mut().hold(hash_of(entry.key()), Rc::clone(theirs));
        self.say(Kind::Stored);
        true
    }

    /// Handles the header of the origin's response.
    pub(super) fn receive_fetched(
        &mut self,
        question: Question,
        group: Option<GroupTicket>,
        end_of_stream: bool,
    ) -> Action {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return Action::Continue };
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header).unwrap_or_default();
        let status = status_of(&fields);
        let kind = match self.meant(&question, group, rule, &fields, status, from_origin()) {
            Meant::Done(kind) => kind,
            Meant::Kept(accepted) => {
                let outcome = Outcome { kind: Kind::Stored, status, whole: false };
                host::set_header_map(Map::Response, &outcome.header(true));
                self.fill(Fill::new(question, group, accepted, status, header), end_of_stream);
                return Action::Continue;
            }
        };
        let limit = instance.policy().limits.body_bytes_max;
        let short = content_length(&fields).is_ok_and(|length| length.is_some_and(|length| length <= limit));
        if kind != Kind::Stored && status != 304 && self.fetched_for == Some(Manner::Waits) && (end_of_stream || short)
        {
            // Rather than that the client has to ask again.
            let outcome = Outcome { kind, status, whole: true };
            host::replace_header(Map::Response, FETCH, outcome.value().as_bytes());
            return Action::Continue;
        }
        self.report(Outcome { kind, status, whole: false }, end_of_stream)
    }

    /// Finds out what the origin's response is for what is stored.
    pub(super) fn meant(
        &mut self,
        question: &Question,
        group: Option<GroupTicket>,
        rule: &CacheRule,
        fields: &Fields<'_>,
        status: u16,
        from_origin: bool,
    ) -> Meant {
        let stored = question.candidate.as_ref().map(|candidate| Rc::clone(&candidate.replay));
        let asked = matches!(question.candidate, Some(Candidate { asked: true, .. }));
        match stored {
            Some(stored) if status == 304 && asked => {
                let (renewed, outcome) = self.renew(question, group, rule, &stored, fields);
                self.land(outcome);
                // What a purge has overtaken is for sharing all the same, as a fill is that one overtakes.
                let shared = renewed.is_some() && outcome != flights::Outcome::Uncacheable;
                Meant::Done(if shared { Kind::Stored } else { Kind::Uncacheable })
            }
            _ if is_failure(status) || !from_origin => Meant::Done(Kind::Failed),
            stored => {
                if let Some(Ok(accepted)) = self.accepted(question, rule, fields, status) {
                    return Meant::Kept(accepted);
                }
                // The origin says something else by now, but not for us to keep: what is stored has had its time.
                if let Some(stored) = stored
                    && self.outdate(question, group, rule, stored.entry())
                {
                    self.land(flights::Outcome::Stored);
                }
                Meant::Done(Kind::Uncacheable)
            }
        }
    }

    /// Says what became of the fetch; a body that is still to come is of no use.
    fn report(&mut self, outcome: Outcome, end_of_stream: bool) -> Action {
        if !end_of_stream && from_origin() && host::send_response(200, DETAILS, &outcome.header(false), b"") {
            return Action::Pause;
        }
        host::set_header_map(Map::Response, &outcome.header(true));
        if !end_of_stream {
            self.state = State::Replacing(Vec::new());
        }
        Action::Continue
    }
}
