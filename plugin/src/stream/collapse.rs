//! One exchange among several that want the same: who fetches, and who waits until it is there.

use std::mem;
use std::rc::Rc;

use bridge_api::{Lease, ReleaseRequest, WAIT, WaitReply, WaitRequest};
use proxy_wasm::types::Action;
use routecache_core::cache_control::RequestControl;
use routecache_core::cache_status::{CACHE_NAME, Forward};
use routecache_core::entry::Ticket;
use routecache_core::fetch::{self, Kind};
use routecache_core::fields::{self, Fields};
use routecache_core::flights::{Join, Member, Outcome};
use routecache_core::key::CacheKey;
use routecache_core::leases::Claim;
use routecache_core::planted::planted;
use routecache_core::policy::{CacheRule, Lock, RangeMiss, Reach};
use routecache_core::reply::Replay;
use routecache_core::request::Reading;
use routecache_core::validation::Validators;

use super::{Flight, Question, State, Stream};
use crate::bridge;
use crate::collapse::{Landing, Woken};
use crate::host::{self, Direction};
use crate::keep;
use crate::lookup::{Candidate, newer};
use crate::metrics;

/// How often a request is woken and finds nothing before it fetches for itself.
const ROUNDS_MAX: u8 = 8;

/// How an exchange takes part in the fetch of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
pub(super) enum Part {
    /// Not at all: what answers it may be for it alone, or isn't stored.
    None,
    /// It fetches for itself, as its rule wants; that counts as one of the gateway's fetches.
    Alone,
    /// It may be answered by what others fetch; what it fetches isn't for others.
    Guest,
    /// It may wait, and fetch for others.
    Full,
}

impl Part {
    /// The part of a request for which nothing was found.
    pub(super) fn of(
        reading: &Reading<'_>,
        request: &Fields<'_>,
        ticket: Option<Ticket>,
        candidate: Option<&Replay>,
    ) -> Self {
        let (wanted, lock) = (&reading.wanted, reading.lock());
        let plain = wanted.is_get && !wanted.authorised && wanted.control == RequestControl::default();
        let partial = request.has("range") && reading.terms().range_miss == RangeMiss::Forward;
        if reading.terms().failover || !plain || partial {
            return Self::None;
        }
        // Without shared data there will be nothing to share; where the origin is protected, one after the other asks it.
        if lock.reach == Reach::Off || ticket.is_none() && !lock.protect_origin {
            return Self::Alone;
        }
        // The origin may answer a condition with no more than a 304; one of ours goes in its place.
        let conditional = request.has("if-none-match") || request.has("if-modified-since");
        let ours = candidate.is_some_and(|replay| !Validators::of(&replay.entry().header()).is_empty());
        if conditional && !ours { Self::Guest } else { Self::Full }
    }
}

impl Flight {
    /// The part of an exchange that hasn't taken any yet.
    pub(super) fn new(key: u64, lock: Lock, now_ms: u64) -> Self {
        Self {
            key,
            lock,
            until_ms: now_ms.saturating_add(lock.wait_ms.into()),
            began_ms: now_ms,
            part: Part::None,
            holds: false,
            leased: None,
            waited: None,
            landed_ms: None,
            rounds: 0,
        }
    }

    fn landing(&mut self) -> Landing {
        let leased = self.leased.take();
        Landing { key: self.key, reach: self.lock.reach, began_ms: self.began_ms, leased, again_ms: None }
    }
}

impl Stream {
    /// Fetches, or waits for another request that does.
    pub(super) fn gather(&mut self, question: Question) -> Action {
        let Some(flight) = self.flight.as_mut().filter(|_| question.part > Part::Alone && !planted("lock_ignored"))
        else {
            return self.ask(question);
        };
        flight.part = question.part;
        let may_hold = question.part == Part::Full;
        let member = Member { stream: self.id, until_ms: flight.until_ms, may_hold };
        let (key, room) = (flight.key, self.instance.has_room());
        let joined = self.instance.worker.borrow_mut().flights.join(key, member, question.asked_ms, room);
        match joined {
            Join::Hold => self.claim(question),
            Join::Wait => {
                self.instance.renew_for(key, question.asked_ms);
                self.wait(question)
            }
            Join::Alone => self.ask(question),
            Join::Pass => self.forward(question, None),
            Join::Down => self.spare(question),
            Join::Crowded => self.late(question, "crowded"),
        }
    }

    fn wait(&mut self, question: Question) -> Action {
        self.has_to_wait(question.why);
        self.state = State::Waiting(question);
        Action::Pause
    }

    /// Notes that it waits for another's fetch, and counts it the first time.
    fn has_to_wait(&mut self, why: Forward) {
        let Some(flight) = self.flight.as_mut().filter(|flight| flight.waited.is_none()) else { return };
        flight.waited = Some(why);
        metrics::count("routecache_waiters");
    }

    /// Fetches for this worker, unless another worker of the gateway does.
    fn claim(&mut self, question: Question) -> Action {
        let Some(flight) = &mut self.flight else { return self.ask(question) };
        flight.holds = true;
        if flight.lock.reach < Reach::Gateway || !self.instance.has_room() {
            return self.ask(question);
        }
        match self.instance.claim(flight.key, question.asked_ms, flight.until_ms) {
            Claim::Mine => match self.look_once_more(&question) {
                true => Action::Pause,
                false => self.ask(question),
            },
            Claim::Full => self.ask(question),
            Claim::Held(_) => self.wait(question),
            Claim::Passed(until_ms) => {
                self.instance.pass(flight.key, false, until_ms);
                self.forward(question, None)
            }
            Claim::Down(until_ms) => {
                self.instance.pass(flight.key, true, until_ms);
                self.spare(question)
            }
        }
    }

    /// Another worker may have stored it, and given its lease back, since this one has looked.
    fn look_once_more(&mut self, question: &Question) -> bool {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return false };
        let request = Fields::decode(&question.request).unwrap_or_default();
        let found = self.look(&question.wanted, &rule.terms, &request, question.asked_ms).is_ok();
        if found {
            self.land(Outcome::Stored);
        }
        found
    }

    /// For how long a lookup asks for the key's lease in the group, if it does.
    pub(super) fn leases_in_group(&self) -> Option<u64> {
        let flight = self.flight.as_ref()?;
        (flight.holds && flight.lock.reach == Reach::Group).then_some(flight.lock.wait_ms.into())
    }

    /// Stores a response; whether it is there now, and has ended the lease that this exchange has in the group.
    pub(super) fn keep(
        &mut self,
        rule: &CacheRule,
        question: &Question,
        request: &Fields<'_>,
        response: &keep::Response<'_>,
    ) -> bool {
        let leased = self.flight.as_mut().and_then(|flight| flight.leased.take());
        let kept = keep::keep(&self.instance, rule, &question.wanted, request, response, leased.as_ref());
        if let Some(flight) = self.flight.as_mut().filter(|_| !kept) {
            flight.leased = leased;
        }
        kept
    }

    /// Fetches in another's place, whose lease of the group it gets.
    pub fn inherits(&mut self, leased: ReleaseRequest) {
        if let Some(flight) = &mut self.flight {
            flight.leased = Some(leased);
        }
    }

    /// What the group says of a key's lease: the call that tells of its end, if another gateway has it.
    pub(super) fn leased(&mut self, question: &Question, key: &CacheKey, lease: Option<Lease>) -> Option<u32> {
        let now_ms = host::monotonic_ms();
        let flight = self.flight.as_mut()?;
        match lease? {
            Lease::Granted => None,
            Lease::Held { .. } => {
                let holder = flight.leased.take().map(|leased| leased.holder);
                let hold_ms = flight.until_ms.checked_sub(now_ms).filter(|_| flight.rounds < ROUNDS_MAX)?;
                self.has_to_wait(question.why);
                let request = WaitRequest {
                    namespace: self.instance.namespace.clone(),
                    key: key.as_str().to_owned(),
                    holder,
                    hold_ms,
                };
                let answer_ms = self.instance.policy().bridge.as_ref()?.timeout_ms;
                self.instance.ask_bridge(WAIT, &request, hold_ms.saturating_add(answer_ms.into()))
            }
            Lease::Pass { remaining_ms } => {
                flight.leased = None;
                self.instance.pass(flight.key, false, now_ms.saturating_add(remaining_ms));
                None
            }
        }
    }

    /// Whether another gateway has the lease, and there is no time left to wait for it.
    pub(super) fn is_late(&self, lease: Option<Lease>) -> bool {
        let over = |flight: &Flight| flight.until_ms < host::monotonic_ms();
        matches!(lease, Some(Lease::Held { .. })) && self.flight.as_ref().is_some_and(over)
    }

    /// Handles the bridge's answer that another gateway's fetch is over.
    pub(super) fn heard_later(&mut self, mut question: Question, body: Option<Vec<u8>>) {
        let body = body.unwrap_or_default();
        let said = bridge::read::<WaitReply>(&body);
        self.instance.bridge_answered(said.is_some());
        if self.is_fetch()
            && let Some((said, _)) = &said
        {
            // Another gateway has fetched it, or tried to. Behind one that is stuck, there isn't time left to try.
            let over = matches!(said, WaitReply::Stored | WaitReply::Released);
            if let Some(flight) = self.flight.as_mut().filter(|_| !over) {
                flight.rounds = ROUNDS_MAX;
            }
            if self.ask_elsewhere(question).is_some() {
                self.say(Kind::Failed);
            }
            return;
        }
        let action = match said {
            Some((WaitReply::Stored | WaitReply::Released | WaitReply::Expired, _)) => {
                self.go_on(question, Woken::Hold(None))
            }
            Some((WaitReply::Pass { remaining_ms }, _)) => {
                if let Some(flight) = &self.flight {
                    self.instance.pass(flight.key, false, host::monotonic_ms().saturating_add(remaining_ms));
                }
                self.forward(question, None)
            }
            Some((WaitReply::Held { .. }, _)) => self.late(question, "lock-wait"),
            None => {
                question.trusted = false;
                self.forward(question, None)
            }
        };
        if action == Action::Continue {
            host::resume(Direction::Request);
        }
    }

    /// Goes on after it was parked.
    pub fn woken(&mut self, woken: Woken) {
        let action = match (mem::replace(&mut self.state, State::Passing), woken) {
            (State::Waiting(question), _) => self.go_on(question, woken),
            (State::Queueing { mut question, group }, Woken::Turn) => {
                self.counted = true;
                (question.asked_ms, question.asked_wall_ms) = (host::monotonic_ms(), host::wall_ms());
                self.send_on(question, group)
            }
            (State::Queueing { question, .. }, _) => self.late(question, "fills"),
            (State::Asking { question, key, .. }, Woken::Unheard) => return self.heard(question, &key, None),
            (State::AskingLater { question, .. }, Woken::Unheard) => return self.heard_later(question, None),
            (State::Fetching { question, group, .. }, Woken::Unheard) => {
                return self.fetched(question, group, Err(0), 0);
            }
            (state, _) => {
                self.state = state;
                return;
            }
        };
        if action == Action::Continue {
            host::resume(Direction::Request);
        }
    }

    /// Looks again, and then fetches, or waits again.
    fn go_on(&mut self, mut question: Question, woken: Woken) -> Action {
        let instance = Rc::clone(&self.instance);
        let rule = instance.engine.cache_rule(question.wanted.rule);
        let (Some(rule), Some(flight)) = (rule, &mut self.flight) else { return self.ask(question) };
        let now_ms = host::monotonic_ms();
        match woken {
            Woken::Hold(landed_ms) => (flight.holds, flight.landed_ms) = (true, landed_ms),
            Woken::Landed(began_ms) => flight.landed_ms = Some(began_ms),
            Woken::Turn | Woken::Late | Woken::Unheard => {}
        }
        if woken == Woken::Late || now_ms >= flight.until_ms {
            return self.late(question, "lock-wait");
        }
        let request = Fields::decode(&question.request).unwrap_or_default();
        let nothing = match self.look(&question.wanted, &rule.terms, &request, now_ms) {
            Ok(()) => {
                metrics::count("routecache_collapsed");
                self.land(Outcome::Stored);
                return Action::Pause;
            }
            Err(nothing) => nothing,
        };
        let held = question.candidate.take().map(|candidate| candidate.replay);
        question.candidate = newer(held, nothing.candidate).map(|replay| Candidate { replay, asked: false });
        (question.ticket, question.trusted) = (nothing.ticket, nothing.trusted);
        (question.why, question.detail) = (nothing.why, nothing.detail);
        (question.asked_ms, question.asked_wall_ms) = (now_ms, host::wall_ms());
        let Some(flight) = &mut self.flight else { return self.ask(question) };
        flight.rounds = flight.rounds.saturating_add(1);
        if let Woken::Hold(_) = woken {
            if flight.key == nothing.flight {
                return self.claim(question);
            }
            // It is known now that they want several variants.
            flight.holds = false;
            self.instance.land(self.id, Outcome::Stored, flight.landing());
        }
        flight.key = nothing.flight;
        if flight.rounds < ROUNDS_MAX { self.gather(question) } else { self.late(question, "lock-wait") }
    }

    /// Has waited in vain: fetches for itself, or is refused where the origin is to be spared.
    pub(super) fn late(&mut self, mut question: Question, why: &'static str) -> Action {
        metrics::count("routecache_waited_in_vain");
        if let Some(flight) = &mut self.flight {
            if mem::take(&mut flight.holds) {
                // Others who wait may wait on.
                self.instance.land(self.id, Outcome::Gone, flight.landing());
            }
            if flight.lock.protect_origin && self.refuse(why) {
                return Action::Pause;
            }
        }
        question.detail.get_or_insert(why);
        (question.asked_ms, question.asked_wall_ms) = (host::monotonic_ms(), host::wall_ms());
        self.send_on(question, None)
    }

    /// The origin has just failed: what is stale stands in for its next error, or the request is refused where the origin
    /// is to be spared.
    fn spare(&mut self, question: Question) -> Action {
        let instance = Rc::clone(&self.instance);
        let rule = instance.engine.cache_rule(question.wanted.rule);
        let failed = fetch::Outcome { kind: Kind::Failed, status: 0, whole: false };
        if rule.is_some_and(|rule| self.stand_in(&question, rule, failed)) {
            return Action::Pause;
        }
        if self.flight.as_ref().is_some_and(|flight| flight.lock.protect_origin) && self.refuse("origin-fails") {
            return Action::Pause;
        }
        self.forward(question, None)
    }

    /// Answers that the origin has enough to do. False if the host refused.
    fn refuse(&mut self, why: &str) -> bool {
        metrics::count("routecache_refused");
        let status = format!("{CACHE_NAME}; detail=protect-origin-{why}");
        let header = fields::encode(&[
            (b"cache-status", status.as_bytes()),
            (b"content-type", b"text/plain"),
            (b"retry-after", b"1"),
            (b"cache-control", b"no-store"),
        ]);
        self.respond(503, "routecache_protect_origin", &header, b"the origin has enough to do; try again soon\n")
    }

    /// Its fetch has ended.
    pub(super) fn land(&mut self, outcome: Outcome) {
        let Some(mut flight) = self.flight.take() else { return };
        let asking = if let State::Asking { .. } = self.state { self.instance.policy().bridge.as_ref() } else { None };
        let again_ms = asking.map(|bridge| host::monotonic_ms().saturating_add(bridge.timeout_ms.into()));
        // What a guest fetches for itself says nothing of what others would get.
        if flight.part == Part::Full || outcome == Outcome::Stored && flight.part == Part::Guest {
            self.instance.land(self.id, outcome, Landing { again_ms, ..flight.landing() });
        } else if let Some(leased) = flight.leased.filter(|_| self.is_fetch()) {
            self.instance.worker.borrow_mut().give_back(leased, again_ms);
        }
    }

    /// Takes part in nothing any more.
    pub fn withdraw(&mut self) {
        if let Some(flight) = &self.flight {
            let mut worker = self.instance.worker.borrow_mut();
            worker.flights.leave(flight.key, self.id);
            worker.turns.retain(|(stream, _)| *stream != self.id);
            worker.parked.remove(self.id);
        }
        self.land(Outcome::Gone);
        if mem::take(&mut self.counted) {
            self.instance.give_turn();
        }
    }
}
