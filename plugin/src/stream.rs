//! One request and its response.

use std::borrow::Cow;
use std::mem;
use std::rc::Rc;
use std::time::Duration;

use bridge_api::{LOOKUP, LookupReply, LookupRequest};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use routecache_core::cache_control::CacheControl;
use routecache_core::cache_status::{CACHE_NAME, CacheStatus, Forward, Tier};
use routecache_core::entry::{Entry, Freshness, Parts, Ticket};
use routecache_core::fields::{self, Fields, Line};
use routecache_core::freshness::{Response, initial_age_ms};
use routecache_core::key::{CacheKey, tag_hash};
use routecache_core::planted::planted;
use routecache_core::policy::{CacheRule, ClientCacheControl, RangeMiss, Terms};
use routecache_core::reply::{Answer, Replay, speaks_of_caching};
use routecache_core::request::{Plan, Reading, Wanted, Writing, response_tags};
use routecache_core::storing::{self, Asked, kept_fields, storable};
use routecache_core::targeted::SURROGATE_CONTROL;
use routecache_core::validation::{Validators, freshened, head_agrees};

use crate::bridge;
use crate::host::{self, Buffer, Direction, Map};
use crate::keep::{self, keep};
use crate::lookup::{Candidate, Found, judge, search, variants_of};
use crate::root::{Instance, Purged};

/// See the module.
pub struct Stream {
    id: u32,
    instance: Rc<Instance>,
    state: State,
}

/// What this exchange waits for.
enum State {
    /// Nothing: no rule speaks of it, it is answered, or all that could be done is done.
    Passing,
    /// The response header, to say in it how the request was handled.
    Telling(CacheStatus),
    /// The bridge's answer about a key; the request is paused.
    Asking { question: Question, key: CacheKey, token: u32 },
    /// Our own reply on its way out, to be looked at ([`Replay::look`]); with its header as it was sent.
    Replying { replay: Rc<Replay>, sent: Vec<u8> },
    /// The response header, to decide whether to store.
    Filling { question: Question, group: Option<bridge_api::Ticket> },
    /// The rest of a response that is to be stored.
    Storing(Fill),
    /// The body of an error, in whose place a stored one goes.
    Replacing(Vec<u8>),
    /// The response header of a write.
    Writing(Writing),
}

/// A request that no entry of this gateway answered.
struct Question {
    wanted: Wanted,
    /// Taken before anything was looked up; none when shared data couldn't be had, and then nothing is stored.
    ticket: Option<Ticket>,
    /// Those that the request alone decides.
    tags: Vec<String>,
    /// Whose groups a response may name.
    origin: (&'static str, String),
    /// Its header as the host gave it: `Vary` may ask for any of it.
    request: Vec<u8>,
    candidate: Option<Candidate>,
    why: Forward,
    detail: Option<&'static str>,
    asked_ms: u64,
    asked_wall_ms: u64,
}

/// A response on its way into the tiers.
struct Fill {
    question: Question,
    group: Option<bridge_api::Ticket>,
    ticket: Ticket,
    status: u16,
    freshness: Freshness,
    tags: Vec<String>,
    received_ms: u64,
    header: Vec<u8>,
    body: Vec<u8>,
}

/// The tiers of this gateway had no answer to a request.
struct Nothing {
    ticket: Option<Ticket>,
    /// Whether the group may be asked.
    trusted: bool,
    candidate: Option<Rc<Replay>>,
    why: Forward,
    detail: Option<&'static str>,
}

impl Nothing {
    /// Nothing that could be had.
    fn without(ticket: Option<Ticket>, detail: &'static str) -> Self {
        Self { ticket, trusted: false, candidate: None, why: Forward::Bypass, detail: Some(detail) }
    }
}

impl Stream {
    /// A new exchange.
    pub fn new(id: u32, instance: Rc<Instance>) -> Self {
        Self { id, instance, state: State::Passing }
    }

    /// Answers a read from this gateway's tiers, or finds out what to do instead. One shared-data read, one clock read and
    /// the reply are all that a worker-tier hit asks of the host.
    fn look(&mut self, wanted: &Wanted, terms: &Terms, request: &Fields<'_>, now_ms: u64) -> Result<(), Nothing> {
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

    /// What a read becomes that wasn't answered here. The request's header bytes are added by the caller, who lends them
    /// to `reading`.
    fn question(&mut self, reading: &Reading<'_, '_>, nothing: Nothing, now_ms: u64) -> Option<(Question, bool)> {
        let Nothing { ticket, trusted, candidate, why, detail } = nothing;
        // It carries `Authorization`, and what is stored isn't for everybody.
        let detail = detail.or((why == Forward::Bypass).then_some("credentials"));
        match reading.tags() {
            Ok(tags) => {
                let question = Question {
                    wanted: reading.wanted.clone(),
                    ticket,
                    tags,
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
    fn ask(&mut self, question: Question, trusted: bool) -> Action {
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
        let older_ms = resident_ms.saturating_add(now_ms.saturating_sub(question.asked_ms));
        let stored = Entry::decode(payload.to_vec()).ok()?;
        let ticket = if planted("l2_ticket_late") { worker.purges.ticket() } else { question.ticket };
        let entry = stored.adopted(ticket?, older_ms, now_ms, &hashes)?;
        if worker.purges.is_pending(&hashes) {
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

    /// Sends the request on: with the validators of what is stored (RFC 9111 §4.3.1), or not at all (§5.2.1.7).
    fn forward(&mut self, mut question: Question, group: Option<bridge_api::Ticket>) -> Action {
        let Some(rule) = self.instance.engine.cache_rule(question.wanted.rule) else { return Action::Continue };
        if question.wanted.control.only_if_cached {
            // Neither a hit nor forwarded (RFC 9211 §2).
            let status = format!("{CACHE_NAME}; detail=only-if-cached");
            let header = fields::encode(&[(b"cache-status", status.as_bytes()), (b"content-type", b"text/plain")]);
            let body = b"nothing is stored that answers this request, and it asks for nothing else\n";
            if host::send_response(504, "routecache_only_if_cached", &header, body) {
                return Action::Pause;
            }
        }
        if let Some(candidate) = &mut question.candidate {
            let header = candidate.replay.entry().header();
            let validators = Validators::of(&header);
            if !validators.is_empty() {
                candidate.asked = true;
                // In place of the client's own, which are judged against what comes back.
                for (name, value) in
                    [("if-none-match", validators.etag), ("if-modified-since", validators.last_modified)]
                {
                    match value {
                        Some(value) => host::replace_header(Map::Request, name, value),
                        None => host::remove_header(Map::Request, name.as_bytes()),
                    }
                }
            }
        }
        if rule.terms.range_miss == RangeMiss::Whole && question.wanted.is_get {
            host::remove_header(Map::Request, b"range");
            host::remove_header(Map::Request, b"if-range");
        }
        if rule.terms.targeted.iter().any(|name| name == SURROGATE_CONTROL) {
            host::add_header(Map::Request, "surrogate-capability", &format!("{CACHE_NAME}=\"Surrogate/1.0\""));
        }
        self.state = State::Filling { question, group };
        Action::Continue
    }

    /// Handles the header of the origin's response: what it says of what is stored, and whether it is stored itself.
    fn receive(&mut self, question: Question, group: Option<bridge_api::Ticket>, end_of_stream: bool) -> Action {
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return Action::Continue };
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header).unwrap_or_default();
        let status = status_of(&fields);
        let from_origin = from_origin();
        if let Some(Candidate { replay, asked }) = question.candidate.clone() {
            if status == 304 && asked && from_origin {
                return self.validated(&question, group, rule, &replay, &fields, end_of_stream);
            }
            if matches!(status, 500 | 502..=504) && self.may_stand_in(&replay) {
                let told = shown(&question, status, replay.entry(), false, Some("stale-if-error"));
                return self.answer_instead(&question, rule, &replay, &told, end_of_stream);
            }
            if status == 200 && !question.wanted.is_get && from_origin {
                self.renew(&question, group, rule, &replay, &fields);
            }
        }
        let judged = question.ticket.filter(|_| question.wanted.is_get && from_origin).map(|ticket| {
            let response = Response {
                status,
                fields: &fields,
                requested_ms: question.asked_wall_ms,
                received_ms: host::wall_ms(),
            };
            let limit = instance.policy().limits.body_bytes_max;
            storable(&response, rule, asked(&question), limit)
                .and_then(|freshness| Ok((ticket, freshness, all_tags(&question, rule, &fields)?)))
        });
        tell_client(rule, &fields, status);
        match judged {
            Some(Ok((ticket, freshness, tags))) => {
                tell(CacheStatus::forwarded(question.why, true, question.detail));
                let (body, received_ms) = (Vec::new(), host::monotonic_ms());
                let fill = Fill { question, group, ticket, status, freshness, tags, received_ms, header, body };
                if end_of_stream {
                    self.store(&fill);
                } else {
                    self.state = State::Storing(fill);
                }
            }
            Some(Err(reason)) => {
                tell(CacheStatus::forwarded(question.why, false, question.detail.or(Some(reason.word()))));
            }
            None => tell(CacheStatus::forwarded(question.why, false, question.detail)),
        }
        Action::Continue
    }

    /// Puts a complete response into the tiers.
    fn store(&self, fill: &Fill) {
        let question = &fill.question;
        let Some(rule) = self.instance.engine.cache_rule(question.wanted.rule) else { return };
        let fields = Fields::decode(&fill.header).unwrap_or_default();
        let request = Fields::decode(&question.request).unwrap_or_default();
        let length = u64::try_from(fill.body.len()).unwrap_or(u64::MAX);
        if storing::content_length(&fields).is_ok_and(|declared| declared.is_some_and(|declared| declared != length)) {
            return;
        }
        let (control, _) = storing::control(&fields, rule);
        let response = keep::Response {
            ticket: fill.ticket,
            group: fill.group,
            received_ms: fill.received_ms,
            freshness: fill.freshness,
            status: fill.status,
            tags: &fill.tags,
            header: &kept_fields(&fields, &control),
            body: &fill.body,
        };
        keep(&self.instance, rule, &question.wanted, &request, &response);
    }

    /// The origin says that the stored response still holds: it is stored anew with the fields that came (RFC 9111
    /// §4.3.4), and answers the request.
    fn validated(
        &mut self,
        question: &Question,
        group: Option<bridge_api::Ticket>,
        rule: &CacheRule,
        stored: &Rc<Replay>,
        fields: &Fields<'_>,
        end_of_stream: bool,
    ) -> Action {
        let (entry, kept) = self.renew(question, group, rule, stored, fields);
        let replay = match entry {
            Some(entry) => Rc::new(stored.renewed(entry, &rule.terms)),
            None => Rc::clone(stored),
        };
        let told = shown(question, 304, replay.entry(), kept, None);
        self.answer_instead(question, rule, &replay, &told, end_of_stream)
    }

    /// What is stored, with the fields of a 304 or of the response to a HEAD; and whether it is stored so now. Like any
    /// fill, it has the ticket of the lookup with which it began.
    fn renew(
        &self,
        question: &Question,
        group: Option<bridge_api::Ticket>,
        rule: &CacheRule,
        stored: &Rc<Replay>,
        newer: &Fields<'_>,
    ) -> (Option<Entry>, bool) {
        let (old, now_ms) = (stored.entry(), host::monotonic_ms());
        let header = old.header();
        let (control, _) = storing::control(newer, rule);
        let about_it = question.wanted.is_get || head_agrees(&header, old.body().len(), newer);
        let Some(lines) = freshened(&header, newer, &control).filter(|_| about_it) else {
            if !about_it {
                // §4.3.5: what is stored is out of date.
                let outdated = Freshness { lifetime_ms: 0, stale_if_error_ms: 0, ..old.freshness() };
                let lines: Vec<_> = header.iter().collect();
                self.keep_renewed(question, group, rule, old, (&lines, outdated, now_ms));
            }
            return (None, false);
        };
        // `Age` isn't stored, and counts.
        let judged: Vec<_> = lines.iter().copied().chain(newer.all("age").map(|age| (&b"age"[..], age))).collect();
        let judged = Fields::from_pairs(judged);
        let response = Response {
            status: old.status(),
            fields: &judged,
            requested_ms: question.asked_wall_ms,
            received_ms: host::wall_ms(),
        };
        let limit = self.instance.policy().limits.body_bytes_max;
        let freshness = storable(&response, rule, asked(question), limit);
        let kept =
            freshness.is_ok_and(|freshness| self.keep_renewed(question, group, rule, old, (&lines, freshness, now_ms)));
        let freshness = freshness.unwrap_or(Freshness { age_ms: initial_age_ms(&response), ..old.freshness() });
        let entry = Entry::new(&Parts {
            ticket: old.ticket(),
            received_ms: now_ms,
            freshness,
            fingerprint: old.fingerprint(),
            status: old.status(),
            key: old.key(),
            tags: old.tags(),
            header: &lines,
            body: old.body(),
        });
        (entry, kept)
    }

    fn keep_renewed(
        &self,
        question: &Question,
        group: Option<bridge_api::Ticket>,
        rule: &CacheRule,
        old: &Entry,
        (lines, freshness, received_ms): (&[Line<'_>], Freshness, u64),
    ) -> bool {
        let Some(ticket) = question.ticket else { return false };
        let request = Fields::decode(&question.request).unwrap_or_default();
        let Ok(tags) = all_tags(question, rule, &Fields::from_pairs(lines.to_vec())) else { return false };
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
        keep(&self.instance, rule, &question.wanted, &request, &response)
    }

    /// Whether what is stored may stand in for an error (RFC 5861 §4): within its window, and while no purge has reached
    /// it.
    fn may_stand_in(&self, replay: &Replay) -> bool {
        let mut worker = self.instance.worker.borrow_mut();
        let known = worker.follow(&self.instance.shared).is_some();
        known && replay.entry().may_replace_error(host::monotonic_ms()) && worker.purges.admits(replay.entry())
    }

    /// Answers with what is stored, in place of the response whose header is here. In place if a body is still to come, or
    /// none is wanted: then all filters in front of this one see it as they would see a hit. Otherwise as a reply of its
    /// own, which a host sends past them.
    fn answer_instead(
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

    /// Handles the response to a write: purges in the gateway at once, and holds it until the group has acknowledged.
    fn wrote(&mut self, write: &Writing) -> Action {
        let header = host::header_map(Map::Response).unwrap_or_default();
        let fields = Fields::decode(&header);
        // The status of a broken connection or a timeout is the gateway's own, and says nothing of what the origin did.
        let known = !outcome_unknown() || planted("unknown_outcome");
        let response = fields.as_ref().filter(|_| known).map(|fields| (status_of(fields), fields));
        let tags = self.instance.engine.purged_by(write, response);
        if planted("purge_after_release") {
            self.state = State::Writing(write.clone());
            return Action::Continue;
        }
        if tags.is_empty() {
            if write.meets_rules() {
                tell(CacheStatus::forwarded(Forward::Method, false, None));
            }
            return Action::Continue;
        }
        let detail = match self.instance.purge(tags, Some(self.id)) {
            Purged::Held => return Action::Pause,
            Purged::Here => "purged",
            Purged::Failed => "purge-failed",
        };
        tell(CacheStatus::forwarded(Forward::Method, false, Some(detail)));
        Action::Continue
    }

    /// Answers the current stream from an entry. False if the host refused.
    fn reply(&mut self, replay: &Rc<Replay>, terms: &Terms, request: &Fields<'_>, tier: Tier, now_ms: u64) -> bool {
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
    fn look_at_reply(&self, replay: &Rc<Replay>, sent: &[u8]) {
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

impl Context for Stream {
    fn on_http_call_response(&mut self, token: u32, header_count: usize, body_len: usize, _: usize) {
        let (mut question, key) = match mem::replace(&mut self.state, State::Passing) {
            State::Asking { question, key, token: asked } if asked == token => (question, key),
            other => {
                self.state = other;
                return;
            }
        };
        let instance = Rc::clone(&self.instance);
        let Some(rule) = instance.engine.cache_rule(question.wanted.rule) else { return };
        let body = bridge::answer(header_count, body_len).unwrap_or_default();
        let group = match bridge::read::<LookupReply>(&body) {
            Some((LookupReply::Hit { ticket, tags, resident_ms }, payload)) => {
                match self.judge(&question, rule, &key, (&tags, resident_ms, payload)) {
                    Some(Found::Answer(replay)) => {
                        let request = Fields::decode(&question.request).unwrap_or_default();
                        if self.reply(&replay, &rule.terms, &request, Tier::Group, host::monotonic_ms()) {
                            return;
                        }
                    }
                    Some(Found::Elsewhere(variant)) if key == question.wanted.key => {
                        if let Some(token) = self.lookup(&question, &variant) {
                            self.state = State::Asking { question, key: variant, token };
                            return;
                        }
                    }
                    Some(Found::None(why, candidate)) => {
                        question.why = why;
                        let held = question.candidate.take().map(|candidate| candidate.replay);
                        question.candidate = newer(held, candidate).map(|replay| Candidate { replay, asked: false });
                    }
                    Some(Found::Elsewhere(_)) | None => {}
                }
                Some(ticket)
            }
            Some((LookupReply::Miss { ticket }, _)) => Some(ticket),
            Some((LookupReply::Behind, _)) | None => None,
        };
        if self.forward(question, group) == Action::Continue {
            host::resume(Direction::Request);
        }
    }

    fn on_done(&mut self) -> bool {
        self.instance.worker.borrow_mut().held.remove(&self.id);
        // A write whose outcome nobody saw may have happened.
        let state = mem::replace(&mut self.state, State::Passing);
        if let (State::Storing(fill), true) = (&state, planted("partial_stored")) {
            self.store(fill);
        }
        if let (State::Writing(write), false) = (state, planted("unknown_outcome")) {
            let tags = self.instance.engine.purged_by(&write, None);
            if !tags.is_empty() {
                self.instance.purge(tags, None);
            }
        }
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        let Some(request) = host::header_map(Map::Request) else { return Action::Continue };
        let Some(fields) = Fields::decode(&request) else { return Action::Continue };
        let instance = Rc::clone(&self.instance);
        let asked = match instance.engine.plan(&fields, end_of_stream) {
            Plan::Ignore => None,
            Plan::Bypass(reason) => {
                self.state = State::Telling(CacheStatus::forwarded(Forward::Bypass, false, Some(reason.word())));
                None
            }
            Plan::Write(write) => {
                self.state = State::Writing(write);
                None
            }
            Plan::Read(reading) => {
                let now_ms = host::monotonic_ms();
                match self.look(&reading.wanted, reading.terms(), &fields, now_ms) {
                    Ok(()) => return Action::Pause,
                    Err(nothing) => self.question(&reading, nothing, now_ms),
                }
            }
        };
        match asked {
            Some((question, trusted)) => self.ask(Question { request, ..question }, trusted),
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Telling(status) => tell(status),
            State::Filling { question, group } => return self.receive(question, group, end_of_stream),
            State::Writing(write) => return self.wrote(&write),
            State::Replying { replay, sent } => self.look_at_reply(&replay, &sent),
            // The gateway answered by itself while the bridge was asked (a timeout, say), or this is our own reply.
            State::Asking { .. } | State::Storing(_) | State::Replacing(_) | State::Passing => {}
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> Action {
        match mem::replace(&mut self.state, State::Passing) {
            State::Storing(mut fill) => {
                if len > 0 {
                    match host::buffer(Buffer::ResponseBody, len) {
                        Some(chunk) => fill.body.extend_from_slice(&chunk),
                        None => return Action::Continue, // a chunk that can't be seen: not stored
                    }
                }
                if u64::try_from(fill.body.len()).is_ok_and(|len| len <= self.instance.policy().limits.body_bytes_max) {
                    if end_of_stream {
                        self.store(&fill);
                    } else {
                        self.state = State::Storing(fill);
                    }
                }
            }
            State::Replacing(body) => {
                // The whole in place of the first piece, nothing in place of the others.
                host::set_buffer(Buffer::ResponseBody, &body);
                self.state = State::Replacing(Vec::new());
            }
            other => self.state = other,
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        // A response with trailers isn't stored: they couldn't be replayed.
        self.state = State::Passing;
        Action::Continue
    }
}

/// The one of two stored responses that came later.
fn newer(one: Option<Rc<Replay>>, two: Option<Rc<Replay>>) -> Option<Rc<Replay>> {
    let received = |replay: &Rc<Replay>| replay.entry().received_ms();
    match (one, two) {
        (Some(one), Some(two)) => Some(if received(&two) > received(&one) { two } else { one }),
        (one, two) => one.or(two),
    }
}

fn asked(question: &Question) -> Asked {
    Asked { authorised: question.wanted.authorised, no_store: question.wanted.control.no_store }
}

/// The tags that the request decides, and those that the response names.
fn all_tags(question: &Question, rule: &CacheRule, fields: &Fields<'_>) -> Result<Vec<String>, storing::NotStored> {
    let mut tags = question.tags.clone();
    tags.extend(response_tags(fields, &rule.terms, &question.origin)?);
    Ok(tags)
}

/// What `Cache-Status` says of an answer from the store for which the origin was asked.
fn shown(question: &Question, status: u16, entry: &Entry, stored: bool, detail: Option<&'static str>) -> CacheStatus {
    let ttl_s = Some(ttl_s(entry, host::monotonic_ms()));
    CacheStatus::Forwarded {
        why: question.why,
        status: Some(status),
        stored,
        ttl_s,
        detail: detail.or(question.detail),
    }
}

/// Remaining freshness in seconds; negative when it is stale (RFC 9211 §2.4).
fn ttl_s(entry: &Entry, now_ms: u64) -> i64 {
    let seconds = |ms: u64| i64::try_from(ms / 1000).unwrap_or(i64::MAX);
    seconds(entry.fresh_ms(now_ms)).saturating_sub(seconds(entry.stale_ms(now_ms)))
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

fn tell(status: CacheStatus) {
    host::add_header(Map::Response, "cache-status", &status.to_string());
}

fn status_of(fields: &Fields<'_>) -> u16 {
    fields.only(":status").and_then(|status| std::str::from_utf8(status).ok()?.parse().ok()).unwrap_or_default()
}

/// Whether the response came from the origin, not from the gateway itself (a timeout, another filter). Hosts that can't
/// say so leave the status to decide.
fn from_origin() -> bool {
    host::property(&["response", "code_details"]).is_none_or(|details| details.is_empty() || details == b"via_upstream")
}

/// Whether the gateway answers for the origin, which may have done what it was asked all the same: the connection broke, or
/// it took too long (the router's words, Envoy's `response_code_details.h`). An answer of another filter is no such thing:
/// it kept the request from the origin.
fn outcome_unknown() -> bool {
    let details = host::property(&["response", "code_details"]).unwrap_or_default();
    details.starts_with(b"upstream_") || details.windows(7).any(|word| word == b"timeout")
}
